"""AdapterHub's side of tests/interchange.rs: adapters tuned by the package `adapters`, and whether it reads what was exported.

    hub_side.py make DIR     DIR/FAMILY/base, DIR/FAMILY/cases/NAME with expected.safetensors, DIR/FAMILY/refused/NAME
    hub_side.py check DIR    whether DIR/FAMILY/back/NAME scores the same there; prints the largest difference

Runs in an environment of its own: `adapters` wants another transformers than the other comparisons.
"""

import copy
import json
import shutil
import sys
from pathlib import Path

import adapters
import torch
import transformers
from adapters import AutoAdapterModel, BnConfig, ClassificationHead, DoubleSeqBnConfig, LoRAConfig, ParBnConfig, SeqBnConfig, SeqBnInvConfig
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
from families import FAMILIES, inputs, randomised, trained, vocabulary, worst_difference  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
LABELS = ["background", "uses", "naïve"]
# CamemBERT has no adapters there.
HERE = ["roberta", "xlm-roberta", "bert", "distilbert"]


def models(family, folder):
    """The base, saved in `folder` with a pooler where the family has one, and a way to make a model with flexible heads on it."""
    name, settings = FAMILIES[family]
    size = vocabulary(family, folder)
    config = getattr(transformers, f"{name}Config")(vocab_size=size, max_position_embeddings=31, attn_implementation="eager", **settings)
    torch.manual_seed(len(family))
    base = randomised(getattr(transformers, "BertForPreTraining" if family == "bert" else f"{name}ForMaskedLM")(config))
    base.save_pretrained(folder)

    def flexible():
        model = AutoAdapterModel.from_config(copy.deepcopy(config))
        report = model.load_state_dict(base.state_dict(), strict=False)
        assert all("pooler" in key or "prompt_tuning" in key for key in report.missing_keys), report.missing_keys
        return model

    def static(labels):
        fixed = type(config)(**(config.to_dict() | dict(id2label=dict(enumerate(labels)), label2id={v: k for k, v in enumerate(labels)})))
        model = getattr(transformers, f"{name}ForSequenceClassification")(fixed)
        model.load_state_dict(base.state_dict(), strict=False)
        adapters.init(model)
        return model

    return config, flexible, static


def cases():
    yield "houlsby", DoubleSeqBnConfig(reduction_factor=4), {}
    yield "pfeiffer", SeqBnConfig(reduction_factor=3), {}
    yield "parallel", ParBnConfig(), {}
    yield "parallel learned", ParBnConfig(scaling="learned", non_linearity="gelu"), {}
    yield "attention alone", BnConfig(mh_adapter=True, output_adapter=False, reduction_factor=2, non_linearity="tanh"), {}
    yield "behind", BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=2, non_linearity="gelu_new", original_ln_before=True,
                             original_ln_after=False, residual_before_ln=False), {}
    yield "normed residual", SeqBnConfig(residual_before_ln=False, non_linearity="leakyrelu", mh_adapter=True), {}
    yield "post add", SeqBnConfig(residual_before_ln="post_add", non_linearity="swish"), {}
    yield "ln after", DoubleSeqBnConfig(ln_after=True, non_linearity="sigmoid"), {}
    yield "ln after residual", SeqBnConfig(ln_after=True, adapter_residual_before_ln=True), {}
    yield "channel", SeqBnConfig(scaling="channel", dropout=0.2), {}
    yield "layers differ", DoubleSeqBnConfig(reduction_factor={"0": 2, "default": 7.5}), {}
    yield "left out", SeqBnConfig(leave_out=[1]), {}
    yield "one layer head", SeqBnConfig(), dict(layers=1)
    yield "relu head", SeqBnConfig(), dict(activation_function="relu")
    yield "head without activation", SeqBnConfig(), dict(activation_function=None)
    yield "head without bias", SeqBnConfig(), dict(bias=False)


def build(flexible, config, **head):
    torch.manual_seed(7)
    model = flexible()
    model.add_adapter("topic", config=config)
    model.add_prediction_head(ClassificationHead(model, "topic", num_labels=3, id2label=dict(enumerate(LABELS)), **head))
    model.train_adapter("topic")
    return model


def scores(model, batch):
    with torch.no_grad():
        return model(**batch).logits


def put(model, at, use_safetensors=True, **settings):
    at.parent.mkdir(parents=True, exist_ok=True)
    model.save_adapter(str(at), "topic", use_safetensors=use_safetensors, **settings)


def save(model, batch, at):
    put(model, at)
    save_file(dict(batch, logits=scores(model, batch).contiguous()), at / "expected.safetensors")


