//! The integration tests: one binary, so that wasmtime is linked once.

mod architecture;
mod e2e;
mod support;
