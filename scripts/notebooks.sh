#!/usr/bin/env bash
# Makes .venv-notebooks, all that the notebooks need: JupyterLab, the Rust kernel (evcxr) and its warmed compile cache.
#
#   scripts/notebooks.sh         for JupyterLab
#   scripts/notebooks.sh repl    the plain evcxr REPL as well
#
# It has parts, remade apart from each other, each only when what it was made from has changed:
#
#   bin, lib, share            JupyterLab, from requirements-notebooks.txt               (about a minute)
#   programs/evcxr_jupyter     the kernel, see scripts/programs.sh                       (about 6 minutes on two cores, once a user)
#   programs/evcxr             the REPL, only when asked for                             (less, where both are built)
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

# Links, so that every checkout of this user runs the same files: scripts/programs.sh builds and keeps them.
programs=(evcxr_jupyter)
case "${1:-}" in
'') ;;
repl) programs+=(evcxr) ;;
*) fail "usage: $0 [repl]" ;;
esac

crate_of() {
    case $1 in
    evcxr) echo "evcxr_repl@$EVCXR" ;;
    *) echo "$1@$EVCXR" ;;
    esac
}

missing=()
for program in "${programs[@]}"; do
    link=$venv/programs/$program-$EVCXR
    if ! [ -f "$link" ] || ! [ -x "$link" ]; then missing+=("$program"); fi
done
if [ ${#missing[@]} -gt 0 ] && [ -z "${EVCXR_PROGRAMS:-}" ]; then
    # All that is missing in one go, because what programs have in common is then compiled once.
    crates=()
    for program in "${missing[@]}"; do crates+=("$(crate_of "$program")"); done
    scripts/programs.sh "${crates[@]}" >/dev/null || fail "without its programs $venv is not complete (the reason stands above)"
fi
for program in "${missing[@]}"; do
    if [ -n "${EVCXR_PROGRAMS:-}" ]; then
        [ -x "$EVCXR_PROGRAMS/$program" ] || fail "EVCXR_PROGRAMS=$EVCXR_PROGRAMS has no program $program: unset it, and it is built"
        echo "Taking $program from EVCXR_PROGRAMS=$EVCXR_PROGRAMS."
        file=$(realpath "$EVCXR_PROGRAMS/$program")
    else
        file=$(scripts/programs.sh "$(crate_of "$program")")/bin/$program
    fi
    rm -rf "$venv/programs/$program"-*
    mkdir -p $venv/programs
    ln -s "$file" "$venv/programs/$program-$EVCXR"
done
for program in "${programs[@]}"; do ln -sf "../programs/$program-$EVCXR" "$venv/bin/$program"; done

$venv/bin/python scripts/notebook_kernel.py setup || fail "the notebooks' kernel could not be set up (the reason stands above)"
