//! The numbered entries of what happened to runs.

use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{Store, StoreError, notify, rows};
use crate::model::{
    event::{EventKind, RunEvent},
    id::RunId,
    run::RunStatus,
};

/// Most entries of one answer.
const MAX: u32 = 1000;

/// A run that a statement has just changed, with the number of the entry that tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Changed {
    /// The run.
    pub id: RunId,
    /// The number that the statement gave the entry.
    pub seq: i64,
    /// The run's status now.
    pub status: RunStatus,
}

/// Writes one entry for each run, and tells who follows them.
///
/// # Errors
/// If the database does not answer.
pub async fn record(connection: &mut PgConnection, kind: EventKind, changed: &[Changed]) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = changed.iter().map(|run| run.id.uuid()).collect();
    let seqs: Vec<i64> = changed.iter().map(|run| run.seq).collect();
    let statuses: Vec<&str> = changed.iter().map(|run| run.status.as_str()).collect();
    query!(
        r#"
        with entries as (
            insert into run_events (run_id, seq, at, kind, status)
            select id, seq, clock_now(), $1, status
            from unnest($2::uuid[], $3::bigint[], $4::text[]) as changed (id, seq, status)
        )
        select pg_notify($5, payload) from unnest($6::text[]) as payload
        "#,
        kind.as_str(),
        &ids,
        &seqs,
        &statuses as &[&str],
        notify::RUNS,
        &notify::payloads(&ids)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A run's events after `seq`, oldest first, at most `limit` (and 1000).
///
/// # Errors
/// If the database does not answer.
pub async fn after(store: &Store, run: RunId, seq: i64, limit: u32) -> Result<Vec<RunEvent>, StoreError> {
    query!(
        "select seq, at, kind, status from run_events where run_id = $1 and seq > $2 order by seq limit $3",
        run.uuid(),
        seq,
        i64::from(limit.min(MAX))
    )
    .fetch_all(&mut *store.read().await?)
    .await?
    .into_iter()
    .map(|row| {
        Ok(RunEvent { seq: row.seq, at: row.at, kind: rows::event_kind(&row.kind)?, status: rows::run_status(&row.status)? })
    })
    .collect()
}
