#!/usr/bin/env python3
"""What tests/notebooks.rs asks of the notebooks; run by .venv-notebooks/bin/python.

    notebooks.py run [NAME …]   every cell of every notebook on the real kernel, cut down, strictly
    notebooks.py together       two notebooks open at once: both have a fast first cell
    notebooks.py repl           the first cells in the plain evcxr REPL, which shows text
    notebooks.py magic          the %%rust magic of notebooks/colab_setup.py in IPython: figures, text, errors
    notebooks.py parts          the tools' own small parts: pictures that are damaged, cells taken apart
"""

import asyncio
import base64
import os
import re
import statistics
import subprocess
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import nbformat  # noqa: E402
from jupyter_client.manager import start_new_async_kernel  # noqa: E402
from notebook_files import FOLDER, Failure, code_cells, find, read, report  # noqa: E402
from notebook_outputs import cell_problems, check_png, check_svg  # noqa: E402
from notebook_run import run  # noqa: E402
from rust_cells import is_value, statements  # noqa: E402

# A first cell that compiles the crate's dependencies takes minutes; 15 s are wanted, and a busy machine is forgiven.
FIRST_CELL_S = 60


# Two at once, each with its share of the cores: a kernel that compiles a cell keeps one core busy, and small products gain
# little from a second one.
AT_ONCE = 2


def run_one(path, threads=None):
    """Runs a notebook: what failed."""
    started = time.monotonic()
    try:
        _, seconds = run(path, fast=True, threads=threads)
    except Failure as failure:
        return [failure]
    print(
        f"{path.name}: {time.monotonic() - started:.0f} s; first cell {seconds[0]:.1f} s, "
        f"median of the others {statistics.median(seconds[1:] or [0]):.2f} s",
        flush=True,
    )
    return []


def run_all(names):
    first, *others = find(names)
    # It pre-trains what the others share, and has every core for that.
    failures = run_one(first)
    threads = max(1, len(os.sched_getaffinity(0)) // AT_ONCE)
    # Processes, because each client wants a main thread for its loop and its signals.
    with ProcessPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(partial(run_one, threads=threads), others):
            failures += found
    return failures


async def first_cell(source):
    """Starts a kernel and runs the set-up cell: its status, what it wrote, and how long it took; the kernel stays."""
    manager, client = await start_new_async_kernel(startup_timeout=120, kernel_name="rust", cwd=str(FOLDER))
    said = []

    def hear(message):
        content = message["content"]
        lines = [line + "\n" for line in content.get("traceback", [])]
        said.extend([content["text"]] if message["msg_type"] == "stream" else lines)

    started = time.monotonic()
    answer = await client.execute_interactive(source, timeout=600, output_hook=hear)
    return manager, client, answer["content"]["status"], "".join(said), time.monotonic() - started


def together(_):
    # A notebook that is opened while another one is open must not compile in the other's directory.
    two_slots = "import notebook_kernel as kernel; one, other = kernel.take_slot(), kernel.take_slot(); print(one, other); exit(one == other)"
    done = subprocess.run([sys.executable, "-c", two_slots], cwd=ROOT / "scripts", capture_output=True, text=True)
    if done.returncode:
        return [f"two kernels were given these directories: {done.stdout}{done.stderr}"]
    set_up = code_cells(read(find()[0]))[0].source

    async def two():
        kernels = await asyncio.gather(first_cell(set_up), first_cell(set_up))
        for manager, client, *_ in kernels:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)
        return [outcome for _, _, *outcome in kernels]

    outcomes = asyncio.run(two())
    print("two kernels at once: first cells " + ", ".join(f"{seconds:.1f} s" for *_, seconds in outcomes))
    failures = [f"the set-up cell ended with status {status}:\n{said}" for status, said, _ in outcomes if status != "ok"]
    failures += [f"a first cell took {seconds:.0f} s" for *_, seconds in outcomes if seconds > FIRST_CELL_S]
    return failures


