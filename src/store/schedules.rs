//! Schedules as users see and change them.

mod due;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

pub use self::due::{Picked, advance, next_due, pick_due, put_off};
use super::{Store, StoreError, rows};
use crate::model::{
    environment::EnvironmentKind,
    id::{EnvironmentId, ProjectId, ScheduleId},
    schedule::{Occurrence, Schedule, ScheduleKind, Timing},
};

/// Most schedules of one answer.
const MAX: u32 = 100;

struct Row {
    id: Uuid,
    kind: String,
    environment_id: Uuid,
    task: String,
    deduplication_key: Option<String>,
    external_id: Option<String>,
    cron: String,
    timezone: String,
    spread: Option<String>,
    active: bool,
    next_run_at: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    last_run_at: Option<DateTime<Utc>>,
}

impl Row {
    fn schedule(self) -> Result<Schedule, StoreError> {
        let timing = Timing::parse(&self.cron, Some(&self.timezone), self.spread.as_deref())
            .map_err(|bad| StoreError::Unknown { table: "schedules", what: bad.to_string() })?;
        Ok(Schedule {
            id: ScheduleId::from_uuid(self.id),
            kind: rows::schedule_kind(&self.kind)?,
            environment: EnvironmentId::from_uuid(self.environment_id),
            task: self.task,
            deduplication_key: self.deduplication_key,
            external_id: self.external_id,
            timing,
            is_active: self.active,
            next: self.next_run_at.zip(self.due_at).map(|(at, due_at)| Occurrence { at, due_at }),
            last_run_at: self.last_run_at,
        })
    }

    /// For people; none, and an error in the log, if this version does not understand it: another one may have written it, and a
    /// list without it is worth more than none.
    fn shown(self) -> Option<Schedule> {
        let id = ScheduleId::from_uuid(self.id);
        let schedule = self.schedule();
        if let Err(error) = &schedule {
            tracing::error!(schedule.id = %id, error = error as &dyn std::error::Error, "a schedule is left out");
        }
        schedule.ok()
    }

    fn held(self) -> Result<Held, StoreError> {
        Ok(Held {
            id: ScheduleId::from_uuid(self.id),
            kind: rows::schedule_kind(&self.kind)?,
            task: self.task.clone(),
            deduplication_key: self.deduplication_key.clone(),
            is_active: self.active,
            schedule: self.schedule().ok(),
        })
    }
}

/// A schedule that is locked to be changed.
#[derive(Debug)]
pub struct Held {
    /// Its id.
    pub id: ScheduleId,
    /// Where it comes from.
    pub kind: ScheduleKind,
    /// The task it starts.
    pub task: String,
    /// Its key; none for a declarative one.
    pub deduplication_key: Option<String>,
    /// It fires at all.
    pub is_active: bool,
    /// All of it; none if this version does not understand it. It can still be replaced or deleted.
    pub schedule: Option<Schedule>,
}

/// One schedule.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, environment: EnvironmentId, id: ScheduleId) -> Result<Option<Schedule>, StoreError> {
    let found = find(&mut *store.read().await?, id).await?;
    Ok(found.filter(|schedule| schedule.environment == environment))
}

/// The schedule with this id, of whatever environment.
pub(super) async fn find(connection: &mut PgConnection, id: ScheduleId) -> Result<Option<Schedule>, StoreError> {
    let row = query_as!(
        Row,
        "select id, kind, environment_id, task, deduplication_key, external_id, cron, timezone, spread, active,
             next_run_at, due_at, last_run_at
         from schedules where id = $1",
        id.uuid()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.and_then(Row::shown))
}

/// One schedule, locked.
///
/// # Errors
/// If the database does not answer.
pub async fn lock(connection: &mut PgConnection, environment: EnvironmentId, id: ScheduleId) -> Result<Option<Held>, StoreError> {
    let row = query_as!(
        Row,
        "select id, kind, environment_id, task, deduplication_key, external_id, cron, timezone, spread, active,
             next_run_at, due_at, last_run_at
         from schedules where id = $1 and environment_id = $2 for no key update",
        id.uuid(),
        environment.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::held).transpose()
}

/// The project's schedule with this key, locked.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_by_key(connection: &mut PgConnection, project: ProjectId, key: &str) -> Result<Option<Held>, StoreError> {
    let row = query_as!(
        Row,
        "select id, kind, environment_id, task, deduplication_key, external_id, cron, timezone, spread, active,
             next_run_at, due_at, last_run_at
         from schedules where project_id = $1 and deduplication_key = $2 for no key update",
        project.uuid(),
        key
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::held).transpose()
}

