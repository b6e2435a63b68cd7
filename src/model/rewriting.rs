//! A component as one version of the rewriter made it suspendable.

use serde::{Deserialize, Serialize};

/// Names a rewritten component. A snapshot holds stack frames of exactly these bytes, so they are kept for as long as a
/// checkpoint names them, whatever version of the rewriter new runs use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rewriting {
    /// Digest of the component as it was uploaded (lower-case hex blake3), the name of its blob.
    pub component: String,
    /// Version of the rewriter that made it suspendable.
    pub rewriter: u32,
    /// Digest of the rewritten component, the name of its blob. No two rewritings have the same, not even of the same component
    /// by the same version: whoever deletes one can mean no other.
    pub digest: String,
}
