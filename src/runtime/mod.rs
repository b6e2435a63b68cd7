//! WebAssembly: components compiled and kept, live executions, and their snapshots. Knows components and bytes; no SQL, no
//! HTTP. What a guest wishes of the platform leaves through [`crate::host::Caller`].
//!
//! - [`engine`]: the only configuration of wasmtime
//! - [`component`]: from a digest to a component that is compiled and linked
//! - [`execution`]: one live instance, from its first call to its end, with suspensions between
//! - [`checkpoint`]: its memory and call stack as bytes
//! - [`cpu`]: how much of the processor it used and may use
//! - [`failure`]: how its untimely end becomes the error that users see

pub mod checkpoint;
pub mod component;
pub mod cpu;
mod describe;
pub mod engine;
pub mod execution;
pub mod failure;
mod instance;

use std::{path::PathBuf, sync::Arc};

pub use checkpoint::Snapshot;
pub use component::{LoadedComponent, PrepareError};
pub use execution::{Execution, RunFault, RunSetup, Step};

use crate::{model::task::BundleDefinition, rewrite};

pub use crate::host::task::convert::TaskFailure;

/// Where compiled components are kept, and how much of them.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Folder of compiled components, of this user alone; made if it is not there.
    pub cache: PathBuf,
    /// Bytes of compiled components to keep in memory.
    pub cached_bytes: u64,
    /// What the rewriter accepts.
    pub limits: rewrite::Limits,
}

/// A bundle that was found to be fit to run.
#[derive(Debug)]
pub struct Prepared {
    /// blake3 of the bytes as they were uploaded, in lower-case hex.
    pub digest: String,
    /// What the bundle declares.
    pub definition: BundleDefinition,
    /// What the rewriter did.
    pub report: rewrite::Report,
    /// What the author should know, for people.
    pub warnings: Vec<String>,
}

/// Runs components. One for a process, kept until the last execution is over: without its ticker, guests do not yield.
pub struct Runtime {
    components: component::Components,
    _ticker: engine::Ticker,
}

impl Runtime {
    /// Starts the engine and its ticker.
    ///
    /// # Errors
    /// If wasmtime does not support this machine, or the cache folder cannot be made or belongs to somebody else.
    pub fn new(config: RuntimeConfig) -> anyhow::Result<Runtime> {
        let engine = engine::new().map_err(host_fault)?;
        let ticker = engine::Ticker::start(engine.clone())?;
        Ok(Runtime { components: component::Components::new(engine, config)?, _ticker: ticker })
    }

    /// Names what compiled components depend on: engine, settings, processor and rewriter.
    pub fn fingerprint(&self) -> &str {
        self.components.fingerprint()
    }

    /// Checks, rewrites and compiles an uploaded bundle, and asks it what it declares.
    ///
    /// # Errors
    /// With every reason for which the bundle cannot be run.
    pub async fn prepare(&self, component: Vec<u8>) -> Result<Prepared, PrepareError> {
        let digest = component::digest(&component);
        let (report, loaded) = self.components.prepare(&digest, component).await?;
        let definition = describe::describe(&loaded).await?;
        let warnings = describe::warnings(&definition);
        Ok(Prepared { digest, definition, report, warnings })
    }

    /// The component with this digest, compiled; from `fetch` only if it is not in the cache.
    ///
    /// # Errors
    /// If `fetch` fails, or brings something else, or the component is refused.
    pub async fn load(
        &self,
        digest: &str,
        fetch: impl AsyncFnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> Result<Arc<LoadedComponent>, PrepareError> {
        self.components.load(digest, fetch).await
    }
}

/// wasmtime has an error type of its own, which is not a standard one.
fn host_fault(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into())
}

#[cfg(test)]
mod tests;
