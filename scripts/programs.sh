#!/usr/bin/env bash
# Builds programs of published crates once for every checkout of this user, and prints the folder of each.
#
#   scripts/programs.sh CRATE@VERSION …
#
# They are kept in ${XDG_CACHE_HOME:-$HOME/.cache}/recyclable/programs/CRATE-VERSION-KEY, where KEY names the compiler and the
# machine's kind; that folder may be removed at any time. What they have in common is compiled once. Interrupted, this is
# simply run again, and goes on where it was. Done already, it takes a moment.
set -euo pipefail

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

[ $# -gt 0 ] || fail "usage: $0 CRATE@VERSION …"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/recyclable/programs
compiler=$(rustc --version --verbose) # with the host's triple
key=$(cut -d ' ' -f 2 <<<"${compiler%%$'\n'*}")-$(sha256sum <<<"$compiler" | cut -c 1-12)

folder() { # folder CRATE@VERSION
    echo "$cache/${1/@/-}-$key"
}

build() { # build CRATE@VERSION
    echo "Building $1 (about 6 minutes on two cores; it is kept in $cache)." >&2
    rm -rf "$building/made"
    CARGO_TARGET_DIR=$building/target cargo install --locked --no-default-features --no-track --root "$building/made" "$1" >&2 ||
        fail "cargo could not build $1 (its message stands above): check the network and 'df -h $cache', then run this again"
    # Moved as a whole: what has this name is complete.
    mv "$building/made" "$(folder "$1")"
}

all_there() {
    local crate
    for crate; do [ -d "$(folder "$crate")/bin" ] || return 1; done
}

if ! all_there "$@"; then
    mkdir -p "$cache"
    building=$cache/building
    # Two checkouts at once: the second waits, then finds the work done.
    if command -v flock >/dev/null; then
        exec 8>"$cache/.lock"
        flock -n 8 || { echo "Waiting for another checkout to build these programs." >&2 && flock 8; }
    fi
    mkdir -p "$building"
    for crate; do all_there "$crate" || build "$crate"; done
    rm -rf "$building"
fi
for crate; do folder "$crate"; done
