//! What a run shows of itself while it runs: tags and metadata.

use serde_json::{Map, Value};
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, events::Changed, rows};
use crate::model::{
    id::{EnvironmentId, RunId},
    run::RunStatus,
};

/// A run's tags; its row is locked.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_tags(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    run: RunId,
) -> Result<Option<Vec<String>>, StoreError> {
    Ok(query_scalar!(
        "select tags from runs where id = $1 and environment_id = $2 for no key update",
        run.uuid(),
        environment.uuid()
    )
    .fetch_optional(connection)
    .await?)
}

/// Writes a run's tags.
///
/// # Errors
/// If the database does not answer.
pub async fn set_tags(connection: &mut PgConnection, run: RunId, tags: &[String]) -> Result<Changed, StoreError> {
    let row = query!(
        "update runs set tags = $2, updated_at = clock_now(), event_seq = event_seq + 1
         where id = $1 returning event_seq, status",
        run.uuid(),
        tags
    )
    .fetch_one(connection)
    .await?;
    Ok(Changed { id: run, seq: row.event_seq, status: rows::run_status(&row.status)? })
}

/// A run's parent and root, if it has them.
///
/// # Errors
/// If the database does not answer.
pub async fn family(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    run: RunId,
) -> Result<Option<(Option<RunId>, RunId)>, StoreError> {
    let row = query!("select parent_id, root_id from runs where id = $1 and environment_id = $2", run.uuid(), environment.uuid())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| (row.parent_id.map(RunId::from_uuid), RunId::from_uuid(row.root_id))))
}

/// A run's metadata, for a change.
#[derive(Debug)]
pub struct Noted {
    /// The run.
    pub id: RunId,
    /// Where it is.
    pub status: RunStatus,
    /// Its metadata.
    pub metadata: Map<String, Value>,
}

/// The metadata of these runs; their rows are locked, in the order of their ids.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_metadata(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    runs: &[RunId],
) -> Result<Vec<Noted>, StoreError> {
    query!(
        "select id, status, metadata from runs where id = any($1) and environment_id is not distinct from $2
         order by id for no key update",
        &rows::uuids(runs),
        environment.uuid()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Noted { id: RunId::from_uuid(row.id), status: rows::run_status(&row.status)?, metadata: rows::object(row.metadata) })
    })
    .collect()
}

/// Writes a run's metadata.
///
/// # Errors
/// If the database does not answer.
pub async fn set_metadata(connection: &mut PgConnection, noted: &Noted) -> Result<Changed, StoreError> {
    let seq = query_scalar!(
        "update runs set metadata = $2::text::json, seed_metadata = coalesce(seed_metadata, metadata), updated_at = clock_now(), event_seq = event_seq + 1
         where id = $1 returning event_seq",
        noted.id.uuid(),
        rows::to_json(&noted.metadata)
    )
    .fetch_one(connection)
    .await?;
    Ok(Changed { id: noted.id, seq, status: noted.status })
}

/// A run's metadata.
///
/// # Errors
/// If the database does not answer.
pub async fn metadata(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    run: RunId,
) -> Result<Option<Map<String, Value>>, StoreError> {
    let found = query_scalar!("select metadata from runs where id = $1 and environment_id = $2", run.uuid(), environment.uuid())
        .fetch_optional(connection)
        .await?;
    Ok(found.map(rows::object))
}
