//! Suspends a run whose snapshot is stored: one transaction gives up the lease, writes the checkpoint and what it waits
//! for. If that has come meanwhile, the same transaction puts the run back into line, so no completion can slip between.
//!
//! A moment to wait for is the run's own due time: a sleeping run costs one row and no waitpoint. Only a timer with an
//! idempotency key is a waitpoint, because another wait may find it.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{Error, answer, finish, timer, wait::check_count},
    model::{
        attempt::{Lease, Outcome, RetryDecision},
        checkpoint::Checkpoint,
        error::{ErrorCode, RunError},
        id::{BatchId, EnvironmentId, RunId, WaitpointId},
        run::Happening,
        waitable::Waitable,
        waitpoint::WaitRequest,
    },
    store::{
        Store, batches,
        checkpoints::{self, Frozen, Suspension},
        edges::{self, Edge},
        line,
    },
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

/// Suspends a run. Its moment is found here. If the snapshot is a blob, it is durable.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::Conflict`] if the run is over; [`Error::NotFound`] if the wait names what is not in the
/// environment (the run is still leased then).
pub async fn suspend(store: &Store, asked: Suspension) -> Result<Suspended, Error> {
    if let WaitRequest::Any { waitables } = &asked.wait {
        check_count(waitables)?;
    }
    let asked = Suspension { moment: own_moment(&asked.wait), ..asked };
    store.tx(move |tx| Box::pin(async move { suspend_in(tx, asked).await })).await
}

/// Most runs that [`suspend_together`] takes: their ids fit into one notification.
pub const MOST_TOGETHER: usize = 128;

/// Suspends up to [`MOST_TOGETHER`] runs in one transaction, and says what became of those that it did suspend. The others wait for
/// more than a moment, are to be cancelled, or are not held by their leases any more: for them there is [`suspend`].
///
/// It takes a commit of its own, though it is one statement: a run whose suspension was not answered goes on in memory once its lease is
/// seen to hold, and then no statement that was held up on its way may come after all.
///
/// # Errors
/// If the database does not answer: then nothing is known of any.
pub async fn suspend_together(store: &Store, asked: Vec<Suspension>) -> Result<HashMap<RunId, Suspended>, Error> {
    let alone: Vec<Suspension> =
        asked.into_iter().filter_map(|asked| Some(Suspension { moment: Some(own_moment(&asked.wait)?), ..asked })).collect();
    let frozen: Result<_, Error> = store.tx(move |tx| Box::pin(async move { Ok(checkpoints::freeze(tx, &alone).await?) })).await;
    let suspended = |frozen: Frozen| (frozen.run, Suspended { requeued: frozen.is_due, replaced: frozen.replaced });
    Ok(frozen?.into_iter().map(suspended).collect())
}

