#!/usr/bin/env bash
# Shows the one thing that matters: a task waits deep in its call stack, the server is killed, and the task goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
dormouse=$PWD/${1:?usage: demo.sh path/to/dormouse}
data=target/demo
log=$data/server.log

if [ -t 1 ]; then bold=$'\033[1m' dim=$'\033[2m' green=$'\033[32m' red=$'\033[31m' off=$'\033[0m'; else bold='' dim='' green='' red='' off=''; fi
say() { printf '%s\n' "${bold}▸ $*${off}"; }
fail() { printf '%s\n' "${red}✗ $*${off}" >&2; tail -n 30 "$log" >&2 || true; exit 1; }
json() { grep -o "\"$1\": *\"\{0,1\}[^\",}]*" | head -n 1 | sed 's/^"[^"]*": *"\{0,1\}//'; }

server=''
# SIGTERM lets the server stop its database too.
stop() { [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; }; }
trap stop EXIT

start() {
  "$dormouse" dev --port 0 --data-dir "$data" >>"$log" 2>&1 &
  server=$!
  for _ in $(seq 600); do
    if [ "$(json pid 2>/dev/null <"$data/dev.json")" = "$server" ]; then
      DORMOUSE_API_URL=$(json apiUrl <"$data/dev.json")
      DORMOUSE_SECRET_KEY=$(json secretKey <"$data/dev.json")
      export DORMOUSE_API_URL DORMOUSE_SECRET_KEY
      return
    fi
    kill -0 "$server" 2>/dev/null || fail 'the server ended before it was ready'
    sleep 0.1
  done
  fail 'the server was not ready within a minute'
}
status() { "$dormouse" runs get "$run" --json | json status; }
await() {
  for _ in $(seq 300); do
    [ "$(status)" != "$1" ] || return 0
    sleep 0.1
  done
  fail "the run is $(status) and not $1"
}

rm -rf "$data"
mkdir -p "$data"
say 'Starting Dormouse with a private Postgres of its own'
start
printf '%s\n' "  ${dim}$DORMOUSE_API_URL, process $server${off}"

say "Deploying examples/hello ($(du -k target/guests/hello.wasm | cut -f1) KiB of WebAssembly, written in Rust)"
"$dormouse" deploy target/guests/hello.wasm

say 'Triggering the task "hello"'
run=$("$dormouse" trigger hello --payload '{"name":"Ada"}')
printf '%s\n' "  ${dim}$run${off}"

await WAITING
say 'The task waits, several calls deep. Its memory and call stack are in a checkpoint, the instance is gone'
"$dormouse" runs get "$run"

say "Killing the server with SIGKILL (process $server)"
kill -9 "$server"
wait "$server" 2>/dev/null || true
server=''
sleep 1
say 'Nothing runs now. Starting the server again'
start
printf '%s\n' "  ${dim}$DORMOUSE_API_URL, process $server${off}"

await COMPLETED
say 'The wait ended, the call returned, the run completed'
"$dormouse" runs get "$run"
say 'What it printed, before and after'
"$dormouse" runs logs "$run"
printf '%s\n' "${green}✓ killed in the middle of a wait, and nothing was lost${off}"
