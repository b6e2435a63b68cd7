//! Schedules as they fire.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};

use super::Row;
use crate::{
    model::{
        id::ScheduleId,
        schedule::{Occurrence, Schedule},
    },
    store::{StoreError, leases::interval},
};

/// A schedule whose time has come, locked.
#[derive(Debug)]
pub struct Picked {
    /// Which.
    pub id: ScheduleId,
    /// The schedule; an error if this version does not understand it.
    pub schedule: Result<Schedule, StoreError>,
    /// The current deployment has its task, as a scheduled one.
    pub is_deployed: bool,
}

/// Locks at most `max` schedules whose time has come, the longest due first. Those that another transaction has are left out.
///
/// # Errors
/// If the database does not answer.
pub async fn pick_due(connection: &mut PgConnection, max: i64) -> Result<Vec<Picked>, StoreError> {
    let rows = query!(
        r#"
        select s.id, s.kind, s.environment_id, s.task, s.deduplication_key, s.external_id, s.cron, s.timezone, s.spread,
            s.active, s.next_run_at, s.due_at, s.last_run_at,
            coalesce(t.definition ->> 'kind' = 'scheduled', false) as "is_deployed!"
        from schedules s
        join environments e on e.id = s.environment_id
        left join tasks t on t.deployment_id = e.current_deployment_id and t.id = s.task
        where s.due_at <= clock_now()
        order by s.due_at limit $1 for no key update of s skip locked
        "#,
        max
    )
    .fetch_all(connection)
    .await?;
    let picked = rows.into_iter().map(|row| Picked {
        id: ScheduleId::from_uuid(row.id),
        is_deployed: row.is_deployed,
        schedule: Row {
            id: row.id,
            kind: row.kind,
            environment_id: row.environment_id,
            task: row.task,
            deduplication_key: row.deduplication_key,
            external_id: row.external_id,
            cron: row.cron,
            timezone: row.timezone,
            spread: row.spread,
            active: row.active,
            next_run_at: row.next_run_at,
            due_at: row.due_at,
            last_run_at: row.last_run_at,
        }
        .schedule(),
    });
    Ok(picked.collect())
}

/// Notes what comes next, and for which time it has fired just now, if it has.
///
/// # Errors
/// If the database does not answer.
pub async fn advance(
    connection: &mut PgConnection,
    id: ScheduleId,
    fired: Option<DateTime<Utc>>,
    next: Option<Occurrence>,
) -> Result<(), StoreError> {
    query!(
        "update schedules set last_run_at = coalesce($2, last_run_at), next_run_at = $3, due_at = $4 where id = $1",
        id.uuid(),
        fired,
        next.map(|next| next.at),
        next.map(|next| next.due_at)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Looks at it again after a while.
///
/// # Errors
/// If the database does not answer.
pub async fn put_off(connection: &mut PgConnection, id: ScheduleId, by: Duration) -> Result<(), StoreError> {
    query!("update schedules set due_at = clock_now() + $2::interval where id = $1", id.uuid(), interval(by))
        .execute(connection)
        .await?;
    Ok(())
}

/// How long until the next schedule is due; zero if one is.
///
/// # Errors
/// If the database does not answer.
pub async fn next_due(connection: &mut PgConnection) -> Result<Option<Duration>, StoreError> {
    let ms = query_scalar!(
        "select ceil(extract(epoch from min(due_at) - clock_now()) * 1000)::bigint as ms
         from schedules where due_at is not null"
    )
    .fetch_one(connection)
    .await?;
    Ok(ms.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs())))
}
