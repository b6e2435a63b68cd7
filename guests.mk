# Guests: the examples and the tests' own, as components in target/guests. Included by the Makefile.
#
#   make guests            all of them; only what has changed is built
#   make test-guest-sdk    the SDK's own tests, on the host
#   make lint-guests       formatting and clippy of SDK and guests
#
# The compiler of Rust and C comes from wherever guest-sdk/toolchain/toolchain.sh finds one.

EXAMPLE_GUESTS := hello approval draft bench report
RUST_TEST_GUESTS := rust-chain rust-http
C_TEST_GUESTS := c-chain
# Their compilers are packages of their languages: guest-sdk/toolchain/languages.sh
PACKAGED_TEST_GUESTS := js-chain python-chain go-chain

GUESTS := target/guests
# Apart from the host's build, whose profile and compiler are others.
GUESTS_TARGET := $(CURDIR)/target/guests-build
GUEST_TOOLCHAIN := guest-sdk/toolchain/toolchain.sh
CARGO_GUEST := CARGO_TARGET_DIR=$(GUESTS_TARGET) guest-sdk/toolchain/cargo-guest
CARGO_ON_HOST := CARGO_TARGET_DIR=$(GUESTS_TARGET) cargo

guest_sources = $(shell find $(1) -name target -prune -o -type f \( -name '*.rs' -o -name 'Cargo.*' -o -name '*.wit' -o -name '*.[cho]' \) -print)
SDK_SOURCES := $(call guest_sources,guest-sdk/rust wit) guest-sdk/toolchain/toolchain.sh

.PHONY: guests test-guest-sdk lint-guests
guests: $(patsubst %,$(GUESTS)/%.wasm,$(EXAMPLE_GUESTS) $(RUST_TEST_GUESTS) $(C_TEST_GUESTS) $(PACKAGED_TEST_GUESTS))

# $(1): workspace, $(2): package. The copy is new even if cargo found nothing to do, so that make does not ask again.
define rust_guest
$(GUESTS)/$(2).wasm: $(SDK_SOURCES) $(call guest_sources,$(1)/$(2)) $(1)/Cargo.toml $(1)/Cargo.lock
	@echo "guest $(2)"
	@mkdir -p $(GUESTS)
	@$(CARGO_GUEST) build --quiet --locked --release --manifest-path $(1)/Cargo.toml --package $(2)
	@cp $(GUESTS_TARGET)/wasm32-wasip2/release/$(subst -,_,$(2)).wasm $$@.new && mv $$@.new $$@
endef
$(foreach guest,$(EXAMPLE_GUESTS),$(eval $(call rust_guest,examples,$(guest))))
$(foreach guest,$(RUST_TEST_GUESTS),$(eval $(call rust_guest,tests/guests,$(guest))))

$(GUESTS)/c-chain.wasm: $(call guest_sources,tests/guests/c-chain) tests/guests/c-chain/build.sh guest-sdk/toolchain/toolchain.sh
	@echo "guest c-chain"
	@mkdir -p $(GUESTS)/.new
	@tests/guests/c-chain/build.sh $(GUESTS)/.new/$(@F) && mv $(GUESTS)/.new/$(@F) $@

# $(1): guest. Its build.sh makes the component at the path it is given.
define packaged_guest
$(GUESTS)/$(1).wasm: $(shell find tests/guests/$(1) -type f) $(wildcard wit/*.wit) guest-sdk/toolchain/languages.sh
	@echo "guest $(1)"
	@mkdir -p $(GUESTS)/.new
	@tests/guests/$(1)/build.sh $(GUESTS)/.new/$$(@F) && mv $(GUESTS)/.new/$$(@F) $$@
endef
$(foreach guest,$(PACKAGED_TEST_GUESTS),$(eval $(call packaged_guest,$(guest))))
$(GUESTS)/go-chain.wasm: $(call guest_sources,guest-sdk/toolchain/component)

test-guest-sdk:
	@$(CARGO_ON_HOST) test --quiet --locked --manifest-path guest-sdk/rust/Cargo.toml --workspace
	@$(CARGO_ON_HOST) test --quiet --locked --manifest-path examples/Cargo.toml --package bench

lint-guests:
	@for workspace in guest-sdk/rust guest-sdk/toolchain/component examples tests/guests; do \
	  cargo fmt --manifest-path $$workspace/Cargo.toml --all --check && \
	  $(CARGO_ON_HOST) clippy --quiet --locked --manifest-path $$workspace/Cargo.toml --workspace --all-targets -- -D warnings || exit 1; \
	done
