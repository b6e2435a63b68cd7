//! Queues, and the places in those that have a limit.
//!
//! Runs of a queue without a limit need nothing from here. A run of a full queue whose turn comes is *parked*: taken out
//! of the line, so that a million of them cost a claim nothing. Whoever frees a place of a limited queue puts the first
//! parked run of the same pool back. Both hold the queue's row lock, so no run is parked just after the last place was
//! freed.

use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError, rows};
use crate::model::{
    id::{EnvironmentId, QueueId},
    queue::Queue,
};

/// Most queues of one answer.
const MAX: u32 = 100;

/// How a queue is named in a request.
#[derive(Debug, Clone)]
pub enum Which {
    /// By its id.
    Id(QueueId),
    /// By its name; `task/<id>` for a task's own.
    Name(String),
}

struct Row {
    id: Uuid,
    name: String,
    declared_limit: Option<i32>,
    override_limit: Option<i32>,
    paused: bool,
    queued: i64,
    running: i64,
}

impl From<Row> for Queue {
    fn from(row: Row) -> Queue {
        Queue {
            id: QueueId::from_uuid(row.id),
            name: row.name,
            declared_limit: row.declared_limit.map(i32::unsigned_abs),
            override_limit: row.override_limit.map(i32::unsigned_abs),
            is_paused: row.paused,
            queued: rows::count(row.queued),
            running: rows::count(row.running),
        }
    }
}

/// One queue.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, environment: EnvironmentId, which: &Which) -> Result<Option<Queue>, StoreError> {
    find(&mut *store.read().await?, environment, which).await
}

pub(crate) async fn find(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    which: &Which,
) -> Result<Option<Queue>, StoreError> {
    let (id, name) = match which {
        Which::Id(id) => (Some(id.uuid()), None),
        Which::Name(name) => (None, Some(name.as_str())),
    };
    let row = query_as!(
        Row,
        r#"
        select q.id, q.name, q.declared_limit, q.override_limit, q.paused,
            (select count(*) from runs where queue_id = q.id and status = 'QUEUED') as "queued!",
            (select count(*) from runs where queue_id = q.id and lease_worker is not null) as "running!"
        from queues q
        where q.environment_id = $1 and (q.id = $2 or q.name = $3)
        "#,
        environment.uuid(),
        id,
        name
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Queue::from))
}

/// Queues by name, and how many there are; at most `limit` (and 100), from `offset` on.
///
/// # Errors
/// If the database does not answer.
pub async fn list(store: &Store, environment: EnvironmentId, offset: u32, limit: u32) -> Result<(Vec<Queue>, u64), StoreError> {
    let connection = &mut *store.read().await?;
    let found = query_as!(
        Row,
        r#"
        select q.id, q.name, q.declared_limit, q.override_limit, q.paused,
            (select count(*) from runs where queue_id = q.id and status = 'QUEUED') as "queued!",
            (select count(*) from runs where queue_id = q.id and lease_worker is not null) as "running!"
        from queues q
        where q.environment_id = $1
        order by q.name
        offset $2 limit $3
        "#,
        environment.uuid(),
        i64::from(offset),
        i64::from(limit.min(MAX))
    )
    .fetch_all(&mut *connection)
    .await?;
    let count = query_scalar!(r#"select count(*) as "count!" from queues where environment_id = $1"#, environment.uuid())
        .fetch_one(connection)
        .await?;
    Ok((found.into_iter().map(Queue::from).collect(), rows::count(count)))
}

/// The queue with this name, made if it is not there.
///
/// # Errors
/// If the database does not answer.
pub async fn ensure(connection: &mut PgConnection, environment: EnvironmentId, name: &str) -> Result<QueueId, StoreError> {
    let found = query_scalar!("select id from queues where environment_id = $1 and name = $2", environment.uuid(), name)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(id) = found {
        return Ok(QueueId::from_uuid(id));
    }
    let id = query_scalar!(
        "insert into queues (id, environment_id, name) values ($1, $2, $3)
         on conflict (environment_id, name) do update set name = excluded.name returning id",
        QueueId::new().uuid(),
        environment.uuid(),
        name
    )
    .fetch_one(connection)
    .await?;
    Ok(QueueId::from_uuid(id))
}

/// Writes what a deployment declares: these queues with these limits. Queues that it does not name keep theirs. Returns
/// those that are new or have another limit now.
///
/// # Errors
/// If the database does not answer.
pub async fn declare(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    queues: &[(String, Option<u32>)],
) -> Result<Vec<QueueId>, StoreError> {
    let ids: Vec<Uuid> = queues.iter().map(|_| QueueId::new().uuid()).collect();
    let names: Vec<&str> = queues.iter().map(|(name, _)| name.as_str()).collect();
    let limits: Vec<Option<i32>> = queues.iter().map(|(_, limit)| limit.map(to_column)).collect();
    let changed = query_scalar!(
        "insert into queues (id, environment_id, name, declared_limit)
         select id, $1, name, declared_limit
         from unnest($2::uuid[], $3::text[], $4::integer[]) as queue (id, name, declared_limit)
         order by name
         on conflict (environment_id, name) do update set declared_limit = excluded.declared_limit
             where queues.declared_limit is distinct from excluded.declared_limit
         returning id",
        environment.uuid(),
        &ids,
        &names as &[&str],
        &limits as &[Option<i32>]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows::ids(changed))
}

/// A limit as a column holds it; beyond what that can hold there is none to speak of.
fn to_column(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// Stops taking runs from a queue, or takes them again.
///
/// # Errors
/// If the database does not answer.
pub async fn set_paused(connection: &mut PgConnection, queue: QueueId, paused: bool) -> Result<(), StoreError> {
    query!("update queues set paused = $2 where id = $1", queue.uuid(), paused).execute(connection).await?;
    Ok(())
}

/// Overrides the declared limit; none: goes back to it.
///
/// # Errors
/// If the database does not answer.
pub async fn set_override(connection: &mut PgConnection, queue: QueueId, limit: Option<u32>) -> Result<(), StoreError> {
    query!(
        "update queues
         set override_limit = $2, overridden_at = case when $2::integer is null then null else clock_now() end
         where id = $1",
        queue.uuid(),
        limit.map(to_column)
    )
    .execute(connection)
    .await?;
    Ok(())
}

// Places ---------------------------------------------------------------------------------------------------------------

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
