//! Suspends.
use crate::{engine::Error, model::{attempt::Lease, checkpoint::CheckpointRef, waitpoint::WaitRequest}, store::Store};
/// What a suspension came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    /// What it waits for has come already: it is back in line.
    pub requeued: bool,
    /// Digest of the checkpoint that this one replaced, if no other row names it.
    pub replaced: Option<String>,
}
/// Suspends a run: its checkpoint's blob is stored.
pub async fn suspend(store: &Store, lease: &Lease, checkpoint: CheckpointRef, wait: &WaitRequest, used_cpu_ms: u64) -> Result<Suspended, Error> { todo!() }
