"""Runs a notebook on the real kernel, through a real Jupyter client, and stops at the first cell that is not as it should be."""

import os
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from notebook_files import FOLDER, Failure, code_cells, code_sha256, read, strip, where, write
from notebook_outputs import cell_problems, output_problems, rich_types

# A cell may train for minutes, and the first may compile the whole crate.
CELL_TIMEOUT_S = 30 * 60


def run(path, fast=True, progress=print, threads=None):
    """The notebook with the outputs of running it, and the seconds that each code cell took.

    `fast` cuts its experiments down (RECYCLABLE_FAST); a failed check ends its cell either way (RECYCLABLE_STRICT). It computes
    with as many `threads`, or with one a core.
    Raises `Failure` at the first cell that fails, writes to stderr, or lacks an output that it should have.
    """
    notebook = read(path)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    seconds, started = [], time.monotonic()

    def begin(cell, **_):
        nonlocal started
        if cell.cell_type == "code":
            started = time.monotonic()

    def done(cell, **_):
        seconds.append(time.monotonic() - started)
        progress(f"  {path.stem} {where(notebook, cell)}: {seconds[-1]:.1f} s")
        # A panic, and an error that `?` gives back, leave the cell's status at "ok": they show on stderr alone.
        for problem in cell_problems(cell):
            raise Failure(f"{path.name} {where(notebook, cell)} {problem}")

    environment = dict(os.environ, RECYCLABLE_STRICT="1")
    environment.pop("RECYCLABLE_FAST", None)
    if fast:
        environment["RECYCLABLE_FAST"] = "1"
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    client = NotebookClient(
        notebook,
        kernel_name="rust",
        timeout=CELL_TIMEOUT_S,
        startup_timeout=120,
        resources={"metadata": {"path": str(FOLDER)}},
        record_timing=False,
        store_widget_state=False,
        on_cell_execute=begin,
        on_cell_executed=done,
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise Failure(f"{path.name} {error}") from error
    except (CellTimeoutError, DeadKernelError, RuntimeError) as error:
        raise Failure(f"{path.name}: {error}") from error
    # Output may still arrive after the reply that ends its cell.
    for problem in output_problems(notebook):
        raise Failure(f"{path.name} {problem}")
    return notebook, seconds


def execute(path, fast=False):
    """Runs a notebook and saves it with its outputs, the hash of the code that made them and what its cells show."""
    notebook, seconds = run(path, fast)
    for cell in code_cells(notebook):
        shown = rich_types(cell)
        if shown and "expects" not in cell.metadata:
            cell.metadata["expects"] = shown
    notebook.metadata["recyclable"] = nbformat.from_dict({"code_sha256": code_sha256(notebook)})
    strip(notebook)
    write(notebook, path)
    return seconds
