//! Concurrency limits as users see and change them. Who is let through is the business of [`gates`](super::gates).

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError, leases::interval, rows};
use crate::model::{
    id::{EnvironmentId, LimitId},
    limit::{Bound, KeyLimit, Limit},
    task::LimitDefinition,
};

struct Row {
    id: Uuid,
    name: String,
    declared_total: Option<i32>,
    override_total: Option<i32>,
    total_overridden_at: Option<DateTime<Utc>>,
    declared_per_key: Option<i32>,
    override_per_key: Option<i32>,
    per_key_overridden_at: Option<DateTime<Utc>>,
    paused: bool,
    queued: i64,
    running: i64,
}

impl From<Row> for Limit {
    fn from(row: Row) -> Limit {
        let bound = |declared: Option<i32>, by_hand: Option<i32>, set_at| Bound {
            declared: declared.map(i32::unsigned_abs),
            by_hand: by_hand.map(i32::unsigned_abs),
            set_at,
        };
        Limit {
            id: LimitId::from_uuid(row.id),
            name: row.name,
            total: bound(row.declared_total, row.override_total, row.total_overridden_at),
            per_key: bound(row.declared_per_key, row.override_per_key, row.per_key_overridden_at),
            is_paused: row.paused,
            queued: rows::count(row.queued),
            running: rows::count(row.running),
        }
    }
}

/// Limits by name, and how many there are: `size` from `offset` on; or the one with this name.
///
/// # Errors
/// If the database does not answer.
pub async fn list(
    store: &Store,
    environment: EnvironmentId,
    name: Option<&str>,
    offset: u32,
    size: u32,
) -> Result<(Vec<Limit>, u64), StoreError> {
    let connection = &mut *store.read().await?;
    let found = select(connection, environment, name, offset, size).await?;
    let count = query_scalar!(
        r#"select count(*) as "count!" from concurrency_limits where environment_id = $1 and ($2::text is null or name = $2)"#,
        environment.uuid(),
        name
    )
    .fetch_one(connection)
    .await?;
    Ok((found, rows::count(count)))
}

/// The limit with this name.
///
/// # Errors
/// If the database does not answer.
pub async fn find(connection: &mut PgConnection, environment: EnvironmentId, name: &str) -> Result<Option<Limit>, StoreError> {
    Ok(select(connection, environment, Some(name), 0, 1).await?.pop())
}

async fn select(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    name: Option<&str>,
    offset: u32,
    size: u32,
) -> Result<Vec<Limit>, StoreError> {
    let found = query_as!(
        Row,
        r#"
        select l.id, l.name, l.declared_total, l.override_total, l.total_overridden_at, l.declared_per_key, l.override_per_key,
            l.per_key_overridden_at, l.paused,
            (select count(*) from runs r
             where r.environment_id = l.environment_id and r.status = 'QUEUED' and l.id = any(r.limit_ids)) as "queued!",
            (select count(*) from runs r
             where r.environment_id = l.environment_id and r.lease_worker is not null and l.id = any(r.limit_ids)) as "running!"
        from concurrency_limits l
        where l.environment_id = $1 and ($2::text is null or l.name = $2)
        order by l.name offset $3 limit $4
        "#,
        environment.uuid(),
        name,
        i64::from(offset),
        i64::from(size)
    )
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(Limit::from).collect())
}

/// A limit as runs with this concurrency key find it.
///
/// # Errors
/// If the database does not answer.
pub async fn of_key(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    limit: Limit,
    key: &str,
) -> Result<KeyLimit, StoreError> {
    let row = query!(
        r#"
        select (select count(*) from runs r where r.environment_id = $1 and r.lease_worker is not null
                and $2 = any(r.limit_ids) and r.concurrency_key = $3) as "running!",
            k.override as "exception?", k.expires_at as "expires_at?"
        from (select) one
        left join concurrency_limit_keys k on k.limit_id = $2 and k.concurrency_key = $3 and k.expires_at > clock_now()
        "#,
        environment.uuid(),
        limit.id.uuid(),
        key
    )
    .fetch_one(connection)
    .await?;
    Ok(KeyLimit {
        limit,
        key: key.to_owned(),
        exception: row.exception.map(i32::unsigned_abs).zip(row.expires_at),
        running: rows::count(row.running),
    })
}

/// The ids of limits with these names, as far as there are such.
///
/// # Errors
/// If the database does not answer.
pub async fn ids(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    names: &[String],
) -> Result<HashMap<String, Uuid>, StoreError> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let rows =
        query!("select name, id from concurrency_limits where environment_id = $1 and name = any($2)", environment.uuid(), names)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.id)).collect())
}

