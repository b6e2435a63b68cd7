//! What the periodic sweeps read and write.

use std::time::Duration;

use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, events::Changed, leases::interval, notify, rows};
use crate::model::{event::EventKind, id::RunId, run::RunStatus, trigger::DEVELOPMENT_TTL_MS};

/// What a look for what is due found.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// Runs that slept and are back in line.
    pub woken: u64,
    /// Some of the runs that are due did not sleep.
    pub has_others: bool,
    /// Some waitpoints are due.
    pub has_waitpoints: bool,
}

/// Of at most `max` runs whose time has come, the longest due first, puts those that slept back into line at the place they had, which
/// is entered and told to workers, and says whether there is more to do.
///
/// One statement, since it is what every wait costs.
///
/// # Errors
/// If the database does not answer.
pub async fn wake_sleeping(connection: &mut PgConnection, max: i64) -> Result<Due, StoreError> {
    let row = query!(
        r#"
        with due as materialized (
            select id, status from runs where due_at <= clock_now() order by due_at limit $1 for no key update skip locked
        ), woken as (
            update runs r
            set status = 'QUEUED', due_at = null, updated_at = clock_now(), event_seq = r.event_seq + 1
            from due where r.id = due.id and due.status = 'WAITING' and r.lease_worker is null
            returning r.id, r.event_seq
        ), entries as (
            insert into run_events (run_id, seq, at, kind, status)
            select id, event_seq, clock_now(), $2, 'QUEUED' from woken
        ), told as (
            select pg_notify($3, string_agg(replace(id::text, '-', ''), ','))
            from (select id, row_number() over () / $4 as message from woken) as named group by message
            union all
            select pg_notify($5, '') from woken having count(*) > 0
        )
        select (select count(*) from woken) as "woken!", (select count(*) from told) as told,
            exists (select from due where status <> 'WAITING') as "has_others!",
            exists (select from waitpoints where status = 'WAITING' and due_at is not null and due_at <= clock_now())
                as "has_waitpoints!"
        "#,
        max,
        EventKind::Resumed.as_str(),
        notify::RUNS,
        notify::IDS_PER_MESSAGE as i64,
        notify::LINE
    )
    .fetch_one(connection)
    .await?;
    Ok(Due { woken: rows::count(row.woken), has_others: row.has_others, has_waitpoints: row.has_waitpoints })
}

/// Locks at most `max` runs whose time has come, the longest due first, and says where they are.
///
/// # Errors
/// If the database does not answer.
pub async fn pick_due(connection: &mut PgConnection, max: i64) -> Result<Vec<(Uuid, RunStatus)>, StoreError> {
    let rows = query!(
        "select id, status from runs where due_at <= clock_now()
         order by due_at limit $1 for no key update skip locked",
        max
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| Ok((row.id, rows::run_status(&row.status)?))).collect()
}

/// Puts runs that slept, or were between two attempts, back into line at the place they had.
///
/// # Errors
/// If the database does not answer.
pub async fn wake(connection: &mut PgConnection, runs: &[Uuid], from: RunStatus) -> Result<Vec<Changed>, StoreError> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query!(
        "update runs
         set status = 'QUEUED', due_at = null, updated_at = clock_now(), event_seq = event_seq + 1
         where id = any($1) and status = $2 and lease_worker is null
         returning id, event_seq",
        runs,
        from.as_str()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Changed { id: RunId::from_uuid(row.id), seq: row.event_seq, status: RunStatus::Queued })
        .collect())
}

/// Puts runs whose delay is over into line, or among those that wait for a deployment with their task; for one of a name, they
/// wait for `parked_for`.
///
/// # Errors
/// If the database does not answer.
pub async fn end_delay(connection: &mut PgConnection, runs: &[Uuid], parked_for: Duration) -> Result<Vec<Changed>, StoreError> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    query!(
        r#"
        with due as (
            select r.id, t.id is not null as is_deployed,
                case when r.external_deployment is not null then clock_now() + $2::interval end as parked_until,
                nullif(coalesce(r.ttl_ms, (t.definition ->> 'ttlMs')::bigint, case e.kind when 'dev' then $3::bigint end), 0)
                    as ttl_ms
            from runs r
            join environments e on e.id = r.environment_id
            left join tasks t on t.id = r.task and t.deployment_id = case when r.external_deployment is null
                then coalesce(r.deployment_id, e.current_deployment_id) else r.deployment_id end
            where r.id = any($1) and r.status = 'DELAYED'
        )
        update runs r
        set status = case when due.is_deployed then 'QUEUED' else 'PENDING_VERSION' end,
            position = r.delay_until - r.priority_ms * interval '1 millisecond',
            due_at = case when due.is_deployed then clock_now() + due.ttl_ms * interval '1 millisecond'
                else due.parked_until end,
            updated_at = clock_now(), event_seq = r.event_seq + 1
        from due where r.id = due.id
        returning r.id, r.event_seq, r.status
        "#,
        runs,
        interval(parked_for),
        DEVELOPMENT_TTL_MS as i64
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok(Changed { id: RunId::from_uuid(row.id), seq: row.event_seq, status: rows::run_status(&row.status)? }))
    .collect()
}

/// How long until the next waitpoint or run is due; zero if one is.
///
/// # Errors
/// If the database does not answer.
pub async fn next_due(connection: &mut PgConnection) -> Result<Option<Duration>, StoreError> {
    let ms = query_scalar!(
        r#"
        select ceil(extract(epoch from least(
            (select min(due_at) from runs where due_at is not null),
            (select min(due_at) from waitpoints where status = 'WAITING' and due_at is not null)
        ) - clock_now()) * 1000)::bigint as ms
        "#
    )
    .fetch_one(connection)
    .await?;
    Ok(ms.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs())))
}

/// Deletes at most `max` notes of HTTP requests whose day is over.
///
/// # Errors
/// If the database does not answer.
pub async fn forget_requests(connection: &mut PgConnection, max: i64) -> Result<u64, StoreError> {
    let done = query!(
        "delete from trigger_requests where (environment_id, task, request_key) in (
            select environment_id, task, request_key from trigger_requests
            where expires_at <= clock_now() order by expires_at limit $1 for update skip locked
         )",
        max
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes what belonged to final runs that ended longer ago than `keep`: their logs, spans and events, at most those of `max`
/// runs, the oldest first. The runs stay.
///
/// # Errors
/// If the database does not answer.
pub async fn forget_logs(connection: &mut PgConnection, keep: Duration, max: i64) -> Result<u64, StoreError> {
    let runs = query_scalar!(
        "update runs set logs_kept = false
         where id in (
             select id from runs where logs_kept and finished_at <= clock_now() - $1::interval
             order by finished_at limit $2 for no key update skip locked
         )
         returning id",
        interval(keep),
        max
    )
    .fetch_all(&mut *connection)
    .await?;
    query!(
        "with lines as (delete from logs where run_id = any($1)),
              measured as (delete from spans where run_id = any($1))
         delete from run_events where run_id = any($1)",
        &runs
    )
    .execute(connection)
    .await?;
    Ok(runs.len() as u64)
}
