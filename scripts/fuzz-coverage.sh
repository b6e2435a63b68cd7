#!/usr/bin/env bash
# Runs the coverage-guided targets of fuzz/, TARGET or all of them, each for SECONDS_AT_MOST (60) after it is built.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${SECONDS_AT_MOST:-60}
case ${TARGET:-} in
  '') targets=(rewriter snapshot) ;;
  rewriter | snapshot) targets=("$TARGET") ;;
  *)
    echo "There is no fuzz target $TARGET; TARGET is rewriter or snapshot" >&2
    exit 2
    ;;
esac

missing() {
  printf 'Missing: %s\n' "$*" >&2
  exit 1
}
command -v rustup >/dev/null 2>&1 || missing 'rustup, which brings the nightly compiler that sanitizers need: https://rustup.rs'
command -v c++ >/dev/null 2>&1 || missing 'a C++ compiler. On Debian and Ubuntu: sudo apt-get install build-essential'
rustup run nightly rustc --version >/dev/null 2>&1 || missing \
  'a nightly Rust compiler. rustup toolchain install nightly --profile minimal'
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo 'installing cargo-fuzz …'
  cargo install cargo-fuzz --locked --version 0.13.2 || missing 'cargo-fuzz. cargo install cargo-fuzz --locked --version 0.13.2'
fi

# The limits: one allocation; all memory, with what the sanitizer takes for itself; the bytes of an input. Half a minute for one input
# would be a fault even in a build that is many times slower than the product, on a machine that does other things too.
declare -A limits=(
  [rewriter]='-malloc_limit_mb=128 -rss_limit_mb=1536 -max_len=8192 -timeout=30'
  [snapshot]='-malloc_limit_mb=16 -rss_limit_mb=1024 -max_len=4096 -timeout=30'
)
# Inputs may be long from the start. And where each of them reaches a thousand places, libFuzzer's weighing of rare places takes
# more time than the target does.
search=(-len_control=0 -entropic=0 -print_final_stats=1)

corpus='' work=''
keep_what_was_found() {
  [ -z "$work" ] || { find "$work" -type f -exec cp --no-clobber -t "$corpus" {} +; rm -rf "$work"; }
  work=''
}
trap keep_what_was_found EXIT
for target in "${targets[@]}"; do
  # libFuzzer runs all that it is given before it looks at the clock; so it gets what takes a fraction of the time.
  corpus=fuzz/corpus/$target
  mkdir -p "$corpus" target
  work=$(mktemp -d "$PWD/target/fuzz-$target.XXXXXX")
  find "$corpus" -type f | shuf -n $((seconds * 5)) | xargs -r cp -t "$work"
  read -ra options <<<"${limits[$target]}"
  rustup run nightly cargo fuzz run --target-dir target/fuzz "$target" "$work" -- \
    -max_total_time="$seconds" "${options[@]}" "${search[@]}"
  keep_what_was_found
done
