//! Gates: the limits that a run has to get through to begin. Its environment's, its queue's for its concurrency key, and those of its
//! task and of the names it goes by. What counts against them is who holds a lease.
//!
//! Whoever lets runs through a gate holds its row's lock until the leases are written, and counts after it got it. So no two claims
//! let one run too many through, and nothing has to be told, or can be lost, when a place becomes free.

use std::collections::HashMap;

use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{StoreError, lanes::Lane, rows};

/// What a gate says.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Runs that may execute at a time; none: any number. Of a queue: for each concurrency key.
    pub total: Option<u32>,
    /// Runs of one concurrency key that may execute at a time.
    pub per_key: Option<u32>,
    /// What holds for single keys instead.
    pub keys: HashMap<String, u32>,
}

/// Locks these gates, of environments, queues and limits, except those that another claim holds, and says what they say. Paused ones
/// let nothing through.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_free(
    connection: &mut PgConnection,
    environments: &[Uuid],
    queues: &[Uuid],
    limits: &[Uuid],
) -> Result<HashMap<Uuid, Bounds>, StoreError> {
    let rows = query!(
        r#"
        with environment as materialized (
            select id, case when paused then 0 else concurrency_limit end as total, null::integer as per_key
            from environments where id = any($1) order by id for no key update skip locked
        ), queue as materialized (
            select id, case when paused then 0 else coalesce(override_limit, declared_limit) end as total, null::integer as per_key
            from queues where id = any($2) order by id for no key update skip locked
        ), named as materialized (
            select id, case when paused then 0 else coalesce(override_total, declared_total) end as total,
                coalesce(override_per_key, declared_per_key) as per_key
            from concurrency_limits where id = any($3) order by id for no key update skip locked
        )
        select id as "id!", total, per_key from environment
        union all select id, total, per_key from queue
        union all select id, total, per_key from named
        "#,
        environments,
        queues,
        limits
    )
    .fetch_all(&mut *connection)
    .await?;
    let bound = |limit: Option<i32>| limit.map(i32::unsigned_abs);
    let of = |total, per_key| Bounds { total: bound(total), per_key: bound(per_key), keys: HashMap::new() };
    let mut gates: HashMap<Uuid, Bounds> = rows.into_iter().map(|row| (row.id, of(row.total, row.per_key))).collect();
    if !limits.is_empty() {
        let exceptions = query!(
            "select limit_id, concurrency_key, override from concurrency_limit_keys
             where limit_id = any($1) and expires_at > clock_now()",
            limits
        )
        .fetch_all(connection)
        .await?;
        for row in exceptions {
            if let Some(gate) = gates.get_mut(&row.limit_id) {
                gate.keys.insert(row.concurrency_key, row.r#override.unsigned_abs());
            }
        }
    }
    Ok(gates)
}

/// How many runs of these environments hold a lease, by the lane that they came from.
///
/// # Errors
/// If the database does not answer.
pub async fn leased(connection: &mut PgConnection, environments: &[Uuid]) -> Result<Vec<(Lane, u64)>, StoreError> {
    let rows = query!(
        r#"
        select environment_id, queue_id, limit_ids, concurrency_key, count(*) as "count!" from runs
        where environment_id = any($1) and lease_worker is not null
        group by environment_id, queue_id, limit_ids, concurrency_key
        "#,
        environments
    )
    .fetch_all(connection)
    .await?;
    let lane = |environment, queue, limits, key| Lane { environment, queue, limits, key };
    Ok(rows
        .into_iter()
        .map(|row| (lane(row.environment_id, row.queue_id, row.limit_ids, row.concurrency_key), rows::count(row.count)))
        .collect())
}
