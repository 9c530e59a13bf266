#!/usr/bin/env python3
"""How much memory an open notebook takes: runs one in front of a JupyterLab server and prints the peak of the summed PSS.

    notebook_memory.py [NAME] [--limit MB] [--full]    the first notebook, or one whose name begins with NAME

Counted are JupyterLab's server, the kernel, the child that runs the cells, and cargo, rustc and linker while they work;
not this program, which stands in for the browser. PSS shares what several processes map (libtorch) among them, so the sum
is what they hold; of it, what is mapped from files can be taken away from them and read again, the rest (anonymous) cannot. The notebook is run cut down (RECYCLABLE_FAST, but for --full) and is not saved.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from notebook_files import ROOT, Failure, find, report
from notebook_run import run


def children():
    """Parent → its children, for every process."""
    tree = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        tree.setdefault(parent, []).append(int(stat.parent.name))
    return tree


def descendants(process):
    """(process, parent) of everything below `process`."""
    tree, found = children(), []
    waiting = [process]
    while waiting:
        parent = waiting.pop()
        found += [(child, parent) for child in tree.get(parent, [])]
        waiting += tree.get(parent, [])
    return found


def command(process):
    return Path(f"/proc/{process}/comm").read_text().strip()


def pss_mb(process, parent):
    """(name, anonymous megabytes, megabytes of files) of one process, or None where it has just ended."""
    try:
        name = command(process)
        # The kernel runs its own program again, for the cells.
        if name == command(parent) == "evcxr_jupyter":
            name = "the kernel's child"
        lines = [line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]]
        sizes = {line[0]: int(line[1]) / 1024 for line in lines}
        return name, sizes["Pss:"] - sizes["Pss_File:"], sizes["Pss_File:"]
    except OSError:
        return None


class Watch(threading.Thread):
    """Samples the memory of this process's descendants until told to stop, and keeps the sample with the greatest anonymous sum, and the
    greatest sum with files."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.with_files, self.parts, self.stop = 0.0, 0.0, Counter(), threading.Event()

    def run(self):
        while not self.stop.wait(0.1):
            parts, files = Counter(), 0.0
            for name, anonymous, mapped in filter(None, (pss_mb(*pair) for pair in descendants(os.getpid()))):
                parts[name] += anonymous
                files += mapped
            self.with_files = max(self.with_files, parts.total() + files)
            if parts.total() > self.peak:
                self.peak, self.parts = parts.total(), parts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--limit", type=float, metavar="MB", help="fail above this many megabytes")
    parser.add_argument("--full", action="store_true", help="run it at full size")
    arguments = parser.parse_args()
    server = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    jupyterlab = subprocess.Popen([*server, f"--ServerApp.root_dir={ROOT}"], **quiet)
    try:
        path = find([arguments.name] if arguments.name else [])[0]
        time.sleep(5)
        watch = Watch()
        watch.start()
        _, seconds = run(path, fast=not arguments.full)
        watch.stop.set()
        watch.join()
    except Failure as failure:
        report([failure])
    finally:
        jupyterlab.terminate()
        jupyterlab.wait(60)
    parts = ", ".join(f"{name} {size:.0f}" for name, size in watch.parts.most_common())
    print(f"{path.name}, {sum(seconds):.0f} s: at its peak {watch.peak:.0f} MB that cannot be taken away ({parts}), {watch.with_files:.0f} MB with files")
    if arguments.limit and watch.peak > arguments.limit:
        report([f"more than {arguments.limit:.0f} MB"])


if __name__ == "__main__":
    main()
