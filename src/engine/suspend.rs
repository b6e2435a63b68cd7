//! Suspends a run whose snapshot is stored: one transaction gives up the lease, writes the checkpoint and what it waits
//! for. If that has come meanwhile, the same transaction puts the run back into line, so no completion can slip between.
//!
//! A moment to wait for is the run's own due time: a sleeping run costs one row and no waitpoint. Only a timer with an
//! idempotency key is a waitpoint, because another wait may find it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{
    engine::{Error, finish, timer, wait::check_count},
    model::{
        attempt::{Lease, Outcome, RetryDecision},
        checkpoint::Checkpoint,
        error::{ErrorCode, RunError},
        id::{EnvironmentId, WaitpointId},
        run::Happening,
        waitpoint::WaitRequest,
    },
    store::{Store, checkpoints, line, places, waitpoints},
};

/// What a suspension came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    /// What it waits for has come already: it is back in line.
    pub requeued: bool,
    /// A blob that no checkpoint names any more: that of the checkpoint that this one replaced, or, if the run was to be
    /// cancelled, this one's. No two snapshots are the same bytes, so it can be deleted.
    pub replaced: Option<String>,
}

/// Suspends the run of this lease. `used_cpu_ms` is what the attempt has used so far. If the snapshot is a blob, it is durable.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::Conflict`] if the run is over; [`Error::NotFound`] if the wait names what is not in the
/// environment (the run is still leased then).
pub async fn suspend(
    store: &Store,
    lease: &Lease,
    checkpoint: Checkpoint,
    wait: &WaitRequest,
    used_cpu_ms: u64,
) -> Result<Suspended, Error> {
    if let WaitRequest::Any { waitpoints } = wait {
        check_count(waitpoints)?;
    }
    let (lease, wait) = (*lease, wait.clone());
    store.tx(move |tx| Box::pin(async move { suspend_in(tx, &lease, &checkpoint, &wait, used_cpu_ms).await })).await
}

async fn suspend_in(
    tx: &mut PgConnection,
    lease: &Lease,
    checkpoint: &Checkpoint,
    wait: &WaitRequest,
    used_cpu_ms: u64,
) -> Result<Suspended, Error> {
    let Some(frozen) = checkpoints::freeze(tx, lease, checkpoint, wait, own_moment(wait), used_cpu_ms).await? else {
        return not_suspended(tx, lease, checkpoint, used_cpu_ms).await;
    };
    if let Some(pool) = frozen.limited {
        places::place_freed(tx, &[pool]).await?;
    }
    let is_over = frozen.is_due || block(tx, lease, frozen.environment, wait).await?;
    if is_over {
        line::wake_waiting(tx, &[lease.run.uuid()]).await?;
    }
    Ok(Suspended { requeued: is_over, replaced: frozen.replaced })
}

/// Why nothing was written. A run that is to be cancelled ends instead.
async fn not_suspended(
    tx: &mut PgConnection,
    lease: &Lease,
    checkpoint: &Checkpoint,
    used_cpu_ms: u64,
) -> Result<Suspended, Error> {
    let held = finish::held_by(tx, lease).await?;
    held.status.on(Happening::Suspend)?;
    if !held.cancel_requested {
        return Err(Error::Internal(anyhow::anyhow!("a run that could be suspended was not")));
    }
    let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run was cancelled");
    finish::end_attempt(tx, &held, Outcome::Failed { error, retry: RetryDecision::Abort }, used_cpu_ms).await?;
    Ok(Suspended { requeued: false, replaced: checkpoint.snapshot.blob().map(Into::into) })
}

/// The moment that the run waits for by itself. Not long ago: a guest may name a time that Postgres has no room for.
fn own_moment(wait: &WaitRequest) -> Option<DateTime<Utc>> {
    match wait {
        WaitRequest::Sleep { at } | WaitRequest::Timer { at, idempotency: None } => Some((*at).max(DateTime::<Utc>::UNIX_EPOCH)),
        WaitRequest::Timer { .. } | WaitRequest::Any { .. } => None,
    }
}

/// Draws the edges to what the run waits for; true if some of it has come already.
async fn block(tx: &mut PgConnection, lease: &Lease, environment: EnvironmentId, wait: &WaitRequest) -> Result<bool, Error> {
    let waitpoints = match wait {
        WaitRequest::Sleep { .. } | WaitRequest::Timer { idempotency: None, .. } => return Ok(false),
        WaitRequest::Timer { at, idempotency } => vec![timer::ensure(tx, environment, *at, idempotency.as_ref()).await?],
        WaitRequest::Any { waitpoints } => waitpoints.clone(),
    };
    let looked = waitpoints::lock_and_look(tx, environment, &waitpoints).await?;
    let asked: HashSet<&WaitpointId> = waitpoints.iter().collect();
    if looked.len() < asked.len() {
        return Err(Error::not_found("waitpoint"));
    }
    waitpoints::set_edges(tx, lease.run, &waitpoints).await?;
    Ok(looked.iter().any(|(_, is_open)| !is_open))
}
