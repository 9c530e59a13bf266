#!/usr/bin/env bash
# Builds what a GPU machine without Rust needs to check and to measure the library, and lays it in target/gpu-pack:
# everything stripped and linked against the libtorch of `make setup`, whose version the other machine has to have, too.
#
#     recyclable, recyclable-speed    the command line, and our side of the benchmarks
#     tests-lib, tests-cuda           unit tests, and tests/cuda.rs
#     notebooks                       the course as one program
#     cell.so                         a library as evcxr makes them of cells
set -euo pipefail
cd "$(dirname "$0")/.."

pack=target/gpu-pack
locked=${CI:+--locked} # as in the Makefile
rm -rf "$pack"
mkdir -p "$pack"

cargo build $locked --bins
strip -o "$pack/recyclable" target/debug/recyclable
strip -o "$pack/recyclable-speed" target/debug/recyclable-speed

# The path of a test program stands in what cargo says as JSON.
cargo test $locked --lib --test cuda --no-run --message-format=json | python3 -c '
import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if made.get("profile", {}).get("test") and made.get("executable"):
        print(made["target"]["name"], made["executable"])
' | while read -r name program; do
    [ "$name" = cuda ] || name=lib
    strip -o "$pack/tests-$name" "$program"
done

.venv-notebooks/bin/python scripts/notebook_tool.py program >/dev/null
cargo build --manifest-path target/notebooks_as_program/Cargo.toml --target-dir target
strip -o "$pack/notebooks" target/debug/notebooks_as_program

# A crate of its own, as evcxr makes one of every cell: libtorch comes into the process with the library.
cell=target/gpu_cell
mkdir -p "$cell/src"
cat >"$cell/src/lib.rs" <<'RUST'
#[unsafe(no_mangle)]
pub extern "C" fn cuda_devices() -> i64 {
    match recyclable::device::cuda_available() {
        true => recyclable::prelude::Tensor::f_ones([3], (tch::Kind::Float, tch::Device::Cuda(0)))
            .and_then(|ones| ones.f_sum(tch::Kind::Float))
            .map_or(-1, |sum| if f64::try_from(&sum).is_ok_and(|sum| sum == 3.0) { tch::Cuda::device_count() } else { -1 }),
        false => 0,
    }
}
RUST
sed -e 's/^name = "notebooks_as_program"/name = "gpu_cell"/' -e 's/^\[dependencies\]/[lib]\ncrate-type = ["cdylib"]\n\n[dependencies]\ntch = "*"/' \
    target/notebooks_as_program/Cargo.toml >"$cell/Cargo.toml"
cp target/notebooks_as_program/Cargo.lock "$cell/"
cargo build --manifest-path "$cell/Cargo.toml" --target-dir target
strip -o "$pack/cell.so" target/debug/libgpu_cell.so

du -sh "$pack"
