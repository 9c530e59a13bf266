"""Runs the benchmarks: our program and its peers take turns on the same inputs, medians and ratios go to benches/results.json.

    make bench                     every CPU job, 5 rounds; see benches/README.md
    make bench-gpu                 the CUDA jobs; BENCH_BINARY names a program that was built elsewhere, BENCH_PYTHON a Python
    bench.py --only mlm-256 …      these jobs; rows of other jobs stay as they are in the results

Workers live as long as their job. One works, the others wait for a line and take no processor time.
"""

import argparse
import dataclasses
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import floors
import report
from jobs import JOBS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEER = HERE / "peer.py"
# As in the Makefile, for both sides.
WAITING = dict(GOMP_SPINCOUNT="10000")
# For the peers' allocator, the C library's: memory that a step gives back is wanted by the next one. Ours comes with the program.
# Not set where peak memory is compared.
ALLOCATOR = dict(MALLOC_TRIM_THRESHOLD_="1073741824", MALLOC_MMAP_THRESHOLD_="1073741824")
DEMO_TARGET = 600  # seconds
PEAKS = ("peak_rss_mb", "peak_tensors_mb")
WHOLE = 5  # rounds of a run whose results are kept in this folder


class Failed(Exception):
    pass


class Side:
    """How one side's programs are started."""

    def __init__(self, program, library_path=None):
        self.program, self.library_path = program, library_path

    def environment(self, job):
        env = WAITING | ALLOCATOR | os.environ | dict(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
        # libtorch of the program and torch of this Python must not meet in one process.
        env.pop("LD_LIBRARY_PATH", None)
        if self.library_path:
            env["LD_LIBRARY_PATH"] = self.library_path
        if job.threads:
            env["OMP_NUM_THREADS"] = str(job.threads)
        if job.fresh:
            for name in ALLOCATOR:
                env.pop(name, None)
        return env

    def start(self, job, folder, *arguments, **pipes):
        log = open(folder / "log.txt", "a")
        return subprocess.Popen(
            [*self.program, *arguments], env=self.environment(job), stderr=log, stdout=subprocess.PIPE, text=True, cwd=ROOT, **pipes
        )

    def run(self, job, folder, *arguments):
        process = self.start(job, folder, *arguments)
        output, _ = process.communicate()
        if process.returncode:
            raise Failed(f"{' '.join(map(str, arguments))} failed: {last_words(folder)}")
        return output


class Worker:
    def __init__(self, side, job, folder, way):
        self.way, self.folder, self.rounds = way, folder, []
        self.process = side.start(job, folder, "work", str(folder / "spec.json"), job.device, way, stdin=subprocess.PIPE)
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Failed(f"{self.way} ended with {self.process.returncode}: {last_words(self.folder)}")
        return json.loads(line)

    def go(self, steps):
        self.process.stdin.write(f"go {steps}\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def last_words(folder):
    lines = (folder / "log.txt").read_text().strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def check(job, folder, ours, theirs):
    """Both sides take the same updates without dropout; their losses must agree. Returns the first losses: ours, the peer's."""
    spec = str(folder / "spec.json")
    mine, peers = (json.loads(side.run(job, folder, "check", spec, job.device)) for side in (ours, theirs))
    tolerance = {"first": 1e-4 if job.device == "cpu" else 1e-3, "early": 1e-2, "late": 1e-2}
    for when, allowed in tolerance.items():
        difference = abs(mine[when] - peers[when])
        print(f"  check: {when} loss {mine[when]:.6f}, peer {peers[when]:.6f}, difference {difference:.1e} (≤ {allowed:.0e})")
        if not difference <= allowed:
            raise Failed(f"the two sides do not compute the same: {when} losses {mine[when]} and {peers[when]}")
    return mine["first"], peers["first"]


def compare_falls(row, firsts, losses, tolerance, noise=0.0):
    """How far the mean losses of the timed repetitions lie below the first ones. Both sides start from the same weights, near the
    logarithm of the number of answers, so that losses themselves would look alike whatever was learned. `noise` is what the
    peer's own repetitions differ by: where little is learned in one, no two of them agree to the tolerance."""
    falls = [first - loss for first, loss in zip(firsts, losses)]
    said = f"{row.ours} {losses[0]:.4f}, {row.peer} {losses[1]:.4f}; fallen by {falls[0]:.4f} and {falls[1]:.4f}"
    allowed = math.inf if tolerance is None else max(tolerance * falls[1], 2 * noise)
    print(f"  {row.name}: loss of {said} (≤ {allowed:.4f} apart)")
    if not abs(falls[0] - falls[1]) <= allowed:
        raise Failed(f"{row.name}: the two sides do not learn alike: loss of {said}")
    return falls


def play(job, folder, ours, theirs, rounds):
    """Lets the workers take turns; returns them by (is ours, way), each with the answers of its rounds."""
    ways = {(True, row.ours): None for row in job.rows} | {(False, row.peer): None for row in job.rows}
    ways = sorted(ways, key=lambda way: not way[0])
    side = {True: ours, False: ours if job.peers_are_ours else theirs}
    workers = {}
    try:
        for turn in range(rounds):
            # What comes first meets another machine than what comes last: every second round goes backwards.
            for key in ways if turn % 2 == 0 else reversed(ways):
                if key not in workers or job.fresh:
                    before = workers.get(key)
                    workers[key] = Worker(side[key[0]], job, folder, key[1])
                    workers[key].rounds = before.rounds if before else []
                    if not job.fresh:
                        workers[key].go(job.warmup)
                workers[key].rounds.append(workers[key].go(job.steps))
                if job.fresh:
                    workers[key].stop()
            spent = ", ".join(f"{way} {workers[mine, way].rounds[-1]['seconds']:.2f} s" for mine, way in ways)
            print(f"  round {turn + 1}: {spent}", flush=True)
        return workers
    finally:
        for worker in workers.values():
            if not worker.process.stdin.closed:
                worker.stop()


def measured(job, row, mine, peer, theta_mb):
    """The ratio, and ours and theirs in the row's unit, of one round's answers or of medians."""
    rate = [side["units"] / side["seconds"] for side in (mine, peer)]
    match row.measure:
        case "speed":
            return rate[0] / rate[1], *rate
        case "time":
            return mine["seconds"] / peer["seconds"], mine["seconds"], peer["seconds"]
        case "peak":
            return mine["peak_rss_mb"] / peer["peak_rss_mb"], mine["peak_rss_mb"], peer["peak_rss_mb"]
        case "extra":
            # Evaluating holds the model of one end, the path those of both, which are its input: the second is not counted.
            return (mine["peak_tensors_mb"] - peer["peak_tensors_mb"]) / theta_mb - 1, mine["peak_tensors_mb"], peer["peak_tensors_mb"]
        case "mfu":
            executed = floors.step(job.spec)["flops"] / (job.spec["batch"] * job.spec["tokens"])  # a token
            return rate[0] * executed / rate[1], rate[0] * executed / 1e12, rate[1] / 1e12


def median(rounds):
    keys = [key for key in ("seconds", "units", *PEAKS) if rounds[0].get(key) is not None]
    return {key: statistics.median(turn[key] for turn in rounds) for key in keys}


def rows_of(job, workers, folder, firsts, facts):
    theta = folder / "a.safetensors"
    theta_mb = theta.stat().st_size / 1e6 if theta.exists() else None
    for row in job.rows:
        mine, peer = workers[True, row.ours], workers[False, row.peer]
        ratio, ours, theirs = measured(job, row, median(mine.rounds), median(peer.rounds), theta_mb)
        each = [measured(job, row, *pair, theta_mb)[0] for pair in zip(mine.rounds, peer.rounds)]
        higher, target = row.measure in ("speed", "mfu"), row.target[0 if facts["bf16"] else 1]
        losses = [None if None in given else statistics.fmean(given) for given in ([turn["loss"] for turn in side.rounds] for side in (mine, peer))]
        falls = None
        if None not in losses:
            if job.checked:
                each_of_peer = [turn["loss"] for turn in peer.rounds]
                falls = compare_falls(row, firsts, losses, job.fall_tolerance, max(each_of_peer) - min(each_of_peer))
            elif losses[0] != losses[1]:
                raise Failed(f"{row.name}: {row.ours} and {row.peer} evaluate the same model to {losses[0]} and {losses[1]}")
        yield dict(
            job=row.name, peer=row.peer, device=job.device, ratio=ratio, target=target, higher_is_better=higher, n=len(each),
            spread=[min(each), max(each)], unit={"mfu": "TFLOP/s", "extra": "MB", "time": "s"}.get(row.measure, job.unit),
            ours=ours, theirs=theirs, met=ratio >= target if higher else ratio <= target, losses=losses, falls=falls,
            steps=job.steps, **({"note": row.note} if row.note else {}),
            **{key: [max(turn[key] for turn in side.rounds) for side in (mine, peer)] for key in PEAKS if mine.rounds[0].get(key) and peer.rounds[0].get(key)},
            precision=[mine.about["precision"], peer.about["precision"]], threads=[mine.about["threads"], peer.about["threads"]],
            target_for="bf16" if facts["bf16"] else "no bf16", **stamp(facts, mine.about["versions"] | peer.about["versions"]),
        )


def stamp(facts, versions):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return dict(date=now, machine=facts["machine"], versions=dict(python=sys.version.split()[0], **versions))


def missing(job, reason, facts):
    """Rows of a job that could not be measured."""
    print(f"  not measured: {reason}")
    for row in job.rows:
        yield dict(
            job=row.name, peer=row.peer, device=job.device, ratio=None, target=row.target[0 if facts["bf16"] else 1],
            higher_is_better=row.measure in ("speed", "mfu"), n=0, spread=None, unit=job.unit, ours=None, theirs=None, met=None,
            steps=job.steps, missing=reason, **stamp(facts, {}),
        )


def demo(run_it, facts):
    """The time of `make demo WORLD=1`: of a run that is there, by a commit of this history, which the row names; or of a new one."""
    path = ROOT / "runs/demo-world/report.json"
    if run_it:
        subprocess.run(["make", "demo", "WORLD=1", "SEEDS=5"], cwd=ROOT, check=True)
    found = json.loads(path.read_text()) if path.exists() else None
    row = dict(job="demo", peer="-", device="cpu", target=DEMO_TARGET, higher_is_better=False, unit="s", theirs=None, steps=None)
    if not found or found["seeds"] != 5 or found["profile"] != "tiny" or not in_history(found["commit"]):
        reason = "runs/demo-world holds no run of 5 seeds by a commit of this history; `make bench BENCH_ARGS=--demo` makes one"
        print(f"demo: {reason}")
        return [row | dict(ratio=None, n=0, spread=None, ours=None, met=None, missing=reason) | stamp(facts, {})]
    seconds = found["seconds"]
    row |= dict(
        ratio=seconds, n=1, spread=[seconds] * 2, ours=seconds, met=seconds <= DEMO_TARGET,
        precision=[found["precision"], None], threads=[found["threads"], None], note="the ratio is seconds, there is no peer",
    )
    return [row | stamp(facts, dict(recyclable=found["commit"])) | dict(date=found["date"], machine=found["machine"])]


def in_history(commit):
    return subprocess.run(["git", "merge-base", "--is-ancestor", commit, "HEAD"], cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 0


def about_machine(device):
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    read = lambda key: next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    machine = f"{read('model name')}, {os.cpu_count()} logical cores, {memory:.0f} GB memory"
    bf16 = bool({"avx512_bf16", "amx_bf16"} & set(read("flags").split()))
    if device == "cuda":
        ask = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
        name = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
        if not name:
            sys.exit("error: torch finds no CUDA device here, so nothing was measured")
        machine, bf16 = f"{name}; {machine}", True
    return dict(machine=machine, bf16=bf16)


def sides(binary, device):
    if not binary.exists():
        sys.exit(f"error: there is no {binary}: `make bench-build` makes it, or name one with BENCH_BINARY")
    library_path = None
    if device == "cuda":  # a program from elsewhere finds libtorch where this Python has it
        ask = "import pathlib, torch; print(pathlib.Path(torch.__file__).parent / 'lib')"
        library_path = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    return Side([str(binary)], library_path), Side([sys.executable, str(PEER)])


def measure(job, work, data, ours, theirs, rounds, facts):
    folder = work / job.name
    folder.mkdir(parents=True)
    spec = dict(job.spec)
    if job.data:
        place = data / job.data
        if not place.is_dir():
            return list(missing(job, f"{place} is not there: --data or RECYCLABLE_DATA names the folder with its tasks", facts))
        spec["task"] = str(place.resolve())
    (folder / "spec.json").write_text(json.dumps(spec))
    ours.run(job, folder, "prepare", str(folder / "spec.json"))
    firsts = check(job, folder, ours, theirs) if job.checked else None
    return list(rows_of(job, play(job, folder, ours, theirs, rounds), folder, firsts, facts))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="the CUDA jobs instead of those of the CPU")
    parser.add_argument("--only", nargs="+", metavar="JOB", help=f"of {', '.join(job.name for job in JOBS)}")
    parser.add_argument("--rounds", type=int, default=WHOLE)
    parser.add_argument("--steps", type=int, help="of a repetition, for a quick look; the job's own number otherwise")
    parser.add_argument("--demo", action="store_true", help="run `make demo WORLD=1` with 5 seeds as well")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RECYCLABLE_DATA", ROOT / "../shared/data")))
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/recyclable-speed")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.json and results.md (default: benches)")
    options = parser.parse_args()
    if options.out.resolve() == HERE and (options.rounds < WHOLE or options.steps):
        parser.error(f"benches/ holds results of whole runs: give --out for a quick look, or drop --steps and have {WHOLE} rounds at least")
    device = "cuda" if options.gpu else "cpu"
    chosen = [job for job in JOBS if job.device == device and (job.name in options.only if options.only else job.default)]
    unknown = set(options.only or []) - {job.name for job in chosen} - {"demo"}
    if unknown or options.rounds < 1:
        parser.error(f"no job of the {device} is named {', '.join(sorted(unknown))}" if unknown else "--rounds must be positive")
    facts, failures = about_machine(device), 0
    ours, theirs = sides(options.binary.resolve(), device)
    results = report.Results(options.out)
    with tempfile.TemporaryDirectory(prefix="recyclable-bench-") as work:
        for job in chosen:
            print(f"{job.name}: {job.spec}", flush=True)
            if options.steps:  # too few may show no fall of the loss at all: it is printed then, and nothing asked of it
                job = dataclasses.replace(job, steps=options.steps, fall_tolerance=None)
            try:
                rows = measure(job, Path(work), options.data, ours, theirs, options.rounds, facts)
            except Failed as problem:
                failures += 1
                rows = list(missing(job, str(problem), facts))
            results.add(rows)  # after every job, so that an interruption loses little
    if device == "cpu" and (options.demo or not options.only or "demo" in options.only):
        results.add(demo(options.demo, facts))
    print("\n" + results.text())
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
