#!/usr/bin/env bash
# Walks the files in binder/ step by step as Binder does, in a clean directory, as an unprivileged user where root runs it:
# apt.txt and runtime.txt are read, postBuild is run, then JupyterLab's server finds the kernel through `start`, and a
# notebook is run on it while its memory is measured.
#
#   tests/binder.sh [NOTEBOOK]    about 12 minutes
#
# What is not as on Binder, it says: the toolchain, the system's packages and Python are this machine's.
# BINDER_CHEAP=1 takes the kernel's program from this checkout (`make notebooks-setup`): about 6 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '[binder] %s\n' "$*"; }
fail() {
    printf '[binder] error: %s\n' "$*" >&2
    exit 1
}

home=$(mktemp -d "${TMPDIR:-/tmp}/recyclable-binder.XXXXXX")
trap 'rm -rf "$home"' EXIT
trap 'exit 1' INT TERM
repository=$home/repository
mkdir "$repository"

# --- what the image has before postBuild --------------------------------------------------------------------------

while read -r package; do
    command -v "$package" >/dev/null || fail "apt.txt names $package, which is not installed here"
done <binder/apt.txt
say "apt.txt: installed here: $(tr '\n' ' ' <binder/apt.txt)"
python=/usr/bin/python3
[ -x $python ] || python=$(command -v python3)
say "runtime.txt: $(cat binder/runtime.txt) is substituted by this machine's $($python --version)"

# The files of the repository as they are now, committed or not, and nothing that was built here.
git ls-files --cached --others --exclude-standard -z | tar --null --files-from=- --ignore-failed-read --create |
    tar --extract --directory "$repository"

say "rustup is substituted by this machine's toolchain: $(rustc --version)"
cp --archive --link "$(rustc --print sysroot)" "$home/toolchain" 2>/dev/null ||
    cp --archive "$(rustc --print sysroot)" "$home/toolchain"

variables=(HOME="$home" PATH="$home/toolchain/bin:/usr/local/bin:/usr/bin:/bin" PYTHON="$python" LANG=C.UTF-8)
while IFS='=' read -r name value; do # how this machine reaches package registries is its own affair
    case $name in PIP_* | *_proxy | *_PROXY | SSL_CERT_* | CARGO_HTTP_* | CARGO_NET_*) variables+=("$name=$value") ;; esac
done < <(env)

if [ -n "${BINDER_CHEAP:-}" ]; then
    say "cheap: the kernel's program is taken from $PWD/.venv-notebooks"
    mkdir "$home/programs"
    cp --dereference .venv-notebooks/bin/evcxr_jupyter "$home/programs/"
    variables+=(EVCXR_PROGRAMS="$home/programs")
fi

as_user() { (cd "$repository" && env --ignore-environment "${variables[@]}" "$@"); }
if [ "$(id -u)" = 0 ]; then
    chown --recursive 65534:65534 "$repository"
    chown 65534:65534 "$home"
    as_user() {
        (cd "$repository" && setpriv --reuid=65534 --regid=65534 --clear-groups env --ignore-environment "${variables[@]}" "$@")
    }
fi
say "user: $(as_user id --user --name)"

# --- what Binder runs ---------------------------------------------------------------------------------------------

started=$SECONDS
as_user binder/postBuild
say "postBuild: $((SECONDS - started)) s, $(du --summarize --human-readable "$repository/.venv-notebooks" | cut -f 1) in .venv-notebooks"

# Binder's JupyterLab is not ours and knows our kernel through `start` alone: so is this one, started from outside.
kernels=$(as_user env --chdir="$home" "$repository/binder/start" "$repository/.venv-notebooks/bin/python" -c '
import sys
sys.prefix = "/nowhere"
from jupyter_client.kernelspec import KernelSpecManager
print(*KernelSpecManager(ensure_native_kernel=False).get_all_specs())')
[[ " $kernels " == *" rust "* ]] || fail "a JupyterLab behind binder/start does not find the kernel 'rust', only: $kernels"
say "the kernel 'rust' is found through binder/start"

as_user binder/start .venv-notebooks/bin/python scripts/notebook_memory.py --limit 1900 "${1:-00}"
say "done"
