//! Turns a core module for preview 1 of WASI into a component: what the linker does for Rust and C, for languages whose compilers
//! know no components.

use std::{env, fs, path::Path};

use anyhow::{Context, bail};
use wasi_preview1_component_adapter_provider::{WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [wit, world, module, out] = &arguments[..] else {
        bail!("usage: component WIT WORLD MODULE.wasm OUT.wasm");
    };
    let mut core = fs::read(module).with_context(|| format!("could not read {module}"))?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(Path::new(wit)).with_context(|| format!("could not read the interfaces in {wit}"))?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&core)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
        .encode()
        .with_context(|| format!("{module} does not fit the world {world:?}", world = resolve.worlds[world].name))?;
    fs::write(out, component).with_context(|| format!("could not write {out}"))
}
