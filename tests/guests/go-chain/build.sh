#!/usr/bin/env bash
# Builds the Go guest: build.sh OUT.wasm
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
out=$(realpath -m "$1")
cd "$here"
tools=$(../../../guest-sdk/toolchain/languages.sh python .)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Nothing but the standard library is used: what would be fetched is a mistake. A Go workspace or flags of the user's are not meant for this.
env GOOS=wasip1 GOARCH=wasm GOCACHE="$tools/cache" GOPROXY=off GOTOOLCHAIN=local GOWORK=off GOFLAGS= GOENV=off \
  "$tools/bin/go" build -buildmode=c-shared -trimpath -buildvcs=false -ldflags='-s -w' -o "$work/core.wasm" .
../../../guest-sdk/toolchain/languages.sh component ../../../wit task "$work/core.wasm" "$out"
