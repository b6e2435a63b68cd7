//! Writes `src/host/wasi/generated.rs` and holds the file in the tree to what it writes.
//!
//! WASI's handles are component-model resources, which no snapshot can name. The shims take and give plain numbers and call
//! wasmtime-wasi's own implementation behind them: one shim for each function of the WIT that wasmtime-wasi-http ships,
//! which has that of wasmtime-wasi in it. Their types are wasmtime's, so nothing but the handles is converted. To write the file
//! again, after an upgrade of wasmtime:
//!
//! ```sh
//! UPDATE=1 cargo test --test wasi_shims
//! ```
//!
//! Cargo builds the library first. Should the old file not compile against the new wasmtime, take `pub mod host` out of
//! `src/lib.rs` for this one command.

mod shims;
mod tables;
mod types;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where wasmtime-wasi-http keeps its WIT.
fn wit() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let wasi = packages.iter().find(|package| package["name"] == "wasmtime-wasi-http").expect("it is a dependency");
    Path::new(wasi["manifest_path"].as_str().unwrap()).with_file_name("wit")
}

#[test]
fn the_shims_are_those_of_the_wit_that_wasmtime_ships() {
    let shims = shims::generate(&wit());
    assert_eq!((shims.interfaces, shims.functions, shims.resources), (29, 177, 25));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/host/wasi/generated.rs");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &shims.text).unwrap();
    }
    let is_current = fs::read_to_string(&path).unwrap_or_default() == shims.text;
    assert!(is_current, "src/host/wasi/generated.rs is not current: UPDATE=1 cargo test --test wasi_shims");
}
