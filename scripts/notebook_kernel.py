#!/usr/bin/env python3
"""The notebooks' Rust kernel: writes its Jupyter spec, keeps its compile cache, and starts it.

    notebook_kernel.py setup                    write the kernel spec `rust`, warm the compile cache
    notebook_kernel.py kernel CONNECTION_FILE   become the kernel; Jupyter calls this, by the spec's argv
    notebook_kernel.py repl [ARGUMENT …]        become the plain evcxr REPL, with the same environment

evcxr compiles the cells of a session in one directory (EVCXR_TMPDIR), for one session at a time. The first `:dep` of
this crate there takes minutes; after that a first cell takes seconds. So there is a pool in .venv-notebooks/evcxr:

    warm      compiled once by `setup`, never run in
    0, 1, …   one per open notebook: a copy of `warm`, taken under a lock that the kernel holds until it ends

A copy shares its large files with `warm` by hard links, so it is made in a moment and costs little disk. That is safe
because cargo, rustc, cc and the linker replace these files and do not write into them. What is written into is copied
(cargo's fingerprints: small files) or left out (rustc's incremental folders). Whether a copy still fits the sources is for cargo to decide: when the crate has
changed since `setup`, the first cell compiles the crate again, and its dependencies not.
"""

import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PREFIX = ROOT / ".venv-notebooks"
POOL = PREFIX / "evcxr"
SPEC = PREFIX / "share/jupyter/kernels/rust"
# Set for the one kernel that compiles `warm`.
WARMING = "RECYCLABLE_NOTEBOOKS_WARMING"
# Of the standard library, what cells can name.
LIBRARY_CRATES = ("alloc", "core", "panic_abort", "panic_unwind", "proc_macro", "std", "std_detect", "test", "unwind")
# A comment, or documentation, that has a line of its own.
COMMENT_LINE = re.compile(r"^\s*(//.*|#!?\[doc = .*\])\n", re.MULTILINE)
# What build.rs takes for the library's sources.
SOURCES = ["src", "build.rs", "Cargo.toml", "Cargo.lock"]

# Cargo reads this above each directory of the pool; it wins over the profile that evcxr writes, which would also optimise
# torch-sys (minutes of C++) and check every addition. Cells stay at evcxr's opt-level 2: 0 would save 0.03 s each.
CARGO_CONFIG = """\
[profile.dev.package."*"]
opt-level = 2
debug-assertions = false
overflow-checks = false

[profile.dev.package.torch-sys]
opt-level = 0

[profile.dev.build-override]
opt-level = 0
"""


