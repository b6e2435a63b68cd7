#!/usr/bin/env bash
# The toolchain for guests: Rust for wasm32-wasip2, C for components.
#
#   toolchain.sh rust            make sure that Rust guests can be built, and say how
#   toolchain.sh cargo ARGS...   the same, then cargo with these arguments (as the wrapper `cargo-guest` does)
#   toolchain.sh c               make sure that C guests can be built
#   toolchain.sh cc ARGS...      the same, then clang with these arguments; it links components
#
# Rust comes, whichever is there first, from
#   1. the active toolchain, if it has the target wasm32-wasip2;
#   2. what an earlier run of step 4 left in the cache;
#   3. `rustup target add wasm32-wasip2`;
#   4. Debian's packages: compiler, library source and wasi-libc, unpacked into the cache, and std built once from them
#      (two to five minutes, 140 MB of downloads).
# DORMOUSE_GUEST_TOOLCHAIN=debian leaves out 1 and 3. C always comes from Debian's clang, unpacked into the cache (40 MB).
#
# Nothing is installed system-wide, no root is needed, no toolchain of rustup's is touched or added: cargo is always the
# host's own and is only told which compiler to use. The cache is ${XDG_CACHE_HOME:-~/.cache}/dormouse/guest-toolchain;
# to delete it does no harm. Two runs at once wait for each other. Packages come from the mirrors in the machine's own apt
# configuration.
set -euo pipefail

TARGET=wasm32-wasip2
# Goes up when what this script leaves in the cache changes.
LAYOUT=1

# --- a usable environment, however little of it was given

if [ -z "${HOME:-}" ]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
fi
PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
command -v cargo >/dev/null || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/cargo/bin:$PATH"
export HOME PATH
# Meant for the host's build, wrong for a guest's.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET RUSTC RUSTDOC RUSTC_WORKSPACE_WRAPPER

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dormouse/guest-toolchain
LOG=$CACHE/install.log

say() { echo "guest toolchain: $*" >&2; }

fail() {
  say "$1"
  shift
  for line in "$@"; do echo "  $line" >&2; done
  exit 1
}

# Runs a command whose output is of interest only if it fails.
quietly() {
  echo "+ $*" >>"$LOG"
  "$@" >>"$LOG" 2>&1 && return
  tail -n 20 "$LOG" >&2
  fail "this failed: $*" "The whole output is in $LOG"
}

command -v cargo >/dev/null && command -v rustc >/dev/null ||
  fail "cargo and rustc are needed" "Install Rust as rustup.rs describes, then run this again."

# --- where Rust is

BASE=$(rustc --print sysroot)
TRIPLE=$(rustc -vV | sed -n 's/^host: //p')

active_has_target() {
  [ "${DORMOUSE_GUEST_TOOLCHAIN:-}" != debian ] && compgen -G "$BASE/lib/rustlib/$TARGET/lib/libstd-*.rlib" >/dev/null
}

is_cached() { [ "$(cat "$CACHE/$1/.complete" 2>/dev/null)" = "$LAYOUT" ]; }

rustup_adds_target() {
  [ "${DORMOUSE_GUEST_TOOLCHAIN:-}" != debian ] && command -v rustup >/dev/null || return 1
  say "adding the target $TARGET with rustup"
  timeout 120 rustup target add $TARGET >>"$LOG" 2>&1 && active_has_target
}

ensure_rust() {
  active_has_target && return
  is_cached rust || locked ensure_rust_locked
  active_has_target || borrow_linkers "$CACHE/rust"
}

# Another process may have done it while this one waited for the lock.
ensure_rust_locked() {
  is_cached rust || rustup_adds_target || install_rust
}

ensure_c() { is_cached c || locked ensure_c_locked; }

ensure_c_locked() { is_cached c || install_c; }

locked() {
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.lock"
  if ! flock --nonblock 9; then
    say "waiting for another installation to end"
    flock 9
  fi
  "$@"
  exec 9>&-
}

# --- Debian's packages, unpacked into a folder

apt_ready() {
  for tool in apt-get apt-cache dpkg-deb; do
    command -v $tool >/dev/null || fail "there is no $tool here, and no other source of a compiler for $TARGET" \
      "On a machine that is not Debian: rustup target add $TARGET"
  done
  WORK=$CACHE/work
  rm -rf "$WORK"
  mkdir -p "$WORK/debs" "$WORK/root"
  APT_CONFIG=$WORK/apt.conf
  : >"$APT_CONFIG"
  # apt gives up its rights as root for downloads and then cannot write here.
  echo 'APT::Sandbox::User "root";' >>"$APT_CONFIG"
  export APT_CONFIG
  # On a machine that never asked for package lists, they are fetched into the private state; else its own are used.
  if ! apt-cache show "$1" >/dev/null 2>&1; then
    say "fetching Debian's package lists"
    private_apt "" ""
    quietly apt-get update -qq
  fi
  apt-cache show "$1" >/dev/null 2>&1 || fail "Debian's package $1 is not to be had here" \
    "On Debian 12 it is in bookworm-security: see /etc/apt/sources.list. Elsewhere: rustup target add $TARGET"
}

