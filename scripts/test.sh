#!/usr/bin/env bash
# The whole suite on a private Postgres of its own. The last line counts what passed and failed.
set -euo pipefail
cd "$(dirname "$0")/.."
log=target/test.log
mkdir -p target
: >"$log"

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

step 'building the product and its tests'
cargo build --locked --bin dormouse --example with-postgres
cargo test --locked --no-run

status=0
step 'testing the product'
target/debug/examples/with-postgres target/test-postgres cargo test --locked --no-fail-fast 2>&1 | tee -a "$log" || status=1
step 'testing the guest SDK on the host'
make --no-print-directory test-guest-sdk 2>&1 | tee -a "$log" || status=1

# A test that finds out that it cannot do what it is for on this machine says so in a line and passes.
awk '/^skipped:/ { passed -= 1; skipped += 1 }
     /^test result:/ { passed += $4; failed += $6; skipped += $8 }
     END { printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit failed > 0 }' "$log" || status=1
exit $status
