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
        checkpoint::CheckpointRef,
        error::{ErrorCode, RunError},
        event::EventKind,
        id::{EnvironmentId, WaitpointId},
        run::Happening,
        waitpoint::WaitRequest,
    },
    store::{Store, checkpoints, events, journal, line, notify, places, waitpoints},
};

/// What a suspension came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    /// What it waits for has come already: it is back in line.
    pub requeued: bool,
    /// Digest of a checkpoint that nothing names any more: the one that this one replaced, or, if the run was to be
    /// cancelled, this one. No two snapshots are the same bytes, so its blob can be deleted.
    pub replaced: Option<String>,
}

/// Suspends the run of this lease. `used_cpu_ms` is what the attempt has used so far.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::Conflict`] if the run is over; [`Error::NotFound`] if the wait names what is not in the
/// environment (the run is still leased then).
pub async fn suspend(
    store: &Store,
    lease: &Lease,
    checkpoint: CheckpointRef,
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
    checkpoint: &CheckpointRef,
    wait: &WaitRequest,
    used_cpu_ms: u64,
) -> Result<Suspended, Error> {
    let held = finish::held_by(tx, lease).await?;
    if held.cancel_requested {
        let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run was cancelled");
        finish::end_attempt(tx, &held, Outcome::Failed { error, retry: RetryDecision::Abort }, used_cpu_ms).await?;
        return Ok(Suspended { requeued: false, replaced: Some(checkpoint.digest.clone()) });
    }
    held.status.on(Happening::Suspend)?;
    // Not before now: a guest may name a time that Postgres has no room for.
    let own_moment = own_moment(wait).map(|at| at.max(held.now));
    let frozen = checkpoints::freeze(tx, lease, own_moment, used_cpu_ms).await?.ok_or(Error::LostLease)?;
    let before = checkpoints::replace(tx, lease.run, checkpoint, wait).await?;
    journal::clear(tx, lease.run).await?;
    events::record(tx, EventKind::Suspended, &[frozen.changed]).await?;
    places::place_freed(tx, std::slice::from_ref(&held.pool)).await?;

    let is_over = own_moment.is_some_and(|at| at <= held.now) || block(tx, lease, frozen.environment, wait).await?;
    if is_over {
        let woken = line::wake_waiting(tx, &[lease.run.uuid()]).await?;
        events::record(tx, EventKind::Resumed, &woken).await?;
        notify::line(tx).await?;
    } else if own_moment.is_some() {
        notify::timers(tx).await?;
    }
    let replaced: Vec<String> = before.filter(|digest| *digest != checkpoint.digest).into_iter().collect();
    Ok(Suspended { requeued: is_over, replaced: checkpoints::unnamed(tx, &replaced).await?.pop() })
}

/// The moment that the run waits for by itself.
fn own_moment(wait: &WaitRequest) -> Option<DateTime<Utc>> {
    match wait {
        WaitRequest::Sleep { at } | WaitRequest::Timer { at, idempotency: None } => Some(*at),
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
