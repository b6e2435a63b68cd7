//! Components as this process's version of the rewriter makes them, kept before anybody uses them: the blob first, then the row
//! that names it, and only then the first run. Done once for a component and a version, by whoever needs it first: the
//! deployment, or, after an upgrade, the first worker that claims a run of it.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::{
    blobs::{Area, Blobs},
    engine,
    model::rewriting::Rewriting,
    runtime::{LoadedComponent, Part, PrepareError, Rewritten, Runtime},
    store::Store,
};

/// Rewrites and keeps, one component at a time.
pub struct Rewritings {
    store: Store,
    blobs: Blobs,
    runtime: Arc<Runtime>,
    /// Who has waited for it finds what the one before has kept.
    turn: Mutex<()>,
}

impl Rewritings {
    /// For one process.
    pub fn new(store: Store, blobs: Blobs, runtime: Arc<Runtime>) -> Rewritings {
        Rewritings { store, blobs, runtime, turn: Mutex::default() }
    }

    /// What is kept of this component for new runs; none: it has to be rewritten.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn find(&self, component: &str) -> Result<Option<Rewriting>, engine::Error> {
        engine::rewriting::take_up(&self.store, component.to_owned(), self.runtime.rewriter()).await
    }

    /// The component for new runs, rewritten from its stored original if nobody has done so.
    ///
    /// # Errors
    /// [`PrepareError::Host`], of which [`blobs::Error`](crate::blobs::Error) and [`engine::Error`] are told apart by downcasts;
    /// and what [`Runtime::rewrite`] refuses: this version does not take what an earlier one took.
    pub async fn ensure(&self, component: &str) -> Result<Rewriting, PrepareError> {
        let _turn = self.turn.lock().await;
        if let Some(kept) = self.find(component).await.map_err(anyhow::Error::from)? {
            return Ok(kept);
        }
        let original = self.blobs.get(Area::Components, component).await.map_err(anyhow::Error::from)?;
        let rewritten = self.runtime.rewrite(original).await?;
        Ok(self.keep(&rewritten).await?)
    }

    /// Keeps what was rewritten just now, and returns the one to use: another process may have been faster.
    ///
    /// # Errors
    /// If the blob store or the database does not answer.
    pub async fn keep(&self, rewritten: &Rewritten) -> anyhow::Result<Rewriting> {
        self.blobs.put(Area::Rewritten, rewritten.bytes.clone()).await?;
        Ok(engine::rewriting::keep(&self.store, rewritten.rewriting.clone()).await?)
    }

    /// A part of a kept one, compiled.
    ///
    /// # Errors
    /// As for [`Self::ensure`].
    pub async fn load(&self, rewriting: &Rewriting, part: Part) -> Result<Arc<LoadedComponent>, PrepareError> {
        let bytes = async || Ok(self.blobs.get(Area::Rewritten, &rewriting.digest).await?);
        self.runtime.load(rewriting, part, bytes).await
    }

    /// Sees to it that runs of this component which were suspended find it compiled, as soon as may be.
    pub fn expect_resuming(self: &Arc<Self>, rewriting: &Rewriting) {
        if self.runtime.is_loaded(rewriting, Part::Whole) {
            return;
        }
        let (rewritings, rewriting) = (self.clone(), rewriting.clone());
        // Whoever needs it before it is there waits for it, and meets its error.
        tokio::spawn(async move {
            if let Err(error) = rewritings.load(&rewriting, Part::Whole).await {
                tracing::warn!(component = rewriting.component, %error, "could not be compiled for runs that go on");
            }
        });
    }
}
