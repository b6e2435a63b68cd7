//! Sweeps away what nothing needs any more: notes of requests, used tokens and uploads, logs and events of runs that ended long ago, blobs that no
//! row names. A blob is stored before the row that names it, so a young blob without a row is not an orphan yet.

use std::time::Duration;

use chrono::Utc;

use crate::{
    blobs::{Area, Blobs},
    engine::{self, rewriting},
    model::rewriting::Rewriting,
    store::{self, Store, StoreError, batches, bulk_actions, checkpoints, one_time_tokens, packets, sweep},
};

/// How long the logs and events of a run are kept after its end.
pub const KEEP_LOGS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a bulk action is kept after its end.
pub const KEEP_BULK: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Least age of a blob that may be deleted.
pub const KEEP_BLOBS: Duration = Duration::from_secs(24 * 60 * 60);
/// Most rows of one transaction.
const BATCH: i64 = 500;

/// What was swept away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Notes of requests.
    pub requests: u64,
    /// Runs whose logs and events went.
    pub logs: u64,
}

/// Sweeps rows away, as many as there are.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<Swept, engine::Error> {
    let mut swept = Swept::default();
    loop {
        let requests = store.tx(|tx| Box::pin(sweep::forget_requests(tx, BATCH))).await?;
        let batches = store.tx(|tx| Box::pin(batches::forget_requests(tx, BATCH))).await?;
        let tokens = store.tx(|tx| Box::pin(one_time_tokens::forget(tx, BATCH))).await?;
        let paths = store.tx(|tx| Box::pin(packets::forget(tx, BATCH))).await?;
        let bulk = store.tx(|tx| Box::pin(bulk_actions::forget(tx, KEEP_BULK, BATCH))).await?;
        let logs = store.tx(|tx| Box::pin(sweep::forget_logs(tx, KEEP_LOGS, BATCH))).await?;
        swept.requests += requests + batches + tokens + paths + bulk;
        swept.logs += logs;
        if [requests, batches, tokens, paths, bulk, logs].iter().all(|rows| *rows < BATCH as u64) {
            return Ok(swept);
        }
    }
}

/// Forgets rewritten components that no run needs any more, `current` being the version of the rewriter that new runs use.
///
/// # Errors
/// If the database does not answer.
pub async fn rewritings_tick(store: &Store, current: u32) -> Result<rewriting::Swept, engine::Error> {
    let swept = rewriting::sweep(store, current).await?;
    for Rewriting { component, rewriter, digest } in &swept.forgotten {
        tracing::info!(component, rewriter, blob.digest = digest, "no run needs this rewritten component any more");
    }
    Ok(swept)
}

/// Deletes old blobs of all areas that no row names, and returns how many. One that cannot be deleted is left for the
/// next sweep.
///
/// # Errors
/// If the database or the blob store does not answer.
pub async fn blobs_tick(store: &Store, blobs: &Blobs) -> anyhow::Result<u64> {
    let mut deleted = 0;
    for area in Area::ALL {
        let old = blobs.stored_before(area, Utc::now() - KEEP_BLOBS).await?;
        for digest in orphans(store, &old).await? {
            match blobs.delete(area, &digest).await {
                Ok(()) => deleted += 1,
                Err(error) => tracing::warn!(blob.digest = digest, error = ?error, "an orphaned blob could not be deleted"),
            }
        }
    }
    Ok(deleted)
}

/// Those of the digests that no row names.
///
/// # Errors
/// If the database does not answer.
pub async fn orphans(store: &Store, digests: &[String]) -> Result<Vec<String>, StoreError> {
    let mut orphans = Vec::new();
    for some in digests.chunks(BATCH as usize) {
        orphans.extend(store::in_time(async { checkpoints::unnamed(&mut *store.read().await?, some).await }).await?);
    }
    Ok(orphans)
}
