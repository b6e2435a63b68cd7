//! Builds a Rust project folder into a component, as `deploy FOLDER` does first.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use super::{output, usage};

/// Finds a compiler for components, or makes one from Debian's packages, and runs cargo with it.
const TOOLCHAIN: &str = include_str!("../../guest-sdk/toolchain/toolchain.sh");

/// Runs cargo in the folder and returns the component it made.
pub(super) async fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(usage(format!(
            "{} has no Cargo.toml; give a project folder of Rust, or the component itself (a .wasm file)",
            folder.display()
        )));
    }
    let mut command = Command::new("bash");
    command.args(["-c", TOOLCHAIN, "dormouse-toolchain", "cargo"]);
    command.args(["build", "--release", "--message-format", "json-render-diagnostics"]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    anstream::eprintln!("{}Building {}{}", output::DIM, folder.display(), output::PLAIN);
    // What cargo says of its progress goes to standard error, which stays connected to the terminal.
    let mut cargo = command.spawn().context("could not run bash, which finds the compiler")?;
    let mut lines = BufReader::new(cargo.stdout.take().expect("it is piped")).lines();
    let manifest = manifest.canonicalize().with_context(|| format!("could not find {}", manifest.display()))?;
    let mut component = None;
    while let Some(line) = lines.next_line().await.context("could not read what cargo says")? {
        component = artifact(&line, &manifest).or(component);
    }
    let status = cargo.wait().await.context("could not wait for cargo")?;
    if !status.success() {
        bail!("the build failed");
    }
    component.with_context(|| {
        format!("the build made no component; the crate in {} must be a library of type cdylib, or a program", folder.display())
    })
}

/// The component that one of cargo's messages tells of, if it comes from this manifest.
fn artifact(line: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || Path::new(message["manifest_path"].as_str()?) != manifest {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.map(PathBuf::from).find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_one_of_the_projects_own_crate() {
        let message = |manifest: &str, file: &str| {
            serde_json::json!({"reason": "compiler-artifact", "manifest_path": manifest, "filenames": ["/t/lib.rlib", file]})
                .to_string()
        };
        let of = |line: &str| artifact(line, Path::new("/p/Cargo.toml"));
        assert_eq!(of(&message("/p/Cargo.toml", "/t/p.wasm")), Some("/t/p.wasm".into()));
        assert_eq!(of(&message("/other/Cargo.toml", "/t/other.wasm")), None);
        assert_eq!(of(&message("/p/Cargo.toml", "/t/libp.so")), None);
        assert_eq!(of("not json"), None);
    }
}
