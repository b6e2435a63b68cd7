#!/usr/bin/env bash
# Builds the JavaScript guest: build.sh OUT.wasm
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
out=$(realpath -m "$1")
cd "$here"
tools=$(../../../guest-sdk/toolchain/languages.sh node .)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
node build.mjs "$tools" "$work" "$out"
