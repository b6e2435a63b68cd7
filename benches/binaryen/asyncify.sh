#!/usr/bin/env bash
# Binaryen's asyncify over a core module, as its users do it.
#
#   asyncify.sh install                   installs what package-lock.json names, unless it is there
#   asyncify.sh IN.wasm OUT.wasm IMPORTS  the imports that may suspend, as asyncify wants them: module.name, commas between
#   asyncify.sh IN.wasm OUT.wasm          only optimises
#
# package-lock.json is that of `npm install --package-lock-only` without its addresses, so that any registry will do.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
tools=$("$here/../../guest-sdk/toolchain/languages.sh" node "$here")
if [ "$1" = install ]; then exit; fi
# Runaway times are known: 15 minutes are enough, and nobody waits for this. Asyncify is meant to be optimised after; what is not is
# several times as large. The features are those that compilers switch on by themselves.
ulimit -t 900
exec nice -n 19 node "$tools/node_modules/binaryen/bin/wasm-opt" --mvp-features --enable-bulk-memory --enable-multivalue \
  --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd \
  ${3:+--asyncify --pass-arg=asyncify-imports@"$3"} -O3 "$1" -o "$2"
