#!/usr/bin/env bash
# Builds the Python guest: build.sh OUT.wasm
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
out=$(realpath -m "$1")
cd "$here"
tools=$(../../../guest-sdk/toolchain/languages.sh python .)
# All that is in the folder goes into the component, so it is a copy of no more than the guest; and the build leaves its bytecode in it.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r app.py work.py chain "$work/"
cd "$work"
"$tools/bin/componentize-py" --quiet --wit-path "$here/../../../wit" --world task componentize --output guest.wasm app
mv guest.wasm "$out"
