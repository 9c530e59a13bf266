#!/usr/bin/env python3
"""Makes the adapter that notebook 8 takes in: a LoRA that PEFT tunes on all-MiniLM-L6-v2, on product reviews.

    .venv-test/bin/python scripts/notebook_lora.py "$(scripts/real.sh)" notebooks/peft-lora

The encoder is Apache-2.0, the texts are MIT (scripts/real.sh). The notebook says what it scores here; `scores.json` beside it what it scored in
PEFT, on the same 400 test texts.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model

STEPS, BATCH, LENGTH, TRAIN, TEST = 150, 16, 64, 1500, 400


def examples(path, labels, limit):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][:limit]
    return [row["text"] for row in rows], torch.tensor([labels.index(row["label"]) for row in rows])


def main():
    place, out = Path(sys.argv[1]), Path(sys.argv[2])
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    task = place / "texts/tasks/amazon_sentiment"
    labels = sorted({json.loads(line)["label"] for line in (task / "train.jsonl").read_text(encoding="utf-8").splitlines()})
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "encoder")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(place / "encoder", num_labels=len(labels))
    model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=16, target_modules=["query", "value"]))

    def batch(texts):
        return tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")

    texts, classes = examples(task / "train.jsonl", labels, TRAIN)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, STEPS // 15, STEPS)
    order = [row for _ in range(STEPS * BATCH // len(texts) + 1) for row in torch.randperm(len(texts)).tolist()]
    model.train()
    for step in range(STEPS):
        rows = order[step * BATCH : (step + 1) * BATCH]
        optimizer.zero_grad()
        model(**batch([texts[row] for row in rows]), labels=classes[rows]).loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    texts, classes = examples(task / "test.jsonl", labels, TEST)
    with torch.no_grad():
        right = sum((model(**batch(texts[at : at + 50])).logits.argmax(1) == classes[at : at + 50]).sum().item() for at in range(0, len(texts), 50))
    # Where the encoder lay is nobody's business.
    model.peft_config["default"].base_model_name_or_path = "sentence-transformers/all-MiniLM-L6-v2"
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    (out / "scores.json").write_text(json.dumps(dict(labels=labels, test_texts=len(texts), accuracy=right / len(texts))) + "\n")
    print((out / "scores.json").read_text())


if __name__ == "__main__":
    main()
