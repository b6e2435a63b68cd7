//! Queues as users see and change them. The places in them are the business of [`gates`](super::gates).

use chrono::{DateTime, Utc};
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
    overridden_at: Option<DateTime<Utc>>,
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
            overridden_at: row.overridden_at,
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
        select q.id, q.name, q.declared_limit, q.override_limit, q.overridden_at, q.paused,
            (select count(*) from runs where environment_id = q.environment_id and queue_id = q.id and status = 'QUEUED') as "queued!",
            (select count(*) from runs where environment_id = q.environment_id and queue_id = q.id and lease_worker is not null) as "running!"
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
        select q.id, q.name, q.declared_limit, q.override_limit, q.overridden_at, q.paused,
            (select count(*) from runs where environment_id = q.environment_id and queue_id = q.id and status = 'QUEUED') as "queued!",
            (select count(*) from runs where environment_id = q.environment_id and queue_id = q.id and lease_worker is not null) as "running!"
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

/// Writes what a deployment declares: these queues with these limits. Queues that it does not name keep theirs.
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
pub(super) fn to_column(limit: u32) -> i32 {
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
