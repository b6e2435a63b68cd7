//! Timers, and everything that time alone moves on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{
    engine::{
        Error,
        journal::{self, Call},
        pin, token, wait,
    },
    model::{
        attempt::Lease,
        event::EventKind,
        id::{EnvironmentId, RunId, WaitpointId},
        run::RunStatus,
        waitpoint::{Idempotency, WaitpointKind},
    },
    store::{
        self, Store,
        endings::{self, Ending},
        events, notify,
        sweep::{self, Due},
        waitpoints,
    },
};

/// Makes a timer for a run. The same call made again after its host was lost gets the same timer.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::Invalid`] for a key that breaks a rule.
pub async fn start(
    store: &Store,
    lease: &Lease,
    call: Call,
    at: DateTime<Utc>,
    idempotency: Option<Idempotency>,
) -> Result<WaitpointId, Error> {
    token::check_key(idempotency.as_ref())?;
    let lease = *lease;
    store
        .tx(move |tx| {
            Box::pin(async move {
                // The time is left out: the guest computes it from now, which is later when it asks again.
                journal::once(tx, &lease, call, "start-timer", &idempotency, async |tx, environment| {
                    ensure(tx, environment, at, idempotency.as_ref(), lease.run).await
                })
                .await
            })
        })
        .await
}

/// Makes a timer with a key, or finds it, for a run that waits in memory: as often as it asks, it gets the same.
///
/// # Errors
/// [`Error::Invalid`] for a key that breaks a rule.
pub async fn with_key(
    store: &Store,
    environment: EnvironmentId,
    run: RunId,
    at: DateTime<Utc>,
    key: Idempotency,
) -> Result<WaitpointId, Error> {
    store.tx(move |tx| Box::pin(async move { ensure(tx, environment, at, Some(&key), run).await })).await
}

/// Makes a timer, or finds the one with the same key.
pub(super) async fn ensure(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    at: DateTime<Utc>,
    idempotency: Option<&Idempotency>,
    maker: RunId,
) -> Result<WaitpointId, Error> {
    token::check_key(idempotency)?;
    let created = token::ensure(tx, environment, WaitpointKind::Timer, Some(at), idempotency, &[], Some(maker)).await?;
    notify::timers(tx).await?;
    Ok(created.id)
}

/// Moves on some of the waitpoints and runs whose time has come, about `max` of each, and returns how many there were: timers elapse,
/// tokens time out, sleeping runs and runs between two attempts come into line, delayed ones too, and runs that were not
/// begun within their time to live, or wait too long for the deployment that they are pinned to, expire.
///
/// # Errors
/// If the database does not answer.
pub async fn fire_due(store: &Store, max: u32) -> Result<u32, Error> {
    let due: Result<Due, Error> = store
        .single(move |connection| Box::pin(async move { Ok(sweep::wake_sleeping(connection, i64::from(max)).await?) }))
        .await;
    let Due { woken, has_others, has_waitpoints } = due?;
    let mut moved = woken as usize;
    if has_waitpoints {
        moved += store
            .tx(move |tx| {
                Box::pin(async move {
                    let closed = waitpoints::close_due(tx, i64::from(max)).await?;
                    wait::wake_blocked(tx, &closed).await?;
                    Ok::<_, Error>(closed.len())
                })
            })
            .await?;
    }
    if has_others {
        moved += store.tx(move |tx| Box::pin(async move { fire_runs(tx, max).await })).await?;
    }
    Ok(moved as u32)
}

/// Moves on what is due and need not have slept.
async fn fire_runs(tx: &mut PgConnection, max: u32) -> Result<usize, Error> {
    let due = sweep::pick_due(tx, i64::from(max)).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let of = |status| due.iter().filter(|run| run.1 == status).map(|run| run.0).collect::<Vec<_>>();
    let awake = sweep::wake(tx, &of(RunStatus::Waiting), RunStatus::Waiting).await?;
    events::record(tx, EventKind::Resumed, &awake).await?;
    let again = sweep::wake(tx, &of(RunStatus::Executing), RunStatus::Executing).await?;
    events::record(tx, EventKind::RetryDue, &again).await?;
    let delayed = sweep::end_delay(tx, &of(RunStatus::Delayed), pin::PARKED_FOR).await?;
    events::record(tx, EventKind::DelayOver, &delayed).await?;

    let expired = Ending { status: RunStatus::Expired, output: None, error: None, cpu_ms: 0 };
    // Not begun within their time to live; or what they are pinned to has not come in time.
    let late = [of(RunStatus::Queued), of(RunStatus::PendingVersion)].concat();
    endings::end(tx, &late, &expired).await?;

    if !(awake.is_empty() && again.is_empty() && delayed.is_empty()) {
        notify::line(tx).await?;
    }
    Ok(due.len())
}

/// How long until something is due, by the database's clock: zero if something is, none if nothing ever will be as things
/// are.
///
/// # Errors
/// If the database does not answer.
pub async fn next_due(store: &Store) -> Result<Option<Duration>, Error> {
    Ok(store::in_time(async { sweep::next_due(&mut *store.read().await?).await }).await?)
}
