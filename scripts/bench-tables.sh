#!/usr/bin/env bash
# Puts the tables that the last `make bench` left into docs/benchmarks.md, each between `<!-- figures: NAME -->` and `<!-- end -->`.
# Tables of benchmarks that it did not run stay as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/benchmarks.md
awk '
  NR == FNR { if (/^### /) name = $2; else if (name) table[name] = table[name] $0 "\n"; next }
  /^<!-- end -->$/ { skipping = 0 }
  !skipping { print }
  /^<!-- figures: / && $3 in table { printf "%s", table[$3]; skipping = 1 }
' target/bench/tables.md $page >$page.new
mv $page.new $page
