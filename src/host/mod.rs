//! Everything a guest can import: WASI 0.2 over handles that survive a snapshot, and the interfaces of `dormouse:task`.
//!
//! The host keeps what a component instance cannot: its handles are numbers of ours, so a snapshot can name them and a
//! restored instance finds the same things behind the same numbers. What a guest wishes of the platform leaves through
//! [`Caller`]; what fails because of the guest's arguments is answered to the guest, what fails because of us is a trap.
//!
//! - [`state`]: what belongs to one instance, its waits, and how it is saved and rebuilt
//! - [`wasi`]: standard streams, clocks, random numbers, files; sockets are linked and denied
//! - [`http`]: requests to the world outside, and what they may reach
//! - [`task`]: one file per interface of `dormouse:task`
//! - [`limits`]: what a guest may take

pub mod caller;
pub mod http;
pub mod limits;
pub mod state;
pub mod task;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod wasi;

pub use caller::{Caller, HostError, HostErrorCode, WaitDecision};
pub use http::{Egress, HttpLimits};
pub use state::{Begin, CpuMeter, HostState, RebuildError, Run, Setup, exit_code};
pub use wasi::files::OpenFiles;

use wasmtime::{
    bail,
    component::{Component, Linker},
};

/// The instance through which a rewritten component drops handles.
const HANDLES: &str = "ckpt:host/handles";
/// The prefix of instances that the rewriter adds; the runtime registers those that move memory.
const CHECKPOINT: &str = "ckpt:host/";

/// Registers all that `component` imports and this host offers, each interface under the name and version it is imported by.
/// Instances of `ckpt:host/` other than `handles` are left to the runtime.
///
/// # Errors
/// If imports are not known: all of them are named.
pub fn link(linker: &mut Linker<HostState>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    let mut unknown = Vec::new();
    for (import, _) in component.component_type().imports(&engine) {
        if import == HANDLES {
            wasi::link_handles(linker, import)?;
        } else if !import.starts_with(CHECKPOINT) && !wasi::link(linker, import)? && !task::link(linker, import)? {
            unknown.push(import.to_owned());
        }
    }
    if !unknown.is_empty() {
        bail!(
            "the component imports what this host does not offer: {}. It offers dormouse:task@0.1.0 and wasi 0.2",
            unknown.join(", ")
        );
    }
    Ok(())
}
