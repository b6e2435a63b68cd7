//! Batches. Their items have a file of their own: [`batch_items`](super::batch_items).

use std::time::Duration;

use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError, children::Standing, leases::interval, line::to_column, rows};
use crate::model::{
    batch::{Batch, ItemError, NewBatch, Stage},
    error::ErrorCode,
    id::{BatchId, EnvironmentId, RunId},
    trigger::DEFAULT_KEY_TTL_MS,
};

/// How long an HTTP request is remembered, in hours.
const REQUEST_LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes a batch; none if another one has its idempotency key, or was made by the same request.
///
/// # Errors
/// If the database does not answer.
pub async fn insert(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewBatch,
    stage: Stage,
) -> Result<Option<BatchId>, StoreError> {
    let key = new.idempotency.as_ref();
    let id = query_scalar!(
        "insert into batches (id, environment_id, stage, run_count, parent_id, awaited, idempotency_key, idempotency_shown,
            idempotency_expires_at, idempotency_active, request_key, made_at)
         values ($1, $2, $3, $4, $5, $6, $7::text, $8,
            case when $7 is not null then clock_now() + $9::bigint * interval '1 millisecond' end, $7 is not null, $10,
            case when $3 = 'MADE' then clock_now() end)
         on conflict do nothing
         returning id",
        BatchId::new().uuid(),
        environment.uuid(),
        stage.as_str(),
        new.run_count as i32,
        new.parent.map(|parent| parent.uuid()),
        new.awaited,
        key.map(|key| key.key.as_str()),
        key.and_then(|key| key.shown.as_deref()),
        to_column(key.and_then(|key| key.ttl_ms).unwrap_or(DEFAULT_KEY_TTL_MS)),
        new.request_key
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(BatchId::from_uuid))
}

/// A batch that was found by its key or request.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The batch.
    pub id: BatchId,
    /// How far it is.
    pub stage: Stage,
    /// Its items.
    pub run_count: u32,
}

/// The batch that the same request made, or that holds the idempotency key. A key or request whose time is over is released on
/// the way: then there is none.
///
/// # Errors
/// If the database does not answer.
pub async fn find(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewBatch,
) -> Result<Option<Found>, StoreError> {
    query!(
        "update batches set request_key = null
         where environment_id = $1 and request_key = $2 and created_at <= clock_now() - $3::interval",
        environment.uuid(),
        new.request_key,
        interval(REQUEST_LASTS)
    )
    .execute(&mut *connection)
    .await?;
    query!(
        "update batches set idempotency_active = false
         where environment_id = $1 and idempotency_key = $2 and idempotency_active and idempotency_expires_at <= clock_now()",
        environment.uuid(),
        new.idempotency.as_ref().map(|key| key.key.as_str())
    )
    .execute(&mut *connection)
    .await?;
    let row = query!(
        "select id, stage, run_count from batches
         where environment_id = $1 and (request_key = $2 or (idempotency_key = $3 and idempotency_active))
         order by request_key = $2 desc nulls last limit 1",
        environment.uuid(),
        new.request_key,
        new.idempotency.as_ref().map(|key| key.key.as_str())
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let stage = rows::stage(&row.stage)?;
        Ok(Found { id: BatchId::from_uuid(row.id), stage, run_count: row.run_count.unsigned_abs() })
    })
    .transpose()
}

/// A batch whose row is locked.
#[derive(Debug, Clone)]
pub struct Held {
    /// The batch.
    pub id: BatchId,
    /// Where it lives.
    pub environment: EnvironmentId,
    /// How far it is.
    pub stage: Stage,
    /// How many items it will have.
    pub run_count: u32,
    /// The run that triggers them.
    pub parent: Option<RunId>,
    /// That means to wait for them.
    pub awaited: bool,
}

