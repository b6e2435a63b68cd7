//! The interfaces of `dormouse:task`, one file each.
//!
//! A function looks at its arguments, asks the run's [`Caller`](super::Caller), and answers in the contract's types. Without
//! a run (while a bundle is asked what it declares) and while an instance is being restored, whatever can fail answers
//! `unavailable`, `telemetry` does nothing and `context` traps.

mod absent;
pub mod check;
mod context;
pub mod convert;
pub mod describe;
mod input;
mod metadata;
pub mod options;
mod streams;
mod telemetry;
mod trigger;
mod wait;
mod waitpoints;

use wasmtime::component::{HasSelf, Linker};

use super::{HostError, HostState};

/// What `wit/` says, in Rust.
#[expect(missing_docs, reason = "written by a macro; the documentation is in wit/")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "task",
        imports: { default: async | trappable },
        exports: { default: async },
        trappable_error_type: { "dormouse:task/types.host-error" => crate::host::HostError },
    });
}

use bindings::dormouse::task as wit;

/// Registers an interface of `dormouse:task` under the name it is imported by. False: it is not one of this version's.
///
/// # Errors
/// If it was registered before.
pub fn link(linker: &mut Linker<HostState>, import: &str) -> wasmtime::Result<bool> {
    type Own = HasSelf<HostState>;
    let Some(interface) = import.strip_prefix("dormouse:task/").and_then(|rest| rest.strip_suffix("@0.1.0")) else {
        return Ok(false);
    };
    match interface {
        "types" => wit::types::add_to_linker::<_, Own>(linker, |state| state)?,
        "api" => wit::api::add_to_linker::<_, Own>(linker, |state| state)?,
        "context" => wit::context::add_to_linker::<_, Own>(linker, |state| state)?,
        "input" => wit::input::add_to_linker::<_, Own>(linker, |state| state)?,
        "metadata" => wit::metadata::add_to_linker::<_, Own>(linker, |state| state)?,
        "streams" => wit::streams::add_to_linker::<_, Own>(linker, |state| state)?,
        "telemetry" => wit::telemetry::add_to_linker::<_, Own>(linker, |state| state)?,
        "trigger" => wit::trigger::add_to_linker::<_, Own>(linker, |state| state)?,
        "wait" => wait::link(&mut linker.instance(import)?)?,
        "waitpoints" => wit::waitpoints::add_to_linker::<_, Own>(linker, |state| state)?,
        _ => return Ok(false),
    }
    Ok(true)
}

impl wit::types::Host for HostState {
    fn convert_host_error(&mut self, error: HostError) -> wasmtime::Result<wit::types::HostError> {
        Ok(error.into())
    }
}
