//! Starts runs when their schedules say so: exactly one for each time, whatever number of servers looks.
//!
//! The schedule's row is the lock. The run and the schedule's next time are written in one transaction, so a server that is
//! killed in between has done neither, and the next look does both. Times that passed while no server looked are missed, but for
//! the newest, and for that too if it is late by more than [`LATE_AT_MOST`](crate::model::schedule::LATE_AT_MOST).
//! Source: facts J6, J7.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use crate::{
    engine::{Error, trigger},
    model::trigger::NewRun,
    store::{
        self, Store, clock,
        room::Rooms,
        schedules::{self, Picked},
    },
};

/// When a schedule that could not be fired is looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Fires at most `max` schedules whose time has come, and returns how many it looked at. One that cannot be fired is logged and
/// put off; the others do not wait for it.
///
/// # Errors
/// If the database does not answer.
pub async fn fire_due(store: &Store, max: u32) -> Result<u32, Error> {
    let rooms = store.rooms().clone();
    store
        .tx(move |tx| {
            Box::pin(async move {
                let now = clock::now(tx).await?;
                let picked = schedules::pick_due(tx, i64::from(max)).await?;
                let count = picked.len() as u32;
                for one in picked {
                    let id = one.id;
                    let mut savepoint = tx.begin().await?;
                    match fire(&mut savepoint, &rooms, one, now).await {
                        Ok(()) => savepoint.commit().await?,
                        Err(error @ Error::Unavailable(_)) => return Err(error),
                        Err(error) => {
                            savepoint.rollback().await?;
                            let error = format!("{:#}", anyhow::Error::from(error));
                            tracing::error!(schedule.id = %id, error, "a schedule could not be fired and is put off");
                            schedules::put_off(tx, id, AGAIN_AFTER).await?;
                        }
                    }
                }
                Ok(count)
            })
        })
        .await
}

async fn fire(tx: &mut PgConnection, rooms: &Rooms, picked: Picked, now: DateTime<Utc>) -> Result<(), Error> {
    let schedule = picked.schedule?;
    let expected = schedule.next.map_or(now, |next| next.at);
    let due = schedule.timing.due(schedule.id, expected, now);
    let mut fired = None;
    match due.now {
        Some(occurrence) if picked.is_deployed => {
            let payload = schedule.event(occurrence.at);
            let run = NewRun { schedule: Some(schedule.id), ..NewRun::of(schedule.task.clone(), payload) };
            let made = trigger::trigger_in(tx, rooms, schedule.environment, &trigger::normal(run)?).await?;
            let late_ms = (now - occurrence.due_at).num_milliseconds();
            tracing::debug!(schedule.id = %schedule.id, run.id = %made.id, late_ms, "fired");
            fired = Some(occurrence.at);
        }
        Some(_) => tracing::debug!(schedule.id = %schedule.id, task.id = schedule.task, "its task is not deployed"),
        // It is to fire for this time still, but later than the row said.
        None if due.next.is_some_and(|next| next.at == expected) => {}
        None => tracing::info!(schedule.id = %schedule.id, at = %expected, "missed; no server was there"),
    }
    schedules::advance(tx, schedule.id, fired, due.next).await?;
    Ok(())
}

/// How long until a schedule is due, by the database's clock: zero if one is, none if none ever will be as things are.
///
/// # Errors
/// If the database does not answer.
pub async fn next_due(store: &Store) -> Result<Option<Duration>, Error> {
    Ok(store::in_time(async { schedules::next_due(&mut *store.read().await?).await }).await?)
}
