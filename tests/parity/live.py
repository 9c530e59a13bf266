"""The Python side of tests/parity_live.rs. Prints one JSON object; exits 1 with a reason where something differs.

    live.py check DIR…    each was saved by the crate; DIR/expected.safetensors and DIR/expected.json say what it computed
    live.py make DIR…     saves random models, tokenizers and what they compute, for the crate to load; the folder's name is the seed
"""

import json
import random
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
TEXTS = ["the cat sat", "a b, c!", "naïve Straße — 東京", "   spaces   and\ttabs ", "x1 <mask> y", "ends with <mask>"]


def relative(ours, theirs, mask=None):
    """Largest difference, relative to the largest value."""
    if mask is not None:
        ours, theirs = ours[mask.bool()], theirs[mask.bool()]
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def check(folder):
    expected = load_file(folder / "expected.safetensors")
    facts = json.loads((folder / "expected.json").read_text())
    config = AutoConfig.from_pretrained(folder)
    assert config.architectures == [facts["architecture"]], f"architectures is {config.architectures}"
    classifier = facts["architecture"].endswith("ForSequenceClassification")
    auto = AutoModelForSequenceClassification if classifier else AutoModelForMaskedLM
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == facts["architecture"], type(model).__name__
    complaints = {k: sorted(v) if not isinstance(v, (str, dict)) else v for k, v in info.items() if v}
    assert not complaints, f"transformers complains on loading: {complaints}"
    if classifier:
        labels = {i: label for i, label in enumerate(facts["labels"])}
        assert config.id2label == labels, f"id2label is {config.id2label}, not {labels}"
        assert config.label2id == {v: k for k, v in labels.items()}, config.label2id
        assert config.num_labels == len(labels)
        assert config.problem_type == "single_label_classification"
    mask = expected.get("attention_mask")
    mask = mask if mask is None else mask.long()
    with torch.no_grad():
        types = dict(token_type_ids=expected["token_type_ids"]) if "token_type_ids" in expected else {}
        logits = model.eval()(input_ids=expected["input_ids"], attention_mask=mask, **types).logits
    error = relative(expected["logits"], logits, None if classifier else mask)
    assert error <= 1e-4, f"logits differ by {error:.1e} of the largest"
    report = dict(logits=error)

    for name, tokenizer in [("file", PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))),
                            ("auto", AutoTokenizer.from_pretrained(folder))]:
        for row in facts["tokens"]:
            pair = row.get("pair")
            ids = tokenizer(row["text"], pair)["input_ids"] if pair is not None else tokenizer(row["text"])["input_ids"]
            assert ids == row["ids"], f"{name}: {row['text']!r}, {pair!r}: {ids} in Python, {row['ids']} in Rust"
        report[f"tokenizer_{name}"] = type(tokenizer).__name__
    auto = tokenizer
    for token, index in facts["special"].items():
        assert getattr(auto, f"{token}_token_id") == index, f"{token}: {getattr(auto, f'{token}_token_id')}, not {index}"
    return report


def make(folder, seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    heads = rng.choice([1, 2, 3])
    labels = {i: f"label {i}" for i in range(rng.randint(2, 6))}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer) + rng.randint(0, 3), hidden_size=heads * rng.randint(2, 7), num_attention_heads=heads,
        num_hidden_layers=rng.randint(1, 3), intermediate_size=rng.randint(5, 30), max_position_embeddings=rng.randint(20, 40),
        type_vocab_size=rng.choice([1, 2]), layer_norm_eps=rng.choice([1e-5, 1e-12]), id2label=labels,
        label2id={v: k for k, v in labels.items()}, initializer_range=0.3)
    ids = torch.randint(5, config.vocab_size, (3, 11))
    mask = torch.ones_like(ids)
    mask[1, 7:], mask[2, 2:] = 0, 0
    ids[mask == 0] = config.pad_token_id
    for kind, model in [("masked-lm", transformers.RobertaForMaskedLM(config)),
                        ("classifier", transformers.RobertaForSequenceClassification(config))]:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.1)
            logits = model.eval()(input_ids=ids, attention_mask=mask).logits
        model.save_pretrained(folder / kind)
        tokenizer.save_pretrained(folder / kind)
        save_file(dict(input_ids=ids, attention_mask=mask, logits=logits.contiguous()), folder / kind / "expected.safetensors")
        tokens = [dict(text=text, ids=tokenizer(text)["input_ids"]) for text in TEXTS]
        tokens += [dict(text=a, pair=b, ids=tokenizer(a, b)["input_ids"]) for a, b in zip(TEXTS, TEXTS[1:])]
        (folder / kind / "expected.json").write_text(json.dumps(dict(tokens=tokens, labels=list(labels.values()))))
    return dict(hidden=config.hidden_size, layers=config.num_hidden_layers)


def train_tokenizer():
    """A byte-level BPE as RoBERTa has it, from a handful of sentences."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    inner.train_from_iterator(TEXTS + ["the cat and the other cat sat there"] * 5, trainer)
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
                                   unk_token="<unk>", pad_token="<pad>", mask_token=special[-1])


if __name__ == "__main__":
    run = dict(check=check, make=lambda folder: make(folder, int(folder.name)))[sys.argv[1]]
    results = {}
    for folder in map(Path, sys.argv[2:]):
        try:
            results[folder.name] = run(folder)
        except AssertionError as problem:
            sys.exit(f"{folder}: {problem}")
    print(json.dumps(results))
