//! The integration tests: one binary, so that wasmtime is linked once.

mod architecture;
mod checkpoint;
mod e2e;
#[path = "rewrite_fuzz/main.rs"]
mod rewrite_fuzz;
mod support;
#[path = "wasi_shims/main.rs"]
mod wasi_shims;
