"""Writes the golden files that tests/parity*.rs compare the crate with.

    python tests/parity/make_golden.py            # writes tests/parity/golden/
    python tests/parity/make_golden.py --check    # computes everything again and compares with what is committed

Everything is computed by `transformers`, `torch`, `scikit-learn` and SciPy (see `versions.json` for the versions); nothing here
knows the crate. Weights are random and deliberately large (standard deviation 0.3, random biases and LayerNorms), so that a
forgotten bias, a wrong epsilon or a shifted position shows in every number.

golden/<case>/              a Hugging Face folder: config.json, model.safetensors, tokenizer.json
golden/<case>/golden.safetensors
    <batch>.input_ids       (b, t) i64;  <batch> is "padded" or "full"
    <batch>.attention_mask  (b, t) i64; absent: no mask given
    <batch>.hidden.<k>      (b, t, h)   k = 0 embeddings, k = n last layer; zeros where nothing is attended
    <batch>.logits          (b, t, v)   masked-LM scores, the same
    <batch>.labels          (b, t) i64, -100 = not a target
    <batch>.loss            ()          mean cross-entropy over the targets
    <batch>.attentions      (n, b, heads, t, t)   softmax weights of every layer
    <batch>.grad/<name>     gradient of the loss for every parameter, by its Hugging Face name (a tied one once);
                            "full" has them in the case "odd" alone
    classifier/<name>       weights of a classification head on the same encoder
    <batch>.class_rows      (k)  the rows of the batch that the classifier is given
    <batch>.class_logits (k, 5), .class_labels (k), .class_loss ();  padded.class_grad/<name> in "odd" and "one-type"
golden/adapted/<method>.safetensors   adapters (two positions) and LoRA on the encoder of the case "odd"
golden/dropout/<family>/        a classifier; expected.safetensors: mean and deviation of its hidden states and scores in training
golden/optim.safetensors, golden/distill.safetensors
golden/metrics.json         accuracy and macro-F1 of scikit-learn, by case
golden/intervals.json       95 % intervals of a mean of SciPy, `scipy.stats.t.interval`
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import scipy.stats
import sklearn
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score
from transformers import RobertaConfig, RobertaForMaskedLM, RobertaForSequenceClassification

HERE = Path(__file__).resolve().parent
BASE = dict(
    vocab_size=37, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
    max_position_embeddings=19, pad_token_id=1, bos_token_id=0, eos_token_id=2,
)
# What distinguishes each case: the configuration, what config.json says of it, what the checkpoint holds.
CASES = {
    "odd": dict(config={}),
    "one-type": dict(config=dict(
        vocab_size=41, hidden_size=15, num_hidden_layers=3, num_attention_heads=5, intermediate_size=7,
        max_position_embeddings=17, type_vocab_size=1, layer_norm_eps=1e-5)),
    # Small activations and the default epsilon of 1e-12: with roberta-base's 1e-5 the numbers differ visibly.
    "missing-fields": dict(
        config=dict(vocab_size=29, hidden_size=6, num_attention_heads=2, num_hidden_layers=1, intermediate_size=9,
                    max_position_embeddings=512),
        embedding_std=0.003, bare=True),
    "decoder-bias": dict(config=dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=1), bias="lm_head.decoder.bias"),
    "lm-head-bias": dict(config=dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=1), bias="lm_head.bias"),
    # What older checkpoints carry: position_ids, a pooler, the tied decoder written out, both names of its bias.
    "old-checkpoint": dict(config=dict(hidden_size=9, num_attention_heads=3, num_hidden_layers=1, pad_token_id=4), old=True),
}


def randomise(model, seed, std=0.3):
    """Every parameter random; LayerNorm weights around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * std
            parameter.copy_(1 + noise if "LayerNorm.weight" in name or "layer_norm.weight" in name else noise)


def clean(tensors):
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def word_level_tokenizer(config):
    """A tokenizer.json whose special tokens have the ids that the configuration names."""
    words = [f"w{i}" for i in range(config.vocab_size)]
    special = {config.bos_token_id: "<s>", config.pad_token_id: "<pad>", config.eos_token_id: "</s>",
               3: "<unk>", config.vocab_size - 1: "<mask>"}
    for index, word in special.items():
        words[index] = word
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([special[i] for i in sorted(special)])
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", config.bos_token_id), ("</s>", config.eos_token_id)])
    return tokenizer


