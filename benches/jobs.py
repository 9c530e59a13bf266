"""The jobs of `make bench` and `make bench-gpu`: what is done, against whom, and what is aimed at.

A job's `spec` is what both sides read (benches/speed/job.rs, benches/peer.py). Its rows compare two workers in one unit; a target
is a pair: on processors that multiply bfloat16 natively (AMX or AVX512-BF16), and on others.
"""

from dataclasses import dataclass


@dataclass
class Row:
    name: str
    ours: str  # a precision, or for the path a way
    peer: str
    target: tuple
    measure: str = "speed"  # or "time" (lower is better), "peak" and "extra" (memory, see bench.py), "mfu"
    note: str = ""  # below the table


@dataclass
class Job:
    name: str
    spec: dict
    steps: int  # of a timed repetition
    unit: str
    rows: list
    device: str = "cpu"
    warmup: int = 5  # steps
    checked: bool = True  # against the peer, without dropout
    data: str = ""  # the task's folder in the data folder, where one is needed
    threads: int = 0  # 0: as many as each side chooses by itself
    fresh: bool = False  # a fresh process for every repetition, without warming up; see bench.py for the allocator
    peers_are_ours: bool = False
    default: bool = True  # part of a run that names no job
    fall_tolerance: float | None = 0.15  # part of the peer's fall of the loss that ours may differ by; None: whatever it is


def model(hidden, layers, heads, vocabulary, tokens):
    return dict(hidden=hidden, layers=layers, heads=heads, vocabulary=vocabulary, tokens=tokens)


def both(target):
    return (target, target)


MLM_256 = dict(kind="mlm", **model(256, 4, 4, 8192, 128), batch=32, examples=640, dropout=0.1, learning_rate=5e-4)
MLM_128 = dict(kind="mlm", **model(128, 2, 4, 4096, 64), batch=64, examples=2560, dropout=0.1, learning_rate=1e-3)
TUNE = dict(kind="tune", **model(128, 2, 4, 4096, 128), batch=32, examples=3200, dropout=0.1, learning_rate=5e-4)
DISTIL = dict(
    kind="distil", **model(128, 2, 4, 2048, 32), batch=16, examples=800, shots=8, task="bio_topic", dropout=0.0, learning_rate=1e-3
)
PATH = dict(kind="path", **model(128, 2, 4, 2048, 32), batch=32, examples=400, task="bio_topic", dropout=0.0, learning_rate=1e-3)
TINY = dict(kind="mlm", **model(32, 2, 2, 256, 16), batch=8, examples=64, dropout=0.1, learning_rate=1e-3)
SMALL = dict(hidden=32, heads=2)
POINTS = 26


def masked(name, spec, steps, against_default, against_best):
    return Job(name, spec, steps, "tokens/s", [
        Row(name, "auto", "transformers-default", against_default),
        Row(name, "auto", "transformers-best", both(against_best)),
        # The same numerics as the peer: what is gained without bfloat16.
        Row(f"{name}-fp32", "fp32", "transformers-default", both(against_default[1])),
    ])


def tuned(task):
    name = f"fine-tune-{task}"
    rows = [Row(name, "auto", "trainer", both(1.4)), Row(f"{name}-fp32", "fp32", "trainer", both(1.4))]
    return Job(name, TUNE, TUNE["examples"] // TUNE["batch"], "examples/s", rows, data=f"tasks/{task}")


def base(tokens, batch):
    spec = dict(kind="mlm", **model(768, 12, 12, 50265, tokens), batch=batch, examples=10 * batch, dropout=0.1, learning_rate=1e-4)
    rows = [
        Row(f"roberta-base-{tokens}", "bf16", "transformers-best", both(1.3)),
        Row(f"roberta-base-{tokens}-mfu", "bf16", "matmul", both(0.3), measure="mfu"),
    ]
    return Job(f"roberta-base-{tokens}", spec, 40, "tokens/s", rows, device="cuda", fall_tolerance=0.25)


JOBS = [
    masked("mlm-256", MLM_256, 10, (3.0, 1.6), 1.8),
    masked("mlm-128", MLM_128, 40, (3.0, 2.2), 2.3),
    tuned("chemprot"),
    tuned("rt_polarity"),
    Job("distill-few-shot", DISTIL, 150, "steps/s", [
        Row("distill-few-shot", "fp32", "teacher-every-batch", both(2.0)),
        Row("distill-few-shot", "fp32", "teacher-cached", both(1.3)),
    ]),
    # One thread, as in an experiment, where every run has a core to itself; and 5 % show above what waiting threads vary by.
    # Timed is all of `linear_path`, building the models of both ends included, against evaluating a model that is there.
    Job("path-26", PATH, POINTS, "s", [Row("path-26", "path", "evaluations", both(1.05), measure="time")],
        threads=1, checked=False, peers_are_ours=True),
    # A model of 5 million parameters and few texts, so that one set of parameters stands out from what evaluating takes. Both
    # sides hold the checkpoints of both ends; evaluating holds the model of one end, the path those of both and a spare one.
    # The ends are what a path is asked about: counted is what it holds beyond them, in tensors, whatever the allocator.
    Job("path-26-memory", dict(PATH, hidden=256, layers=4, vocabulary=8192, examples=50, counted=True), POINTS, "models", [
        Row("path-26-memory", "path", "evaluations", both(1.0), measure="extra",
            note="the ratio is sets of parameters beyond the models of both ends, in tensors and not in resident memory"),
    ], checked=False, peers_are_ours=True, fresh=True),
    Job("mlm-rss", MLM_256, 10, "MB", [
        Row("mlm-rss", "auto", "transformers-default", both(0.8), measure="peak"),
        Row("mlm-rss-fp32", "fp32", "transformers-default", both(0.8), measure="peak"),
    ], fresh=True),
    base(128, 64),
    base(512, 16),
    # For tests: seconds in all.
    Job("tiny", TINY, 40, "tokens/s", [Row("tiny", "fp32", "transformers-default", both(1.0))], default=False),
    Job("tiny-distil", dict(DISTIL, **SMALL), 40, "steps/s", [Row("tiny-distil", "fp32", "teacher-cached", both(1.0))], default=False),
    Job("tiny-path", dict(PATH, **SMALL, examples=50), 3, "s", [Row("tiny-path", "path", "evaluations", both(1.05), measure="time")],
        threads=1, checked=False, peers_are_ours=True, default=False),
]
