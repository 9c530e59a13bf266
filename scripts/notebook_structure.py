"""What the notebooks owe their readers: saved outputs that fit the code, a common shape, exercises with solutions, links."""

import re

from notebook_files import code_cells, code_sha256, read, where
from notebook_outputs import output_problems

MAX_BYTES = 400_000
MAX_LINES = 15
EXERCISES = 3


def saved_problems(path, notebook):
    """Is it as `execute` left it?"""
    if (size := path.stat().st_size) >= MAX_BYTES:
        yield f"has {size:,} bytes, {MAX_BYTES:,} or more: show fewer or simpler figures"
    saved = notebook.metadata.get("recyclable", {}).get("code_sha256")
    if saved != code_sha256(notebook):
        yield "was edited after its outputs were saved: run 'scripts/notebook_tool.py execute --full' on it"
    if not_run := sum(cell.execution_count is None for cell in code_cells(notebook)):
        yield f"has {not_run} code cells that were not executed"
    else:
        yield from output_problems(notebook)


def code_problems(notebook):
    """Do its cells read like the paper?"""
    for cell in code_cells(notebook):
        lines = [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("//")]
        if len(lines) > MAX_LINES:
            yield f"{where(notebook, cell)} has {len(lines)} lines of code, at most {MAX_LINES} are wanted"
        if ".unwrap()" in cell.source or ".expect(" in cell.source:
            yield f"{where(notebook, cell)} hides an error in a panic: use `?`"


def exercise_problems(notebook):
    """Three exercises, each with a folded solution that is run like every other cell."""
    sections, solutions = [], 0
    for cell in notebook.cells:
        for heading in re.findall(r"^#+ +.*", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []:
            title = heading.lstrip("# ")
            if re.match(r"exercise +\d", title, re.IGNORECASE):
                sections.append((title, []))
            elif re.match(r"#{1,2} ", heading):
                sections.append((None, []))
        if cell.cell_type == "code" and "solution" in cell.metadata.get("tags", []):
            solutions += 1
            if sections:
                sections[-1][1].append(cell)
            if not cell.metadata.get("jupyter", {}).get("source_hidden"):
                yield f"{where(notebook, cell)} is a solution, and not folded (\"jupyter\": {{\"source_hidden\": true}})"
    exercises = [(title, cells) for title, cells in sections if title]
    if len(exercises) != EXERCISES:
        yield f"has {len(exercises)} headings 'Exercise N …', {EXERCISES} are wanted"
    for title, cells in exercises:
        if not cells:
            yield f"'{title}' has no code cell tagged `solution` below it"
    if solutions != sum(len(cells) for _, cells in exercises):
        yield "has a solution outside the exercises"


def title_problems(notebook):
    first = notebook.cells[0] if notebook.cells else None
    lines = [line for line in first.source.splitlines() if line.strip()] if first is not None else []
    if first is None or first.cell_type != "markdown" or not lines or not lines[0].startswith("# "):
        yield "does not begin with a title ('# …' in a markdown cell)"
    elif len(lines) < 2 or lines[1].startswith("#"):
        yield "has no promise in the line below its title"


def link_problems(path, notebook):
    """Do relative links lead to something?"""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)", cell.source):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                yield f"{where(notebook, cell)} links to {target}, which is not there"


def problems(paths):
    """What is wrong with these notebooks, each line beginning with a notebook's name."""
    found, set_ups = [], {}
    for path in paths:
        notebook = read(path)
        cells = code_cells(notebook)
        set_ups.setdefault(cells[0].source if cells else "", []).append(path.name)
        for check in (title_problems, code_problems, exercise_problems):
            found += [f"{path.name} {problem}" for problem in check(notebook)]
        found += [f"{path.name} {problem}" for problem in saved_problems(path, notebook)]
        found += [f"{path.name} {problem}" for problem in link_problems(path, notebook)]
    if len(set_ups) > 1:
        found.append(f"the first code cell is not the same everywhere: {' / '.join(', '.join(names) for names in set_ups.values())}")
    for set_up, names in set_ups.items():
        if len(set_up.splitlines()) != 3:
            found.append(f"{', '.join(names)}: the first code cell has {len(set_up.splitlines())} lines, three are wanted")
    return found


def as_html(path, folder):
    """Writes a notebook as one HTML page, and says how many pictures it shows."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_filename(str(path))
    (folder / f"{path.stem}.html").write_text(body)
    wanted = sum(
        any(kind.startswith("image/") for kind in output.get("data", {}))
        for cell in code_cells(read(path))
        for output in cell.outputs
    )
    shown = len(re.findall(r'<div class="jp-Rendered(?:Image|SVG)', body))
    return shown, wanted


