#!/usr/bin/env python3
"""Works on the notebooks; run it with .venv-notebooks/bin/python.

    notebook_tool.py execute [--full] [NAME …]   run notebooks and save their outputs, stripped of what varies
    notebook_tool.py check [NAME …]              hash of the code, size, structure, saved outputs, links
    notebook_tool.py html FOLDER [NAME …]        convert to HTML
    notebook_tool.py program [NAME …]            write one Rust program of all: target/notebooks_as_program

NAME is the beginning of a notebook's file name, say 03; without any, all notebooks are meant. `execute` cuts the
experiments down (RECYCLABLE_FAST) unless --full is given: the notebooks in git are saved by `execute --full`.
"""

import argparse
from pathlib import Path

import notebook_program
import notebook_structure
from notebook_files import Failure, find, report


def execute(arguments):
    from notebook_run import execute

    for path in find(arguments.names):
        seconds = execute(path, fast=not arguments.full)
        print(f"{path.name}: {sum(seconds):.0f} s, first cell {seconds[0]:.1f} s, {path.stat().st_size:,} bytes")
    return []


def check(arguments):
    return notebook_structure.problems(find(arguments.names))


def html(arguments):
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for path in find(arguments.names):
        shown, wanted = notebook_structure.as_html(path, arguments.folder)
        print(f"{arguments.folder / path.stem}.html: {shown} pictures")
        if shown < wanted:
            found.append(f"{path.name} shows {shown} of its {wanted} pictures as HTML")
    return found


def program(arguments):
    manifest = notebook_program.generate(find(arguments.names))
    print(f"cargo run --manifest-path {manifest.relative_to(notebook_program.ROOT)} --target-dir target")
    return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (execute, check, html, program):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(command=command)
        if command is execute:
            sub.add_argument("--full", action="store_true", help="whole experiments")
        if command is html:
            sub.add_argument("folder", type=Path)
        sub.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    try:
        report(arguments.command(arguments))
    except (Failure, OSError) as error:
        report([error])


if __name__ == "__main__":
    main()
