"""The other side of the benchmarks: transformers and PyTorch as their documentation recommends, on the same prepared inputs.

    peer.py check JOB/spec.json DEVICE       the updates whose batches `recyclable-speed check` left, without dropout
    peer.py work  JOB/spec.json DEVICE WAY   waits for lines "go STEPS" and answers each with one line of JSON

WAY:
    transformers-default   RobertaForMaskedLM, torch.optim.AdamW and DataCollatorForLanguageModeling as they come, fp32
    transformers-best      bf16 autocast, SDPA, fused AdamW, full sequences without an attention mask, no padding by the collator
    trainer                Trainer with dynamic padding and batches grouped by length, fp32
    teacher-every-batch    a distillation loop in which the teacher answers every batch
    teacher-cached         the same, the teacher asked once
    matmul                 the rate of a large bf16 matrix product

A repetition starts from the prepared weights and with a fresh optimizer, as on the other side. Its loss is the mean over its steps.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    Trainer,
    TrainingArguments,
)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


class Job:
    def __init__(self, spec, device):
        self.folder, self.spec, self.device = Path(spec).parent, json.loads(Path(spec).read_text()), torch.device(device)

    def tokenizer(self):
        names = dict(bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>", mask_token="<mask>")
        return PreTrainedTokenizerFast(tokenizer_file=str(self.folder / "model/tokenizer.json"), **names)

    def model(self, kind, name, **overrides):
        return kind.from_pretrained(self.folder / name, **overrides).to(self.device)

    def student(self, **overrides):
        if self.spec["kind"] == "mlm":
            return self.model(RobertaForMaskedLM, "model", **overrides)
        return self.model(RobertaForSequenceClassification, "classifier", **overrides)

    def examples(self):
        """The training texts as ids, and their labels, numbered alphabetically as on the other side."""
        rows = [json.loads(line) for line in (self.folder / "task/train.jsonl").read_text().splitlines()]
        labels = {name: number for number, name in enumerate(sorted({row["label"] for row in rows}))}
        encoded = self.tokenizer()([row["text"] for row in rows], truncation=True, max_length=self.spec["tokens"])
        return [dict(input_ids=ids, labels=labels[row["label"]]) for ids, row in zip(encoded["input_ids"], rows)]


def sync(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def endless(loader):
    while True:
        yield from loader


def timed(job, model, optimizer, steps, loss_of, scheduler=None, clip=None, autocast=False):
    """Seconds and mean loss of so many updates; the loss is read once, at the end."""
    total = torch.zeros((), device=job.device)
    sync(job.device)
    clock = time.perf_counter()
    for _ in range(steps):
        with torch.autocast(job.device.type, torch.bfloat16, enabled=autocast):
            loss = loss_of()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
        optimizer.zero_grad()
        total += loss.detach()
    loss = total.item() / steps
    return time.perf_counter() - clock, loss


def masked(job, best):
    spec, tokenizer = job.spec, job.tokenizer()
    # Packing is done: every document fills a sequence.
    rows = [dict(input_ids=ids) for ids in tokenizer((job.folder / "corpus.txt").read_text().splitlines())["input_ids"]]
    assert all(len(row["input_ids"]) == spec["tokens"] for row in rows), "a document does not fill its sequence"
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)

    def collate(batch):
        ids, labels = collator.torch_mask_tokens(torch.tensor([row["input_ids"] for row in batch]))
        return dict(input_ids=ids, labels=labels)

    pin = job.device.type == "cuda"
    loader = DataLoader(rows, spec["batch"], shuffle=True, drop_last=True, collate_fn=collate if best else collator, pin_memory=pin)

    def repeat(steps):
        model, batches = job.student().train(), endless(loader)
        optimizer = torch.optim.AdamW(model.parameters(), lr=spec["learning_rate"], **(dict(fused=True) if best else {}))

        def loss_of():
            return model(**{key: value.to(job.device, non_blocking=True) for key, value in next(batches).items()}).loss

        seconds, loss = timed(job, model, optimizer, steps, loss_of, autocast=best)
        return seconds, steps * spec["batch"] * spec["tokens"], loss

    return repeat


def trainer(job):
    spec, examples = job.spec, job.examples()
    arguments = TrainingArguments(
        output_dir=str(job.folder / "trainer"),
        per_device_train_batch_size=spec["batch"],
        learning_rate=spec["learning_rate"],
        train_sampling_strategy="group_by_length",
        use_cpu=job.device.type == "cpu",
        dataloader_pin_memory=job.device.type == "cuda",
        save_strategy="no",
        disable_tqdm=True,
    )
    collator = DataCollatorWithPadding(job.tokenizer())

    def repeat(steps):
        arguments.max_steps = steps
        arguments.seed += 1  # or it would draw the same order and masks each time, and repetitions would not tell how far chance goes
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it logs; our lines go to stdout
            trained = Trainer(job.student(), arguments, train_dataset=examples, data_collator=collator).train()
        return trained.metrics["train_runtime"], steps * spec["batch"], trained.training_loss

    return repeat


def distillation(student, teacher, labels, temperature=10.0, alpha=0.9, beta=10.0):
    """(1 − α)·L_task + α·T²·KL + β·½·mean (H_t − H_s)² at <s>, all layers but the last."""
    soft = [F.log_softmax(logits / temperature, dim=-1) for logits in (student[0], teacher[0])]
    divergence = F.kl_div(soft[0], soft[1], reduction="batchmean", log_target=True) * temperature**2
    hidden = 0.5 * F.mse_loss(student[1], teacher[1])
    return (1 - alpha) * F.cross_entropy(student[0], labels) + alpha * divergence + beta * hidden


def answers(model, tokens):
    """Scores and what is compared of the hidden states, (b, layers, h)."""
    said = model(**tokens, output_hidden_states=True)
    return said.logits, torch.stack([state[:, 0] for state in said.hidden_states[:-1]], dim=1)


def few_shot(job, cached):
    spec, collator = job.spec, DataCollatorWithPadding(job.tokenizer())
    teacher = job.model(RobertaForSequenceClassification, "teacher").eval()

    def repeat(steps):
        student = job.student().train()
        optimizer = torch.optim.AdamW(student.parameters(), lr=spec["learning_rate"], weight_decay=0.0, fused=True)
        scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 0, steps)
        sync(job.device)
        # As on the other side, reading the texts and asking the teacher are part of the work.
        clock = time.perf_counter()
        rows = [dict(row, row=number) for number, row in enumerate(job.examples())]
        batches = endless(DataLoader(rows, spec["batch"], shuffle=True, collate_fn=collator))
        if cached:
            with torch.no_grad():
                everything = collator(rows).to(job.device)
                everything.pop("labels"), everything.pop("row")
                said = answers(teacher, everything)

        def loss_of():
            batch = next(batches).to(job.device)
            labels, row = batch.pop("labels"), batch.pop("row")
            if cached:
                teaches = said[0][row], said[1][row]
            else:
                with torch.no_grad():
                    teaches = answers(teacher, batch)
            return distillation(answers(student, batch), teaches, labels)

        setup = time.perf_counter() - clock
        seconds, loss = timed(job, student, optimizer, steps, loss_of, scheduler, clip=1.0)
        return setup + seconds, steps, loss

    return repeat


def matmul(job, size=8192):
    """Units are floating-point operations."""
    a, b = (torch.randn(size, size, device=job.device, dtype=torch.bfloat16) for _ in range(2))

    def repeat(steps):
        sync(job.device)
        clock = time.perf_counter()
        for _ in range(steps):
            a @ b
        sync(job.device)
        return time.perf_counter() - clock, steps * 2 * size**3, None

    return repeat


def same_texts(job, batches):
    """Whether the ids and labels of those batches are what this side's tokenizer makes of the texts."""
    known = {(row["labels"], *row["input_ids"]) for row in job.examples()}
    for batch in batches:
        rows, width = batch["tokens"]["shape"]
        ids, mask = batch["tokens"]["input_ids"], batch["tokens"]["attention_mask"] or [1] * rows * width
        for row, label in enumerate(batch["labels"]):
            here = range(row * width, (row + 1) * width)
            if (label, *(ids[at] for at in here if mask[at])) not in known:
                sys.exit("the two sides do not read the same: a text of the other side's batches is encoded differently here")


