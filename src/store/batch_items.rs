//! The items of batches: kept until they are runs, and what run each became.

use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, rows};
use crate::model::{
    batch::Refusal,
    id::{BatchId, RunId},
};

/// An item as it is kept until it is a run, and while it waits for that.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its place.
    pub index: u32,
    /// Its task.
    pub task: String,
    /// A [`NewRun`](crate::model::trigger::NewRun) without its payload; none: it was refused.
    pub draft: Option<Value>,
    /// Its payload.
    pub payload: Vec<u8>,
    /// The payload's content type.
    pub payload_type: String,
    /// Why it was refused.
    pub refusal: Option<Refusal>,
}

/// Adds items, and says how many there were not yet.
///
/// # Errors
/// If the database does not answer.
pub async fn add(connection: &mut PgConnection, batch: BatchId, items: &[Kept]) -> Result<u32, StoreError> {
    let indexes: Vec<i32> = items.iter().map(|item| item.index as i32).collect();
    let tasks: Vec<&str> = items.iter().map(|item| item.task.as_str()).collect();
    let drafts: Vec<Option<String>> = items.iter().map(|item| item.draft.as_ref().map(rows::to_json)).collect();
    let payloads: Vec<&[u8]> = items.iter().map(|item| item.payload.as_slice()).collect();
    let types: Vec<&str> = items.iter().map(|item| item.payload_type.as_str()).collect();
    let errors: Vec<Option<&str>> =
        items.iter().map(|item| item.refusal.as_ref().map(|refusal| refusal.message.as_str())).collect();
    let codes: Vec<Option<String>> = items.iter().map(|item| item.refusal.as_ref().map(|refusal| refusal.code.text())).collect();
    let added = query!(
        "with added as (
            insert into batch_items (batch_id, index, task, draft, payload, payload_type, error, error_code)
            select $1, index, task, draft::json, payload, payload_type, error, error_code
            from unnest($2::integer[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[])
                as item (index, task, draft, payload, payload_type, error, error_code)
            on conflict (batch_id, index) do nothing
            returning index
         ), touched as (
            update batches set updated_at = clock_now() where id = $1
         )
         select index from added",
        batch.uuid(),
        &indexes,
        &tasks as &[&str],
        &drafts as &[Option<String>],
        &payloads as &[&[u8]],
        &types as &[&str],
        &errors as &[Option<&str>],
        &codes as &[Option<String>]
    )
    .fetch_all(connection)
    .await?;
    Ok(added.len() as u32)
}

/// How many items there are.
///
/// # Errors
/// If the database does not answer.
pub async fn count(connection: &mut PgConnection, batch: BatchId) -> Result<u32, StoreError> {
    let count = query_scalar!(r#"select count(*) as "count!" from batch_items where batch_id = $1"#, batch.uuid())
        .fetch_one(connection)
        .await?;
    Ok(count as u32)
}

/// Items that are alike in what decides on their queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Their task.
    pub task: String,
    /// The queue that they name.
    pub queue: Option<String>,
    /// The version that they name.
    pub version: Option<String>,
    /// The deployment that they name.
    pub external_deployment: Option<String>,
    /// How many there are.
    pub count: u64,
}

/// What the items of a batch want that are to become runs.
///
/// # Errors
/// If the database does not answer.
pub async fn wanted(connection: &mut PgConnection, batch: BatchId) -> Result<Vec<Wanted>, StoreError> {
    let rows = query!(
        r#"
        select task, draft ->> 'queue' as queue, draft ->> 'version' as version,
            draft ->> 'external_deployment' as external_deployment, count(*) as "count!"
        from batch_items where batch_id = $1 and draft is not null
        group by 1, 2, 3, 4
        "#,
        batch.uuid()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Wanted {
            task: row.task,
            queue: row.queue,
            version: row.version,
            external_deployment: row.external_deployment,
            count: rows::count(row.count),
        })
        .collect())
}

/// Whether some items of a batch are not runs yet.
///
/// # Errors
/// If the database does not answer.
pub async fn are_left(connection: &mut PgConnection, batch: BatchId) -> Result<bool, StoreError> {
    Ok(query_scalar!(
        r#"select exists (select from batch_items where batch_id = $1 and run_id is null) as "exists!""#,
        batch.uuid()
    )
    .fetch_one(connection)
    .await?)
}

/// The next items that are to become runs: at most `max`, and not more once they have `max_bytes` of payloads.
///
/// # Errors
/// If the database does not answer.
pub async fn to_make(connection: &mut PgConnection, batch: BatchId, max: i64, max_bytes: i64) -> Result<Vec<Kept>, StoreError> {
    query!(
        r#"
        select index as "index!", task as "task!", draft, payload, payload_type, error, error_code
        from (
            select i.*, coalesce(sum(octet_length(payload)) over (order by index rows between unbounded preceding and 1 preceding), 0)
                as bytes_before
            from batch_items i where batch_id = $1 and run_id is null
        ) item
        where bytes_before < $2
        order by index limit $3
        "#,
        batch.uuid(),
        max_bytes,
        max
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let code = row.error_code.map(|code| rows::json("batch_items", Value::String(code))).transpose()?;
        Ok(Kept {
            index: row.index.unsigned_abs(),
            task: row.task,
            draft: row.draft,
            payload: row.payload.unwrap_or_default(),
            payload_type: row.payload_type.unwrap_or_default(),
            refusal: row.error.zip(code).map(|(message, code)| Refusal { code, message }),
        })
    })
    .collect()
}

/// An item that has a run now.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its place.
    pub index: u32,
    /// Its task.
    pub task: String,
    /// Its run.
    pub run: RunId,
    /// Why that has failed already.
    pub refusal: Option<Refusal>,
}

/// Notes the runs of items, whether the items were kept or not, and drops what is kept of them.
///
/// # Errors
/// If the database does not answer.
pub async fn note_made(connection: &mut PgConnection, batch: BatchId, made: &[Made]) -> Result<(), StoreError> {
    let indexes: Vec<i32> = made.iter().map(|item| item.index as i32).collect();
    let tasks: Vec<&str> = made.iter().map(|item| item.task.as_str()).collect();
    let runs: Vec<Uuid> = made.iter().map(|item| item.run.uuid()).collect();
    let errors: Vec<Option<&str>> =
        made.iter().map(|item| item.refusal.as_ref().map(|refusal| refusal.message.as_str())).collect();
    let codes: Vec<Option<String>> = made.iter().map(|item| item.refusal.as_ref().map(|refusal| refusal.code.text())).collect();
    query!(
        "insert into batch_items (batch_id, index, task, run_id, error, error_code)
         select $1, index, task, run_id, error, error_code
         from unnest($2::integer[], $3::text[], $4::uuid[], $5::text[], $6::text[])
             as item (index, task, run_id, error, error_code)
         on conflict (batch_id, index) do update set run_id = excluded.run_id, error = excluded.error,
             error_code = excluded.error_code, draft = null, payload = null, payload_type = null",
        batch.uuid(),
        &indexes,
        &tasks as &[&str],
        &runs,
        &errors as &[Option<&str>],
        &codes as &[Option<String>]
    )
    .execute(connection)
    .await?;
    Ok(())
}
