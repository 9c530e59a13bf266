#!/usr/bin/env bash
# Makes the Python environments that the Rust crate builds and tests against.
#
#   scripts/setup.sh         .venv: libtorch, for every build (light without an NVIDIA driver, full with one)
#   scripts/setup.sh test    .venv-test: full torch and transformers, for comparisons with Python
#   scripts/setup.sh adapters    .venv-adapters: the package adapters with the transformers that it wants, and OpenDelta, beside .venv-test
#
# An environment is complete when its file .ready holds the key of what it was made from (this script's recipe
# number, the pins, the Python version, light or full). One without it, or with another key, is made anew: so an
# interrupted set-up is simply run again. Done already, this takes a fraction of a second.
set -euo pipefail
cd "$(dirname "$0")/.."

RECIPE=1 # raise it when the steps below change what an environment holds

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

at_least() { # at_least 1.89 1.95.0
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# --- prerequisites: the first that is missing is named in one line ---------------------------------------------

rust=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
command -v cargo >/dev/null || fail "cargo is missing: install Rust $rust or newer from https://rustup.rs"
cargo_version=$(cargo --version | cut -d ' ' -f 2) || fail "cargo does not start: install Rust $rust or newer from https://rustup.rs"
at_least "$rust" "$cargo_version" || fail "cargo $cargo_version is too old, $rust or newer is needed: run 'rustup update stable'"

cxx=${CXX:-c++}
command -v "${cxx##* }" >/dev/null || fail "no C++ compiler (${cxx##* }): run 'apt-get install g++'"

python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "$python is missing: run 'apt-get install python3 python3-venv'"
python_version=$("$python" -c 'import platform; print(platform.python_version())') || fail "$python does not start: run 'apt-get install python3 python3-venv'"
at_least 3.10 "$python_version" || fail "Python $python_version is too old, 3.10 or newer is needed: name one with 'make setup PYTHON=python3.12'"

# --- which environment -------------------------------------------------------------------------------------------

has_nvidia_driver() {
    [ -e /dev/nvidiactl ] || { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }
}

key() { # key KIND REQUIREMENTS: one line that changes when the environment has to
    printf 'recipe %s, %s, Python %s, pins %s\n' "$RECIPE" "$1" "$python_version" "$(grep -v '^#' "$2" | sha256sum | cut -c 1-16)"
}

case "${1:-light}" in
light)
    venv=.venv pins=requirements.txt kind=light
    if has_nvidia_driver; then kind=full; fi
    ;;
test) venv=.venv-test pins=requirements-test.txt kind=full ;;
adapters)
    venv=.venv-adapters pins=requirements-adapters.txt kind=adapters
    [ -f .venv-test/.ready ] || fail "there is no .venv-test, which .venv-adapters stands on: run '$0 test' first"
    ;;
*) fail "usage: $0 [light|test|adapters]" ;;
esac

is_ready() { # a full environment also serves a machine whose driver is gone
    [ -f $venv/.ready ] && [ -x $venv/bin/python ] || return 1
    [ "$(cat $venv/.ready)" = "$(key $kind $pins)" ] || [ "$(cat $venv/.ready)" = "$(key full $pins)" ]
}

is_ready && exit 0

# Two at once (make in two terminals) would trip over each other: the second waits, then finds the work done.
if command -v flock >/dev/null; then
    exec 9>".${venv#.}.lock.tmp"
    flock -n 9 || { echo "Waiting for another set-up of $venv to end." && flock 9; }
    is_ready && exit 0
fi

# --- make it -----------------------------------------------------------------------------------------------------

"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module: run 'apt-get install python3-venv'"

case "$venv $kind" in
".venv light") echo "Making .venv: libtorch for a CPU (1.3 GB, downloads 530 MB)." ;;
".venv full") echo "Making .venv: libtorch with CUDA, because there is an NVIDIA driver (5 GB, a few minutes)." ;;
*" adapters") echo "Making .venv-adapters: adapters and OpenDelta to compare with (100 MB; only tests need it)." ;;
*) echo "Making .venv-test: full torch, transformers and scikit-learn to compare with (about 5 GB, a few minutes; only tests and benchmarks need it)." ;;
esac

rm -rf $venv
"$python" -m venv $venv

quiet=()
if [ ! -t 1 ]; then quiet=(--quiet --progress-bar off); fi

if [ $kind = adapters ]; then
    # Its own packages come first, torch and the rest are those of .venv-test.
    site=$(cd $venv && ls -d lib/python3*/site-packages)
    tests=$(cd .venv-test && ls -d "$PWD"/lib/python3*/site-packages)
    echo "$tests" >"$venv/$site/zz-venv-test.pth"
    pip=(.venv-test/bin/python -m pip install --disable-pip-version-check "${quiet[@]}" --no-deps)
    grep -v opendelta $pins >$venv/pins
    failed="pip could not install $pins into $venv (its message stands above): check the network, then run this again"
    "${pip[@]}" --target "$venv/$site" -r $venv/pins || fail "$failed"
    # Its releases exclude each other: each has a folder of its own.
    grep -o 'opendelta==.*' $pins | while read -r pin; do
        "${pip[@]}" --target "$venv/${pin/==/-}" "$pin" || fail "$failed"
    done
    key $kind $pins >$venv/.ready
    exit 0
fi

no_deps=()
if [ $kind = light ]; then no_deps=(--no-deps); fi
$venv/bin/python -m pip install --disable-pip-version-check "${quiet[@]}" "${no_deps[@]}" -r $pins ||
    fail "pip could not install $pins into $venv (its message stands above): check the network and 'df -h .', then run this again"

# A name without the Python version in it: .cargo/config.toml points here.
site=$(cd $venv && ls -d lib/python3*/site-packages)
[ -e "$venv/$site/torch/lib/libtorch.so" ] || fail "$venv/$site/torch/lib/libtorch.so is missing after the installation: remove $venv and run this again"
ln -s "$site/torch" $venv/libtorch

key $kind $pins >$venv/.ready
