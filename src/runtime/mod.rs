//! WebAssembly: components compiled and kept, live executions, and their snapshots. Knows components and bytes; no SQL, no
//! HTTP. What a guest wishes of the platform leaves through [`crate::host::Caller`].
//!
//! - [`engine`]: the only configuration of wasmtime
//! - [`component`]: rewritten, compiled and linked components
//! - [`execution`]: one live instance, from its first call to its end, with suspensions between
//! - [`checkpoint`]: its memory and call stack as bytes
//! - [`cpu`]: how much of the processor it used and may use
//! - `functions`: compiled functions, so that none is compiled twice
//! - [`failure`]: how its untimely end becomes the error that users see

pub mod checkpoint;
pub mod component;
pub mod cpu;
mod describe;
pub mod engine;
pub mod execution;
pub mod failure;
mod functions;
mod instance;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

pub use checkpoint::{
    Snapshot,
    packs::{PackError, PackStore},
};
pub use component::{LoadedComponent, Part, PrepareError};
pub use execution::{Execution, RunFault, RunSetup, Step};

use crate::{
    model::{rewriting::Rewriting, task::BundleDefinition},
    rewrite,
};

pub use crate::host::task::convert::TaskFailure;

/// Where compiled components and pages are kept, and how much of them.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Folder of compiled components, of this user alone; made if it is not there.
    pub cache: PathBuf,
    /// Bytes of compiled components to keep in memory.
    pub cached_bytes: u64,
    /// Folder for pages of large memories that runs are restored from, without names; made if it is not there.
    pub pages: PathBuf,
    /// Where those pages are stored for good.
    pub packs: Arc<dyn PackStore>,
    /// What the rewriter accepts.
    pub limits: rewrite::Limits,
    /// The version that rewritings are filed under: [`rewrite::VERSION`], unless a test is to be an earlier release.
    pub rewriter: u32,
}

/// A component that was made suspendable just now, and is nowhere yet.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// What it is called.
    pub rewriting: Rewriting,
    /// The rewritten component.
    pub bytes: Bytes,
    /// What the rewriter did.
    pub report: rewrite::Report,
}

/// What a bundle says of itself.
#[derive(Debug)]
pub struct Described {
    /// What it declares.
    pub definition: BundleDefinition,
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
    /// If wasmtime does not support this machine, or a folder cannot be made or the cache belongs to somebody else.
    pub fn new(config: RuntimeConfig) -> anyhow::Result<Runtime> {
        let engine = engine::new().map_err(host_fault)?;
        let ticker = engine::Ticker::start(engine.clone())?;
        Ok(Runtime { components: component::Components::new(engine, config)?, _ticker: ticker })
    }

    /// Names what compiled components depend on beside their own bytes: engine, settings and processor.
    pub fn fingerprint(&self) -> &str {
        self.components.fingerprint()
    }

    /// The version that this runtime's rewritings are of.
    pub fn rewriter(&self) -> u32 {
        self.components.rewriter()
    }

    /// Makes an uploaded component suspendable, with this runtime's version of the rewriter. Its snapshots can be restored only
    /// with these very bytes, so store them before one of them is named anywhere. The same component again gives other bytes.
    ///
    /// # Errors
    /// With every reason for which it cannot be.
    pub async fn rewrite(&self, component: Bytes) -> Result<Rewritten, PrepareError> {
        self.components.rewrite(component).await
    }

    /// This part of the rewritten component of this name, compiled and linked; from `fetch`, which gives the bytes of the rewritten
    /// component, only if it is not in the cache. Whichever version of the rewriter it is of.
    ///
    /// # Errors
    /// If `fetch` fails, or brings something else, or the component is refused.
    pub async fn load(
        &self,
        rewriting: &Rewriting,
        part: Part,
        fetch: impl AsyncFnOnce() -> anyhow::Result<Bytes>,
    ) -> Result<Arc<LoadedComponent>, PrepareError> {
        self.components.load(rewriting, part, fetch).await
    }

    /// Makes room on this machine: nobody needs this pack of pages any more, and it is stored no more. The name is its digest in hex;
    /// another is nothing.
    pub fn forget_pack(&self, name: &str) {
        if let Some(digest) = hex::decode(name).ok().and_then(|bytes| bytes.try_into().ok()) {
            self.components.forget_pack(&digest);
        }
    }

    /// Whether [`Self::load`] would find this in memory.
    pub fn is_loaded(&self, rewriting: &Rewriting, part: Part) -> bool {
        self.components.is_loaded(rewriting, part)
    }

    /// Asks a bundle what it declares.
    ///
    /// # Errors
    /// [`PrepareError::Undescribed`] with every reason for which the bundle cannot be run.
    pub async fn describe(&self, component: &LoadedComponent) -> Result<Described, PrepareError> {
        let definition = describe::describe(component).await?;
        let warnings = describe::warnings(&definition);
        Ok(Described { definition, warnings })
    }
}

/// wasmtime has an error type of its own, which is not a standard one.
fn host_fault(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into())
}

#[cfg(test)]
mod tests;
