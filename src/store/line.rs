//! Runs come into being and into line.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, events::Changed, notify, rows};
use crate::model::{
    context::EnvironmentKind,
    event::EventKind,
    id::{DeploymentId, EnvironmentId, QueueId, RunId},
    run::RunStatus,
    task::TaskDefinition,
    trigger::{DEVELOPMENT_TTL_MS, NewRun},
};

/// What a trigger has to know.
#[derive(Debug)]
pub struct Scene {
    /// The time, by the clock that everything is compared with.
    pub now: DateTime<Utc>,
    /// What kind of environment it is in.
    pub kind: EnvironmentKind,
    /// The deployment that the run is bound to, if it names a version.
    pub deployment: Option<DeploymentId>,
    /// The task as that version or else the current one declares it; none: not deployed.
    pub task: Option<TaskDefinition>,
    /// The limits that the run needs a place in, sorted.
    pub limits: Vec<Uuid>,
}

/// What a trigger has to know; none if there is no such environment.
///
/// # Errors
/// If the database does not answer.
pub async fn scene(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    task: &str,
    version: Option<&str>,
) -> Result<Option<Scene>, StoreError> {
    let row = query!(
        r#"
        select clock_now() as "now!", e.kind, d.id as "deployment?", t.definition as "definition?"
        from environments e
        left join deployments d on d.environment_id = e.id
            and case when $3::text is null then d.id = e.current_deployment_id else d.version = $3 end
        left join tasks t on t.deployment_id = d.id and t.id = $2
        where e.id = $1
        "#,
        environment.uuid(),
        task,
        version
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Scene {
            now: row.now,
            kind: rows::environment_kind(&row.kind)?,
            deployment: row.deployment.filter(|_| version.is_some()).map(DeploymentId::from_uuid),
            task: row.definition.map(|definition| rows::json("tasks", definition)).transpose()?,
            limits: Vec::new(),
        })
    })
    .transpose()
}

/// Where a run stands in its tree.
#[derive(Debug, Clone, Copy)]
pub struct Ancestry {
    /// The first of the tree.
    pub root: RunId,
    /// The run whose trace it is part of; none: its own.
    pub trace: Option<RunId>,
    /// Parents above it.
    pub depth: i32,
    /// From a test page.
    pub is_test: bool,
}

/// Where this run stands.
///
/// # Errors
/// If the database does not answer.
pub async fn ancestry(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    run: RunId,
) -> Result<Option<Ancestry>, StoreError> {
    let row = query!(
        r#"select root_id, coalesce(trace_id, id) as "trace_id!", depth, is_test from runs where id = $1 and environment_id = $2"#,
        run.uuid(),
        environment.uuid()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Ancestry {
        root: RunId::from_uuid(row.root_id),
        trace: Some(RunId::from_uuid(row.trace_id)),
        depth: row.depth,
        is_test: row.is_test,
    }))
}

/// A run with everything decided, as it is written.
#[derive(Debug)]
pub struct Decided<'a> {
    /// Its id.
    pub id: RunId,
    /// Where it lives.
    pub environment: EnvironmentId,
    /// As triggered.
    pub new: &'a NewRun,
    /// Where it begins: pending, delayed or queued.
    pub status: RunStatus,
    /// If it is bound to a version.
    pub deployment: Option<DeploymentId>,
    /// Its queue.
    pub queue: QueueId,
    /// Its limits, sorted.
    pub limits: Vec<Uuid>,
    /// Where it stands in its tree.
    pub ancestry: Ancestry,
    /// Not before this.
    pub delay_until: Option<DateTime<Utc>>,
    /// Its place in line, if it is queued.
    pub position: Option<DateTime<Utc>>,
    /// When time alone moves it on.
    pub due_at: Option<DateTime<Utc>>,
    /// That is so soon that the timer loop has to be told.
    pub is_due_soon: bool,
    /// Until when its idempotency key counts.
    pub key_expires_at: Option<DateTime<Utc>>,
}

