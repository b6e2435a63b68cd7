//! Many runs come into being in one statement.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{
    StoreError,
    lanes::array,
    leases::interval,
    line::{Decided, to_column},
    notify, rows,
};
use crate::model::{
    event::EventKind,
    id::{RunId, WorkerId},
    run::RunStatus,
};

/// A run that was written.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Which.
    pub id: RunId,
    /// When.
    pub at: DateTime<Utc>,
}

/// Who leases runs that begin in the moment they are made.
#[derive(Debug, Clone, Copy)]
pub struct Starter {
    /// The worker.
    pub worker: WorkerId,
    /// For how long.
    pub lease_for: Duration,
}

/// Writes runs, their requests' keys and their first entries in one statement, tells who follows them and the timer loop, and, if
/// asked to, workers. Those that execute are leased to `starter` in their first epoch and attempt, and their second entry says so. Says
/// which it wrote: not those whose idempotency key another run has, one of these included, nor those whose
/// request was here before. No two may have the same request. Keys are taken in their order, so that two calls with the same ones
/// do not block each other.
///
/// # Errors
/// If the database does not answer.
pub async fn insert(
    connection: &mut PgConnection,
    runs: &[&Decided<'_>],
    tell_workers: bool,
    starter: Option<Starter>,
) -> Result<Vec<Made>, StoreError> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let columns = Columns::of(runs);
    let is_any_due = runs.iter().any(|run| run.is_due_soon);
    let is_any_in_line = tell_workers && runs.iter().any(|run| run.status == RunStatus::Queued);
    let channels = [is_any_due.then_some(notify::TIMERS), is_any_in_line.then_some(notify::LINE)];
    let made = query!(
        r#"
        with moment as materialized (
            select clock_now() as now
        ), asked as (
            select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::integer[], $6::uuid[], $7::boolean[],
                $8::text[], $9::text[], $10::uuid[], $11::bytea[], $12::text[], $13::text[], $14::timestamptz[], $15::bigint[],
                $16::bigint[], $17::integer[], $18::bigint[], $19::text[], $20::text[], $21::text[], $22::text[],
                $23::timestamptz[], $24::uuid[], $25::text[], $26::timestamptz[], $27::timestamptz[], $28::text[], $29::boolean[],
                $30::text[], $34::text[], $35::text[], $36::text[], $40::uuid[])
            as asked (id, environment_id, parent_id, root_id, depth, batch_id, awaited, task, status, deployment_id, payload,
                payload_type, tags, delay_until, ttl_ms, priority_ms, max_attempts, max_duration_ms, machine, key, key_shown,
                key_scope, key_expires_at, queue_id, concurrency_key, position, due_at, metadata, is_test, request_key,
                external_deployment, limit_ids, limit_names, trace_id)
        ), requested as (
            insert into trigger_requests (environment_id, task, request_key, run_id, expires_at)
            select environment_id, task, request_key, id, clock_now() + interval '24 hours' from asked
            where request_key is not null
            order by environment_id, task, request_key
            on conflict (environment_id, task, request_key)
            do update set run_id = excluded.run_id, expires_at = excluded.expires_at
                where trigger_requests.expires_at <= clock_now()
            returning run_id
        ), made as (
            insert into runs (id, environment_id, parent_id, root_id, depth, batch_id, awaited, task, status, deployment_id, payload,
                payload_type, tags, delay_until, ttl_ms, priority_ms, max_attempts, max_duration_ms, machine, idempotency_key,
                idempotency_shown, idempotency_scope, idempotency_expires_at, idempotency_active, queue_id, concurrency_key,
                position, due_at, metadata, is_test, external_deployment, limit_ids, limit_names, trace_id, event_seq, created_at,
                epoch, lease_worker, lease_expires_at, attempt, in_attempt, attempt_started_at, started_at)
            select id, environment_id, parent_id, root_id, depth, batch_id, awaited, task, status, deployment_id, payload,
                payload_type, array(select tag from json_array_elements_text(tags::json) as tag), delay_until, ttl_ms, priority_ms,
                max_attempts, max_duration_ms, machine, key, key_shown, key_scope, key_expires_at, key is not null, queue_id,
                concurrency_key, position, due_at, metadata::json, is_test, external_deployment, limit_ids::uuid[],
                case when limit_names is not null then array(select name from json_array_elements_text(limit_names::json) as name) end, trace_id,
                1 + begun.n,
                moment.now, begun.n, case when begun.n = 1 then $37::uuid end, case when begun.n = 1 then moment.now + $38::interval end,
                begun.n, begun.n = 1, case when begun.n = 1 then moment.now end, case when begun.n = 1 then moment.now end
            from asked cross join moment cross join lateral (select (status = 'EXECUTING')::integer as n) begun
            where request_key is null or id in (select run_id from requested)
            order by environment_id, task, key, id
            on conflict (environment_id, task, idempotency_key) where idempotency_active do nothing
            returning id, status, created_at
        ), entries as (
            insert into run_events (run_id, seq, at, kind, status)
            select id, 1, created_at, $31, case when status = 'EXECUTING' then 'QUEUED' else status end from made
            union all
            select id, 2, created_at, $39, status from made where status = 'EXECUTING'
        ), told as (
            -- So many ids fit into a notification.
            select pg_notify($32, string_agg(replace(id::text, '-', ''), ','))
            from (select id, (row_number() over () - 1) / 200 as part from made) as numbered group by part
            union all
            select pg_notify(channel, '') from unnest($33::text[]) as channel
        )
        select id as "id!", created_at as "at!", (select count(*) from told) as told from made
        "#,
        &columns.ids,
        &columns.environments,
        &columns.parents as &[Option<Uuid>],
        &columns.roots,
        &columns.depths,
        &columns.batches as &[Option<Uuid>],
        &columns.awaited,
        &columns.tasks as &[&str],
        &columns.statuses as &[&str],
        &columns.deployments as &[Option<Uuid>],
        &columns.payloads as &[&[u8]],
        &columns.payload_types as &[&str],
        &columns.tags,
        &columns.delays as &[Option<DateTime<Utc>>],
        &columns.ttls as &[Option<i64>],
        &columns.priorities,
        &columns.max_attempts as &[Option<i32>],
        &columns.max_durations as &[Option<i64>],
        &columns.machines as &[Option<&str>],
        &columns.keys as &[Option<&str>],
        &columns.keys_shown as &[Option<&str>],
        &columns.key_scopes as &[Option<&str>],
        &columns.key_ends as &[Option<DateTime<Utc>>],
        &columns.queues,
        &columns.concurrency_keys as &[&str],
        &columns.positions as &[Option<DateTime<Utc>>],
        &columns.dues as &[Option<DateTime<Utc>>],
        &columns.metadata,
        &columns.tests,
        &columns.request_keys as &[Option<&str>],
        EventKind::Triggered.as_str(),
        notify::RUNS,
        &channels.into_iter().flatten().collect::<Vec<_>>() as &[&str],
        &columns.external_deployments as &[Option<&str>],
        &columns.limits,
        &columns.limit_names as &[Option<String>],
        starter.map(|starter| starter.worker.uuid()),
        starter.map(|starter| interval(starter.lease_for)),
        EventKind::Claimed.as_str(),
        &columns.traces as &[Option<Uuid>]
    )
    .fetch_all(connection)
    .await?;
    Ok(made.into_iter().map(|row| Made { id: RunId::from_uuid(row.id), at: row.at }).collect())
}

