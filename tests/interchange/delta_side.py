"""OpenDelta's side of tests/interchange.rs: the adapters of one of its releases, on RoBERTa, with what they score.

    delta_side.py RELEASE DIR     DIR/FAMILY/base, DIR/FAMILY/RELEASE with expected.safetensors

RELEASE names a folder beside this environment's interpreter that holds that release and nothing else. What it imports for uploads and for
DeepSpeed is not there, and not needed.
"""

import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import torch
import transformers
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
from families import FAMILIES, inputs, randomised, vocabulary  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
release, folder = sys.argv[1], Path(sys.argv[2])
sys.path.insert(0, str(Path(sys.prefix) / release))
for name in ["DeltaCenter", "transformers.deepspeed", "transformers.file_utils", "web", "git", "yaml", "decorator", "rich", "rich.tree", "rich.text"]:
    try:
        __import__(name)
    except ImportError:
        sys.modules[name] = MagicMock()
from opendelta import AdapterModel  # noqa: E402

for family in ["roberta"]:  # its table of structures knows no classifier of BERT
    name, settings = FAMILIES[family]
    at = folder / family
    size = vocabulary(family, at / "base")
    config = getattr(transformers, f"{name}Config")(vocab_size=size, max_position_embeddings=31, num_labels=3, attn_implementation="eager", **settings)
    torch.manual_seed(5)
    base = randomised(getattr(transformers, f"{name}ForMaskedLM")(config))
    base.save_pretrained(at / "base")
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    model.load_state_dict(base.state_dict(), strict=False)
    delta = AdapterModel(backbone_model=model, bottleneck_dim=5)
    delta.freeze_module(exclude=["deltas", "classifier"])
    torch.manual_seed(6)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.3)
    torch.manual_seed(3)
    batch = inputs(config, settings.get("type_vocab_size", 0) == 2)
    with torch.no_grad():
        logits = model.eval()(**batch).logits
    trained = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    (at / release).mkdir()
    save_file(trained, at / release / "model.safetensors", metadata={"format": "pt"})
    (at / release / "config.json").write_text(json.dumps(dict(delta_type="adapter", bottleneck_dim=5, non_linearity="gelu_new", backbone_class=type(model).__name__)))
    save_file(dict(batch, logits=logits.contiguous()), at / release / "expected.safetensors")
    (at / "pickled").mkdir(exist_ok=True)
    torch.save(trained, at / "pickled/pytorch_model.bin")
    (at / "pickled/config.json").write_text(json.dumps(dict(delta_type="adapter")))
    (at / "soft prompt").mkdir(exist_ok=True)
    (at / "soft prompt/config.json").write_text(json.dumps(dict(delta_type="soft_prompt")))
print("{}")