def check(job):
    """The losses of the updates that the other side has done, in fp32: the first, and the means of the first and the last ten."""
    student, spec = job.student(**NO_DROPOUT).train(), job.spec
    teacher = job.model(RobertaForSequenceClassification, "teacher").eval() if spec["kind"] == "distil" else None

    def losses(batches):
        optimizer = torch.optim.AdamW(student.parameters(), lr=spec["learning_rate"], weight_decay=0.0)
        return [timed(job, student, optimizer, 1, lambda: loss_of(batch))[1] for batch in batches]

    def loss_of(batch):
        def tensor(values):
            return torch.tensor(values, device=job.device)

        shape, mask = batch["tokens"]["shape"], batch["tokens"]["attention_mask"]
        tokens = dict(input_ids=tensor(batch["tokens"]["input_ids"]).view(shape))
        tokens["attention_mask"] = tensor(mask).view(shape) if mask else torch.ones_like(tokens["input_ids"])
        labels = tensor(batch["labels"])
        if "positions" in batch:
            everywhere = torch.full_like(tokens["input_ids"], -100).view(-1)
            everywhere[tensor(batch["positions"])] = labels
            labels = everywhere.view(shape)
        if teacher is None:
            return student(**tokens, labels=labels).loss
        with torch.no_grad():
            teaches = answers(teacher, tokens)
        return distillation(answers(student, tokens), teaches, labels)

    batches = json.loads((job.folder / "check.json").read_text())
    if spec["kind"] != "mlm":
        same_texts(job, batches)
    every = losses(batches)
    return dict(first=every[0], early=sum(every[:10]) / 10, late=sum(every[10:]) / 10)


WAYS = {
    "transformers-default": lambda job: masked(job, best=False),
    "transformers-best": lambda job: masked(job, best=True),
    "trainer": trainer,
    "teacher-every-batch": lambda job: few_shot(job, cached=False),
    "teacher-cached": lambda job: few_shot(job, cached=True),
    "matmul": matmul,
}


def peak_rss_mb():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6


def take_peak_tensors_mb(device):
    """The most that tensors took on a GPU since this was last asked."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e6
        torch.cuda.reset_peak_memory_stats()
        return peak


def forget_the_peak():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # the peak stays that of the whole process


def say(value):
    print(json.dumps(value), flush=True)


def main(what, spec, device, way=None):
    torch.manual_seed(0)
    job = Job(spec, device)
    if what == "check":
        return say(check(job))
    repeat = WAYS[way](job)
    versions = dict(torch=torch.__version__, transformers=transformers.__version__)
    say(dict(precision="bf16" if way in ("transformers-best", "matmul") else "fp32", threads=torch.get_num_threads(), versions=versions))
    forget_the_peak()
    for line in sys.stdin:
        seconds, units, loss = repeat(int(line.removeprefix("go ")))
        say(dict(seconds=seconds, units=units, loss=loss, peak_rss_mb=peak_rss_mb(), peak_tensors_mb=take_peak_tensors_mb(job.device)))


if __name__ == "__main__":
    main(*sys.argv[1:])
