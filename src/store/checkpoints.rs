//! Where suspended runs go on.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, events::Changed, rows};
use crate::model::{
    attempt::Lease,
    checkpoint::CheckpointRef,
    id::{EnvironmentId, RunId},
    run::RunStatus,
    waitpoint::WaitRequest,
};

/// A run that was suspended just now.
#[derive(Debug)]
pub struct Frozen {
    /// The entry that tells of it.
    pub changed: Changed,
    /// Where it lives.
    pub environment: EnvironmentId,
}

/// Suspends a run whose lease this is, until `due_at` at the latest; none if it is not.
///
/// # Errors
/// If the database does not answer.
pub async fn freeze(
    connection: &mut PgConnection,
    lease: &Lease,
    due_at: Option<DateTime<Utc>>,
    used_cpu_ms: u64,
) -> Result<Option<Frozen>, StoreError> {
    let row = query!(
        "update runs
         set status = 'WAITING', lease_worker = null, lease_expires_at = null, due_at = $4, attempt_cpu_ms = $5,
             stalls = 0, updated_at = clock_now(), event_seq = event_seq + 1
         where id = $1 and lease_worker = $2 and epoch = $3
         returning event_seq, environment_id",
        lease.run.uuid(),
        lease.worker.uuid(),
        lease.epoch,
        due_at,
        used_cpu_ms as i64
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Frozen {
        changed: Changed { id: lease.run, seq: row.event_seq, status: RunStatus::Waiting },
        environment: EnvironmentId::from_uuid(row.environment_id),
    }))
}

/// Puts the checkpoint in place of the one the run had, and returns that one's digest.
///
/// # Errors
/// If the database does not answer.
pub async fn replace(
    connection: &mut PgConnection,
    run: RunId,
    checkpoint: &CheckpointRef,
    wait: &WaitRequest,
) -> Result<Option<String>, StoreError> {
    let before =
        query_scalar!("select digest from checkpoints where run_id = $1", run.uuid()).fetch_optional(&mut *connection).await?;
    query!(
        "insert into checkpoints (run_id, sequence, digest, stored_bytes, raw_bytes, wait, rewritten, created_at)
         values ($1, $2, $3, $4, $5, $6::text::json, $7, clock_now())
         on conflict (run_id) do update set sequence = excluded.sequence, digest = excluded.digest,
             stored_bytes = excluded.stored_bytes, raw_bytes = excluded.raw_bytes, wait = excluded.wait,
             rewritten = excluded.rewritten, created_at = excluded.created_at",
        run.uuid(),
        checkpoint.sequence as i64,
        checkpoint.digest,
        checkpoint.stored_bytes as i64,
        checkpoint.raw_bytes as i64,
        rows::to_json(wait),
        checkpoint.rewritten
    )
    .execute(connection)
    .await?;
    Ok(before)
}

/// Which of these digests no checkpoint, no deployment and no rewritten component names.
///
/// # Errors
/// If the database does not answer.
pub async fn unnamed(connection: &mut PgConnection, digests: &[String]) -> Result<Vec<String>, StoreError> {
    Ok(query_scalar!(
        r#"
        select digest as "digest!" from unnest($1::text[]) as asked (digest)
        where not exists (select from checkpoints c where c.digest = asked.digest)
            and not exists (select from deployments d where d.component = asked.digest)
            and not exists (select from rewritings w where w.digest = asked.digest)
        "#,
        digests
    )
    .fetch_all(connection)
    .await?)
}
