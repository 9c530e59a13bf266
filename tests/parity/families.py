"""The Python side of tests/parity/families.rs: random models of every family, and what transformers computes with them.

    families.py make DIR      DIR/FAMILY/{masked-lm,classifier} with expected.safetensors; DIR/FAMILY/stored/*: the same weights in other files
    families.py tokenizers DIR    folders with tokenizers of every kind, and expected.json: the ids of texts
    families.py read DIR      whether DIR/KIND/back, tokenizers that the crate has saved, still give those ids
    families.py pooler DIR    whether DIR, a BERT that the crate has saved with its pooler, is complete as a bare encoder, too
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file, save_model

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SIZES = dict(hidden_size=15, num_attention_heads=3, num_hidden_layers=3, intermediate_size=17)
# Class prefix, settings: odd sizes, a vocabulary with more rows than tokens.
FAMILIES = {
    "roberta": ("Roberta", dict(SIZES, type_vocab_size=2, layer_norm_eps=1e-5)),
    "xlm-roberta": ("XLMRoberta", dict(SIZES, type_vocab_size=1, layer_norm_eps=1e-5)),
    "camembert": ("Camembert", dict(SIZES, type_vocab_size=1)),
    "bert": ("Bert", dict(SIZES, type_vocab_size=2)),
    "distilbert": ("DistilBert", dict(dim=15, n_heads=3, n_layers=3, hidden_dim=17)),
}
WORDS = "the cat sat on a mat and bio ##logy ##s of cells ein Haus haus ##haus 東 京 é e".split()


def randomised(model):
    """Weights wide enough for a lost tensor to show."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model.eval()


def inputs(config, types):
    ids = torch.randint(5, config.vocab_size, (4, 13))
    mask = torch.ones_like(ids)
    for row, length in enumerate([13, 9, 6, 2]):
        mask[row, length:] = 0
    ids[mask == 0] = config.pad_token_id
    batch = dict(input_ids=ids, attention_mask=mask)
    if types:
        batch["token_type_ids"] = torch.zeros_like(ids)
        for row, second in [(0, 5), (1, 4)]:
            batch["token_type_ids"][row, second:] = 1
        batch["token_type_ids"] *= mask
    return batch


def trained(model, batch, learning_rate=3e-2):
    """Moves whatever is trained, so that nothing is as it began."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        model(**batch, labels=torch.tensor([0, 2, 1, 1])).loss.backward()
        optimizer.step()
    return model.eval()


def worst_difference(folder, families, scorer):
    """Prints the largest difference between what DIR/FAMILY/cases/NAME scored and what DIR/FAMILY/back/NAME scores: `scorer(family)` gives a
    function of a folder and a batch."""
    worst = 0.0
    for family in families:
        scores = scorer(family)
        for at in sorted((folder / family / "cases").iterdir()):
            batch = load_file(at / "expected.safetensors")
            logits = batch.pop("logits")
            with torch.no_grad():
                off = ((scores(folder / family / "back" / at.name, batch) - logits).abs().max() / logits.abs().max()).item()
            assert off <= 1e-4, f"{family}, {at.name}: off by {off:.1e}"
            worst = max(worst, off)
    print(json.dumps(worst))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    words = model.get_input_embeddings().weight
    named = {name: p for name, p in model.named_parameters() if p is not words}
    # The tied matrix under the name that we have for it, wherever the class puts it first.
    named |= {name: p for name, p in model.named_parameters(remove_duplicate=False) if p is words and "word_embeddings" in name}
    return {f"grad/{name}": p.grad.clone() for name, p in named.items() if p.grad is not None}


def vocabulary(family, folder):
    """A tokenizer for the family's special tokens, as the files of its time kept it."""
    folder.mkdir(parents=True, exist_ok=True)
    if family in ("bert", "distilbert"):
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS) + "\n", encoding="utf-8")
    else:
        byte_level(["the cat sat on the mat"] * 3).save(str(folder / "tokenizer.json"))
    return 64 if family in ("bert", "distilbert") else 320


def make(folder):
    for seed, (family, (name, settings)) in enumerate(FAMILIES.items()):
        torch.manual_seed(seed)
        at = folder / family
        size = vocabulary(family, at / "masked-lm")
        types = settings.get("type_vocab_size", 0) == 2
        labels = {i: f"label {i}" for i in range(4)}
        config = getattr(transformers, f"{name}Config")(vocab_size=size, max_position_embeddings=31, initializer_range=0.3, id2label=labels,
                                                       label2id={v: k for k, v in labels.items()}, attn_implementation="eager", **settings)
        model = randomised(getattr(transformers, f"{name}ForMaskedLM")(config))
        batch = inputs(config, types)
        targets = torch.where(torch.rand(batch["input_ids"].shape) < 0.3, batch["input_ids"], -100)
        targets[batch["attention_mask"] == 0] = -100
        targets[0, 1] = batch["input_ids"][0, 1]
        out = model(**batch, labels=targets, output_hidden_states=True, output_attentions=True)
        expected = dict(batch, labels=targets, logits=out.logits, loss=out.loss, **gradients(model, out.loss))
        expected |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)} | {f"attention.{i}": a for i, a in enumerate(out.attentions)}
        model.save_pretrained(at / "masked-lm")
        write(expected, at / "masked-lm")

        classifier = randomised(getattr(transformers, f"{name}ForSequenceClassification")(config))
        classes = torch.tensor([0, 3, 1, 1])
        out = classifier(**batch, labels=classes)
        expected = dict(batch, labels=classes, logits=out.logits, loss=out.loss, **gradients(classifier, out.loss))
        classifier.save_pretrained(at / "classifier")
        vocabulary(family, at / "classifier")
        write(expected, at / "classifier")
        store(at, name, model, classifier)


