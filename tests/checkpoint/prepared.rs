//! A guest, compiled by whichever test needs it first.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use dormouse::runtime::{LoadedComponent, Part, PrepareError, Runtime};
use tokio::sync::Mutex;

use super::step;
use crate::support::{compiled::Kept, guests};

/// Compiling takes all cores and, for a language's engine, half a minute: who comes second finds it in the cache.
static TURN: Mutex<()> = Mutex::const_new(());

/// A compiled guest on a runtime of its own.
pub struct Prepared {
    pub kept: Kept,
    pub beginning: Arc<LoadedComponent>,
    pub whole: Arc<LoadedComponent>,
    /// Keeps the clock of both ticking.
    pub runtime: Runtime,
}

impl Prepared {
    /// With what its runs store in `blobs`.
    ///
    /// # Errors
    /// If the component is refused.
    pub async fn new(name: &'static str, blobs: &Path) -> Result<Prepared, PrepareError> {
        let _turn = TURN.lock().await;
        let kept = tokio::task::spawn_blocking(move || Kept::of(name, &guests::guest(name))).await.unwrap()?;
        let runtime = step::runtime(&kept.cache, blobs);
        let load = async |part| runtime.load(&kept.rewriting, part, async || Ok::<Bytes, _>(kept.bytes.clone())).await;
        let (beginning, whole) = (load(Part::Beginning).await?, load(Part::Whole).await?);
        Ok(Prepared { beginning, whole, runtime, kept })
    }
}
