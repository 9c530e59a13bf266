#!/usr/bin/env bash
# On a machine with a GPU, without Rust and without a network: what `scripts/gpu_pack.sh` has built, checked.
#
#     scripts/gpu_check.sh PACK [PYTHON]      PYTHON holds the same version of torch
set -euo pipefail
pack=$(realpath "$1")
python=$(realpath -s "$(command -v "${2:-python3}")")
cd "$(dirname "$0")/.."
LD_LIBRARY_PATH=$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent / "lib")')
export LD_LIBRARY_PATH

failed=0
check() {
    echo "━━━ $1"
    shift
    local started=$SECONDS
    "$@" || { failed=1; echo "FAILED"; }
    echo "($((SECONDS - started)) s)"
}

# A Python without torch stands in for the process that evcxr loads its cells into.
load_cell() {
    "$python" - "$pack/cell.so" <<'PYTHON'
import ctypes, os, sys
assert "libtorch" not in open("/proc/self/maps").read(), "libtorch is there before the cell"
devices = ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW | os.RTLD_LOCAL).cuda_devices()
print(f"a cell finds {devices} CUDA devices")
sys.exit(devices < 1)
PYTHON
}

# In the small variant, with weights of its own; not the last one, which fetches an encoder.
notebooks() {
    local course
    course=$(mktemp -d)
    (cd notebooks && RECYCLABLE_DEVICE=cuda RECYCLABLE_FAST=1 RECYCLABLE_COURSE="$course" "$pack/notebooks" 0) >"$course/log" 2>&1 || {
        tail -n 40 "$course/log"
        return 1
    }
    grep '^━━━.*done' "$course/log" || {
        tail -n 40 "$course/log"
        return 1
    }
    rm -rf "$course"
}

export CARGO_MANIFEST_DIR=$PWD # where the unit tests find their files
check "the command line finds CUDA" sh -c "'$pack/recyclable' doctor | grep -i cuda:0"
check "a cell finds CUDA" load_cell
check "the unit tests of the optimizer and of what is native" "$pack/tests-lib" optim:: native:: --nocapture
check "the GPU computes what the CPU computes" "$pack/tests-cuda" --nocapture --test-threads 1
check "the course as a program" notebooks
exit "$failed"
