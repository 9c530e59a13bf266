#!/usr/bin/env python3
"""Opens notebooks in JupyterLab in a headless browser, as a reader does, and looks whether figures and tables are there.

    jupyterlab_browser.py [FOLDER]    screenshots go to FOLDER (target/notebook-screenshots)

03 is first opened and not run: it is untrusted, so JupyterLab shows no SVG and no script, and the saved PNGs and tables
must do. Then 00 and 03 are run from top to bottom, cut down (RECYCLABLE_FAST). Nothing is saved, and JupyterLab's own
settings and signatures are kept in a temporary folder. Without a browser this says so and ends well; with CI=true it fails.
"""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import browser

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from notebook_files import code_cells, find, read, report  # noqa: E402

WIDTH, HEIGHT, TALLEST = 1200, 900, 9000
SETTINGS = {
    # The notebooks in the repository stay as they are, and every cell is in the page, not just the visible ones.
    # Nor is there an empty page below the last cell: what has been run would be scrolled up into it, out of the picture.
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

# The notebook in the page, whether JupyterLab counts it as the current one or not.
PANEL = '[...jupyterapp.shell.widgets("main")].find(widget => widget.isVisible && widget.sessionContext)'

# What the page shows: pictures with pixels and tables with rows, both with a size on the page; cells never run; error texts.
SEEN = """
(() => {
  const area = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea-output";
  const outputs = selector => [...document.querySelectorAll(area + selector)];
  const sized = element => { const box = element.getBoundingClientRect(); return box.width > 40 && box.height > 20; };
  const pictures = outputs("").flatMap(output => [...output.querySelectorAll("img, svg")]);
  return {
    figures: pictures.filter(p => sized(p) && (p.tagName !== "IMG" || (p.complete && p.naturalWidth > 0))).length,
    tables: outputs(" table").filter(t => sized(t) && t.rows.length > 1).length,
    scripts: outputs(" script").length,
    waiting: PANEL.content.model.sharedModel.cells
      .filter(cell => cell.cell_type === "code" && cell.execution_count === null).length,
    problems: ["stderr", "error"].flatMap(kind => outputs(`[data-mime-type="application/vnd.jupyter.${kind}"]`))
      .map(output => output.innerText.slice(0, 400)),
  };
})()
""".replace("PANEL", PANEL)

# JupyterLab drops, without a word, the cells that one runs while it waits for the kernel; its commands mean the current notebook.
READY = """
(() => {
  const panel = PANEL;
  if (panel) jupyterapp.shell.activateById(panel.id);
  const session = panel?.sessionContext, kernel = session?.session?.kernel;
  const ready = session?.isReady && kernel?.connectionStatus === "connected" && kernel.status === "idle";
  return !!ready && jupyterapp.shell.currentWidget === panel;
})()
""".replace("PANEL", PANEL)

# Running a notebook leaves it scrolled to its end. From its beginning, and on if need be, to the first figure.
SCROLL_TO_FIGURES = """
(() => {
  const panel = ".jp-NotebookPanel:not(.lm-mod-hidden)";
  document.querySelectorAll(`${panel} .jp-WindowedPanel-outer`).forEach(outer => { outer.scrollTop = 0; });
  const figure = document.querySelector(`${panel} .jp-OutputArea-output :is(img, svg)`);
  if (figure) figure.scrollIntoView({ block: "nearest", behavior: "instant" });
})()
"""


@contextlib.contextmanager
def jupyterlab():
    """A server with settings of its own; gives its address."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        for name, values in SETTINGS.items():
            file = Path(home) / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        environment = os.environ | {
            "RECYCLABLE_FAST": "1",
            "RECYCLABLE_STRICT": "1",
            "JUPYTERLAB_SETTINGS_DIR": f"{home}/settings",
            "JUPYTERLAB_WORKSPACES_DIR": f"{home}/workspaces",
            "JUPYTER_CONFIG_DIR": f"{home}/config",
            "JUPYTER_DATA_DIR": f"{home}/data",
            "JUPYTER_RUNTIME_DIR": f"{home}/runtime",
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
        command += ["--ip=127.0.0.1", "--port=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={ROOT}"]
        command += [f"--FileCheckpoints.checkpoint_dir={home}/checkpoints"]
        log = open(Path(home) / "log", "w+")
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
        try:
            yield lambda: address(Path(home) / "log")
        finally:
            server.terminate()
            server.wait(60)


def address(log):
    """Where the server listens, as soon as its log says so."""
    found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
    return found and found[0]


async def show(page, server, path):
    """Opens a notebook and waits until its cells stand in the page."""
    await page.size(WIDTH, HEIGHT)
    await page.open(f"{server}lab/tree/notebooks/{path.name}?reset")
    cells = len(read(path).cells)
    counted = f'document.querySelectorAll(".jp-NotebookPanel .jp-Cell").length >= {cells}'
    await browser.until(lambda: page.evaluate(counted), 120, f"{path.name}: JupyterLab does not show its {cells} cells")
    await asyncio.sleep(2)


async def run_all(page, path):
    """Runs every cell on the kernel that came with the page, from outputs that are empty."""
    complaint = f"{path.name}: it does not become the current notebook, or its kernel does not become ready"
    await browser.until(lambda: page.evaluate(READY), 180, complaint)
    await page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs').then(() => true)")
    await page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")


async def picture(page, path):
    """A screenshot of the whole notebook, not just of what fits into a window."""
    await page.size(WIDTH, HEIGHT)
    await asyncio.sleep(1)
    height = await page.evaluate(
        "Math.max(0, ...[...document.querySelectorAll("
        '".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer")].map(panel => panel.scrollHeight))'
    )
    await page.size(WIDTH, max(HEIGHT, min(int(height) + 200, TALLEST)))
    await asyncio.sleep(1)
    await page.evaluate(SCROLL_TO_FIGURES)
    await asyncio.sleep(0.5)
    await page.picture(path)


def expected(path):
    """How many figures and tables the saved notebook has."""
    outputs = [output.get("data", {}) for cell in code_cells(read(path)) for output in cell.outputs]
    pictures = sum("image/png" in data or "image/svg+xml" in data for data in outputs)
    return pictures, sum("<table" in "".join(data.get("text/html", "")) for data in outputs)


async def judge(page, path, how, pictures, tables):
    seen = await page.evaluate(SEEN)
    print(f"{path.name} {how}: {seen['figures']} figures, {seen['tables']} tables", flush=True)
    failures = [f"{path.name} {how}: {problem}" for problem in seen["problems"]]
    if seen["figures"] < max(pictures, 1):
        failures.append(f"{path.name} {how} shows {seen['figures']} figures, {max(pictures, 1)} are wanted")
    if seen["tables"] < tables:
        failures.append(f"{path.name} {how} shows {seen['tables']} tables, {tables} are wanted")
    if seen["waiting"]:
        failures.append(f"{path.name} {how} has {seen['waiting']} cells that were not run")
    if seen["scripts"]:
        failures.append(f"{path.name} {how} has {seen['scripts']} scripts in its outputs")
    return failures


async def look(program, folder):
    failures = []
    start, modes = find(["00"])[0], find(["03"])[0]
    with jupyterlab() as listening:
        server = await browser.until(listening, 60, "JupyterLab does not start")
        async with browser.Page(program) as page:
            await show(page, server, modes)
            failures += await judge(page, modes, "untrusted", *expected(modes))
            await picture(page, folder / f"{modes.stem}_untrusted.png")
            for path in (start, modes):
                await show(page, server, path)
                await run_all(page, path)
                failures += await judge(page, path, "after running", *expected(path))
                await picture(page, folder / f"{path.stem}_ran.png")
            await page.evaluate("jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
            await picture(page, folder / f"{modes.stem}_dark.png")
    return failures


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "target/notebook-screenshots"
    if not (program := browser.find()):
        reason = "no Chromium found: run 'apt-get install chromium', or name one with CHROMIUM"
        if os.environ.get("CI") == "true":
            report([reason])
        print(f"skipped: {reason}")
        return
    try:
        report(asyncio.run(look(program, folder)))
    except RuntimeError as error:
        report([error])


if __name__ == "__main__":
    main()