def write(expected, folder):
    save_file({k: v.detach().contiguous().clone() for k, v in expected.items()}, folder / "expected.safetensors")


def store(at, name, model, classifier):
    """The masked language model in files of other kinds."""
    plain = load_file(at / "masked-lm/model.safetensors")
    prefix = model.base_model_prefix + "."

    def variant(kind, tensors=None):
        folder = at / "stored" / kind
        shutil.copytree(at / "masked-lm", folder)
        (folder / "expected.safetensors").unlink()
        (folder / "model.safetensors").unlink()
        if tensors is not None:
            save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    model.save_pretrained(variant("shards"), max_shard_size="12KB")
    variant("half", {k: v.half() for k, v in plain.items()})
    variant("bfloat16", {k: v.bfloat16() for k, v in plain.items()})
    variant("compiled", {f"_orig_mod.{k}": v for k, v in plain.items()})
    variant("parallel", {f"module.{k}": v for k, v in plain.items()})
    variant("bare-names", {k.removeprefix(prefix): v for k, v in plain.items()})
    old = {k: (k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")) for k in plain}
    variant("old-names", {old[k]: v for k, v in plain.items()})
    buffers = {f"{prefix}embeddings.position_ids": torch.arange(31)[None]}
    more = {"qa_outputs.weight": torch.ones(2, 15), "qa_outputs.bias": torch.ones(2)} | buffers
    if name == "Bert":
        more |= {"cls.seq_relationship.weight": torch.ones(2, 15), "cls.seq_relationship.bias": torch.ones(2)}
        more |= {"bert.pooler.dense.weight": torch.ones(15, 15), "bert.pooler.dense.bias": torch.ones(15)}
    variant("other-heads", plain | more)
    variant("strange-head", plain | {"span_head.weight": torch.ones(2, 15)})
    variant("strange-head-alone", {k: v for k, v in plain.items() if k.startswith(prefix)} | {"span_head.weight": torch.ones(2, 15)})
    variant("strange-encoder", plain | {f"{prefix}gate.weight": torch.ones(2, 15)})
    save_model(model, str(variant("tied") / "model.safetensors"), metadata={"format": "pt"})
    # The table under the decoder's name alone.
    words, decoder = f"{prefix}embeddings.word_embeddings.weight", decoder_name(model)
    variant("decoder-alone", {(decoder if k == words else k): v for k, v in plain.items()})
    variant("untied", plain | {decoder: plain[words] + 1})
    bare = variant("bare-encoder")
    model.base_model.save_pretrained(bare)
    variant("classifier-alone", load_file(at / "classifier/model.safetensors"))
    variant("lost-bias", {k: v for k, v in plain.items() if not k.endswith("2.output.dense.bias") and not k.endswith("2.ffn.lin2.bias")})
    head = [k for k in plain if not k.startswith(prefix)]
    variant("half-a-head", {k: v for k, v in plain.items() if k != head[-1]})
    nan = {k: v.clone() for k, v in plain.items()}
    nan[words][3, 2] = float("nan")
    variant("not-a-number", nan)


def decoder_name(model):
    """What the decoder's matrix is called, which is the word embeddings."""
    names = [n for n, p in model.named_parameters(remove_duplicate=False) if p is model.get_input_embeddings().weight]
    return next(n for n in names if "word_embeddings" not in n)


TEXTS = ["The cat sat on a mat.", "naïve Straße — 東京都 🧬👩‍🔬", "  blanks\tand\u00a0tabs\u200b ", "Ünïcödé Ελληνικά العربية हिन्दी ไทย", "İstanbul ǅ ﬁ", "한국어 日本語 中文",
         "a [MASK] b <mask> c", "NEU neu newtoken x", "don't e-mail me@example.com 3.14", "cells cells biologys", "\ufffd\u0301", ""]


def byte_level(texts):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return inner


def unigram():
    """What XLM-RoBERTa and CamemBERT have, without the map of characters that only sentencepiece makes."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.Unigram())
    inner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    inner.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    inner.train_from_iterator(TEXTS * 5, trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False))
    inner.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)])
    return inner


def tokenizers(folder):
    from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

    made = {}

    def ours(kind):
        at = folder / kind
        at.mkdir(parents=True)
        return at

    def config(at, model_type, **settings):
        (at / "config.json").write_text(json.dumps(dict(model_type=model_type)))
        if settings:
            (at / "tokenizer_config.json").write_text(json.dumps(settings))

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS + list("abcdefghijklmnopqrstuvwxyz.,'-@0123456789") + [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"]
    words = "\n".join(dict.fromkeys(vocabulary)) + "\n"
    for kind, settings in [("words-uncased", dict(tokenizer_class="BertTokenizer")), ("words-cased", dict(tokenizer_class="BertTokenizer", do_lower_case=False)),
                           ("words-accents", dict(tokenizer_class="BertTokenizer", do_lower_case=True, strip_accents=False)),
                           ("words-characters", dict(tokenizer_class="BertTokenizer", tokenize_chinese_chars=False))]:
        at = ours(kind)
        (at / "vocab.txt").write_text(words, encoding="utf-8")
        config(at, "bert", **settings)
        made[kind] = AutoTokenizer.from_pretrained(at)
    # As save_pretrained writes it, with added tokens, and truncation and padding asked for in the file.
    at = ours("words-file")
    tokenizer = BertTokenizer(str(folder / "words-uncased/vocab.txt"))
    tokenizer.add_tokens(["newtoken"])
    tokenizer.add_special_tokens(dict(additional_special_tokens=["NEU"]))
    tokenizer.save_pretrained(at)
    config(at, "bert")
    made["words-file"] = AutoTokenizer.from_pretrained(at)
    file = json.loads((at / "tokenizer.json").read_text())
    file["truncation"] = dict(direction="Right", max_length=6, strategy="LongestFirst", stride=0)
    file["padding"] = dict(strategy=dict(Fixed=9), direction="Right", pad_to_multiple_of=None, pad_id=0, pad_type_id=0, pad_token="[PAD]")
    (at / "tokenizer.json").write_text(json.dumps(file))

    inner = byte_level(TEXTS * 3)
    at = ours("bytes-file")
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", unk_token="<unk>",
                            pad_token="<pad>", mask_token="<mask>").save_pretrained(at)
    config(at, "roberta")
    made["bytes-file"] = AutoTokenizer.from_pretrained(at)
    for kind, settings in [("bytes-lists", dict(tokenizer_class="RobertaTokenizer")), ("bytes-blank", dict(tokenizer_class="RobertaTokenizer", add_prefix_space=True))]:
        at = ours(kind)
        inner.model.save(str(at))
        config(at, "roberta", **settings)
        made[kind] = RobertaTokenizer.from_pretrained(at)
    at = ours("unigram")
    PreTrainedTokenizerFast(tokenizer_object=unigram(), bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", unk_token="<unk>",
                            pad_token="<pad>", mask_token="<mask>").save_pretrained(at)
    config(at, "xlm-roberta")
    made["unigram"] = AutoTokenizer.from_pretrained(at)
    for kind, tokenizer in made.items():
        rows = []
        pairs = [(text, None) for text in TEXTS] + [(a, b) for a, b in zip(TEXTS, TEXTS[1:]) if b]
        for text, pair in pairs:
            out = tokenizer(text, pair, return_token_type_ids=True) if pair else tokenizer(text, return_token_type_ids=True)
            cut = tokenizer(text, pair, truncation=True, max_length=8) if pair else tokenizer(text, truncation=True, max_length=8)
            rows.append(dict(text=text, pair=pair, ids=out["input_ids"], types=out["token_type_ids"], cut=cut["input_ids"]))
        special = {key: getattr(tokenizer, f"{key}_token_id") for key in ["cls", "sep", "pad", "mask", "unk"]}
        (folder / kind / "expected.json").write_text(json.dumps(dict(rows=rows, special=special, size=len(tokenizer))))


def read(folder):
    from transformers import AutoTokenizer

    for at in sorted(folder.iterdir()):
        tokenizer = AutoTokenizer.from_pretrained(at / "back")
        for row in json.loads((at / "expected.json").read_text())["rows"]:
            ids = tokenizer(row["text"], row["pair"])["input_ids"] if row["pair"] else tokenizer(row["text"])["input_ids"]
            assert ids == row["ids"], f"{at.name}, saved again: {row['text']!r}, {row['pair']!r}: {ids}, not {row['ids']}"


def pooler(folder):
    stored = load_file(folder / "model.safetensors")
    encoder, info = transformers.BertModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    for name in ["weight", "bias"]:
        assert torch.equal(getattr(encoder.pooler.dense, name), stored[f"bert.pooler.dense.{name}"])
    # The masked language model has none: that, and nothing else, is left over.
    _, info = transformers.BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and set(info["unexpected_keys"]) == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}, info


if __name__ == "__main__":
    dict(make=make, tokenizers=tokenizers, read=read, pooler=pooler)[sys.argv[1]](Path(sys.argv[2]))
    print("{}")
