//! What all functions of a program together may cost. Limits for each function alone do not bound a program of very many, each just below
//! them; so every function takes its share from here before the work is done or the memory is taken.
//!
//! Whether there is enough does not depend on the order in which the threads come: the shares are the same, and so is their sum.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::super::{Limits, Refusal};

/// The reason that a function gives when it is one too many; [`Budget::refusal`] says it once for all.
pub const EXCEEDED: &str = "";

/// What is left.
#[derive(Debug)]
pub struct Budget {
    work: AtomicUsize,
    handlers: AtomicUsize,
    values: AtomicUsize,
    bytes: AtomicUsize,
}

impl Budget {
    /// For modules of so many bytes.
    pub fn new(limits: &Limits, module_bytes: usize) -> Budget {
        let bytes = module_bytes.saturating_mul(limits.max_growth).saturating_add(limits.free_growth);
        Budget {
            work: AtomicUsize::new(limits.max_liveness_work),
            handlers: AtomicUsize::new(limits.max_handler_work),
            values: AtomicUsize::new(limits.max_saved_values),
            bytes: AtomicUsize::new(bytes),
        }
    }

    /// Words that the liveness analysis looks at.
    ///
    /// # Errors
    /// [`EXCEEDED`], as all four.
    pub fn work(&self, words: usize) -> Result<(), String> {
        take(&self.work, words)
    }

    /// Ways from the calls of a function to handlers of exceptions, which the compiler's time grows with the square of.
    ///
    /// # Errors
    /// [`EXCEEDED`]
    pub fn handlers(&self, ways: usize) -> Result<(), String> {
        take(&self.handlers, ways.saturating_mul(ways))
    }

    /// Values that calls and blocks hand on.
    pub fn values(&self, count: usize) -> Result<(), String> {
        take(&self.values, count)
    }

    /// Bytes of written code.
    pub fn bytes(&self, count: usize) -> Result<(), String> {
        take(&self.bytes, count)
    }

    /// What was not enough.
    pub fn refusal(&self) -> Refusal {
        let is_gone = |left: &AtomicUsize| left.load(Relaxed) == 0;
        Refusal::of_component(if is_gone(&self.bytes) {
            "grows too much by being made suspendable"
        } else if is_gone(&self.values) {
            "has too many values that live over calls that may suspend"
        } else if is_gone(&self.handlers) {
            "has too many calls within too many handlers of exceptions"
        } else {
            "has too many locals and branches around calls that may suspend"
        })
    }
}

/// What is not enough is gone: later functions need not be looked at.
fn take(left: &AtomicUsize, amount: usize) -> Result<(), String> {
    let taken = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(amount));
    taken.map(drop).map_err(|_| {
        left.store(0, Relaxed);
        EXCEEDED.to_owned()
    })
}
