#!/usr/bin/env bash
# The figures of docs/benchmarks.md. Arguments name some of them, and guests; without any, all are measured.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "$(nproc) cores, $(uname -sr), load $(cut -d' ' -f1-3 /proc/loadavg)"
cargo bench --locked --quiet --bench figures -- "$@"
