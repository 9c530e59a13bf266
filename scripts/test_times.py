#!/usr/bin/env python3
"""Runs a `cargo test …`, passes on what it prints, and ends with a table of where its time went, failed or not.

    test_times.py cargo test …

Listed are the build, every test program, and below it the tests that took more than a minute: libtest says of them when a
minute was over. A test that waits for its turn says itself what it took, in a line `took SECONDS s: WHAT` on standard error.
With RECYCLABLE_TIMES=FILE the lines of the table are added to that file as well, for the table of .ci/run.
"""

import os
import re
import subprocess
import sys
import time

PROGRAM = re.compile(r"\s+(?:Running (?:unittests )?(\S+) \(|(Doc-tests) )")
A_MINUTE_OVER = re.compile(r"test (.+) has been running for over (\d+) seconds")
ENDED = re.compile(r"test (.+?)(?: - should panic)? \.\.\. (?:ok|FAILED)$")
OWN_WORDS = re.compile(r"took ([\d.]+) s: (.+)")


class Times:
    """Reads the lines of `cargo test` as they come."""

    def __init__(self):
        self.programs = []  # (name, seconds, its slow tests as (name, seconds))
        self.begin("build")

    def begin(self, name):
        self.name, self.started = name, time.monotonic()
        self.slow, self.said, self.since = [], [], {}

    def end(self):
        self.programs.append((self.name, time.monotonic() - self.started, self.said or self.slow))

    def hear(self, line):
        if found := PROGRAM.match(line):
            self.end()
            self.begin(found[1] or found[2])
        elif found := A_MINUTE_OVER.match(line):
            self.since[found[1]] = time.monotonic() - int(found[2])
        elif (found := ENDED.match(line)) and found[1] in self.since:
            self.slow.append((found[1], time.monotonic() - self.since.pop(found[1])))
        elif found := OWN_WORDS.search(line):
            self.said.append((found[2], float(found[1])))

    def table(self):
        rows = []
        for name, seconds, parts in self.programs:
            rows.append(f"{seconds:7.1f}  {name}")
            rows += [f"{seconds:7.1f}  · {part}" for part, seconds in parts]
        return rows


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    times = Times()
    # One pipe for both streams, so that lines come in the order in which they were written.
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for line in process.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            times.hear(line.decode(errors="replace").rstrip())
    except KeyboardInterrupt:
        pass
    finally:
        times.end()
        status = process.wait()
        rows = times.table()
        print("\nseconds  where\n" + "\n".join(rows), flush=True)
        if file := os.environ.get("RECYCLABLE_TIMES"):
            with open(file, "a") as added:
                added.writelines(f"{row}\n" for row in rows)
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
