//! Many runs come into being in one statement.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{
    StoreError,
    events::Changed,
    line::{Decided, to_column},
    rows,
};
use crate::model::id::RunId;

/// Writes runs of one environment and parent, and says which: those whose idempotency key another run has, one of these
/// included, are not. Keys are taken in their order, so that two batches with the same ones do not block each other.
///
/// # Errors
/// If the database does not answer.
pub async fn insert(connection: &mut PgConnection, runs: &[Decided<'_>]) -> Result<Vec<Changed>, StoreError> {
    let Some(first) = runs.first() else { return Ok(Vec::new()) };
    let columns = Columns::of(runs);
    let made = query!(
        r#"
        insert into runs (environment_id, parent_id, root_id, depth, is_test, batch_id, awaited, event_seq,
            id, task, status, deployment_id, payload, payload_type, tags, delay_until, ttl_ms, priority_ms, max_attempts,
            max_duration_ms, machine, idempotency_key, idempotency_shown, idempotency_scope, idempotency_expires_at,
            idempotency_active, queue_id, concurrency_key, position, due_at, metadata)
        select $1, $2, run.root_id, $3, run.is_test, $4, $5, 1,
            run.id, task, status, deployment_id, payload, payload_type,
            array(select tag from json_array_elements_text(tags::json) as tag), delay_until, ttl_ms, priority_ms, max_attempts,
            max_duration_ms, machine, key, key_shown, key_scope, key_expires_at,
            key is not null, queue_id, concurrency_key, position, due_at, metadata::json
        from unnest($6::uuid[], $7::uuid[], $8::text[], $9::text[], $10::uuid[], $11::bytea[], $12::text[], $13::text[],
            $14::timestamptz[], $15::bigint[], $16::bigint[], $17::integer[], $18::bigint[], $19::text[], $20::text[], $21::text[],
            $22::text[], $23::timestamptz[], $24::uuid[], $25::text[], $26::timestamptz[], $27::timestamptz[], $28::text[],
            $29::boolean[])
            as run (id, root_id, task, status, deployment_id, payload, payload_type, tags, delay_until, ttl_ms, priority_ms, max_attempts,
                max_duration_ms, machine, key, key_shown, key_scope, key_expires_at, queue_id, concurrency_key, position, due_at,
                metadata, is_test)
        order by task, key, run.id
        on conflict (environment_id, task, idempotency_key) where idempotency_active do nothing
        returning id, event_seq, status
        "#,
        first.environment.uuid(),
        first.new.parent.map(|parent| parent.uuid()),
        first.ancestry.depth,
        first.new.batch.map(|batch| batch.uuid()),
        first.new.awaited,
        &columns.ids,
        &columns.roots,
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
        &columns.tests
    )
    .fetch_all(connection)
    .await?;
    made.into_iter()
        .map(|row| Ok(Changed { id: RunId::from_uuid(row.id), seq: row.event_seq, status: rows::run_status(&row.status)? }))
        .collect()
}

/// The runs, column by column.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    roots: Vec<Uuid>,
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
}

impl<'a> Columns<'a> {
    fn of(runs: &'a [Decided<'a>]) -> Columns<'a> {
        let mut columns = Columns::default();
        for run in runs {
            let (new, key) = (run.new, run.new.idempotency.as_ref());
            columns.ids.push(run.id.uuid());
            columns.roots.push(run.ancestry.root.uuid());
            columns.tasks.push(&new.task);
            columns.statuses.push(run.status.as_str());
            columns.deployments.push(run.deployment.map(|id| id.uuid()));
            columns.payloads.push(&new.payload.data);
            columns.payload_types.push(&new.payload.content_type);
            columns.tags.push(rows::to_json(&new.tags));
            columns.delays.push(new.delay_until);
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
        }
        columns
    }
}