def repl(_):
    """The set-up and the cells up to the first that shows text, and a sum that proves that the end was reached."""
    cells, texts = [], []
    for cell in code_cells(read(find()[0])):
        cells.append(cell.source)
        texts = [output.get("text") or output.get("data", {}).get("text/plain") for output in cell.outputs]
        if len(cells) > 1 and any(texts):
            break
    script = [*cells, "40_000 + 2"]
    command = [sys.executable, ROOT / "scripts/notebook_kernel.py", "repl", "--disable-readline"]
    environment = os.environ | {"RECYCLABLE_FAST": "1", "RECYCLABLE_STRICT": "1"}
    # Each line is one cell; inside a cell the REPL takes this mark for a new line.
    lines = "".join(cell.replace("\n", "\u2028") + "\n" for cell in script)
    done = subprocess.run(command, input=lines, env=environment, cwd=FOLDER, capture_output=True, text=True, timeout=1200)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    print(plain)
    failures = []
    wanted = next((line for text in texts if text for line in "".join(text).splitlines() if line.strip()), None)
    if wanted is not None and wanted not in plain:
        failures.append(f"the REPL does not show {wanted!r}")
    if "40002" not in plain:
        failures.append("the REPL did not reach the last line")
    if "EVCXR_BEGIN_CONTENT" in plain:
        failures.append("the REPL shows the marks of rich outputs instead of their text")
    noise = [line for line in done.stderr.splitlines() if not re.match(r"\s*(Compiling|Updating|Locking|Adding) ", line)]
    return failures + [f"the REPL wrote to stderr: {line}" for line in noise if line.strip()]


def magic(_):
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    sys.path.insert(0, str(FOLDER))
    import colab_setup

    def cell(code):
        with capture_output() as captured:
            shell.run_cell_magic("rust", "", code)
        return captured

    bundle = [("image/png", base64.b64encode(a_png()).decode()), ("image/svg+xml", "<svg/>"), ("text/plain", "a dot")]
    shows = "\n".join(f'println!("EVCXR_BEGIN_CONTENT {kind}\\n{data}\\nEVCXR_END_CONTENT");' for kind, data in bundle)
    try:
        first = cell('let kept = 40_002;\nprintln!("✓ a line");')
        rich = cell(shows)
        later, wrong = cell("kept"), cell("unknown")
    finally:
        colab_setup.kernel.stop()
    kinds = {kind for output in rich.outputs for kind in output.data}
    claims = {
        "a line of output arrives": "✓ a line" in first.stdout,
        "a figure arrives with all its representations": kinds == {kind for kind, _ in bundle},
        "variables live on": [output.data for output in later.outputs] == [{"text/plain": "40002"}],
        "an error is shown": "unknown" in wrong.stderr,
    }
    return [f"not so: {claim}" for claim, holds in claims.items() if not holds]


def a_png(pixels=b"\0\xff\xff\xff"):
    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (1).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def refused(check, data):
    try:
        check(data)
    except (ValueError, zlib.error):
        return True
    return False


def parts(_):
    whole = a_png()
    shows = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(whole).decode()})
    failed = nbformat.v4.new_output("stream", name="stdout", text="✗ accuracy is 0.1\n")
    panicked = nbformat.v4.new_output("stream", name="stderr", text="thread panicked\n")

    def problems(*outputs, expects=()):
        return list(cell_problems(nbformat.v4.new_code_cell("x", outputs=list(outputs), metadata={"expects": list(expects)})))

    code = "use a::b;\nlet s = \"};\"; // };\nlet c = ';';\nfn f<'a>(x: &'a str) -> usize { x.len() }\nif s.len() > 1 { 1 } else { 2 }"
    claims = {
        "a whole PNG is taken": check_png(whole) == (1, 1),
        "a PNG with a flipped bit is refused": refused(check_png, whole[:45] + bytes([whole[45] ^ 1]) + whole[46:]),
        "a PNG that is cut off is refused": refused(check_png, whole[:-12]),
        "a PNG with too few pixels is refused": refused(check_png, a_png(b"\0\xff")),
        "an SVG that is not closed is refused": refused(check_svg, "<svg><g></svg>"),
        "an empty SVG is refused": refused(check_svg, '<svg xmlns="http://www.w3.org/2000/svg"/>'),
        "a cell with its picture is good": problems(shows, expects=["image/png"]) == [],
        "a missing picture is found": len(problems(shows, expects=["image/svg+xml"])) == 1,
        "a failed check is found": len(problems(failed)) == 1,
        "text on stderr is found": len(problems(panicked)) == 1,
        "statements are taken apart": len(statements(code)) == 5,
        "the last expression is a value": is_value(statements(code)[-1]) and not is_value(statements(code)[-2]),
    }
    return [f"not so: {claim}" for claim, holds in claims.items() if not holds]


def main():
    commands = {"run": run_all, "together": together, "repl": repl, "magic": magic, "parts": parts}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    try:
        report(commands[sys.argv[1]](sys.argv[2:]))
    except Failure as failure:
        report([failure])


if __name__ == "__main__":
    main()
