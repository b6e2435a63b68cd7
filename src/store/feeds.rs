//! Runs as their subscribers see them: whole rows with the number of their last change, read for many subscribers at once.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, query, query_as};
use uuid::Uuid;

use super::{Store, StoreError, rows, runs::machine_time};
use crate::model::{
    error::RunError,
    feed::{RunRow, Selection},
    id::{BatchId, EnvironmentId, RunId},
    machine::Machine,
    payload::Packet,
};

/// Most runs of a feed over several runs. Source: facts 8.7.
pub const MAX_RUNS: i64 = 1000;

struct Row {
    id: Uuid,
    environment_id: Uuid,
    event_seq: i64,
    task: String,
    status: String,
    tags: Vec<String>,
    is_test: bool,
    batch_id: Option<Uuid>,
    payload: Vec<u8>,
    payload_type: String,
    output: Option<Vec<u8>>,
    output_type: Option<String>,
    error: Option<Value>,
    metadata: Value,
    streams: Vec<String>,
    ttl_ms: Option<i64>,
    idempotency_key: Option<String>,
    machine: String,
    cpu_ms: i64,
    attempt_cpu_ms: i64,
    ended: Value,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    delay_until: Option<DateTime<Utc>>,
    queued_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl Row {
    fn run(self) -> Result<RunRow, StoreError> {
        let machine = Machine::parse(&self.machine);
        let ended: Vec<(Option<String>, u64)> = rows::json("attempts", self.ended)?;
        let used = ended.iter().map(|(machine, cpu_ms)| (machine.as_deref(), *cpu_ms));
        Ok(RunRow {
            id: RunId::from_uuid(self.id),
            environment: EnvironmentId::from_uuid(self.environment_id),
            seq: self.event_seq,
            task: self.task,
            status: rows::run_status(&self.status)?,
            tags: self.tags,
            is_test: self.is_test,
            batch: self.batch_id.map(BatchId::from_uuid),
            payload: Packet { data: self.payload, content_type: self.payload_type },
            output: rows::packet(self.output, self.output_type),
            error: self.error.map(|error| rows::json::<RunError>("runs", error)).transpose()?,
            metadata: rows::object(self.metadata),
            streams: self.streams,
            ttl_ms: self.ttl_ms.map(rows::count),
            idempotency_key: self.idempotency_key,
            cpu_ms: rows::count(self.cpu_ms),
            machine_time: machine_time(used, machine, rows::count(self.attempt_cpu_ms)),
            created_at: self.created_at,
            updated_at: self.updated_at,
            started_at: self.started_at,
            delayed_until: self.delay_until,
            queued_at: self.queued_at,
            finished_at: self.finished_at,
        })
    }
}

/// These runs, in the order of their ids. Those that are gone are missing.
///
/// # Errors
/// If the database does not answer.
pub async fn runs(store: &Store, ids: &[RunId]) -> Result<Vec<RunRow>, StoreError> {
    query_as!(
        Row,
        r#"
        select r.id, r.environment_id, r.event_seq, r.task, r.status, r.tags, r.is_test, r.batch_id,
            r.payload, r.payload_type, r.output, r.output_type, r.error, r.metadata,
            array(select s.key from streams s where s.run_id = r.id and s.direction = 'OUT' order by s.key) as "streams!",
            r.ttl_ms, coalesce(r.idempotency_shown, r.idempotency_key) as idempotency_key,
            coalesce(r.machine, t.definition ->> 'machine', $2) as "machine!",
            r.earlier_cpu_ms + r.attempt_cpu_ms as "cpu_ms!", r.attempt_cpu_ms,
            (select coalesce(json_agg(json_build_array(machine, cpu_ms)), '[]') from attempts where run_id = r.id) as "ended!",
            r.created_at, r.updated_at, r.started_at, r.delay_until,
            r.position + r.priority_ms * interval '1 millisecond' as queued_at, r.finished_at
        from runs r
        left join tasks t on t.deployment_id = r.deployment_id and t.id = r.task
        where r.id = any($1)
        order by r.id
        "#,
        &rows::uuids(ids),
        Machine::default().as_str()
    )
    .fetch_all(&mut *store.read().await?)
    .await?
    .into_iter()
    .map(Row::run)
    .collect()
}

/// What feeds over several runs ask for.
#[derive(Debug, Default)]
pub struct Interest {
    /// Batches that are followed.
    pub batches: Vec<BatchId>,
    /// Tags that feeds ask for.
    pub tags: Vec<String>,
}

/// Those of the runs that are in one of the batches or have one of the tags.
///
/// # Errors
/// If the database does not answer.
pub async fn of_interest(store: &Store, changed: &[RunId], interest: &Interest) -> Result<Vec<RunId>, StoreError> {
    let found = query!(
        "select id from runs where id = any($1) and (batch_id = any($2) or tags && $3)",
        &rows::uuids(changed),
        &rows::uuids(&interest.batches),
        &interest.tags
    )
    .fetch_all(&mut *store.read().await?)
    .await?;
    Ok(found.into_iter().map(|row| RunId::from_uuid(row.id)).collect())
}

/// The numbers of the last changes of these runs.
///
/// # Errors
/// If the database does not answer.
pub async fn seqs(store: &Store, ids: &[RunId]) -> Result<Vec<(RunId, i64)>, StoreError> {
    let rows = query!("select id, event_seq from runs where id = any($1)", &rows::uuids(ids))
        .fetch_all(&mut *store.read().await?)
        .await?;
    Ok(rows.into_iter().map(|row| (RunId::from_uuid(row.id), row.event_seq)).collect())
}

/// The runs of a feed that were made after a moment, with the numbers of their last changes: newest first, at most 1000.
///
/// # Errors
/// If the database does not answer.
pub async fn members(
    store: &Store,
    environment: EnvironmentId,
    selection: &Selection,
    made_after: DateTime<Utc>,
) -> Result<Vec<(RunId, i64)>, StoreError> {
    let connection = &mut *store.browse().await?;
    match selection {
        Selection::Run(id) => of_run(connection, environment, *id).await,
        Selection::Batch(id) => of_batch(connection, environment, *id, made_after).await,
        Selection::Tags(tags) => of_tags(connection, environment, tags, made_after).await,
    }
}

async fn of_run(connection: &mut PgConnection, environment: EnvironmentId, id: RunId) -> Result<Vec<(RunId, i64)>, StoreError> {
    let rows = query!("select id, event_seq from runs where id = $1 and environment_id = $2", id.uuid(), environment.uuid())
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (RunId::from_uuid(row.id), row.event_seq)).collect())
}

async fn of_batch(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    batch: BatchId,
    made_after: DateTime<Utc>,
) -> Result<Vec<(RunId, i64)>, StoreError> {
    let rows = query!(
        "select r.id, r.event_seq from batch_items item join runs r on r.id = item.run_id
         where item.batch_id = $1 and r.batch_id = $1 and r.environment_id = $2 and r.created_at >= $3
         order by r.id desc limit $4",
        batch.uuid(),
        environment.uuid(),
        made_after,
        MAX_RUNS
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (RunId::from_uuid(row.id), row.event_seq)).collect())
}

async fn of_tags(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    tags: &[String],
    made_after: DateTime<Utc>,
) -> Result<Vec<(RunId, i64)>, StoreError> {
    let rows = query!(
        "select id, event_seq from runs
         where environment_id = $1 and tags @> $2 and tags <> '{}' and created_at >= $3
         order by id desc limit $4",
        environment.uuid(),
        tags,
        made_after,
        MAX_RUNS
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (RunId::from_uuid(row.id), row.event_seq)).collect())
}