/// Writes a run; none if another run has its idempotency key or its debounce key.
///
/// # Errors
/// If the database does not answer.
pub async fn insert(connection: &mut PgConnection, run: &Decided<'_>) -> Result<Option<Changed>, StoreError> {
    let new = run.new;
    let key = new.idempotency.as_ref();
    let seq = query_scalar!(
        r#"
        insert into runs (id, environment_id, task, status, deployment_id, payload, payload_type, tags, is_test, replay_of,
            parent_id, root_id, depth, batch_id, delay_until, ttl_ms, priority_ms, max_attempts, max_duration_ms, machine,
            idempotency_key, idempotency_shown, idempotency_scope, idempotency_expires_at, idempotency_active,
            queue_id, concurrency_key, position, due_at, metadata, awaited, schedule_id, debounce_key, external_deployment,
            limit_ids, limit_names, trace_id, event_seq)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
            $21, $22, $23, $24, $25, $26, $27, $28, $29, $30::text::json, $31, $32, $33, $34, $35, $36, $37, 1)
        on conflict do nothing
        returning event_seq
        "#,
        run.id.uuid(),
        run.environment.uuid(),
        new.task,
        run.status.as_str(),
        run.deployment.map(|id| id.uuid()),
        new.payload.data,
        new.payload.content_type,
        &new.tags,
        run.ancestry.is_test,
        new.replay_of.map(|id| id.uuid()),
        new.parent.map(|id| id.uuid()),
        run.ancestry.root.uuid(),
        run.ancestry.depth,
        new.batch.map(|id| id.uuid()),
        run.delay_until,
        new.ttl_ms.map(to_column),
        new.priority_ms,
        new.max_attempts.map(|most| i32::try_from(most).unwrap_or(i32::MAX)),
        new.max_duration_ms.map(to_column),
        new.machine.map(|machine| machine.as_str()),
        key.map(|key| key.key.as_str()),
        key.and_then(|key| key.shown.as_deref()),
        key.and_then(|key| key.scope.as_deref()),
        run.key_expires_at,
        key.is_some(),
        run.queue.uuid(),
        new.concurrency_key.as_deref().unwrap_or_default(),
        run.position,
        run.due_at,
        rows::to_json(&new.metadata),
        new.awaited,
        new.schedule.map(|id| id.uuid()),
        new.debounce.as_ref().map(|debounce| debounce.key.as_str()),
        new.external_deployment,
        &run.limits,
        new.concurrency_limits.as_deref(),
        run.ancestry.trace.map(|id| id.uuid())
    )
    .fetch_optional(connection)
    .await?;
    Ok(seq.map(|seq| Changed { id: run.id, seq, status: run.status }))
}

