//! Delayed runs by their debounce keys.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, events::Changed, rows};
use crate::model::{
    id::{EnvironmentId, RunId},
    run::RunStatus,
    trigger::NewRun,
};

/// A delayed run that has a debounce key, locked.
#[derive(Debug)]
pub struct Held {
    /// The run.
    pub id: RunId,
    /// When the first trigger with the key made it.
    pub created_at: DateTime<Utc>,
    /// When it shall begin.
    pub delay_until: DateTime<Utc>,
}

/// The run with this key that is still delayed. Waits for whoever is changing it, and looks again then.
///
/// # Errors
/// If the database does not answer.
pub async fn hold(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    task: &str,
    key: &str,
) -> Result<Option<Held>, StoreError> {
    let row = query!(
        r#"
        select id, created_at, coalesce(delay_until, created_at) as "delay_until!" from runs
        where environment_id = $1 and task = $2 and debounce_key = $3 and status = 'DELAYED'
        for no key update
        "#,
        environment.uuid(),
        task,
        key
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Held { id: RunId::from_uuid(row.id), created_at: row.created_at, delay_until: row.delay_until }))
}

/// Takes the key from a run: it begins when it was to begin, and the next trigger with the key makes another.
///
/// # Errors
/// If the database does not answer.
pub async fn let_go(connection: &mut PgConnection, run: RunId) -> Result<(), StoreError> {
    query!("update runs set debounce_key = null where id = $1", run.uuid()).execute(connection).await?;
    Ok(())
}

/// Lets a delayed run begin at another time.
///
/// # Errors
/// If the database does not answer.
pub async fn put_off(connection: &mut PgConnection, run: RunId, until: DateTime<Utc>) -> Result<Changed, StoreError> {
    let seq = query_scalar!(
        "update runs
         set delay_until = $2, due_at = $2, updated_at = clock_now(), event_seq = event_seq + 1
         where id = $1
         returning event_seq",
        run.uuid(),
        until
    )
    .fetch_one(connection)
    .await?;
    Ok(delayed(run, seq))
}

/// Lets a delayed run begin at another time and be as this trigger says: its payload, and what else it sets of what may change.
/// Source: facts A12.
///
/// # Errors
/// If the database does not answer.
pub async fn replace(
    connection: &mut PgConnection,
    run: RunId,
    until: DateTime<Utc>,
    new: &NewRun,
) -> Result<Changed, StoreError> {
    let seq = query_scalar!(
        "update runs
         set delay_until = $2, due_at = $2, payload = $3, payload_type = $4,
             tags = coalesce(nullif($5::text[], '{}'), tags), metadata = coalesce($6::text::json, metadata),
             seed_metadata = case when $6::text is null then seed_metadata end,
             max_attempts = coalesce($7, max_attempts), max_duration_ms = coalesce($8, max_duration_ms),
             machine = coalesce($9, machine), updated_at = clock_now(), event_seq = event_seq + 1
         where id = $1
         returning event_seq",
        run.uuid(),
        until,
        new.payload.data,
        new.payload.content_type,
        &new.tags,
        Some(&new.metadata).filter(|metadata| !metadata.is_empty()).map(rows::to_json),
        new.max_attempts.map(|most| i32::try_from(most).unwrap_or(i32::MAX)),
        new.max_duration_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        new.machine.map(|machine| machine.as_str())
    )
    .fetch_one(connection)
    .await?;
    Ok(delayed(run, seq))
}

fn delayed(run: RunId, seq: i64) -> Changed {
    Changed { id: run, seq, status: RunStatus::Delayed }
}