# Points apt to lists and a cache of its own; with the machine's sources, or only those of the given file.
private_apt() {
  local state=$WORK/apt${1:+-$1}
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  cat >>"$APT_CONFIG" <<END
Dir::State::lists "$state/lists";
Dir::Cache "$state/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
END
  if [ -n "$2" ]; then
    printf 'Dir::Etc::sourcelist "%s";\nDir::Etc::sourceparts "-";\n' "$2" >>"$APT_CONFIG"
  fi
}

# Downloads the packages of $1, and of those in $2 also whatever they need that this machine has not.
download() {
  local named=$1 needed
  needed=$(apt-get -s -qq install --no-install-recommends $2 2>>"$LOG" | sed -n 's/^Inst \([^ ]*\).*/\1/p' || true)
  (cd "$WORK/debs" && quietly apt-get download -qq $(printf '%s\n' $named $2 $needed | sort -u))
}

# wasi-libc of 2025 or later is only in Debian's development branch: taken from there, alone, by a private apt.
download_newest_wasi_libc() {
  local mirror
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>>"$LOG" | sed -n 1p)
  [ -n "$mirror" ] || fail "no mirror of Debian's main archive in the machine's apt configuration"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror ${DORMOUSE_WASI_LIBC_SUITE:-sid} main" >"$WORK/newest.list"
  private_apt newest "$WORK/newest.list"
  quietly apt-get update -qq
  (cd "$WORK/debs" && quietly apt-get download -qq wasi-libc)
}

# The first package that $1 depends on and whose name begins with $2.
dependency() { apt-cache depends --important "$1" | sed -n "s/^ *Depends: \($2[^ ]*\).*/\1/p" | sed -n 1p; }

# Puts what was made in the place where it is looked for, at once and complete.
finish() {
  echo $LAYOUT >"$1/.complete"
  rm -rf "${CACHE:?}/$2"
  mv "$1" "$CACHE/$2"
  rm -rf "$WORK"
}

# --- Rust

install_rust() {
  local began=$SECONDS
  say "installing a Rust compiler for $TARGET from Debian's packages; this is done once"
  for tool in rust-lld wasm-component-ld; do
    [ -x "$BASE/lib/rustlib/$TRIPLE/bin/$tool" ] || fail "the host's Rust toolchain has no $tool" \
      "It is part of every toolchain that rustup installs, 1.82 or later."
  done
  apt_ready rustc-web
  local std llvm
  std=$(dependency libstd-rust-web-dev libstd-rust-web-)
  llvm=$(dependency "$std" libllvm)
  say "[1/4] downloading compiler, library source (130 MB)"
  download "rustc-web libstd-rust-web-dev rust-web-src" "$std $llvm"
  say "[2/4] downloading wasi-libc"
  download_newest_wasi_libc
  say "[3/4] unpacking"
  assemble_rust "$WORK/rust"
  say "[4/4] building the standard library for $TARGET"
  build_std "$WORK/rust"
  finish "$WORK/rust" rust
  say "done in $((SECONDS - began)) s: $("$CACHE/rust/bin/rustc" --version) in $CACHE/rust"
}

# Lays the unpacked packages out as a sysroot of rustup's form, in $1.
assemble_rust() {
  local package libraries
  for package in "$WORK"/debs/*.deb; do
    case $package in
      *rust-web-src*) dpkg-deb --fsys-tarfile "$package" | tar x -C "$WORK/root" --wildcards './usr/src/rustc-*/library' ;;
      *) quietly dpkg-deb -x "$package" "$WORK/root" ;;
    esac
  done
  libraries=$(dirname "$(find "$WORK/root/usr/lib" -name 'librustc_driver*.so' | sed -n 1p)")
  mkdir -p "$1/bin" "$1/libexec" "$1/lib/rustlib/src/rust" "$1/lib/rustlib/$TARGET/lib/self-contained"
  cp "$WORK"/root/usr/bin/rustc "$WORK"/root/usr/bin/rustdoc "$1/libexec/"
  find "$libraries" -maxdepth 1 -name 'lib*.so*' -exec cp -a {} "$1/lib/" \;
  cp -a "$WORK/root/usr/lib/rustlib/." "$1/lib/rustlib/"
  rm -rf "$1/lib/rustlib/src/rust" && mkdir -p "$1/lib/rustlib/src/rust"
  mv "$WORK"/root/usr/src/rustc-*/library "$1/lib/rustlib/src/rust/"
  borrow_linkers "$1"
  cp -L "$WORK/root/usr/lib/$TARGET"/{libc.a,crt1-command.o,crt1-reactor.o} "$1/lib/rustlib/$TARGET/lib/self-contained/"
  local program
  for program in rustc rustdoc; do
    # Debian's programs look for their libraries in the system's folders; cargo calls these instead.
    cat >"$1/bin/$program" <<'END'
