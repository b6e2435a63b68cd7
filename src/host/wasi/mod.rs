//! WASI 0.2 over the host's own handle numbers.
//!
//! A component that was rewritten has plain numbers where WASI has handles, and names such as `m-input-stream-x-read` where
//! WASI has methods. The shims of [`generated`] keep [`ids`] between those numbers and wasmtime-wasi's implementation.

pub mod clock;
mod exchange;
pub mod files;
#[rustfmt::skip]
pub mod generated;
pub mod ids;
mod poll;
pub mod reopen;
pub mod stdio;

use wasmtime::component::Linker;

use super::HostState;

/// Registers an interface of WASI under the exact name and version it is imported by. False: it is not one of WASI 0.2.
///
/// # Errors
/// If it was registered before.
pub fn link(linker: &mut Linker<HostState>, import: &str) -> wasmtime::Result<bool> {
    let (interface, version) = import.split_once('@').unwrap_or((import, "0.2.0"));
    let is_known = version.starts_with("0.2.") && generated::link(linker, import)?;
    if is_known && interface == "wasi:io/poll" {
        poll::link(&mut linker.instance(import)?)?;
    }
    Ok(is_known)
}

/// Registers what stands in for dropping a handle.
///
/// # Errors
/// If it was registered before.
pub fn link_handles(linker: &mut Linker<HostState>, import: &str) -> wasmtime::Result<()> {
    linker.instance(import)?.func_wrap_async("drop", |mut store, (id,): (u32,)| {
        Box::new(async move {
            let state: &mut HostState = store.data_mut();
            let entry = state.ids.remove(id)?;
            match entry.place {
                Ok(place) => generated::delete(state, entry.kind, place).await,
                Err(_) => Ok(()),
            }
        })
    })
}