/// Milliseconds as a column holds them.
pub(super) fn to_column(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The run that holds an idempotency key, locked. A key whose time is over is released on the way: then there is none.
///
/// # Errors
/// If the database does not answer.
pub async fn holder_of_key(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    task: &str,
    key: &str,
) -> Result<Option<RunId>, StoreError> {
    let row = query!(
        r#"
        select id, idempotency_expires_at <= clock_now() as "is_over!" from runs
        where environment_id = $1 and task = $2 and idempotency_key = $3 and idempotency_active
        for no key update
        "#,
        environment.uuid(),
        task,
        key
    )
    .fetch_optional(&mut *connection)
    .await?;
    match row {
        Some(row) if row.is_over => {
            query!("update runs set idempotency_active = false where id = $1", row.id).execute(connection).await?;
            Ok(None)
        }
        row => Ok(row.map(|row| RunId::from_uuid(row.id))),
    }
}

/// Releases an idempotency key; false if no run holds it.
///
/// # Errors
/// If the database does not answer.
pub async fn release_key(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    task: &str,
    key: &str,
) -> Result<bool, StoreError> {
    let done = query!(
        "update runs set idempotency_active = false
         where environment_id = $1 and task = $2 and idempotency_key = $3 and idempotency_active",
        environment.uuid(),
        task,
        key
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes that this HTTP request makes this run; if the request was here before, returns the run it made then.
///
/// # Errors
/// If the database does not answer.
pub async fn claim_request(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    task: &str,
    request_key: &str,
    run: RunId,
) -> Result<Option<RunId>, StoreError> {
    let is_new = query_scalar!(
        "insert into trigger_requests (environment_id, task, request_key, run_id, expires_at)
         values ($1, $2, $3, $4, clock_now() + interval '24 hours')
         on conflict (environment_id, task, request_key)
         do update set run_id = excluded.run_id, expires_at = excluded.expires_at
             where trigger_requests.expires_at <= clock_now()
         returning run_id",
        environment.uuid(),
        task,
        request_key,
        run.uuid()
    )
    .fetch_optional(&mut *connection)
    .await?;
    if is_new.is_some() {
        return Ok(None);
    }
    let earlier = query_scalar!(
        "select run_id from trigger_requests where environment_id = $1 and task = $2 and request_key = $3",
        environment.uuid(),
        task,
        request_key
    )
    .fetch_optional(connection)
    .await?;
    Ok(earlier.map(RunId::from_uuid))
}

/// Notes that the request got another run than the one noted first.
///
/// # Errors
/// If the database does not answer.
pub async fn correct_request(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    task: &str,
    request_key: &str,
    run: RunId,
) -> Result<(), StoreError> {
    query!(
        "update trigger_requests set run_id = $4 where environment_id = $1 and task = $2 and request_key = $3",
        environment.uuid(),
        task,
        request_key,
        run.uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Where a task's runs stand in line unless their triggers say otherwise.
#[derive(Debug)]
pub struct Place {
    /// The task's own queue, where runs are that were triggered before it was known.
    pub own_queue: QueueId,
    /// The one that it names.
    pub queue: QueueId,
    /// Its own limit, if it has one.
    pub own_limit: Option<Uuid>,
    /// That and those that it names, sorted.
    pub limits: Vec<Uuid>,
}

/// A deployment has brought the task: whoever waited for it, and for no deployment of a name, comes into line, in the queue and with
/// the limits that the task now names unless the trigger named others.
///
/// # Errors
/// If the database does not answer.
pub async fn wake_pending(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    task: &str,
    place: &Place,
) -> Result<Vec<Changed>, StoreError> {
    let rows = query!(
        r#"
        update runs r
        set status = 'QUEUED', queue_id = case when r.queue_id = $3 then $4 else r.queue_id end,
            limit_ids = case when r.limit_names is null then $5
                else array(select distinct id from unnest(r.limit_ids || $6::uuid) as id where id is not null order by id) end,
            position = coalesce(r.position, clock_now() - r.priority_ms * interval '1 millisecond'),
            due_at = clock_now() + nullif(coalesce(r.ttl_ms, (t.definition ->> 'ttlMs')::bigint,
                case e.kind when 'dev' then $7::bigint end), 0) * interval '1 millisecond',
            updated_at = clock_now(), event_seq = r.event_seq + 1
        from environments e
        join tasks t on t.deployment_id = e.current_deployment_id and t.id = $2
        where e.id = $1 and r.environment_id = $1 and r.task = $2 and r.status = 'PENDING_VERSION'
            and r.external_deployment is null
        returning r.id, r.event_seq
        "#,
        environment.uuid(),
        task,
        place.own_queue.uuid(),
        place.queue.uuid(),
        &place.limits,
        place.own_limit,
        DEVELOPMENT_TTL_MS as i64
    )
    .fetch_all(connection)
    .await?;
    Ok(queued(rows.into_iter().map(|row| (row.id, row.event_seq))))
}

fn queued(rows: impl Iterator<Item = (Uuid, i64)>) -> Vec<Changed> {
    rows.map(|(id, seq)| Changed { id: RunId::from_uuid(id), seq, status: RunStatus::Queued }).collect()
}

/// What this run waits for had come before it was suspended: it comes back into line, at the place it had, which is entered and told
/// to workers.
///
/// # Errors
/// If the database does not answer.
pub async fn wake_suspended(connection: &mut PgConnection, run: RunId) -> Result<(), StoreError> {
    query!(
        r#"
        with woken as (
            update runs
            set status = 'QUEUED', due_at = null, updated_at = clock_now(), event_seq = event_seq + 1
            where id = $1 and status = 'WAITING'
            returning id, event_seq
        ), entries as (
            insert into run_events (run_id, seq, at, kind, status)
            select id, event_seq, clock_now(), $2, 'QUEUED' from woken
        )
        select pg_notify($3, replace(id::text, '-', '')) from woken
        union all
        select pg_notify($4, '') from woken
        "#,
        run.uuid(),
        EventKind::Resumed.as_str(),
        notify::RUNS,
        notify::LINE
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Their turn came, but no deployment has their task any more.
///
/// # Errors
/// If the database does not answer.
pub async fn back_to_pending(connection: &mut PgConnection, runs: &[Uuid]) -> Result<Vec<Changed>, StoreError> {
    let rows = query!(
        "update runs
         set status = 'PENDING_VERSION', due_at = null, updated_at = clock_now(), event_seq = event_seq + 1
         where id = any($1) and status = 'QUEUED'
         returning id, event_seq",
        runs
    )
    .fetch_all(connection)
    .await?;
    let pending = |id, seq| Changed { id: RunId::from_uuid(id), seq, status: RunStatus::PendingVersion };
    Ok(rows.into_iter().map(|row| pending(row.id, row.event_seq)).collect())
}
