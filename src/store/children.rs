//! Runs as their parents, and whoever else waits for them, see them.

use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, events::Changed, rows};
use crate::model::{
    child::{RunEnd, RunOutcome},
    id::{EnvironmentId, RunId},
};

/// The version that a run is bound to.
///
/// # Errors
/// If the database does not answer.
pub async fn version_of(connection: &mut PgConnection, run: RunId) -> Result<Option<String>, StoreError> {
    Ok(query_scalar!("select d.version from runs r join deployments d on d.id = r.deployment_id where r.id = $1", run.uuid())
        .fetch_optional(connection)
        .await?)
}

/// How something that is waited for stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is still to come.
    Open,
    /// It is complete.
    Complete {
        /// Bytes of what it came to.
        bytes: u64,
    },
}

impl Standing {
    pub(super) fn of(is_complete: bool, bytes: i64) -> Standing {
        if is_complete { Standing::Complete { bytes: rows::count(bytes) } } else { Standing::Open }
    }
}

/// How these runs stand. Those that are not in the environment, if one is named, are missing.
///
/// # Errors
/// If the database does not answer.
pub async fn standing(
    connection: &mut PgConnection,
    environment: Option<EnvironmentId>,
    runs: &[RunId],
) -> Result<Vec<(RunId, Standing)>, StoreError> {
    let rows = query!(
        r#"
        select id, finished_at is not null as "is_final!", coalesce(octet_length(output), 0)::bigint as "bytes!" from runs
        where id = any($1) and ($2::uuid is null or environment_id = $2)
        "#,
        &rows::uuids(runs),
        environment.map(|environment| environment.uuid())
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (RunId::from_uuid(row.id), Standing::of(row.is_final, row.bytes))).collect())
}

/// What these runs came to; those that are not final are missing.
///
/// # Errors
/// If the database does not answer.
pub async fn ends(connection: &mut PgConnection, runs: &[Uuid]) -> Result<Vec<RunEnd>, StoreError> {
    query!("select id, task, status, output, output_type, error from runs where id = any($1) and finished_at is not null", runs)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| {
            let error = row.error.map(|error| rows::json("runs", error)).transpose()?;
            let outcome = RunOutcome::of(rows::run_status(&row.status)?, rows::packet(row.output, row.output_type), error);
            Ok(RunEnd { run: RunId::from_uuid(row.id), task: row.task, outcome })
        })
        .collect()
}

/// A child in progress, locked.
#[derive(Debug, Clone, Copy)]
pub struct Child {
    /// The run.
    pub id: Uuid,
    /// A worker has it.
    pub is_leased: bool,
}

/// Locks a cancelled run whose children are to be cancelled, the longest one first, passing over those that others are at.
///
/// # Errors
/// If the database does not answer.
pub async fn pick_cancelled(connection: &mut PgConnection) -> Result<Option<RunId>, StoreError> {
    let picked =
        query_scalar!("select run_id from cancelled_parents order by cancelled_at, run_id limit 1 for update skip locked")
            .fetch_optional(connection)
            .await?;
    Ok(picked.map(RunId::from_uuid))
}

/// Locks at most `max` children of a run that are neither final nor asked to end.
///
/// # Errors
/// If the database does not answer.
pub async fn live(connection: &mut PgConnection, parent: RunId, max: i64) -> Result<Vec<Child>, StoreError> {
    let rows = query!(
        r#"
        select id, lease_worker is not null as "is_leased!" from runs
        where parent_id = $1 and finished_at is null and cancel_requested_at is null
        order by id limit $2 for no key update
        "#,
        parent.uuid(),
        max
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| Child { id: row.id, is_leased: row.is_leased }).collect())
}

/// Notes that the end of these runs is asked for: their workers will end them, or the sweep that takes back their leases.
///
/// # Errors
/// If the database does not answer.
pub async fn request_cancel(connection: &mut PgConnection, runs: &[Uuid]) -> Result<Vec<Changed>, StoreError> {
    query!(
        "update runs set cancel_requested_at = clock_now(), updated_at = clock_now(), event_seq = event_seq + 1
         where id = any($1) returning id, event_seq, status",
        runs
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok(Changed { id: RunId::from_uuid(row.id), seq: row.event_seq, status: rows::run_status(&row.status)? }))
    .collect()
}

/// All children of a cancelled run have been seen to.
///
/// # Errors
/// If the database does not answer.
pub async fn forget_cancelled(connection: &mut PgConnection, parent: RunId) -> Result<(), StoreError> {
    query!("delete from cancelled_parents where run_id = $1", parent.uuid()).execute(connection).await?;
    Ok(())
}
