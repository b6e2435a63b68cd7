//! Makes, changes and deletes schedules, stops them and lets them go on. Source: facts J4, J7, J11.
//!
//! Whatever changes when a schedule fires says what comes next from now on: it never fires for a time before the change.

mod declare;
mod fire;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

pub(super) use self::declare::declare;
pub use self::fire::{fire_due, next_due};
use crate::{
    engine::{Error, trigger::text_only},
    model::{
        id::{EnvironmentId, ScheduleId},
        schedule::{MAX_SCHEDULE_KEY_CHARS, MAX_SCHEDULES, NewSchedule, Schedule, ScheduleKind},
    },
    store::{
        Store, clock, notify,
        schedules::{self, Held},
    },
};

/// Makes a schedule, or changes the project's schedule with this key: the same call twice changes nothing. If that is in
/// another environment, it moves to this one.
///
/// # Errors
/// [`Error::NotFound`] without such an environment; [`Error::Invalid`] if the environment has no scheduled task of that name,
/// a text breaks a rule, or the project has [`MAX_SCHEDULES`].
pub async fn create(store: &Store, environment: EnvironmentId, key: String, new: NewSchedule) -> Result<Schedule, Error> {
    if key.is_empty() {
        return Err(Error::invalid("deduplicationKey", "deduplicationKey is empty"));
    }
    text_only("deduplicationKey", &key, MAX_SCHEDULE_KEY_CHARS)?;
    check(&new)?;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let (project, _) = schedules::lock_project(tx, environment).await?.ok_or(Error::not_found("environment"))?;
                must_be_scheduled(tx, environment, &new.task).await?;
                let now = clock::now(tx).await?;
                let schedule = match schedules::lock_by_key(tx, project, &key).await? {
                    Some(held) => {
                        let schedule = Schedule { environment, ..changed(held, environment, new, now) };
                        schedules::update(tx, &schedule).await?;
                        schedule
                    }
                    None => {
                        must_have_room(schedules::count(tx, project).await? as usize + 1)?;
                        let schedule = imperative(environment, key, new, now);
                        schedules::insert(tx, project, &schedule).await?;
                        schedule
                    }
                };
                notify::schedules(tx).await?;
                Ok(schedule)
            })
        })
        .await
}

/// Changes everything about a schedule but its key.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if a task declares it; [`Error::Invalid`] as for [`create`].
pub async fn update(store: &Store, environment: EnvironmentId, id: ScheduleId, new: NewSchedule) -> Result<Schedule, Error> {
    check(&new)?;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let held = changeable(tx, environment, id).await?;
                must_be_scheduled(tx, environment, &new.task).await?;
                let schedule = changed(held, environment, new, clock::now(tx).await?);
                schedules::update(tx, &schedule).await?;
                notify::schedules(tx).await?;
                Ok(schedule)
            })
        })
        .await
}

/// Deletes a schedule. Runs that it has started go on.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if a task declares it.
pub async fn delete(store: &Store, environment: EnvironmentId, id: ScheduleId) -> Result<(), Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                changeable(tx, environment, id).await?;
                Ok(schedules::delete(tx, &[id]).await?)
            })
        })
        .await
}

/// Lets a schedule fire again, from now on. One that is active stays as it is.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if a task declares it.
pub async fn activate(store: &Store, environment: EnvironmentId, id: ScheduleId) -> Result<Schedule, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                let mut schedule = understood(changeable(tx, environment, id).await?)?;
                if !schedule.is_active {
                    schedule.is_active = true;
                    schedule.next = schedule.timing.next(id, clock::now(tx).await?);
                    schedules::update(tx, &schedule).await?;
                    notify::schedules(tx).await?;
                }
                Ok(schedule)
            })
        })
        .await
}

/// Keeps a schedule from firing. One that is not active stays as it is.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if a task declares it.
pub async fn deactivate(store: &Store, environment: EnvironmentId, id: ScheduleId) -> Result<Schedule, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                let mut schedule = understood(changeable(tx, environment, id).await?)?;
                if schedule.is_active {
                    schedule.is_active = false;
                    schedule.next = None;
                    schedules::update(tx, &schedule).await?;
                }
                Ok(schedule)
            })
        })
        .await
}

fn imperative(environment: EnvironmentId, key: String, new: NewSchedule, now: DateTime<Utc>) -> Schedule {
    let id = ScheduleId::new();
    Schedule {
        id,
        kind: ScheduleKind::Imperative,
        environment,
        task: new.task,
        deduplication_key: Some(key),
        external_id: new.external_id,
        next: new.timing.next(id, now),
        timing: new.timing,
        is_active: true,
        last_run_at: None,
    }
}

/// What comes next stays as it is if the timing does: a schedule that is due this moment is not passed over. One that this version
/// does not understand is made anew.
fn changed(held: Held, environment: EnvironmentId, new: NewSchedule, now: DateTime<Utc>) -> Schedule {
    let Some(mut schedule) = held.schedule else {
        let made = imperative(environment, held.deduplication_key.unwrap_or_default(), new, now);
        let next = made.timing.next(held.id, now).filter(|_| held.is_active);
        return Schedule { id: held.id, is_active: held.is_active, next, ..made };
    };
    if schedule.timing != new.timing {
        schedule.timing = new.timing;
        schedule.next = schedule.timing.next(schedule.id, now).filter(|_| schedule.is_active);
    }
    schedule.task = new.task;
    schedule.external_id = new.external_id;
    schedule
}

/// All of the schedule.
fn understood(held: Held) -> Result<Schedule, Error> {
    let message = "this version of the server does not understand when this schedule fires; change it or delete it";
    held.schedule.ok_or_else(|| Error::Conflict(message.into()))
}

/// The schedule, locked, if it is the API's to change. Source: facts J5.
async fn changeable(tx: &mut PgConnection, environment: EnvironmentId, id: ScheduleId) -> Result<Held, Error> {
    let held = schedules::lock(tx, environment, id).await?.ok_or(Error::not_found("schedule"))?;
    match held.kind {
        ScheduleKind::Imperative => Ok(held),
        ScheduleKind::Declarative => {
            let task = &held.task;
            Err(Error::Conflict(format!("the task {task:?} declares this schedule; change it there and deploy")))
        }
    }
}

async fn must_be_scheduled(tx: &mut PgConnection, environment: EnvironmentId, task: &str) -> Result<(), Error> {
    match schedules::is_scheduled(tx, environment, task).await? {
        Some(true) => Ok(()),
        Some(false) => Err(Error::invalid("task", format!("{task:?} is not a scheduled task; declare it as one and deploy"))),
        None => Err(Error::invalid("task", format!("the current deployment has no task {task:?}; deploy it first"))),
    }
}

fn must_have_room(count: usize) -> Result<(), Error> {
    if count > MAX_SCHEDULES {
        return Err(Error::invalid("schedules", format!("a project has at most {MAX_SCHEDULES} schedules; delete some")));
    }
    Ok(())
}

fn check(new: &NewSchedule) -> Result<(), Error> {
    text_only("task", &new.task, MAX_SCHEDULE_KEY_CHARS)?;
    match &new.external_id {
        Some(id) if id.is_empty() => Err(Error::invalid("externalId", "externalId is empty; leave it out")),
        Some(id) => text_only("externalId", id, MAX_SCHEDULE_KEY_CHARS),
        None => Ok(()),
    }
}
