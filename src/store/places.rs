//! The places in queues that have a limit.
//!
//! Runs of a queue without a limit need nothing from here. A run of a full queue whose turn comes is *parked*: taken out
//! of the line, so that a million of them cost a claim nothing. Whoever frees a place of a limited queue puts the first
//! parked run of the same pool back. Both hold the queue's row lock, so no run is parked just after the last place was
//! freed.

use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, rows};
use crate::model::id::QueueId;

/// The runs of a queue that count together: those with the same concurrency key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pool {
    /// The queue.
    pub queue: QueueId,
    /// The concurrency key; empty: none.
    pub key: String,
}

/// Locks these queues, except those that another transaction holds, and says how many runs each may have: the limit, 0 for
/// a paused one, none if there is no limit.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_free(connection: &mut PgConnection, queues: &[QueueId]) -> Result<Vec<(QueueId, Option<u32>)>, StoreError> {
    let rows = query!(
        r#"
        select id, case when paused then 0 else coalesce(override_limit, declared_limit) end as "limit"
        from queues where id = any($1) order by id for no key update skip locked
        "#,
        &rows::uuids(queues)
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (QueueId::from_uuid(row.id), row.limit.map(i32::unsigned_abs))).collect())
}

/// How many places of these queues are taken, by pool.
///
/// # Errors
/// If the database does not answer.
pub async fn taken(connection: &mut PgConnection, queues: &[QueueId]) -> Result<Vec<(Pool, u64)>, StoreError> {
    let rows = query!(
        r#"
        select queue_id, concurrency_key, count(*) as "count!" from runs
        where queue_id = any($1) and lease_worker is not null
        group by queue_id, concurrency_key
        "#,
        &rows::uuids(queues)
    )
    .fetch_all(connection)
    .await?;
    let pool = |id, key| Pool { queue: QueueId::from_uuid(id), key };
    Ok(rows.into_iter().map(|row| (pool(row.queue_id, row.concurrency_key), rows::count(row.count))).collect())
}

/// Takes runs out of the line until a place is free.
///
/// # Errors
/// If the database does not answer.
pub async fn park(connection: &mut PgConnection, runs: &[Uuid]) -> Result<(), StoreError> {
    if runs.is_empty() {
        return Ok(());
    }
    query!("update runs set parked = true where id = any($1)", runs).execute(connection).await?;
    Ok(())
}

/// Puts the first parked run of each pool back into the line. Call it once for each place that was freed, or not used.
/// Queues without a limit park nothing, so they are passed over without a lock.
///
/// # Errors
/// If the database does not answer.
pub async fn place_freed(connection: &mut PgConnection, pools: &[Pool]) -> Result<(), StoreError> {
    let mut queues: Vec<Uuid> = pools.iter().map(|pool| pool.queue.uuid()).collect();
    queues.sort();
    queues.dedup();
    let limited = query_scalar!(
        "select id from queues
         where id = any($1) and (paused or override_limit is not null or declared_limit is not null)
         order by id for no key update",
        &queues
    )
    .fetch_all(&mut *connection)
    .await?;
    for pool in pools.iter().filter(|pool| limited.contains(&pool.queue.uuid())) {
        query!(
            "update runs set parked = false
             where id = (
                 select id from runs
                 where queue_id = $1 and concurrency_key = $2 and status = 'QUEUED' and parked
                 order by position, id limit 1 for update skip locked
             )",
            pool.queue.uuid(),
            pool.key
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Puts all parked runs of these queues back into the line: their limit has changed. Locks the queues.
///
/// # Errors
/// If the database does not answer.
pub async fn unpark_all(connection: &mut PgConnection, queues: &[QueueId]) -> Result<u64, StoreError> {
    let queues = rows::uuids(queues);
    query_scalar!("select id from queues where id = any($1) order by id for no key update", &queues)
        .fetch_all(&mut *connection)
        .await?;
    let done = query!("update runs set parked = false where queue_id = any($1) and status = 'QUEUED' and parked", &queues)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
