//! Leases: for how long a worker has a run, and what happens when it is not heard of in time.
//!
//! A lease is a row's worker, epoch and end. Every write of a worker names all but the end, so a worker that was given up
//! too early writes nothing. A run whose lease is over goes on from its last checkpoint, in the same attempt.

use std::{collections::HashMap, time::Duration};

use sqlx::PgConnection;

use crate::{
    engine::{Error, finish},
    model::{
        attempt::{Lease, Outcome, RetryDecision},
        error::{ErrorCode, RunError},
        event::EventKind,
        id::{RunId, WorkerId},
        run::Happening,
    },
    store::{Store, events, leases, notify},
};

/// Leases that a run may lose without getting on: then it is the run that brings its hosts down.
pub(crate) const MAX_STALLS: u32 = 30;

/// What became of leases that were to be renewed. Runs in neither list were renewed and go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Somebody else has them, or nobody: drop the instance, write nothing.
    pub lost: Vec<RunId>,
    /// Renewed, but to be ended: `finish` them; whatever the outcome, they become `CANCELED`.
    pub cancel: Vec<RunId>,
}

/// Puts off the end of these leases, each a run and the epoch it was claimed with.
///
/// # Errors
/// If the database does not answer: then nothing is known, and the leases run on.
pub async fn renew(store: &Store, worker: WorkerId, leases: &[(RunId, i64)], lease_for: Duration) -> Result<Renewed, Error> {
    let leases = leases.to_vec();
    let asked = leases.clone();
    let held: HashMap<RunId, bool> = store
        .tx(move |tx| Box::pin(async move { leases::renew(tx, worker, &leases, lease_for).await }))
        .await?
        .into_iter()
        .collect();
    let mut renewed = Renewed::default();
    for (run, _) in asked {
        match held.get(&run) {
            None => renewed.lost.push(run),
            Some(true) => renewed.cancel.push(run),
            Some(false) => {}
        }
    }
    Ok(renewed)
}

/// Gives a run back at a graceful shutdown: it goes on from its last checkpoint, elsewhere, and this counts against nothing.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::Conflict`] if the run is over; [`Error::NotFound`].
pub async fn give_back(store: &Store, lease: &Lease) -> Result<(), Error> {
    let lease = *lease;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let held = finish::held_by(tx, &lease).await?;
                if held.cancel_requested {
                    let outcome = canceled();
                    finish::end_attempt(tx, &held, outcome, held.attempt_cpu_ms).await?;
                    return Ok(());
                }
                held.status.on(Happening::Requeue)?;
                let changed = leases::requeue(tx, held.id, held.stalls).await?;
                events::record(tx, EventKind::GivenBack, &[changed]).await?;
                notify::line(tx).await?;
                Ok(())
            })
        })
        .await
}

fn canceled() -> Outcome {
    let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run was cancelled");
    Outcome::Failed { error, retry: RetryDecision::Abort }
}

/// Ends all leases, so that [`expire`] takes every run back at once. Only for a process that knows that it is the only one
/// to use the database, before it claims anything: with a private cluster, whoever held a lease was killed.
///
/// # Errors
/// If the database does not answer.
pub async fn end_all(store: &Store) -> Result<u64, Error> {
    Ok(store.tx(|tx| Box::pin(leases::end_all(tx))).await?)
}

/// Ends the leases of these workers, which are gone for certain, so that [`expire`] takes their runs back at once.
///
/// # Errors
/// If the database does not answer.
pub async fn end_of(store: &Store, workers: &[WorkerId]) -> Result<u64, Error> {
    let workers = workers.to_vec();
    Ok(store.tx(move |tx| Box::pin(async move { leases::end_of(tx, &workers).await })).await?)
}

/// Takes back at most `max` runs whose worker was not heard of in time, and returns how many: they go on from their last
/// checkpoint, at no cost. One that was to be cancelled is; one that loses its worker again and again fails its attempt.
///
/// # Errors
/// If the database does not answer.
pub async fn expire(store: &Store, max: u32) -> Result<u32, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                let expired = leases::pick_expired(tx, max).await?;
                for run in &expired {
                    let Some(held) = leases::hold(tx, *run).await? else { continue };
                    take_back(tx, held).await?;
                }
                if !expired.is_empty() {
                    notify::line(tx).await?;
                }
                Ok(expired.len() as u32)
            })
        })
        .await
}

async fn take_back(tx: &mut PgConnection, held: leases::Held) -> Result<(), Error> {
    if held.cancel_requested {
        finish::end_attempt(tx, &held, canceled(), held.attempt_cpu_ms).await?;
    } else if held.stalls >= MAX_STALLS {
        let message = format!("the run lost its worker {} times without getting on", held.stalls + 1);
        let error = RunError::internal(ErrorCode::TaskRunStalledExecuting, message);
        let outcome = Outcome::Failed { error, retry: RetryDecision::Policy };
        finish::end_attempt(tx, &held, outcome, held.attempt_cpu_ms).await?;
    } else {
        held.status.on(Happening::Requeue)?;
        let changed = leases::requeue(tx, held.id, held.stalls + 1).await?;
        events::record(tx, EventKind::LeaseLost, &[changed]).await?;
    }
    Ok(())
}
