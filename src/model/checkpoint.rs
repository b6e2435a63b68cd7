//! Where a suspended run's memory and call stack are kept.

use bytes::Bytes;

/// Snapshots of at most this many bytes, as stored, are kept in the checkpoint's row. Written there, one is durable with the
/// commit that names it; a blob costs two syncs of its own before that commit, or a round trip to S3, and a folder that all
/// processes share. Larger ones would fill the database's log and its memory: a claim reads up to 32 runs at once.
pub const MAX_IN_ROW: usize = 32 << 10;

/// A suspended run's place to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// From 1 within an attempt, one more for each suspension.
    pub sequence: u64,
    /// The snapshot.
    pub snapshot: Stored,
    /// Bytes of the snapshot as it is stored.
    pub stored_bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Digest of the rewritten component that it fits, [`Rewriting::digest`](super::rewriting::Rewriting::digest). None: taken
    /// before rewritten components were kept.
    pub rewritten: Option<String>,
    /// The files of its scratch directory; none: it is empty.
    pub files: Option<KeptFiles>,
    /// The blobs that hold what the snapshot does not: pages of large memories. Each is of one run.
    pub pages: Vec<String>,
}

/// The files of a scratch directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFiles {
    /// Names and places of all, in the worker's own format.
    pub manifest: Bytes,
    /// The blobs that hold the contents. Each is of one run.
    pub packs: Vec<String>,
}

/// Where a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Here: in the checkpoint's row. At most [`MAX_IN_ROW`] bytes.
    Row(Bytes),
    /// In the blob of this name: lower-case hex of its blake3 digest.
    Blob(String),
}

impl Stored {
    /// The blob's name.
    pub fn blob(&self) -> Option<&str> {
        match self {
            Stored::Row(_) => None,
            Stored::Blob(digest) => Some(digest),
        }
    }

    /// The bytes in the row.
    pub fn in_row(&self) -> Option<&[u8]> {
        match self {
            Stored::Row(bytes) => Some(bytes),
            Stored::Blob(_) => None,
        }
    }
}
