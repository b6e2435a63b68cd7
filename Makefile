# The commands of this repository. Each installs what it misses, may be run again, and works with a cleared environment.
#
#   make demo    builds the product, kills a server in the middle of a wait, shows the run go on
#   make test    everything, with real Postgres, real wasmtime and real components; the last line counts passed and failed
#   make build   target/release/dormouse
#   make bench   the figures of docs/benchmarks.md (NAME=… for some of them, or of one guest)
#   make soak    runs of every language through a process for each of 300 waits, in every way to wait (WAITS=…), and through 100,000
#                instances in all (CYCLES=…), and storms over 1,000 triggered runs each (RUNS=…): kills, restarts, cuts, clocks that are
#                set, servers that cannot be told apart, and full disks; and ten days of 2,000 runs each, two of which are kept
#   make fuzz    more cases of the differential test of the rewriter (CASES=… SEED=…)
#   make fuzz-coverage   the coverage-guided targets of fuzz/ (TARGET=rewriter|snapshot SECONDS_AT_MOST=60)
#   make lint    fmt, clippy and docs, warnings as errors
#   make sqlx    writes .sqlx anew after a change of a query
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CARGO_PROFILE_DEV_DEBUG ?= line-tables-only
# Queries are checked against the recorded descriptions in .sqlx, whatever DATABASE_URL says.
export SQLX_OFFLINE := true
export CARGO_TERM_PROGRESS_WHEN ?= auto
# A cleared environment has neither.
HOME ?= $(shell getent passwd "$$(id -u)" | cut -d: -f6)
export HOME
export PATH := $(HOME)/.cargo/bin:$(or $(PATH),/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)

include guests.mk

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

.PHONY: tools
tools:
	@scripts/install-tools.sh

.PHONY: build
build: tools
	cargo build --release --locked --bin dormouse

.PHONY: demo
demo: build $(GUESTS)/hello.wasm
	@examples/demo.sh target/release/dormouse

.PHONY: browser
browser:
	@scripts/install-tools.sh browser

.PHONY: test
test: browser guests
	@scripts/test.sh

.PHONY: soak
soak: tools guests
	CHAIN_WAITS=$${WAITS:-300} CYCLES=$${CYCLES:-100000} cargo test --locked --release --test main -- --nocapture checkpoint::
	STORM_RUNS=$${RUNS:-1000} cargo test --locked --test main -- --nocapture --test-threads=1 \
	  e2e::storm e2e::clocks e2e::twins e2e::full_disk
	BLOAT_DAYS=10 BLOAT_RUNS=$$((2 * $${RUNS:-1000})) cargo test --locked --test main -- --nocapture e2e::bloat

.PHONY: fuzz
fuzz: tools
	cargo test --locked --release --test main --no-run
	ulimit -v 8388608; CASES=$${CASES:-20000} SEED=$${SEED:-1} timeout $${SECONDS_AT_MOST:-3600} \
	  cargo test --locked --release --test main -- --nocapture --exact rewrite_fuzz::random_programs_survive_suspension_everywhere

.PHONY: fuzz-coverage
fuzz-coverage:
	@TARGET='$(TARGET)' SECONDS_AT_MOST='$(SECONDS_AT_MOST)' scripts/fuzz-coverage.sh

.PHONY: bench
bench: tools build guests
	@scripts/bench.sh $(NAME)

.PHONY: lint
lint: tools lint-guests
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

.PHONY: sqlx
sqlx: tools
	@scripts/with-postgres.sh scripts/record-queries.sh