/// A batch, locked; none if there is none in the environment.
///
/// # Errors
/// If the database does not answer.
pub async fn hold(connection: &mut PgConnection, environment: EnvironmentId, id: BatchId) -> Result<Option<Held>, StoreError> {
    let row = query!(
        "select stage, run_count, parent_id, awaited from batches where id = $1 and environment_id = $2 for no key update",
        id.uuid(),
        environment.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Held {
            id,
            environment,
            stage: rows::stage(&row.stage)?,
            run_count: row.run_count.unsigned_abs(),
            parent: row.parent_id.map(RunId::from_uuid),
            awaited: row.awaited,
        })
    })
    .transpose()
}

/// The request that made a batch, for whoever may only do one thing; none if there is no such batch.
///
/// # Errors
/// If the database does not answer.
pub async fn request_of(store: &Store, environment: EnvironmentId, id: BatchId) -> Result<Option<Option<String>>, StoreError> {
    Ok(query_scalar!("select request_key from batches where id = $1 and environment_id = $2", id.uuid(), environment.uuid())
        .fetch_optional(&mut *store.read().await?)
        .await?)
}

/// Brings a batch to another stage.
///
/// # Errors
/// If the database does not answer.
pub async fn set_stage(connection: &mut PgConnection, batch: BatchId, stage: Stage) -> Result<(), StoreError> {
    query!(
        "update batches
         set stage = $2, updated_at = clock_now(), made_at = case when $2 = 'MADE' then clock_now() else made_at end
         where id = $1",
        batch.uuid(),
        stage.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// At most `max` sealed batches whose items are not all runs although nobody has made any for `idle`, the longest first.
///
/// # Errors
/// If the database does not answer.
pub async fn unmade(store: &Store, idle: Duration, max: i64) -> Result<Vec<(EnvironmentId, BatchId)>, StoreError> {
    let rows = query!(
        "select id, environment_id from batches
         where stage = 'MAKING' and updated_at <= clock_now() - $1::interval
         order by updated_at limit $2",
        interval(idle),
        max
    )
    .fetch_all(&mut *store.read().await?)
    .await?;
    Ok(rows.into_iter().map(|row| (EnvironmentId::from_uuid(row.environment_id), BatchId::from_uuid(row.id))).collect())
}

/// Gives up at most `max` batches that nobody has added to for `idle`, and says how many: their items are dropped, their keys are
/// free.
///
/// # Errors
/// If the database does not answer.
pub async fn abort_idle(connection: &mut PgConnection, idle: Duration, max: i64) -> Result<u64, StoreError> {
    let aborted = query_scalar!(
        "with idle as (
            select id from batches where stage = 'FILLING' and updated_at <= clock_now() - $1::interval
            order by updated_at limit $2 for no key update skip locked
         ), dropped as (
            delete from batch_items where batch_id in (select id from idle)
         )
         update batches b set stage = 'ABORTED', idempotency_active = false, updated_at = clock_now()
         from idle where b.id = idle.id returning b.id",
        interval(idle),
        max
    )
    .fetch_all(connection)
    .await?;
    Ok(aborted.len() as u64)
}

/// Forgets which requests made at most `max` batches, once their day is over.
///
/// # Errors
/// If the database does not answer.
pub async fn forget_requests(connection: &mut PgConnection, max: i64) -> Result<u64, StoreError> {
    let done = query!(
        "update batches set request_key = null where id in (
            select id from batches where request_key is not null and created_at <= clock_now() - $1::interval
            order by created_at limit $2 for no key update skip locked
         )",
        interval(REQUEST_LASTS),
        max
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// A batch with all there is to see.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, environment: EnvironmentId, id: BatchId) -> Result<Option<Batch>, StoreError> {
    let connection = &mut *store.read().await?;
    let row = query!(
        "select stage, run_count, coalesce(idempotency_shown, idempotency_key) as idempotency_key, created_at, updated_at, made_at
         from batches where id = $1 and environment_id = $2",
        id.uuid(),
        environment.uuid()
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let items = query!(
        r#"
        select i.index, i.task, i.run_id as "run_id!", i.error, i.error_code, r.finished_at is null as "is_open!"
        from batch_items i join runs r on r.id = i.run_id
        where i.batch_id = $1 order by i.index
        "#,
        id.uuid()
    )
    .fetch_all(connection)
    .await?;
    let mut batch = Batch {
        id,
        stage: rows::stage(&row.stage)?,
        run_count: row.run_count.unsigned_abs(),
        idempotency_key: row.idempotency_key,
        created_at: row.created_at,
        updated_at: row.updated_at,
        made_at: row.made_at,
        runs: Vec::with_capacity(items.len()),
        open_runs: 0,
        errors: Vec::new(),
    };
    for item in items {
        batch.runs.push(RunId::from_uuid(item.run_id));
        batch.open_runs += u32::from(item.is_open);
        // One that is too large was made a failed run, which is what becomes of those. Source: facts B5.
        if let (Some(message), Some(code)) = (item.error, item.error_code)
            && code != ErrorCode::PayloadTooLarge.text()
        {
            batch.errors.push(ItemError { index: item.index.unsigned_abs(), task: item.task, message, code });
        }
    }
    Ok(Some(batch))
}

/// How a batch that is waited for stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchStanding {
    /// Its items are not all runs, so that nobody can wait for it.
    Unmade(Stage),
    /// Complete once all its runs are final.
    Made(Standing),
}

/// How these batches stand. Those that are not in the environment, if one is named, are missing.
///
/// # Errors
/// If the database does not answer.
pub async fn standing(
    connection: &mut PgConnection,
    environment: Option<EnvironmentId>,
    batches: &[BatchId],
) -> Result<Vec<(BatchId, BatchStanding)>, StoreError> {
    query!(
        r#"
        select b.id, b.stage, coalesce(bool_and(r.finished_at is not null), false) as "is_complete!",
            coalesce(sum(octet_length(r.output)), 0)::bigint as "bytes!"
        from batches b
        left join batch_items i on i.batch_id = b.id
        left join runs r on r.id = i.run_id
        where b.id = any($1) and ($2::uuid is null or b.environment_id = $2)
        group by b.id
        "#,
        &rows::uuids(batches),
        environment.map(|environment| environment.uuid())
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let standing = match rows::stage(&row.stage)? {
            Stage::Made => BatchStanding::Made(Standing::of(row.is_complete, row.bytes)),
            stage => BatchStanding::Unmade(stage),
        };
        Ok((BatchId::from_uuid(row.id), standing))
    })
    .collect()
}

