#!/usr/bin/env bash
# Writes .sqlx anew: what Postgres says of every query of src/store. Run through `make sqlx`, after a change of a query.
set -euo pipefail
cd "$(dirname "$0")/.."
new=$(mktemp -d .sqlx.XXXXXX)
trap 'rm -rf "$new"' EXIT
touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$PWD/$new cargo check --locked --lib
rm -rf .sqlx
mkdir .sqlx
mv "$new"/* .sqlx/
echo "$(find .sqlx -name '*.json' | wc -l) queries recorded"
