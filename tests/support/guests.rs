//! The components that `make guests` built.

use std::path::PathBuf;

/// The bytes of a guest by name, such as `hello`.
///
/// # Panics
/// If it was not built: `make guests` does that.
pub fn guest(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/guests").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make guests` first", path.display()))
}