async fn suspend_in(tx: &mut PgConnection, asked: Suspension) -> Result<Suspended, Error> {
    let Suspension { lease, checkpoint, wait, used_cpu_ms, .. } = &asked;
    let Some(frozen) = checkpoints::freeze(tx, std::slice::from_ref(&asked)).await?.pop() else {
        return not_suspended(tx, lease, checkpoint, *used_cpu_ms).await;
    };
    let has_come = !frozen.is_due && block(tx, lease, frozen.environment, wait).await?;
    if has_come {
        line::wake_suspended(tx, lease.run).await?;
    }
    Ok(Suspended { requeued: frozen.is_due || has_come, replaced: frozen.replaced })
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

/// Whether it is for nothing but a moment, which [`suspend_together`] can do.
pub fn is_for_a_moment(wait: &WaitRequest) -> bool {
    own_moment(wait).is_some()
}

/// The moment that the run waits for by itself. Not long ago: a guest may name a time that Postgres has no room for.
fn own_moment(wait: &WaitRequest) -> Option<DateTime<Utc>> {
    match wait {
        WaitRequest::Sleep { at } | WaitRequest::Timer { at, idempotency: None } => Some((*at).max(DateTime::<Utc>::UNIX_EPOCH)),
        WaitRequest::Timer { .. } | WaitRequest::Any { .. } => None,
    }
}

/// Draws the edges to what the run waits for; true if some of it has come already, and then there are none.
async fn block(tx: &mut PgConnection, lease: &Lease, environment: EnvironmentId, wait: &WaitRequest) -> Result<bool, Error> {
    let waitables = match wait {
        WaitRequest::Sleep { .. } | WaitRequest::Timer { idempotency: None, .. } => return Ok(false),
        WaitRequest::Timer { at, idempotency } => {
            vec![timer::ensure(tx, environment, *at, idempotency.as_ref(), lease.run).await?.into()]
        }
        WaitRequest::Any { waitables } => waitables.clone(),
    };
    let mut wanted = edges_to(tx, environment, &waitables).await?;
    if wanted.iter().any(|(_, edge)| edge.to == lease.run.uuid()) {
        return Err(Error::invalid("waitables", "a run that waits for itself, or for its own batch, would wait for ever"));
    }
    let open = lock_and_look(tx, environment, &waitables, &wanted).await?;
    let is_open = |edge: &Edge| open.contains(&edge.to);
    // Each alternative is what is needed together: one waitpoint, one run, or all runs of a batch.
    let mut alternatives: HashMap<usize, bool> = HashMap::new();
    for (alternative, edge) in &wanted {
        *alternatives.entry(*alternative).or_default() |= is_open(edge);
    }
    if alternatives.values().any(|some_is_open| !some_is_open) {
        return Ok(true);
    }
    wanted.retain(|(_, edge)| is_open(edge));
    let wanted: Vec<Edge> = wanted.into_iter().map(|(_, edge)| edge).collect();
    edges::set(tx, lease.run, &wanted).await?;
    Ok(false)
}

/// What each of the waitables needs, with its place in the list.
async fn edges_to(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    waitables: &[Waitable],
) -> Result<Vec<(usize, Edge)>, Error> {
    let ids: Vec<BatchId> =
        waitables.iter().filter_map(|waitable| if let Waitable::Batch(id) = waitable { Some(*id) } else { None }).collect();
    let mut runs: HashMap<BatchId, BTreeSet<Uuid>> = HashMap::new();
    for (batch, run) in batches::runs_of(tx, Some(environment), &ids).await? {
        runs.entry(batch).or_default().insert(run);
    }
    let mut edges = Vec::new();
    for (place, waitable) in waitables.iter().enumerate() {
        match waitable {
            Waitable::Waitpoint(id) => edges.push((place, Edge { to: id.uuid(), together: None })),
            Waitable::Run(id) => edges.push((place, Edge { to: id.uuid(), together: None })),
            Waitable::Batch(id) => {
                // Who waits has looked before: a batch without runs is not there, or was made by nobody.
                let runs = runs.get(id).ok_or(answer::not_found(waitable))?;
                edges.extend(runs.iter().map(|run| (place, Edge { to: *run, together: Some(place as i32) })));
            }
        }
    }
    Ok(edges)
}

/// Keeps everything that is waited for as it is until the transaction ends, and says what of it is open.
async fn lock_and_look(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    waitables: &[Waitable],
    wanted: &[(usize, Edge)],
) -> Result<HashSet<Uuid>, Error> {
    let waitpoints: Vec<WaitpointId> =
        waitables.iter().filter_map(|waitable| if let Waitable::Waitpoint(id) = waitable { Some(*id) } else { None }).collect();
    let runs = wanted.iter().filter(|(place, _)| !matches!(waitables[*place], Waitable::Waitpoint(_)));
    let runs: Vec<Uuid> = runs.map(|(_, edge)| edge.to).collect();
    let mut looked = edges::lock_waitpoints(tx, environment, &waitpoints).await?;
    looked.extend(edges::lock_runs(tx, environment, &runs).await?);
    let there: HashSet<Uuid> = looked.iter().map(|(id, _)| *id).collect();
    if let Some((place, _)) = wanted.iter().find(|(_, edge)| !there.contains(&edge.to)) {
        return Err(answer::not_found(&waitables[*place]));
    }
    Ok(looked.into_iter().filter(|(_, is_open)| *is_open).map(|(id, _)| id).collect())
}