def batches(config, seed):
    """One batch with padding on the right, on the left and a hidden token in the middle; one without a mask."""
    generator = torch.Generator().manual_seed(seed)
    longest = min(config.max_position_embeddings - config.pad_token_id - 1, 13)
    ids = torch.randint(5, config.vocab_size, (4, longest), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, longest - 5:] = 0  # padding on the right
    mask[2, :3] = 0  # on the left
    ids[mask == 0] = config.pad_token_id
    ids[:, 0] = torch.where(ids[:, 0] == config.pad_token_id, ids[:, 0], config.bos_token_id)
    mask[3, 4] = 0  # hidden, yet no padding: positions come from the ids, so it still counts as one
    yield "padded", ids, mask
    ids = torch.randint(5, config.vocab_size, (3, longest - 4), generator=generator)
    ids[:, 0] = config.bos_token_id
    yield "full", ids, None


def gradients(model, loss, prefix):
    model.zero_grad()
    loss.backward()
    return {f"{prefix}/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}


def hide(tensor, mask):
    """Zeroes what lies at positions nobody looks at."""
    return tensor if mask is None else tensor * mask[:, :, None]


def forward_golden(model, config, seed, attentions):
    golden = {}
    for index, (name, ids, mask) in enumerate(batches(config, seed)):
        generator = torch.Generator().manual_seed(seed + 100 + index)
        labels = torch.randint(0, config.vocab_size, ids.shape, generator=generator)
        ignored = torch.rand(ids.shape, generator=generator) > 0.4
        if mask is not None:
            ignored |= mask == 0
        labels[ignored] = -100
        out = model(input_ids=ids, attention_mask=mask, labels=labels, output_hidden_states=True, output_attentions=True)
        golden |= {f"{name}.input_ids": ids, f"{name}.labels": labels, f"{name}.loss": out.loss,
                   f"{name}.logits": hide(out.logits, mask)}
        if mask is not None:
            golden[f"{name}.attention_mask"] = mask
        golden |= {f"{name}.hidden.{k}": hide(h, mask) for k, h in enumerate(out.hidden_states)}
        if attentions:
            weights = torch.stack(out.attentions)
            golden[f"{name}.attentions"] = weights if mask is None else weights * mask[None, :, None, :, None]
        if mask is not None or attentions:  # gradients are most of the bytes: those of both batches in one case
            golden |= gradients(model, out.loss, f"{name}.grad")
    return golden


def classifier_golden(model, config, seed, with_gradients):
    golden = {f"classifier/{n}": p for n, p in model.named_parameters() if n.startswith("classifier.")}
    for index, (name, ids, mask) in enumerate(batches(config, seed)):
        rows = torch.tensor([0, 1, 3] if mask is not None else [0, 1, 2])  # a padded first position has no meaning here
        labels = rows * 2 % config.num_labels
        out = model(input_ids=ids[rows], attention_mask=None if mask is None else mask[rows], labels=labels)
        golden |= {f"{name}.class_rows": rows, f"{name}.class_logits": out.logits, f"{name}.class_labels": labels, f"{name}.class_loss": out.loss}
        if mask is not None and with_gradients:
            golden |= gradients(model, out.loss, f"{name}.class_grad")
    return golden


def case(folder, seed, spec):
    config = RobertaConfig(**(BASE | spec["config"]), num_labels=5, attn_implementation="eager")
    model = RobertaForMaskedLM(config).eval()
    randomise(model, seed)
    if std := spec.get("embedding_std"):
        with torch.no_grad():
            for name, p in model.roberta.embeddings.named_parameters():
                if "LayerNorm" not in name:
                    p.mul_(std / 0.3)
    classifier = RobertaForSequenceClassification(config).eval()
    randomise(classifier, seed + 1)
    classifier.roberta.load_state_dict(model.roberta.state_dict())

    golden = forward_golden(model, config, seed, attentions=folder.name == "odd")
    golden |= classifier_golden(classifier, config, seed, folder.name in ["odd", "one-type"])
    folder.mkdir(parents=True)
    save_file(clean(golden), folder / "golden.safetensors")

    tensors = {n: p for n, p in model.named_parameters()}
    tensors.pop("lm_head.decoder.weight", None)
    bias = tensors.pop("lm_head.bias", None)
    bias = tensors.pop("lm_head.decoder.bias", None) if bias is None else bias
    tensors[spec.get("bias", "lm_head.bias")] = bias
    if spec.get("old"):
        generator = torch.Generator().manual_seed(seed + 2)
        tensors |= {
            "lm_head.decoder.bias": bias, "lm_head.decoder.weight": model.roberta.embeddings.word_embeddings.weight,
            "roberta.embeddings.position_ids": torch.arange(config.max_position_embeddings)[None],
            "roberta.pooler.dense.weight": torch.randn(config.hidden_size, config.hidden_size, generator=generator),
            "roberta.pooler.dense.bias": torch.randn(config.hidden_size, generator=generator)}
    save_file(clean(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    fields = config.to_dict() | {"architectures": ["RobertaForMaskedLM"]}
    fields = {k: v for k, v in fields.items() if k not in ["id2label", "label2id"]}
    if spec.get("bare"):  # every other field at RobertaConfig's default, and left out
        kept = ["model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
        fields = {k: fields[k] for k in kept}
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
    word_level_tokenizer(config).save(str(folder / "tokenizer.json"))

    # The folder says what the model in memory says: read it back the way a user would.
    read, info = RobertaForMaskedLM.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not info["missing_keys"] and not info["mismatched_keys"], (folder.name, info)
    ids = golden["full.input_ids"]
    torch.testing.assert_close(read.eval()(input_ids=ids).logits, golden["full.logits"], rtol=1e-5, atol=1e-6)
    return model, config


class Bottleneck(torch.nn.Module):
    """h + W_up · gelu_tanh(W_down · h + b_down) + b_up"""

    def __init__(self, hidden, width):
        super().__init__()
        self.down, self.up = torch.nn.Linear(hidden, width), torch.nn.Linear(width, hidden)

    def forward(self, h):
        return h + self.up(F.gelu(self.down(h), approximate="tanh"))


class Low(torch.nn.Module):
    """x Wᵀ + b + (α/r) · x Aᵀ Bᵀ"""

    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear, self.scale = linear, alpha / rank
        self.a = torch.nn.Parameter(torch.zeros(rank, linear.in_features))
        self.b = torch.nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + self.scale * (x @ self.a.T @ self.b.T)


def adapted_golden(folder, seed):
    """The encoder of the case "odd" with modules put in by hand. Stored: the modules (`modules/…`), every hidden state,
    and the gradients (`grad/…`) of loss = Σ (last hidden state · probe) over attended positions."""
    out = {}
    for method in ["adapter-post", "adapter-inner", "lora"]:
        model = RobertaForMaskedLM.from_pretrained(folder.parent / "odd", attn_implementation="eager").roberta.eval()
        hidden, modules = model.config.hidden_size, {}
        for i, layer in enumerate(model.encoder.layer):
            if method == "lora":
                attention = layer.attention.self
                attention.query, attention.value = Low(attention.query, 4, 6.0), Low(attention.value, 4, 6.0)
                for place in ["query", "value"]:
                    low = getattr(attention, place)
                    modules |= {f"layer.{i}.{place}.a": low.a, f"layer.{i}.{place}.b": low.b}
                continue
            for place, block in [("attention", layer.attention.output), ("output", layer.output)]:
                bottleneck = Bottleneck(hidden, 5)
                if method == "adapter-post":  # after the sublayer's residual and LayerNorm
                    block.LayerNorm = torch.nn.Sequential(block.LayerNorm, bottleneck)
                else:  # after the sublayer's dense map, before dropout, residual and LayerNorm
                    block.dense = torch.nn.Sequential(block.dense, bottleneck)
                modules |= {f"layer.{i}.{place}.{n}": p for n, p in bottleneck.named_parameters()}
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in modules.values():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
        _, ids, mask = next(batches(model.config, 7))
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        probe = torch.randn(states[-1].shape, generator=generator)
        (hide(states[-1], mask) * probe).sum().backward()
        golden = {"input_ids": ids, "attention_mask": mask, "probe": probe}
        golden |= {f"hidden.{k}": hide(h, mask) for k, h in enumerate(states)}
        golden |= {f"modules/{n}": p for n, p in modules.items()} | {f"grad/{n}": p.grad for n, p in modules.items()}
        out[method] = clean(golden)
    folder.mkdir()
    for method, golden in out.items():
        save_file(golden, folder / f"{method}.safetensors", metadata={"alpha": "6.0", "rank": "4", "bottleneck": "5"})


def dropout_golden(folder, seed, copies=8192):
    """Dropout's masks are each library's own; where they are drawn shows in the moments of every layer over many copies of one text."""
    sizes = dict(vocab_size=29, max_position_embeddings=14, initializer_range=0.3, num_labels=3)
    layers = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=12, hidden_dropout_prob=0.25,
                  attention_probs_dropout_prob=0.4, classifier_dropout=0.5, attn_implementation="eager")
    distil = dict(dim=8, n_heads=2, n_layers=2, hidden_dim=12, dropout=0.25, attention_dropout=0.4, seq_classif_dropout=0.5,
                  attn_implementation="eager")
    for at, (family, name, settings) in enumerate([("roberta", "Roberta", layers), ("bert", "Bert", layers), ("distilbert", "DistilBert", distil)]):
        config = getattr(transformers, f"{name}Config")(**sizes, **settings, bos_token_id=0, eos_token_id=2, pad_token_id=1)
        model = getattr(transformers, f"{name}ForSequenceClassification")(config).train()
        randomise(model, seed + at)
        ids = torch.tensor([[0, 9, 17, 5, 22, 2]])
        torch.manual_seed(seed + at)
        with torch.no_grad():
            out = model(input_ids=ids.repeat(copies, 1), output_hidden_states=True)
        drawn = {f"hidden.{k}": h for k, h in enumerate(out.hidden_states)} | {"logits": out.logits}
        moments = {f"mean.{k}": x.mean(0) for k, x in drawn.items()} | {f"deviation.{k}": x.std(0) for k, x in drawn.items()}
        model.save_pretrained(folder / family)
        word_level_tokenizer(config).save(str(folder / family / "tokenizer.json"))
        save_file(clean({"input_ids": ids} | moments), folder / family / "expected.safetensors", metadata={"copies": str(copies)})


def optim_golden(path, seed, steps=50, decayed=35, plain=11):
    """AdamW over two groups, the first decayed, with warm-up and linear decay; with and without clipping."""
    generator = torch.Generator().manual_seed(seed)
    total = decayed + plain
    scales = torch.logspace(-4, 1, total)[torch.randperm(total, generator=generator)]
    grads = torch.randn(steps, total, generator=generator) * scales
    grads[:, 3] = 0.0
    initial = torch.randn(total, generator=generator)
    golden = {"initial": initial, "gradients": grads, "decayed": torch.tensor(decayed)}
    for name, clip in [("plain", None), ("clipped", 1.0)]:
        first, second = (torch.nn.Parameter(x.clone()) for x in initial.split([decayed, plain]))
        optimizer = torch.optim.AdamW([dict(params=[first], weight_decay=0.1), dict(params=[second], weight_decay=0.0)],
                                      lr=3e-3, betas=(0.9, 0.98), eps=1e-6)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, num_warmup_steps=7, num_training_steps=steps)
        rates, norms, path_taken = [], [], []
        for step in range(steps):
            first.grad, second.grad = (g.clone() for g in grads[step].split([decayed, plain]))
            if clip is not None:
                norms.append(torch.nn.utils.clip_grad_norm_([first, second], clip))
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
            path_taken.append(torch.cat([first.detach(), second.detach()]))
        golden |= {f"{name}.learning_rates": torch.tensor(rates, dtype=torch.float64), f"{name}.parameters": torch.stack(path_taken)}
        if norms:
            golden[f"{name}.norms"] = torch.stack(norms)
    for warmup, length in [(0, 10), (3, 10), (10, 10), (5, 40)]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, warmup, length)
        values = []
        for _ in range(length):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        golden[f"schedule.{warmup}.{length}"] = torch.tensor(values, dtype=torch.float64)
    save_file(clean(golden), path)


def distill_golden(path, seed):
    """L = (1 − α)·CE + α·L_kd + β·L_pat, on random tensors, written out with loops where that is plainer."""
    generator = torch.Generator().manual_seed(seed)
    b, t, h, n, c = 5, 6, 7, 4, 13  # n: layers, so n + 1 hidden states
    draw = lambda *shape: torch.randn(*shape, generator=generator)
    student, teacher, labels = draw(b, c) * 2, draw(b, c) * 3, torch.randint(0, c, (b,), generator=generator)
    hs, ht = draw(n + 1, b, t, h), draw(n + 1, b, t, h)
    mask = torch.ones(b, t, dtype=torch.int64)
    mask[1, 4:] = 0
    mask[3, 2:] = 0
    golden = dict(student_logits=student, teacher_logits=teacher, labels=labels, student_hidden=hs, teacher_hidden=ht, attention_mask=mask)

    def hidden_loss(a, b_, tokens, normalise):
        rows = []
        for layer in range(n):  # index n, the last state, is left out; index 0, the embeddings, is kept
            for row in range(b):
                for position in range(t if tokens == "all" else 1):
                    if mask[row, position]:
                        x, y = a[layer, row, position], b_[layer, row, position]
                        if normalise:
                            x, y = x / x.norm(), y / y.norm()
                        rows.append((y - x) ** 2)
        return 0.5 * torch.cat(rows).mean()

    settings = {}
    for reduction in ["batch_mean", "mean"]:
        for tokens in ["cls", "all"]:
            for normalise in [False, True]:
                for alpha, beta, temperature in [(0.9, 10.0, 5.0), (0.5, 0.0, 1.0), (0.7, 100.0, 2.0)]:
                    s, states = student.clone().requires_grad_(), hs.clone().requires_grad_()
                    p, log_q = torch.softmax(teacher / temperature, 1), torch.log_softmax(s / temperature, 1)
                    kl = (p * (torch.log(p) - log_q)).sum() / (b if reduction == "batch_mean" else b * c)
                    task, kd = F.cross_entropy(s, labels), temperature**2 * kl
                    pat = hidden_loss(states, ht, tokens, normalise)
                    loss = (1 - alpha) * task + alpha * kd + beta * pat
                    loss.backward()
                    name = f"{reduction}.{tokens}.{'unit' if normalise else 'raw'}.{alpha}.{beta}.{temperature}"
                    settings[name] = dict(reduction=reduction, tokens=tokens, normalise=normalise, alpha=alpha, beta=beta, temperature=temperature)
                    golden[f"{name}/terms"] = torch.stack([task, kd, pat, loss])
                    if beta == 10.0:
                        golden[f"{name}/grad_logits"], golden[f"{name}/grad_hidden"] = s.grad, states.grad
                    # What the authors' code calls says the same.
                    theirs = F.kl_div(log_q, p, reduction="sum") / (b if reduction == "batch_mean" else p.numel())
                    torch.testing.assert_close(kl, theirs, rtol=1e-5, atol=1e-7)
    save_file(clean(golden), path, metadata={"settings": json.dumps(settings)})


def metrics_golden(path, seed):
    rng = np.random.default_rng(seed)
    cases = {
        "all classes": (rng.integers(0, 4, 40), rng.integers(0, 4, 40)),
        "a class absent from the test set and never predicted": (rng.choice([0, 1, 3], 30), rng.choice([0, 1, 3], 30)),
        "a class absent from the test set, yet predicted": (rng.choice([0, 2], 25), rng.integers(0, 3, 25)),
        "a class never predicted": (rng.integers(0, 3, 25), rng.integers(0, 2, 25)),
        "all right": (np.array([2, 0, 1, 1]), np.array([2, 0, 1, 1])),
        "all wrong": (np.array([0, 0, 1]), np.array([1, 1, 0])),
        "one answer only": (np.array([1, 1, 1]), np.array([1, 1, 1])),
        "thirteen classes, twelve in the test": (rng.choice([i for i in range(13) if i != 7], 200), rng.integers(0, 13, 200)),
        "two classes": (rng.integers(0, 2, 30), rng.integers(0, 2, 30)),
        "two classes, one never predicted": (rng.integers(0, 2, 30), np.zeros(30, dtype=int)),
        "two classes, one absent from the test set and wrongly predicted": (np.ones(9, dtype=int), np.array([1, 0] * 4 + [1])),
        "four classes of equal F1": (np.repeat(np.arange(4), 3), np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0])),
        "four classes, the wrong ones of equal size": (np.repeat(np.arange(4), 5), np.repeat([0, 2, 1, 3], 5)),
        "seven classes": (rng.integers(0, 7, 80), rng.integers(0, 7, 80)),
        "seven classes, three predicted, one absent": (rng.choice([0, 1, 2, 4, 5, 6], 60), rng.choice([1, 3, 6], 60)),
    }
    rows = [dict(case=name, truth=y.tolist(), predicted=p.tolist(), accuracy=float(accuracy_score(y, p)),
                 macro_f1=float(f1_score(y, p, average="macro", zero_division=0.0))) for name, (y, p) in cases.items()]
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def intervals_golden(path, seed):
    rng = np.random.default_rng(seed)
    cases = [rng.normal(0.8, spread, n).round(4) for n in [2, 3, 5, 10, 30] for spread in [0.01, 0.3]]
    cases += [rng.normal(0.0, 1e3, 5).round(2), np.array([0.5, 0.5, 0.5, 0.5000001])]
    rows = []
    for x in cases:
        bounds = scipy.stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(len(x)))
        # Twelve digits: what lies beyond is the processor's.
        rows.append({"values": x.tolist()} | {k: float(f"{v:.12g}") for k, v in zip(["mean", "lo", "hi"], [x.mean(), *bounds])})
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def make(out):
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out.mkdir(parents=True)
    for index, (name, spec) in enumerate(CASES.items()):
        case(out / name, 10 * (index + 1), spec)
    adapted_golden(out / "adapted", 200)
    dropout_golden(out / "dropout", 250)
    optim_golden(out / "optim.safetensors", 300)
    distill_golden(out / "distill.safetensors", 400)
    metrics_golden(out / "metrics.json", 500)
    intervals_golden(out / "intervals.json", 600)
    versions = dict(torch=torch.__version__.split("+")[0], transformers=transformers.__version__,
                    scikit_learn=sklearn.__version__, scipy=scipy.__version__)
    (out / "versions.json").write_text(json.dumps(versions) + "\n")