/// The runs of batches that are made, in the order of the items.
///
/// # Errors
/// If the database does not answer.
pub async fn runs_of(
    connection: &mut PgConnection,
    environment: Option<EnvironmentId>,
    batches: &[BatchId],
) -> Result<Vec<(BatchId, Uuid)>, StoreError> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query!(
        r#"
        select i.batch_id, i.run_id as "run_id!" from batch_items i join batches b on b.id = i.batch_id
        where b.id = any($1) and ($2::uuid is null or b.environment_id = $2) and b.stage = 'MADE' and i.run_id is not null
        order by i.batch_id, i.index
        "#,
        &rows::uuids(batches),
        environment.map(|environment| environment.uuid())
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (BatchId::from_uuid(row.batch_id), row.run_id)).collect())
}

/// The runs of a batch that are final, in the order of the items, each with the bytes of its output.
///
/// # Errors
/// If the database does not answer.
pub async fn final_runs(store: &Store, batch: BatchId) -> Result<Vec<(Uuid, u64)>, StoreError> {
    let rows = query!(
        r#"
        select r.id, coalesce(octet_length(r.output), 0)::bigint as "bytes!" from batch_items i join runs r on r.id = i.run_id
        where i.batch_id = $1 and r.finished_at is not null order by i.index
        "#,
        batch.uuid()
    )
    .fetch_all(&mut *store.read().await?)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, rows::count(row.bytes))).collect())
}