/// Writes what a deployment declares: these limits. Those that it does not name stay as they are; and if it is not the current one,
/// those that there are: it only adds what its own runs need.
///
/// # Errors
/// If the database does not answer.
pub async fn declare(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    limits: &[LimitDefinition],
    is_current: bool,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = limits.iter().map(|_| LimitId::new().uuid()).collect();
    let names: Vec<&str> = limits.iter().map(|limit| limit.name.as_str()).collect();
    let totals: Vec<Option<i32>> = limits.iter().map(|limit| limit.total.map(column)).collect();
    let per_keys: Vec<Option<i32>> = limits.iter().map(|limit| limit.per_key.map(column)).collect();
    query!(
        "insert into concurrency_limits (id, environment_id, name, declared_total, declared_per_key)
         select id, $1, name, total, per_key
         from unnest($2::uuid[], $3::text[], $4::integer[], $5::integer[]) as declared (id, name, total, per_key)
         order by name
         on conflict (environment_id, name)
         do update set declared_total = excluded.declared_total, declared_per_key = excluded.declared_per_key where $6",
        environment.uuid(),
        &ids,
        &names as &[&str],
        &totals as &[Option<i32>],
        &per_keys as &[Option<i32>],
        is_current
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn column(bound: u32) -> i32 {
    i32::try_from(bound).unwrap_or(i32::MAX)
}

/// Lets nothing through any more, or lets runs through again.
///
/// # Errors
/// If the database does not answer.
pub async fn set_paused(connection: &mut PgConnection, limit: LimitId, paused: bool) -> Result<(), StoreError> {
    query!("update concurrency_limits set paused = $2 where id = $1", limit.uuid(), paused).execute(connection).await?;
    Ok(())
}

/// Overrides those bounds that are given.
///
/// # Errors
/// If the database does not answer.
pub async fn set_by_hand(
    connection: &mut PgConnection,
    limit: LimitId,
    total: Option<u32>,
    per_key: Option<u32>,
) -> Result<(), StoreError> {
    query!(
        "update concurrency_limits
         set override_total = coalesce($2, override_total), override_per_key = coalesce($3, override_per_key),
             total_overridden_at = case when $2::integer is null then total_overridden_at else clock_now() end,
             per_key_overridden_at = case when $3::integer is null then per_key_overridden_at else clock_now() end
         where id = $1",
        limit.uuid(),
        total.map(column),
        per_key.map(column)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Goes back to the declared bounds. Exceptions for keys stay.
///
/// # Errors
/// If the database does not answer.
pub async fn reset(connection: &mut PgConnection, limit: LimitId) -> Result<(), StoreError> {
    query!(
        "update concurrency_limits
         set override_total = null, override_per_key = null, total_overridden_at = null, per_key_overridden_at = null
         where id = $1",
        limit.uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes an exception for a key, for a while, in place of one there may be. Those whose time is over go.
///
/// # Errors
/// If the database does not answer.
pub async fn set_exception(
    connection: &mut PgConnection,
    limit: LimitId,
    key: &str,
    bound: u32,
    ttl: Duration,
) -> Result<(), StoreError> {
    query!("delete from concurrency_limit_keys where limit_id = $1 and expires_at <= clock_now()", limit.uuid())
        .execute(&mut *connection)
        .await?;
    query!(
        "insert into concurrency_limit_keys (limit_id, concurrency_key, override, expires_at)
         values ($1, $2, $3, clock_now() + $4::interval)
         on conflict (limit_id, concurrency_key) do update set override = excluded.override, expires_at = excluded.expires_at",
        limit.uuid(),
        key,
        column(bound),
        interval(ttl)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many exceptions a limit has.
///
/// # Errors
/// If the database does not answer.
pub async fn count_exceptions(connection: &mut PgConnection, limit: LimitId) -> Result<u64, StoreError> {
    let count = query_scalar!(
        r#"select count(*) as "count!" from concurrency_limit_keys where limit_id = $1 and expires_at > clock_now()"#,
        limit.uuid()
    )
    .fetch_one(connection)
    .await?;
    Ok(rows::count(count))
}

/// Ends the exception for a key.
///
/// # Errors
/// If the database does not answer.
pub async fn end_exception(connection: &mut PgConnection, limit: LimitId, key: &str) -> Result<(), StoreError> {
    query!("delete from concurrency_limit_keys where limit_id = $1 and concurrency_key = $2", limit.uuid(), key)
        .execute(connection)
        .await?;
    Ok(())
}
