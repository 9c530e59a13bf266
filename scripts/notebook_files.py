"""Reading and writing the notebooks: where they lie, what of them is kept in git, and the hash that ties outputs to code."""

import hashlib
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"

# All that a saved notebook tells about its kernel: nothing here depends on the machine it ran on.
METADATA = {
    "kernelspec": {"display_name": "Rust (recyclable)", "language": "rust", "name": "rust"},
    "language_info": {"name": "rust", "file_extension": ".rs", "mimetype": "text/rust", "pygments_lexer": "rust"},
}
KEPT_OF_CELLS = ("expects", "jupyter", "tags")


class Failure(Exception):
    """What is wrong with a notebook, in words for whoever mends it."""


def find(names=()):
    """The notebooks whose file names begin with one of `names` (all without any), in reading order."""
    paths = sorted(FOLDER.glob("*.ipynb"))
    if not paths:
        raise Failure(f"there is no notebook in {FOLDER}")
    stems = [Path(name).stem for name in names]
    for stem in stems:
        if not any(path.stem.startswith(stem) for path in paths):
            raise Failure(f"no notebook in {FOLDER} begins with {stem}: there are {', '.join(p.stem for p in paths)}")
    return [path for path in paths if not stems or any(path.stem.startswith(stem) for stem in stems)]


def read(path):
    return nbformat.read(path, as_version=4)


def write(notebook, path):
    nbformat.validate(notebook)
    partial = path.with_name(path.name + ".tmp")
    nbformat.write(notebook, partial)
    partial.replace(path)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_sha256(notebook):
    """The hash over the code cells' sources, in order."""
    hashed = hashlib.sha256()
    for cell in code_cells(notebook):
        hashed.update(cell.source.encode() + b"\0")
    return hashed.hexdigest()


def strip(notebook):
    """Removes what changes from run to run or from machine to machine; outputs stay."""
    ours = notebook.metadata.get("recyclable")
    notebook.metadata = nbformat.from_dict(METADATA)
    if ours:
        notebook.metadata["recyclable"] = ours
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in KEPT_OF_CELLS})
    for number, cell in enumerate(code_cells(notebook), 1):
        # The kernel begins to count at 2, the client at 1, and they would show side by side.
        cell.execution_count = number
        for output in cell.outputs:
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if "execution_count" in output:
                output.execution_count = number


def where(notebook, cell):
    """Names a cell for whoever looks for it: its number among all cells, from 1, and its first line of code."""
    number = next(at for at, other in enumerate(notebook.cells, 1) if other is cell)
    lines = [line for line in cell.source.splitlines() if line.strip()]
    return f"cell {number} ({lines[0].strip()[:60]})" if lines else f"cell {number} (empty)"


def report(failures):
    """Prints what failed and ends the program, with status 1 where something did."""
    for failure in failures:
        print(f"✗ {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)
