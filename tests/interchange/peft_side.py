"""PEFT's side of tests/interchange.rs: adapters tuned by PEFT, what they score, and whether PEFT reads what was exported.

    peft_side.py make DIR     DIR/FAMILY/base, DIR/FAMILY/cases/NAME with expected.safetensors, DIR/FAMILY/refused/NAME
    peft_side.py check DIR    whether DIR/FAMILY/back/NAME scores the same in PEFT; prints the largest difference
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
from families import FAMILIES, byte_level, inputs, randomised, trained, vocabulary, worst_difference  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
LABELS = ["background", "uses", "naïve"]


def models(family, folder):
    """The base, saved in `folder` with a pooler where the family has one, and a way to make a classifier on it."""
    name, settings = FAMILIES[family]
    size = vocabulary(family, folder)
    labels = dict(id2label=dict(enumerate(LABELS)), label2id={v: k for k, v in enumerate(LABELS)})
    config = getattr(transformers, f"{name}Config")(vocab_size=size, max_position_embeddings=31, attn_implementation="eager", **labels, **settings)
    torch.manual_seed(len(family))
    base = randomised(getattr(transformers, "BertForPreTraining" if family == "bert" else f"{name}ForMaskedLM")(config))
    base.save_pretrained(folder)

    def classifier():
        model = getattr(transformers, f"{name}ForSequenceClassification")(config)
        report = model.load_state_dict(base.state_dict(), strict=False)
        assert all(key.startswith(("classifier", "pre_classifier")) for key in report.missing_keys), report.missing_keys
        return model

    return config, classifier


# BERT's names, and DistilBERT's.
NAMES = {"distilbert": dict(query="q_lin", value="v_lin", key="k_lin", dense="out_lin", norm="sa_layer_norm", layers="layer")}


def cases(family):
    n = NAMES.get(family, dict(query="query", value="value", key="key", dense="dense", norm="LayerNorm", layers="layer"))
    yield "plain", dict(r=4, target_modules=[n["query"], n["value"]])
    yield "alpha", dict(r=3, lora_alpha=17, target_modules=[n["key"]], lora_dropout=0.3)
    yield "rslora", dict(r=4, lora_alpha=5, use_rslora=True, target_modules=[n["query"]])
    yield "patterns", dict(r=2, target_modules=[n["query"], n["value"], n["key"]], rank_pattern={n["value"]: 5, rf"{n['layers']}\.1\..*{n['key']}": 3},
                           alpha_pattern={rf"{n['layers']}\.2\..*{n['query']}": 9, n["key"]: 1.5})
    yield "layers", dict(r=2, target_modules=[n["query"]], layers_to_transform=[0, 2])
    yield "one layer", dict(r=2, target_modules=[n["query"], n["value"]], layers_to_transform=1, layers_pattern=n["layers"])
    yield "expression", dict(r=2, target_modules=rf".*{n['layers']}\.[12]\..*({n['query']}|{n['dense']})")
    # DistilBERT's pre_classifier is linear, too, and PEFT cannot both update and save it.
    whole = dict(modules_to_save=["pre_classifier", "classifier"]) if family == "distilbert" else {}
    yield "all linear", dict(r=2, target_modules="all-linear", **whole)
    yield "excluded", dict(r=2, target_modules=[n["query"], n["value"]], exclude_modules=rf".*{n['layers']}\.0\..*")
    yield "bias of all", dict(r=2, target_modules=[n["query"]], bias="all")
    yield "bias of lora", dict(r=2, target_modules=[n["query"], n["dense"]], bias="lora_only")
    yield "saved norms", dict(r=2, target_modules=[n["query"]], modules_to_save=[n["norm"], "classifier"])
    # PEFT takes every module whose name ends so, in the middle of a word, too.
    yield "saved by an ending", dict(r=2, target_modules=[n["query"]], modules_to_save=["layer_norm" if family == "distilbert" else "Norm", "classifier"])
    yield "gaussian", dict(r=2, target_modules=[n["query"]], init_lora_weights="gaussian")


def build(config, classifier, family, settings):
    torch.manual_seed(7)
    return get_peft_model(classifier(), LoraConfig(task_type="SEQ_CLS", **settings))


def save(model, batch, at, **names):
    model.save_pretrained(at, **names)
    with torch.no_grad():
        logits = model(**batch).logits
    save_file(dict(batch, logits=logits.contiguous()), at / "expected.safetensors")


def make(folder):
    for family in FAMILIES:
        at = folder / family
        config, classifier = models(family, at / "base")
        torch.manual_seed(3)
        batch = inputs(config, FAMILIES[family][1].get("type_vocab_size", 0) == 2)
        for name, settings in cases(family):
            save(trained(build(config, classifier, family, settings), batch), batch, at / "cases" / name)
        refused(at / "refused", config, classifier, family, batch)
        # Two in one folder; the second has one of its own.
        plain = dict(cases(family))["plain"]
        model = trained(build(config, classifier, family, plain), batch)
        save(model, batch, at / "cases" / "default of two")
        model.add_adapter("second", LoraConfig(task_type="SEQ_CLS", r=3, target_modules=plain["target_modules"][:1]))
        model.set_adapter("second")
        save(trained(model, batch), batch, at / "cases" / "two adapters")


def refused(at, config, classifier, family, batch):
    n = dict(cases(family))["plain"]["target_modules"]
    torch.manual_seed(1)

    def lora(name, kind=LoraConfig, **settings):
        settings = dict(r=2, target_modules=n) | settings
        get_peft_model(classifier(), kind(task_type="SEQ_CLS", **settings)).save_pretrained(at / name)

    lora("dora", use_dora=True)
    lora("embeddings", target_modules=n + ["word_embeddings"])
    lora("bias of updates", lora_bias=True)
    model = get_peft_model(classifier(), IA3Config(task_type="SEQ_CLS", target_modules=n[:1], feedforward_modules=[]))
    model.save_pretrained(at / "ia3")
    lora("adalora", kind=AdaLoraConfig, init_r=2, total_step=10)
    tokens = getattr(transformers, f"{FAMILIES[family][0]}ForTokenClassification")(config)
    get_peft_model(tokens, LoraConfig(task_type="TOKEN_CLS", r=2, target_modules=n)).save_pretrained(at / "token classifier")
    lora("plain")
    weights = load_file(at / "plain/adapter_model.safetensors")

    def variant(name, tensors=None, **settings):
        shutil.copytree(at / "plain", at / name)
        if tensors is not None:
            save_file(tensors, at / name / "adapter_model.safetensors", metadata={"format": "pt"})
        config = json.loads((at / name / "adapter_config.json").read_text()) | settings
        (at / name / "adapter_config.json").write_text(json.dumps(config))

    first = next(k for k in weights if k.endswith("lora_A.weight"))
    variant("lost update", {k: v for k, v in weights.items() if k not in (first, first.replace("lora_A", "lora_B"))})
    variant("half an update", {k: v for k, v in weights.items() if k != first})
    variant("unknown tensor", weights | {"base_model.model.gate.weight": torch.ones(2, 2)})
    variant("no head", {k: v for k, v in weights.items() if "classifier" not in k})
    variant("other rank", r=5)
    variant("another tokenizer")
    byte_level(["other words"] * 3).save(str(at / "another tokenizer/tokenizer.json"))
    variant("pissa", init_lora_weights="pissa_niter_4")
    variant("unknown setting", use_hyperlora=True)
    variant("not a number", weights | {first: weights[first] * float("nan")})
    shutil.copytree(at / "plain", at / "pickled")
    (at / "pickled/adapter_model.safetensors").unlink()
    torch.save(weights, at / "pickled/adapter_model.bin")


def check(folder):
    def scorer(family):
        _, classifier = models(family, folder / family / "again")
        return lambda back, batch: PeftModel.from_pretrained(classifier(), back).eval()(**batch).logits

    worst_difference(folder, FAMILIES, scorer)


if __name__ == "__main__":
    dict(make=make, check=check)[sys.argv[1]](Path(sys.argv[2]))
    print("{}") if sys.argv[1] == "make" else None
