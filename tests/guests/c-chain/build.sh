#!/usr/bin/env bash
# Builds the C guest: build.sh OUT.wasm
#
# bindings/ is generated, with wit-bindgen-cli 0.59 (cargo install wit-bindgen-cli --no-default-features --features c):
#   mkdir -p wit/deps && cp world.wit wit/ && cp -r ../../../wit wit/deps/task && wit-bindgen c --out-dir bindings wit
# and has to be made anew when an interface it uses changes.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
out=$(realpath -m "$1")
cd "$here"
exec ../../../guest-sdk/toolchain/toolchain.sh cc -O2 -mexec-model=reactor -Wl,--strip-debug -I. -o "$out" \
  main.c work.c bindings/c_chain.c bindings/c_chain_component_type.o -lc-printscan-long-double