def output(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def libtorch_folder():
    return Path(os.environ.get("LIBTORCH") or ROOT / ".venv/libtorch").absolute()


def environment():
    """What the kernel, its cells and their compiler need to find or to be told."""
    libtorch = libtorch_folder()
    libraries = [
        # The real folder, because libtorch looks for CUDA's libraries relative to it.
        str((libtorch / "lib").resolve()),
        # Rust's own: evcxr moves a cell's library after it was linked, and where the pool and the toolchain have a folder
        # in common (both in one's home, say), the relative path in it leads nowhere.
        output("rustc", "--print", "target-libdir"),
    ]
    return {
        "LIBTORCH": str(libtorch),
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        # Start-up files of the user's own evcxr would change what the cells mean.
        "EVCXR_CONFIG_DIR": str(POOL / "config"),
        "CARGO_INCREMENTAL": "1",
        # Every cell links rayon anew, with a pool of threads each.
        "RAYON_NUM_THREADS": "2",
        # As in the Makefile.
        "GOMP_SPINCOUNT": "10000",
        # An error's text is its message; a panic's backtrace stays the user's choice.
        "RUST_LIB_BACKTRACE": "0",
    }


def lean_rust_src():
    """A folder with the standard library's sources, less what says nothing about a type, or None where they are missing.

    evcxr reads them to find the types of variables, and keeps what it read. Half of all text are the processor's intrinsics
    (`stdarch`), and half of the rest are comments and documentation, which macros repeat for every integer type.
    """
    library = Path(output("rustc", "--print", "sysroot")) / "lib/rustlib/src/rust/library"
    if not (library / "core").exists():
        return None
    lean, key = POOL / "rust-src", f"{output('rustc', '--version')}, {LIBRARY_CRATES}, {COMMENT_LINE.pattern}"
    if read(lean / ".key") == key:
        return lean
    shutil.rmtree(lean, ignore_errors=True)
    for name in LIBRARY_CRATES:
        for source in [library / name / "Cargo.toml", *(library / name / "src").rglob("*.rs")]:
            target = lean / source.relative_to(library)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(COMMENT_LINE.sub("", source.read_text()))
    (lean / ".key").write_text(key)
    return lean


def write_spec():
    lean = lean_rust_src()
    spec = {
        "argv": [str(PREFIX / "bin/python"), str(Path(__file__).resolve()), "kernel", "{connection_file}"],
        "display_name": "Rust (recyclable)",
        "language": "rust",
        "interrupt_mode": "message",
        "env": environment() | ({"RUST_SRC_PATH": str(lean)} if lean else {}),
    }
    SPEC.mkdir(parents=True, exist_ok=True)
    (SPEC / "kernel.json").write_text(json.dumps(spec, indent=2) + "\n")


def kernel_environment():
    """The environment that the spec gives a kernel, over this process's own."""
    return os.environ | json.loads((SPEC / "kernel.json").read_text())["env"]


def cache_key():
    """Changes whenever cargo would compile the library anew; cargo, too, goes by the times of files."""
    hashed = hashlib.sha256()
    files = itertools.chain.from_iterable(sorted((ROOT / name).rglob("*")) or [ROOT / name] for name in SOURCES)
    for path in files:
        if path.is_file() and ROOT / "src/bin" not in path.parents:
            hashed.update(f"{path.relative_to(ROOT)} {path.stat().st_mtime_ns}\n".encode())
    # The build script asks git for the commit, and compiles it in.
    commit = output("git", "rev-parse", "HEAD") if output("git", "rev-parse", "--show-toplevel") == str(ROOT) else ""
    for part in (commit, output("rustc", "--version"), str(ROOT), str(libtorch_folder()), CARGO_CONFIG):
        hashed.update(part.encode() + b"\n")
    return hashed.hexdigest()


def read(path):
    return path.read_text() if path.exists() else None


def lock(name, how):
    """An open file that holds the lock, or None where another process has it."""
    file = open(POOL / f"{name}.lock", "a")
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def setup():
    (POOL / "config").mkdir(parents=True, exist_ok=True)
    (POOL / ".cargo").mkdir(exist_ok=True)
    (POOL / ".cargo/config.toml").write_text(CARGO_CONFIG)
    write_spec()
    key = cache_key()
    if read(POOL / "warm/.key") == key:
        return
    if not (held := lock("warm", fcntl.LOCK_EX)):
        sys.exit("error: the notebooks' compile cache is in use by another set-up or a starting kernel: try again")
    with held:
        warm(key)


def warm(key):
    # Imported here, for the second that it costs: a kernel does without.
    from jupyter_client.manager import start_new_kernel

    started = time.monotonic()
    cold = not (POOL / "warm/target").exists()
    print("Compiling the library for notebook cells" + (" (about 4 minutes on two cores)." if cold else "."), flush=True)
    directory = POOL / "warm"
    directory.mkdir(exist_ok=True)
    (directory / ".key").unlink(missing_ok=True)
    # Cells use the versions of every dependency that the crate is tested with.
    shutil.copy(ROOT / "Cargo.lock", directory)
    cell = f':dep recyclable = {{ path = "{ROOT}", default-features = false }}\nuse recyclable::prelude::*;'
    # The kernel itself does it, so that everything is compiled as it will be wanted.
    env = os.environ | {WARMING: "1"}
    try:
        manager, client = start_new_kernel(startup_timeout=120, kernel_name="rust", cwd=ROOT, env=env)
    except RuntimeError as error:
        sys.exit(f"error: the kernel does not start: {error}")
    try:
        answer = client.execute_interactive(cell, timeout=3600)["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if answer["status"] != "ok":
        sys.exit("error: the library could not be compiled for notebook cells")
    (directory / ".key").write_text(key)
    print(f"The notebooks' compile cache is warm ({time.monotonic() - started:.0f} s).", flush=True)


def link_or_copy(source, target):
    if os.path.getsize(source) >= 65536:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def make_slot(slot):
    """Copies `warm` into `slot`, without what belongs to the cells of a session."""
    if not (held := lock("warm", fcntl.LOCK_SH)):
        sys.exit("error: the notebooks' compile cache is just being made: start the kernel again when `make notebooks` is done")
    with held:
        shutil.rmtree(slot, ignore_errors=True)
        unwanted = shutil.ignore_patterns("src", "incremental", "ctx-*", "libctx*", "libcode_*", "ctx.d")
        partial = slot.with_name(f"{slot.name}.tmp")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(POOL / "warm", partial, symlinks=True, ignore=unwanted, copy_function=link_or_copy)
        partial.rename(slot)


def take_slot():
    """A directory of the pool that no other kernel uses, as long as this process and its children live."""
    key = read(POOL / "warm/.key")
    if key is None:
        sys.exit("error: the notebooks' compile cache is not there: run 'make notebooks-setup'")
    for number in itertools.count():
        if held := lock(str(number), fcntl.LOCK_EX):
            break
    slot = POOL / str(number)
    if read(slot / ".key") != key:
        make_slot(slot)
    if cache_key() != key:
        print("recyclable has changed since `make notebooks-setup`: the first cell compiles it again.", file=sys.stderr)
    # A copy that no object owns, and so none closes: the lock is the kernel's and its children's until the last of them ends.
    os.set_inheritable(os.dup(held.fileno()), True)
    return slot


def become(program, arguments):
    env = kernel_environment()
    env["EVCXR_TMPDIR"] = str(POOL / "warm" if env.pop(WARMING, None) else take_slot())
    if not (PREFIX / "bin" / program).exists():
        sys.exit(f"error: {program} is not installed: run 'scripts/notebooks.sh repl'")
    os.execve(PREFIX / "bin" / program, [program, *arguments], env)


def main():
    # JupyterLab may have been started where a shell's start-up files were not read.
    os.environ["PATH"] += f"{os.pathsep}{os.environ.get('CARGO_HOME', Path.home() / '.cargo')}/bin"
    match sys.argv[1:]:
        case ["setup"]:
            setup()
        case ["kernel", connection]:
            become("evcxr_jupyter", ["--control_file", connection])
        case ["repl", *arguments]:
            become("evcxr", arguments)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