#!/bin/sh
here=$(dirname "$(dirname "$(readlink -f "$0")")")
LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$here/libexec/PROGRAM" --sysroot "$here" "$@"
END
    sed -i "s/PROGRAM/$program/" "$1/bin/$program"
    chmod +x "$1/bin/$program"
  done
}

# The linkers stay the host toolchain's; linked anew when that was updated or removed.
borrow_linkers() {
  local linkers=$1/lib/rustlib/$TRIPLE/bin
  [ -x "$linkers/rust-lld" ] || ln -sfn "$BASE/lib/rustlib/$TRIPLE/bin" "$linkers"
}

# Builds std as rustup would deliver it and puts it into the sysroot $1, so that later builds need no unstable flag.
build_std() {
  local project=$WORK/std
  mkdir -p "$project/src"
  echo '#![no_std]' >"$project/src/lib.rs"
  printf '[package]\nname = "std-build"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$project/Cargo.toml"
  (
    cd "$project"
    export RUSTC="$1/bin/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$project/target" CARGO_TERM_COLOR=never
    export RUSTFLAGS="-Zforce-unstable-if-unmarked -Cembed-bitcode=yes --remap-path-prefix=$1/lib/rustlib/src/rust=/rust"
    quietly cargo build --release --target $TARGET -Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test
  )
  rm -f "$project/target/$TARGET/release/deps"/libstd_build*
  cp "$project/target/$TARGET/release/deps"/lib*.rlib "$1/lib/rustlib/$TARGET/lib/"
  rm -rf "$1/lib/rustlib/src"
  # Nothing is called complete that has not built a component.
  echo 'fn main() { println!("{:?}", std::time::SystemTime::now()); }' >"$WORK/probe.rs"
  quietly "$1/bin/rustc" --target $TARGET -o "$WORK/probe.wasm" "$WORK/probe.rs"
}

run_cargo() {
  export CARGO_BUILD_TARGET=$TARGET
  if ! active_has_target; then
    export RUSTC="$CACHE/rust/bin/rustc" RUSTDOC="$CACHE/rust/bin/rustdoc"
  fi
  exec cargo "$@"
}

# --- C

install_c() {
  say "installing a C compiler for components from Debian's packages; this is done once"
  apt_ready clang-14
  say "[1/2] downloading clang, wasi-libc (40 MB)"
  download "clang-14 libclang-common-14-dev libclang-rt-14-dev-wasm32 wasi-libc" "libclang-cpp14 libllvm14"
  say "[2/2] unpacking"
  local package
  mkdir -p "$WORK/c"
  for package in "$WORK"/debs/*.deb; do quietly dpkg-deb -x "$package" "$WORK/c"; done
  echo 'int add(int a, int b) { return a + b; }' >"$WORK/probe.c"
  quietly clang "$WORK/c" -c -o "$WORK/probe.o" "$WORK/probe.c"
  finish "$WORK/c" c
  say "done: $(clang "$CACHE/c" --version | sed -n 1p) in $CACHE/c"
}

# clang of the installation $1 for preview 1 of WASI, whose libc that is; the linker turns it into a component.
clang() {
  local root=$1 libraries
  shift
  libraries=$(dirname "$(find "$root/usr/lib" -name 'libclang-cpp.so.14' -not -path '*/llvm-14/*' | sed -n 1p)")
  local linkers=$BASE/lib/rustlib/$TRIPLE/bin
  LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$root/usr/lib/llvm-14/bin/clang" \
    --target=wasm32-wasi -isystem "$root/usr/include/wasm32-wasi" -L "$root/usr/lib/wasm32-wasi" -B "$root/usr/lib/wasm32-wasi" \
    -resource-dir "$root/usr/lib/llvm-14/lib/clang/14.0.6" -fuse-ld="$linkers/wasm-component-ld" \
    -Wl,--wasm-ld-path="$linkers/gcc-ld/wasm-ld" -Wno-unused-command-line-argument "$@"
}

# --- what was asked for

# A function, so that bash has read all of this file before it begins.
main() {
  case ${1:-} in
    rust)
      ensure_rust
      if active_has_target; then
        say "the active toolchain has $TARGET: cargo build --release --target $TARGET"
      else
        say "ready: $(dirname "$(readlink -f "$0")")/cargo-guest build --release"
      fi
      ;;
    cargo)
      ensure_rust
      run_cargo "${@:2}"
      ;;
    c)
      ensure_c
      say "ready: $(readlink -f "$0") cc -o guest.wasm guest.c"
      ;;
    cc)
      ensure_c
      clang "$CACHE/c" "${@:2}"
      ;;
    *)
      sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" >&2
      exit 2
      ;;
  esac
}

main "$@"
exit
