//! Compiled functions, kept for a while in this process.
//!
//! A component is compiled twice, in part and whole, and a bundle that is deployed again has changed in a few functions; bundles of
//! one language share an interpreter of ten thousand. The compiler looks each function up here by a digest of its code before it
//! compiles it. Nothing is written to disk: what is kept here is machine code that will be run unseen.

use std::{borrow::Cow, sync::Arc, time::Duration};

use moka::sync::Cache;
use wasmtime::CacheStore;

/// Bytes of functions to keep: two or three interpreters.
const MAX_BYTES: u64 = 256 << 20;
/// Unused for so long, a function is forgotten: until then somebody may be deploying again.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The functions of one process.
pub struct Functions(Cache<Key, Arc<[u8]>>);

/// Digest of a function and of all settings.
type Key = Box<[u8]>;

impl Functions {
    /// None yet.
    pub fn new() -> Functions {
        let weigh = |key: &Key, code: &Arc<[u8]>| u32::try_from(key.len() + code.len()).unwrap_or(u32::MAX);
        Functions(Cache::builder().max_capacity(MAX_BYTES).weigher(weigh).time_to_idle(FORGET_AFTER).build())
    }
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Functions").field("count", &self.0.entry_count()).finish()
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.0.get(key).map(|code| Cow::Owned(code.to_vec()))
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        self.0.insert(key.into(), code.into());
        true
    }
}
