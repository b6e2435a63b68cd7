//! Makes a component suspendable: component bytes in, component bytes out. Pure: no engine, no I/O.
//!
//! A rewritten component can leave its call stack at a wait and come back to it, in the same instance or in a fresh one that was given the
//! same memories. Nothing of this is asked of the guest's language. The work has two halves. [`core`] instruments the core modules, all of
//! them together, since a stack runs through several. This module does the rest:
//!
//! 1. `read` takes the component apart and refuses what cannot be kept over a suspension.
//! 2. `wiring` follows every import of every core module to its origin, and `entry` the export `tasks.run` to its core function.
//! 3. `assemble` puts the component together again: handles are plain numbers (`erase`), suspending imports are split into a start and
//!    a finish, and the functions `ckpt-run`, `ckpt-resume`, `ckpt-take`, `ckpt-save` and `ckpt-load` are added.
//!
//! A component that never suspends goes the same way, so that the host has one linker and one way to enter a task.

pub mod core;

mod assemble;
mod beginning;
mod draft;
mod entry;
mod erase;
mod glue;
mod imports;
mod limits;
mod model;

mod output;
mod read;
mod refusal;
mod stamp;
mod unsupported;
mod wiring;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;
use wasmparser::{Validator, WasmFeatures};

pub use beginning::beginning;
pub use limits::Limits;
pub use refusal::Refusal;
pub use stamp::stamp;

/// Goes up when the output for the same input changes. New runs use what the current version makes; a run that was suspended
/// under an earlier one goes on with the bytes that version made, which are kept. So what rewritten components import and
/// export (`ckpt:host/memory`, `ckpt-run` and the rest) must stay on offer as long as such runs may be asleep: a version may
/// add to it, not change it.
pub const VERSION: u32 = 4;

/// A rewritten component.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// The component.
    pub bytes: Vec<u8>,
    /// What was done.
    pub report: Report,
}

/// Figures of one rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Core modules of the original.
    pub modules: usize,
    /// Functions in them.
    pub functions: usize,
    /// Functions that can be on the stack at a suspension.
    pub instrumented: usize,
    /// Calls at which they can be suspended.
    pub sites: usize,
    /// Bytes of the original component.
    pub bytes_before: usize,
    /// Bytes of the rewritten component.
    pub bytes_after: usize,
    /// Whether a task of this component can suspend at all.
    pub suspends: bool,
    /// Memories that a snapshot holds, the rewriter's own included.
    pub memories: u32,
}

/// Why there is no rewritten component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The bytes are not a valid component; says what and where.
    Malformed(String),
    /// A valid component that cannot be made suspendable: every reason that was found.
    Refused(Vec<Refusal>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Malformed(reason) => write!(f, "the component is not valid: {reason}"),
            Error::Refused(refusals) => {
                f.write_str("the component cannot be used")?;
                refusals.iter().try_for_each(|refusal| write!(f, "\n- {refusal}"))
            }
        }
    }
}

impl std::error::Error for Error {}

/// Rewrites a component.
///
/// # Errors
/// [`Error::Malformed`] if the bytes are no valid component, [`Error::Refused`] with every reason if it cannot be made suspendable.
pub fn rewrite(component: &[u8], limits: &Limits) -> Result<Rewritten, Error> {
    let model = read::read(component, limits)?;
    let wiring = wiring::resolve(&model, limits).map_err(Error::Refused)?;
    let entry = entry::find(&model, &wiring).map_err(|refusal| Error::Refused(vec![refusal]))?;
    let instrumented = core::instrument(&wiring.program, Some(&entry.core), limits).map_err(Error::Refused)?;
    let bytes = assemble::assemble(component, &model, &wiring, &entry, &instrumented)?;
    validate(&bytes)?;
    let report = Report {
        modules: wiring.program.modules.len(),
        functions: instrumented.stats.functions,
        instrumented: instrumented.stats.instrumented,
        sites: instrumented.stats.sites,
        bytes_before: component.len(),
        bytes_after: bytes.len(),
        suspends: instrumented.stats.suspends,
        memories: instrumented.memories.len() as u32 + 1,
    };
    Ok(Rewritten { bytes, report })
}

/// The last check before anything is compiled or kept: what the original was not refused for must have stayed valid.
fn validate(bytes: &[u8]) -> Result<(), Error> {
    match Validator::new_with_features(core::features() | WasmFeatures::COMPONENT_MODEL).validate_all(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(our_fault(&error)),
    }
}

/// The answer when the rewriter made something invalid of a valid component.
fn our_fault(error: &dyn fmt::Display) -> Error {
    Error::Malformed(format!(
        "it could not be rewritten (rewriter version {VERSION}): {error}. Either it uses a feature of WebAssembly that is not available \
         here, or this is a fault of ours, for which we apologise; please report it with the component"
    ))
}
