//! Finishes.
use chrono::{DateTime, Utc};
use crate::{engine::Error, model::{attempt::{Lease, Outcome}, run::RunStatus}, store::Store};
/// What an attempt's end came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// The run is over.
    Final(RunStatus),
    /// Another attempt follows.
    Retry {
        /// When.
        at: DateTime<Utc>,
    },
}
/// Ends an attempt.
pub async fn finish(store: &Store, lease: &Lease, outcome: Outcome, used_cpu_ms: u64) -> Result<Finished, Error> { todo!() }
