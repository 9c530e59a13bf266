#!/usr/bin/env bash
# Makes .venv-notebooks, all that the notebooks need: JupyterLab, the Rust kernel (evcxr) and its warmed compile cache.
#
#   scripts/notebooks.sh         for JupyterLab
#   scripts/notebooks.sh repl    the plain evcxr REPL as well
#
# It has parts, remade apart from each other, each only when what it was made from has changed:
#
#   bin, lib, share            JupyterLab, from requirements-notebooks.txt               (about a minute)
#   programs/evcxr_jupyter     the kernel, built by cargo                                (about 6 minutes on two cores)
#   programs/evcxr             the REPL, only when asked for                             (about as long)
#   evcxr                      the kernel's compile cache, see scripts/notebook_kernel.py (about 4 minutes)
#
# Interrupted, it is simply run again. Done already, it takes a fraction of a second.
#
# EVCXR_PROGRAMS=DIR takes the programs from DIR instead of building them.
set -euo pipefail
cd "$(dirname "$0")/.."

EVCXR=0.22.0
RECIPE=1 # raise it when the steps below change what they make
venv=.venv-notebooks pins=requirements-notebooks.txt

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

scripts/setup.sh # libtorch, and every prerequisite that is missing named in one line

python=${PYTHON:-python3}
python_key="recipe $RECIPE, $PWD, $("$python" --version), pins $(grep -v '^#' $pins | sha256sum | cut -c 1-16)"

has_python() {
    [ -x $venv/bin/jupyter ] && [ -f $venv/.ready ] && [ "$(cat $venv/.ready)" = "$python_key" ]
}

# Two at once would trip over each other: the second waits, then finds the work done.
mkdir -p $venv
if command -v flock >/dev/null; then
    exec 9>"$venv/.setup.lock"
    flock -n 9 || { echo "Waiting for another set-up of $venv to end." && flock 9; }
fi

if ! has_python; then
    echo "Making .venv-notebooks: JupyterLab (about 300 MB)."
    rm -rf $venv/.ready $venv/{bin,include,lib,lib64,share,etc,pyvenv.cfg}
    "$python" -m venv $venv
    quiet=()
    if [ ! -t 1 ]; then quiet=(--quiet --progress-bar off); fi
    $venv/bin/python -m pip install --disable-pip-version-check "${quiet[@]}" -r $pins ||
        fail "pip could not install $pins into $venv (its message stands above): check the network and 'df -h .', then run this again"
    printf '%s\n' "$python_key" >$venv/.ready
fi

install_program() { # install_program CRATE PROGRAM
    local root=$venv/programs/$2-$EVCXR
    if ! [ -x "$root/bin/$2" ]; then
        rm -rf "$venv/programs/$2"-*
        if [ -n "${EVCXR_PROGRAMS:-}" ]; then
            [ -x "$EVCXR_PROGRAMS/$2" ] || fail "EVCXR_PROGRAMS=$EVCXR_PROGRAMS has no program $2: unset it, and it is built"
            echo "Taking $2 from EVCXR_PROGRAMS=$EVCXR_PROGRAMS."
            mkdir -p "$root/bin"
            ln -s "$(realpath "$EVCXR_PROGRAMS/$2")" "$root/bin/$2"
        else
            echo "Building $2 $EVCXR (about 6 minutes on two cores)."
            CARGO_TARGET_DIR=$PWD/$venv/build cargo install --locked --no-default-features --root "$root" "$1@$EVCXR" ||
                fail "cargo could not build $2 $EVCXR (its message stands above): check the network and 'df -h .', then run this again"
        fi
    fi
    ln -sf "../programs/$2-$EVCXR/bin/$2" "$venv/bin/$2"
}

install_program evcxr_jupyter evcxr_jupyter
case "${1:-}" in
'') ;;
repl) install_program evcxr_repl evcxr ;;
*) fail "usage: $0 [repl]" ;;
esac
rm -rf $venv/build

$venv/bin/python scripts/notebook_kernel.py setup || fail "the notebooks' kernel could not be set up (the reason stands above)"
