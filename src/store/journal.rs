//! Answers to a run's effectful calls since its last checkpoint.

use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, rows};
use crate::model::attempt::Lease;
use crate::model::id::{EnvironmentId, RunId};

/// The run's environment, if the lease is the newest; the run's row stays locked, so that it stays so.
///
/// # Errors
/// If the database does not answer.
pub async fn lock(connection: &mut PgConnection, lease: &Lease) -> Result<Option<EnvironmentId>, StoreError> {
    let environment = query_scalar!(
        "select environment_id from runs where id = $1 and lease_worker = $2 and epoch = $3 for share",
        lease.run.uuid(),
        lease.worker.uuid(),
        lease.epoch
    )
    .fetch_optional(connection)
    .await?;
    Ok(environment.map(EnvironmentId::from_uuid))
}

/// The answer to the call at this place, if it was the same call.
///
/// # Errors
/// If the database does not answer.
pub async fn answer(
    connection: &mut PgConnection,
    run: RunId,
    sequence: u64,
    ordinal: u32,
    digest: &[u8; 32],
) -> Result<Option<Value>, StoreError> {
    Ok(query_scalar!(
        "select result from journal where run_id = $1 and sequence = $2 and ordinal = $3 and digest = $4",
        run.uuid(),
        sequence as i64,
        ordinal as i32,
        &digest[..]
    )
    .fetch_optional(connection)
    .await?)
}

/// Keeps the answer to a call, in place of another call's at the same place.
///
/// # Errors
/// If the database does not answer.
pub async fn keep(
    connection: &mut PgConnection,
    run: RunId,
    sequence: u64,
    ordinal: u32,
    digest: &[u8; 32],
    result: &Value,
) -> Result<(), StoreError> {
    query!(
        "insert into journal (run_id, sequence, ordinal, digest, result) values ($1, $2, $3, $4, $5::text::json)
         on conflict (run_id, sequence, ordinal) do update set digest = excluded.digest, result = excluded.result",
        run.uuid(),
        sequence as i64,
        ordinal as i32,
        &digest[..],
        rows::to_json(result)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the answers: a checkpoint holds what the run made of them.
///
/// # Errors
/// If the database does not answer.
pub async fn clear(connection: &mut PgConnection, run: RunId) -> Result<(), StoreError> {
    query!("delete from journal where run_id = $1", run.uuid()).execute(connection).await?;
    Ok(())
}