def difference(ours, theirs):
    """The files that differ, by more than rounding."""
    files = lambda root: {p.relative_to(root) for p in root.rglob("*") if p.is_file() and p.name != "versions.json"}
    wrong = [f"only in one place: {p}" for p in files(ours) ^ files(theirs)]
    for path in sorted(files(ours) & files(theirs)):
        if path.suffix != ".safetensors":
            wrong += [str(path)] if path.name in ["metrics.json", "intervals.json"] and (ours / path).read_text() != (theirs / path).read_text() else []
            continue
        a, b = load_file(ours / path), load_file(theirs / path)
        wrong += [f"{path}: {key} only in one" for key in a.keys() ^ b.keys()]
        for key in a.keys() & b.keys():
            error = (a[key].double() - b[key].double()).abs().max().item()
            if not error <= 1e-4 * max(b[key].double().abs().max().item(), 1.0):
                wrong.append(f"{path}: {key}: {error:.1e}")
    return wrong


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="compare with the committed files, change nothing")
    arguments.add_argument("--out", type=Path, default=HERE / "golden")
    options = arguments.parse_args()
    if options.check:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "golden")
            wrong = difference(options.out, Path(folder) / "golden")
        print("\n".join(wrong) or "the committed golden files are what this environment computes")
        sys.exit(bool(wrong))
    if options.out.exists():
        sys.exit(f"{options.out} exists: remove it first")
    make(options.out)
    print(f"{sum(p.stat().st_size for p in options.out.rglob('*') if p.is_file()) / 1000:.0f} kB in {options.out}")
