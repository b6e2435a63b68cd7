#!/usr/bin/env bash
# Makes sure that what the repository builds and tests with is on this machine, or says exactly what to install.
#
#   install-tools.sh            what everything needs
#   install-tools.sh browser    Chromium as well, for tests of pages; where it cannot be had they say that they were skipped
set -euo pipefail

missing=()
have_postgres() {
  command -v initdb >/dev/null 2>&1 || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}
have_postgres || missing+=(postgresql)
command -v cc >/dev/null 2>&1 || missing+=(build-essential)

install() {
  echo "installing $* with apt-get …"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
can_install() {
  command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]
}

if ((${#missing[@]})); then
  if can_install; then
    install "${missing[@]}"
  else
    echo "Missing: ${missing[*]}. On Debian and Ubuntu: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

if ! command -v cargo >/dev/null 2>&1; then
  echo "Missing: Rust 1.95. Install rustup, then: rustup toolchain install 1.95.0" >&2
  exit 1
fi

if [ "${1:-}" = browser ] && ! command -v chromium >/dev/null 2>&1; then
  if ! can_install || ! install chromium; then
    echo "There is no Chromium, and tests that need one are skipped. On Debian and Ubuntu: sudo apt-get install chromium" >&2
  fi
fi