def make(folder):
    for family in HERE:
        at = folder / family
        config, flexible, static = models(family, at / "base")
        torch.manual_seed(3)
        batch = inputs(config, FAMILIES[family][1].get("type_vocab_size", 0) == 2)
        for name, adapter, head in cases():
            save(trained(build(flexible, adapter, **head), batch), batch, at / "cases" / name)
        # What begins with a LayerNorm has a tensor under two names, which safetensors does not write for it: as a converted file has it.
        model = trained(build(flexible, DoubleSeqBnConfig(ln_before=True)), batch)
        put(model, at / "cases/ln before", use_safetensors=False)
        for name, stem in [("pytorch_adapter.bin", "adapter"), ("pytorch_model_head.bin", "model_head")]:
            weights = torch.load(at / "cases/ln before" / name, weights_only=True)
            save_file({k: v.contiguous().clone() for k, v in weights.items()}, at / f"cases/ln before/{stem}.safetensors")
            shutil.copytree(at / "cases/ln before", at / "refused/pickled", dirs_exist_ok=True)
            (at / "cases/ln before" / name).unlink()
        for stem in ["adapter", "model_head"]:
            (at / f"refused/pickled/{stem}.safetensors").unlink(missing_ok=True)
        save_file(dict(batch, logits=scores(model, batch).contiguous()), at / "cases/ln before/expected.safetensors")
        # A file of before versions were written calls this one gelu.
        old = at / "cases/old names"
        save(trained(build(flexible, SeqBnConfig(non_linearity="gelu_new")), batch), batch, old)
        config_file = json.loads((old / "adapter_config.json").read_text())
        del config_file["version"]
        config_file["config"]["non_linearity"] = "gelu"
        (old / "adapter_config.json").write_text(json.dumps(config_file))
        if family == "bert":
            pooled = build(flexible, SeqBnConfig(), layers=1, use_pooler=True)
            save(trained(pooled, batch), batch, at / "cases/pooler head")
        # The head of a class of transformers. Its own dense map is not trained with the adapter but saved with the head.
        if family != "distilbert":
            model = static(LABELS)
            model.add_adapter("topic", config="seq_bn")
            model.train_adapter("topic")
            save(trained(model, batch), batch, at / "cases/static head")
        refused(at / "refused", flexible, batch, family, config)


def refused(at, flexible, batch, family, config):
    if family != "distilbert":
        tokens = getattr(transformers, f"{FAMILIES[family][0]}ForTokenClassification")(copy.deepcopy(config))
        adapters.init(tokens)
        tokens.add_adapter("topic", config="seq_bn")
        put(tokens, at / "token classifier")
    put(build(flexible, LoRAConfig(r=2)), at / "lora")
    put(build(flexible, SeqBnInvConfig()), at / "invertible")
    put(build(flexible, SeqBnConfig(use_gating=True)), at / "gated")
    put(build(flexible, SeqBnConfig(), layers=3), at / "three layers")
    model = flexible()
    model.add_adapter("topic", config="seq_bn")
    put(model, at / "no head", with_head=False)
    model.add_tagging_head("topic", num_labels=3)
    put(model, at / "tagging")
    put(trained(build(flexible, SeqBnConfig()), batch), at / "plain")
    weights = load_file(at / "plain/adapter.safetensors")

    def variant(name, tensors=None, file="adapter_config.json", **settings):
        shutil.copytree(at / "plain", at / name)
        if tensors is not None:
            save_file(tensors, at / name / "adapter.safetensors")
        config = json.loads((at / name / file).read_text())
        config["config"] |= settings
        (at / name / file).write_text(json.dumps(config))

    first = next(iter(sorted(weights)))
    variant("lost tensor", {k: v for k, v in weights.items() if k != first})
    variant("unknown tensor", weights | {first.replace("adapter_down.0", "gate"): torch.ones(2)})
    variant("other width", reduction_factor=2)
    variant("unknown activation", non_linearity="softplus")
    variant("unknown setting of the head", file="head_config.json", temperature=2.0)
    variant("labels with a gap", file="head_config.json", label2id={"a": 0, "b": 1, "c": 3})


def check(folder):
    def scorer(family):
        _, flexible, _ = models(family, folder / family / "again")

        def scores(back, batch):
            model = flexible()
            model.load_adapter(str(back), set_active=True, use_safetensors=True)
            return model.eval()(**batch).logits

        return scores

    worst_difference(folder, HERE, scorer)


if __name__ == "__main__":
    dict(make=make, check=check)[sys.argv[1]](Path(sys.argv[2]))
    print("{}") if sys.argv[1] == "make" else None
