"""The side of transformers in tests/interchange.rs: models tuned whole, and whether they are read again.

    tuned_side.py make DIR     DIR/FAMILY/{base,other,smaller,tuned}, with expected.safetensors in the last
    tuned_side.py check DIR    whether DIR/FAMILY/back scores the same
"""

import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
from families import FAMILIES, inputs, randomised, trained, vocabulary  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
LABELS = ["background", "uses", "naïve"]


def make(folder):
    for family, (name, settings) in FAMILIES.items():
        at = folder / family
        labels = dict(id2label=dict(enumerate(LABELS)), label2id={v: k for k, v in enumerate(LABELS)})
        versions = {}
        for seed, version in enumerate(["base", "other", "smaller"]):
            size = vocabulary(family, at / version)
            layers = {("n_layers" if family == "distilbert" else "num_hidden_layers"): 2 if version == "smaller" else 3}
            config = getattr(transformers, f"{name}Config")(vocab_size=size, max_position_embeddings=31, attn_implementation="eager", **labels, **(settings | layers))
            torch.manual_seed(seed)
            versions[version] = randomised(getattr(transformers, f"{name}ForMaskedLM")(config))
            versions[version].save_pretrained(at / version)
        config = versions["base"].config
        model = getattr(transformers, f"{name}ForSequenceClassification")(config)
        model.load_state_dict(versions["base"].state_dict(), strict=False)
        torch.manual_seed(3)
        batch = inputs(config, settings.get("type_vocab_size", 0) == 2)
        trained(model, batch, learning_rate=5e-3)
        with torch.no_grad():
            logits = model(**batch).logits
        model.save_pretrained(at / "tuned")
        vocabulary(family, at / "tuned")
        save_file(dict(batch, logits=logits.contiguous()), at / "tuned/expected.safetensors")


def check(folder):
    for family, (name, _) in FAMILIES.items():
        expected = load_file(folder / family / "tuned/expected.safetensors")
        logits = expected.pop("logits")
        model, report = transformers.AutoModelForSequenceClassification.from_pretrained(folder / family / "back", output_loading_info=True)
        assert not any(report[key] for key in ["missing_keys", "unexpected_keys", "mismatched_keys"]), report
        assert list(model.config.id2label.values()) == LABELS
        with torch.no_grad():
            theirs = model.eval()(**expected).logits
        off = ((theirs - logits).abs().max() / logits.abs().max()).item()
        assert off <= 1e-4, f"{family}: off by {off:.1e}"


if __name__ == "__main__":
    dict(make=make, check=check)[sys.argv[1]](Path(sys.argv[2]))
    print("{}")
