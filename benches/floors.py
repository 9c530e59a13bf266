"""The two floors of a training step: floating-point operations and bytes that have to be moved. `floors.py` prints a table.

Notation: h hidden size, L layers, n heads, V vocabulary, t tokens a sequence, b sequences, T = b·t tokens, M masked ones.
Counted are matrix products, two operations a multiplication and addition; the backward pass takes twice the forward pass.
"""

from jobs import JOBS

MASKED = 0.15
# Tokens of an average text, <s> and </s> included, of the prepared tasks: texts are padded to the longest of a batch only.
MEAN_TOKENS = {"fine-tune-chemprot": 57.2, "fine-tune-rt_polarity": 30.8, "distill-few-shot": 27.7}


def forward(spec, tokens, ours):
    """Operations of a forward pass over sequences of so many tokens, as we or the peer execute it."""
    h, layers, heads, b = spec["hidden"], spec["layers"], spec["heads"], spec["batch"]
    all_tokens = b * tokens
    layer = all_tokens * (24 * h * h + 4 * tokens * h)  # q, k, v, output 8h², feed-forward 16h², attention 4th
    if spec["kind"] == "mlm":
        masked = MASKED * b * (tokens - 2)
        if not ours:
            return layers * layer + all_tokens * (2 * h * h + 2 * h * spec["vocabulary"])
        # Behind the attention of the last layer, masked positions alone.
        last = all_tokens * (6 * h * h + 4 * tokens * h) + masked * 18 * h * h
        return (layers - 1) * layer + last + masked * (2 * h * h + 2 * h * spec["vocabulary"])
    if not ours:
        return layers * layer + b * 2 * h * h
    # The last layer for <s> alone, the maps of its keys and values absorbed into one query (fp32).
    last = all_tokens * 4 * heads * h + b * (8 * h * h + 16 * h * h)
    return (layers - 1) * layer + last + b * 2 * h * h


def parameters(spec):
    h, inner = spec["hidden"], 4 * spec["hidden"]
    layer = 4 * (h * h + h) + 2 * h * inner + h + inner + 4 * h
    embeddings = h * (spec["vocabulary"] + spec["tokens"] + 2 + 1) + 2 * h
    head = h * h + h + (2 * h + spec["vocabulary"] if spec["kind"] == "mlm" else 0)
    return embeddings + spec["layers"] * layer + head


def step(spec, tokens=None):
    """Floors of a step: `flops` as we execute it, `peer_flops`, and `bytes`, in fp32."""
    tokens = tokens or spec["tokens"]
    h, layers, heads = spec["hidden"], spec["layers"], spec["heads"]
    # Weights: read forward and backward (8), gradients written and zeroed (8), AdamW reads four vectors and writes three (28).
    weights = 44 * parameters(spec)
    # Kept for the backward pass, written once and read once: x, q, k, v, mixed, two sums, the inner 4h twice, and the
    # attention weights; with dropout masks of two outputs and of the attention weights.
    drops = 2 if spec["dropout"] else 1
    kept = (15 * h + (2 * h if spec["dropout"] else 0) + drops * heads * tokens) * layers * spec["batch"] * tokens
    if spec["kind"] == "mlm":
        kept += MASKED * spec["batch"] * (tokens - 2) * spec["vocabulary"]  # logarithms of the probabilities
    return dict(flops=3 * forward(spec, tokens, True), peer_flops=3 * forward(spec, tokens, False), bytes=weights + 8 * kept)


def main():
    print("| job | parameters | tokens a step | ours, GFLOP a step | peer, GFLOP a step | MB a step |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for job in JOBS:
        if job.spec["kind"] == "path" or not job.default or job.fresh:
            continue
        tokens = MEAN_TOKENS.get(job.name, job.spec["tokens"])
        floor = step(job.spec, tokens)
        counts = f"{parameters(job.spec) / 1e6:.2f} M | {job.spec['batch'] * tokens:,.0f}"
        print(f"| {job.name} | {counts} | {floor['flops'] / 1e9:,.2f} | {floor['peer_flops'] / 1e9:,.2f} | {floor['bytes'] / 1e6:,.0f} |")


if __name__ == "__main__":
    main()