/// The runs, column by column.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    environments: Vec<Uuid>,
    parents: Vec<Option<Uuid>>,
    roots: Vec<Uuid>,
    traces: Vec<Option<Uuid>>,
    depths: Vec<i32>,
    batches: Vec<Option<Uuid>>,
    awaited: Vec<bool>,
    tasks: Vec<&'a str>,
    statuses: Vec<&'a str>,
    deployments: Vec<Option<Uuid>>,
    payloads: Vec<&'a [u8]>,
    payload_types: Vec<&'a str>,
    /// Each a JSON list: rows of arrays would all have to be of one length.
    tags: Vec<String>,
    delays: Vec<Option<DateTime<Utc>>>,
    ttls: Vec<Option<i64>>,
    priorities: Vec<i64>,
    max_attempts: Vec<Option<i32>>,
    max_durations: Vec<Option<i64>>,
    machines: Vec<Option<&'a str>>,
    keys: Vec<Option<&'a str>>,
    keys_shown: Vec<Option<&'a str>>,
    key_scopes: Vec<Option<&'a str>>,
    key_ends: Vec<Option<DateTime<Utc>>>,
    queues: Vec<Uuid>,
    concurrency_keys: Vec<&'a str>,
    positions: Vec<Option<DateTime<Utc>>>,
    dues: Vec<Option<DateTime<Utc>>>,
    metadata: Vec<String>,
    tests: Vec<bool>,
    request_keys: Vec<Option<&'a str>>,
    external_deployments: Vec<Option<&'a str>>,
    /// Each the text of an array.
    limits: Vec<String>,
    /// Each a JSON list.
    limit_names: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    fn of(runs: &[&'a Decided<'a>]) -> Columns<'a> {
        let mut columns = Columns::default();
        for run in runs {
            let (new, key) = (run.new, run.new.idempotency.as_ref());
            columns.ids.push(run.id.uuid());
            columns.environments.push(run.environment.uuid());
            columns.parents.push(new.parent.map(|id| id.uuid()));
            columns.roots.push(run.ancestry.root.uuid());
            columns.traces.push(run.ancestry.trace.map(|id| id.uuid()));
            columns.depths.push(run.ancestry.depth);
            columns.batches.push(new.batch.map(|id| id.uuid()));
            columns.awaited.push(new.awaited);
            columns.tasks.push(&new.task);
            columns.statuses.push(run.status.as_str());
            columns.deployments.push(run.deployment.map(|id| id.uuid()));
            columns.payloads.push(&new.payload.data);
            columns.payload_types.push(&new.payload.content_type);
            columns.tags.push(rows::to_json(&new.tags));
            columns.delays.push(run.delay_until);
            columns.ttls.push(new.ttl_ms.map(to_column));
            columns.priorities.push(new.priority_ms);
            columns.max_attempts.push(new.max_attempts.map(|most| i32::try_from(most).unwrap_or(i32::MAX)));
            columns.max_durations.push(new.max_duration_ms.map(to_column));
            columns.machines.push(new.machine.map(|machine| machine.as_str()));
            columns.keys.push(key.map(|key| key.key.as_str()));
            columns.keys_shown.push(key.and_then(|key| key.shown.as_deref()));
            columns.key_scopes.push(key.and_then(|key| key.scope.as_deref()));
            columns.key_ends.push(run.key_expires_at);
            columns.queues.push(run.queue.uuid());
            columns.concurrency_keys.push(new.concurrency_key.as_deref().unwrap_or_default());
            columns.positions.push(run.position);
            columns.dues.push(run.due_at);
            columns.metadata.push(rows::to_json(&new.metadata));
            columns.tests.push(run.ancestry.is_test);
            columns.external_deployments.push(new.external_deployment.as_deref());
            columns.limits.push(array(&run.limits));
            columns.limit_names.push(new.concurrency_limits.as_ref().map(rows::to_json));
            columns.request_keys.push(new.request_key.as_deref());
        }
        columns
    }
}
