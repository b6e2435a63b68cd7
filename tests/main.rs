//! The integration tests: one binary, so that wasmtime is linked once.

mod architecture;
mod checkpoint;
mod e2e;
#[path = "hostile_input/main.rs"]
mod hostile_input;
#[path = "rewrite_fuzz/main.rs"]
mod rewrite_fuzz;
#[path = "spec_suite/main.rs"]
mod spec_suite;
mod support;
#[path = "wasi_shims/main.rs"]
mod wasi_shims;
