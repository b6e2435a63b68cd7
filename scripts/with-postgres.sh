#!/usr/bin/env bash
# Runs a command with DATABASE_URL set to a private Postgres that has the schema and lives as long as the command.
set -euo pipefail
cd "$(dirname "$0")/.."
# Built before a query was changed: afterwards it cannot be built until the query is recorded.
[ -x target/debug/examples/with-postgres ] || cargo build --locked --example with-postgres
exec target/debug/examples/with-postgres target/test-postgres "$@"
