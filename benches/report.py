"""What benches/results.json and benches/results.md hold, and the table that is printed."""

import json
import os
from pathlib import Path


class Results:
    """The rows of results.json; new ones take the place of those with the same job, peer and device."""

    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / "results.json"
        self.rows = json.loads(path.read_text()) if path.exists() else []

    def add(self, rows):
        new = {key(row): row for row in rows}
        known = {key(row) for row in self.rows}
        self.rows = [new.get(key(row), row) for row in self.rows] + [row for name, row in new.items() if name not in known]
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / "results.json", json.dumps(self.rows, indent=1) + "\n")
        write(self.folder / "results.md", self.markdown())

    def markdown(self):
        lines = ["| " + " | ".join(HEAD) + " |", "| " + " | ".join(["---"] * 3 + ["---:"] * 5 + ["---"]) + " |"]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in self.rows]
        return "\n".join([*lines, "", *self.footnotes(), ""])

    def text(self):
        table = [HEAD] + [cells(row) for row in self.rows]
        widths = [max(len(line[at]) for line in table) for at in range(len(HEAD))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
        return "\n".join([*lines, "", *self.footnotes()])

    def footnotes(self):
        """What is to be known of single rows; machines, days and versions, each once."""
        notes = {}
        for row in self.rows:
            about = (row["machine"], row["date"][:10], row["versions"].get("recyclable"))
            names, versions = notes.setdefault(about, ([], {}))
            names.append(row["job"])
            versions.update(row["versions"])
        lines = [f"{row['job']}: {row['note']}." for row in self.rows if row.get("note")]
        for (machine, day, _), (names, versions) in notes.items():
            said = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
            what = "" if len(notes) == 1 else f" ({', '.join(dict.fromkeys(names))})"
            lines.append(f"Measured on {machine}; {day}; {said}{what}.")
        return lines


HEAD = ["job", "peer", "device", "ours", "theirs", "ratio", "spread", "target", "met"]


def key(row):
    return row["job"], row["peer"], row["device"]


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def cells(row):
    """A row of the table."""
    sign = "≥" if row["higher_is_better"] else "≤"
    spread = "–" if row["spread"] is None else f"{row['spread'][0]:.2f}–{row['spread'][1]:.2f}"
    met = f"not measured: {row['missing']}" if row["met"] is None else "yes" if row["met"] else "no"
    ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
    ours = f"{number(row['ours'])} {row['unit']}" if row["ours"] is not None else "–"
    name = row["job"] + (f" ({row['precision'][0]})" if row.get("precision") else "")
    return [name, row["peer"], row["device"], ours, number(row["theirs"]), ratio, spread, f"{sign} {row['target']:g}", met]


def write(path, text):
    """Replaces a file at once."""
    new = path.with_suffix(path.suffix + ".tmp")
    new.write_text(text)
    os.replace(new, path)
