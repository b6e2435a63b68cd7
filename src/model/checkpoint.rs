//! Where a suspended run's memory and call stack are kept. Metadata only, never bytes.

use serde::{Deserialize, Serialize};

/// A stored snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// From 1 within an attempt, one more for each suspension.
    pub sequence: u64,
    /// Name of the blob that holds it: lower-case hex of its blake3 digest.
    pub digest: String,
    /// Bytes of the blob.
    pub stored_bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Digest of the rewritten component that it fits, [`Rewriting::digest`](super::rewriting::Rewriting::digest). None: taken
    /// before rewritten components were kept.
    pub rewritten: Option<String>,
}
