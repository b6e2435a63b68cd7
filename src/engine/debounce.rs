//! Debounce: while the run that a trigger with a key made is delayed, further triggers with the key put it off instead of making
//! runs of their own. Part of [`trigger`](super::trigger), in its transaction. Source: facts A10-A14.
//!
//! The key is a column of the delayed run and unique among those of its environment and task, so a run that leaves `DELAYED`, by
//! its time, a cancellation or whatever else, leaves its key with it. The row is locked before anything is decided: the run is
//! either put off, or it has gone and the trigger makes another.

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::{
    engine::{
        Error,
        trigger::{FARTHEST, short},
    },
    model::{
        event::EventKind,
        id::{EnvironmentId, RunId},
        trigger::{Debounce, DebounceMode, MAX_DEBOUNCE_KEY_CHARS, MIN_DEBOUNCE_DELAY_MS, NewRun, Triggered},
    },
    store::{debounce, events, line},
};

/// Times to which runs are put off are whole seconds, so that a storm of triggers changes a run once a second. Source: facts A14.
const GRAIN: TimeDelta = TimeDelta::seconds(1);

/// Whether debouncing like this is possible.
///
/// # Errors
/// [`Error::Invalid`] that names the field.
pub(super) fn check(debounce: &Debounce) -> Result<(), Error> {
    short("debounce.key", &debounce.key, MAX_DEBOUNCE_KEY_CHARS)?;
    if debounce.delay_ms < MIN_DEBOUNCE_DELAY_MS {
        return Err(Error::invalid("debounce.delay", "the delay is at least 1s"));
    }
    if debounce.max_delay_ms.is_some_and(|most| most <= debounce.delay_ms) {
        return Err(Error::invalid("debounce.maxDelay", "maxDelay must be longer than the delay"));
    }
    Ok(())
}

/// When the run that is to be made may begin: as the trigger says, else after the debounce delay.
pub(super) fn delay_until(new: &NewRun, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let Some(debounce) = &new.debounce else { return new.delay_until };
    // A time that has passed is no delay, but without one there would be nothing to put off.
    new.delay_until.filter(|until| *until > now).or(Some(after(now, debounce.delay_ms)))
}

/// The run that this trigger joins instead of making one: that of its idempotency key, or the delayed one of its debounce key, which
/// it puts off.
///
/// # Errors
/// If the database does not answer.
pub(super) async fn join(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewRun,
    now: DateTime<Utc>,
) -> Result<Option<Triggered>, Error> {
    let Some(debounce) = &new.debounce else { return Ok(None) };
    let holder = match &new.idempotency {
        Some(key) => line::holder_of_key(tx, environment, &new.task, &key.key).await?,
        None => None,
    };
    let joined = match holder {
        Some(id) => Triggered { id, is_cached: true },
        None => match put_off(tx, environment, new, debounce, now).await? {
            Some(id) => Triggered { id, is_cached: false },
            None => return Ok(None),
        },
    };
    if let Some(request) = &new.request_key {
        line::correct_request(tx, environment, &new.task, request, joined.id).await?;
    }
    Ok(Some(joined))
}

/// Puts off the run of the key; none if there is none, or if it has been put off for so long that it is let go.
async fn put_off(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewRun,
    debounce: &Debounce,
    now: DateTime<Utc>,
) -> Result<Option<RunId>, Error> {
    let Some(held) = debounce::hold(tx, environment, &new.task, &debounce.key).await? else { return Ok(None) };
    let until = after(now, debounce.delay_ms);
    let latest = debounce.max_delay_ms.map(|most| after(held.created_at, most));
    if latest.is_some_and(|latest| until > latest) {
        debounce::let_go(tx, held.id).await?;
        return Ok(None);
    }
    // Up to the next whole second, so that it never begins too early; never to an earlier time than somebody was told.
    let until = until.duration_trunc(GRAIN).map_or(until, |whole| if whole < until { whole + GRAIN } else { whole });
    let until = latest.map_or(until, |latest| latest.min(until)).max(held.delay_until);
    let changed = match debounce.mode {
        DebounceMode::Leading if until == held.delay_until => None,
        DebounceMode::Leading => Some(debounce::put_off(tx, held.id, until).await?),
        DebounceMode::Trailing => Some(debounce::replace(tx, held.id, until, new).await?),
    };
    events::record(tx, EventKind::Rescheduled, changed.as_slice()).await?;
    Ok(Some(held.id))
}

fn after(time: DateTime<Utc>, ms: u64) -> DateTime<Utc> {
    time + Duration::from_millis(ms).min(FARTHEST)
}