/// The environment's declarative schedules, locked.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_declared(connection: &mut PgConnection, environment: EnvironmentId) -> Result<Vec<Held>, StoreError> {
    query_as!(
        Row,
        "select id, kind, environment_id, task, deduplication_key, external_id, cron, timezone, spread, active,
             next_run_at, due_at, last_run_at
         from schedules where environment_id = $1 and kind = 'DECLARATIVE' order by id for no key update",
        environment.uuid()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Row::held)
    .collect()
}

/// Schedules, newest first, and how many there are; at most `limit` (and 100), from `offset` on.
///
/// # Errors
/// If the database does not answer.
pub async fn list(
    store: &Store,
    environment: EnvironmentId,
    offset: u32,
    limit: u32,
) -> Result<(Vec<Schedule>, u64), StoreError> {
    let connection = &mut *store.read().await?;
    let found = query_as!(
        Row,
        "select id, kind, environment_id, task, deduplication_key, external_id, cron, timezone, spread, active,
             next_run_at, due_at, last_run_at
         from schedules where environment_id = $1 order by id desc offset $2 limit $3",
        environment.uuid(),
        i64::from(offset),
        i64::from(limit.min(MAX))
    )
    .fetch_all(&mut *connection)
    .await?;
    let count = query_scalar!(r#"select count(*) as "count!" from schedules where environment_id = $1"#, environment.uuid())
        .fetch_one(connection)
        .await?;
    Ok((found.into_iter().filter_map(Row::shown).collect(), rows::count(count)))
}

/// The project of an environment, whose schedules are made one after the other while this lock is held; none if there is no
/// such environment.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_project(
    connection: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<Option<(ProjectId, EnvironmentKind)>, StoreError> {
    let row = query!(
        "select p.id, e.kind from environments e join projects p on p.id = e.project_id
         where e.id = $1 for no key update of p",
        environment.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((ProjectId::from_uuid(row.id), rows::environment_kind(&row.kind)?))).transpose()
}

/// How many schedules a project has.
///
/// # Errors
/// If the database does not answer.
pub async fn count(connection: &mut PgConnection, project: ProjectId) -> Result<u64, StoreError> {
    let count = query_scalar!(r#"select count(*) as "count!" from schedules where project_id = $1"#, project.uuid())
        .fetch_one(connection)
        .await?;
    Ok(rows::count(count))
}

/// Writes a new schedule.
///
/// # Errors
/// If the database does not answer, or the project has one with its key.
pub async fn insert(connection: &mut PgConnection, project: ProjectId, schedule: &Schedule) -> Result<(), StoreError> {
    query!(
        "insert into schedules (id, project_id, environment_id, kind, task, deduplication_key, external_id, cron, timezone,
             spread, active, next_run_at, due_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        schedule.id.uuid(),
        project.uuid(),
        schedule.environment.uuid(),
        schedule.kind.as_str(),
        schedule.task,
        schedule.deduplication_key,
        schedule.external_id,
        schedule.timing.cron.as_str(),
        schedule.timing.zone.name(),
        schedule.timing.window.map(|window| window.to_string()),
        schedule.is_active,
        schedule.next.map(|next| next.at),
        schedule.next.map(|next| next.due_at)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes everything that may change about a schedule.
///
/// # Errors
/// If the database does not answer.
pub async fn update(connection: &mut PgConnection, schedule: &Schedule) -> Result<(), StoreError> {
    query!(
        "update schedules
         set environment_id = $2, task = $3, external_id = $4, cron = $5, timezone = $6, spread = $7, active = $8,
             next_run_at = $9, due_at = $10, updated_at = clock_now()
         where id = $1",
        schedule.id.uuid(),
        schedule.environment.uuid(),
        schedule.task,
        schedule.external_id,
        schedule.timing.cron.as_str(),
        schedule.timing.zone.name(),
        schedule.timing.window.map(|window| window.to_string()),
        schedule.is_active,
        schedule.next.map(|next| next.at),
        schedule.next.map(|next| next.due_at)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes schedules. Their runs stay.
///
/// # Errors
/// If the database does not answer.
pub async fn delete(connection: &mut PgConnection, schedules: &[ScheduleId]) -> Result<(), StoreError> {
    query!("delete from schedules where id = any($1)", &rows::uuids(schedules)).execute(connection).await?;
    Ok(())
}

/// Whether the environment's current deployment has this task, and if so, whether it may have schedules.
///
/// # Errors
/// If the database does not answer.
pub async fn is_scheduled(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    task: &str,
) -> Result<Option<bool>, StoreError> {
    Ok(query_scalar!(
        r#"
        select coalesce(t.definition ->> 'kind' = 'scheduled', false) as "is_scheduled!"
        from environments e
        join tasks t on t.deployment_id = e.current_deployment_id
        where e.id = $1 and t.id = $2
        "#,
        environment.uuid(),
        task
    )
    .fetch_optional(connection)
    .await?)
}
