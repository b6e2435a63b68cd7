//! How attempts and runs end. Every run that becomes final does so in [`end`].

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{
    StoreError, edges,
    events::{self, Changed},
    places::{self, Pool},
    rows,
};
use crate::model::{
    error::RunError,
    event::EventKind,
    id::{QueueId, RunId},
    payload::Packet,
    run::RunStatus,
};

/// Writes down the attempt that ends now.
///
/// # Errors
/// If the database does not answer.
pub async fn end_attempt(
    connection: &mut PgConnection,
    run: RunId,
    error: Option<&RunError>,
    cpu_ms: u64,
) -> Result<(), StoreError> {
    query!(
        "insert into attempts (run_id, number, started_at, finished_at, error, cpu_ms)
         select id, attempt, coalesce(attempt_started_at, clock_now()), clock_now(), $2::text::json, $3 from runs where id = $1
         on conflict (run_id, number) do nothing",
        run.uuid(),
        error.map(rows::to_json),
        cpu_ms as i64
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes down that the attempts of those of these runs that are in one end now, with what they had used at their checkpoints.
///
/// # Errors
/// If the database does not answer.
pub async fn end_attempts(connection: &mut PgConnection, runs: &[Uuid], error: &RunError) -> Result<(), StoreError> {
    query!(
        "insert into attempts (run_id, number, started_at, finished_at, error, cpu_ms)
         select id, attempt, coalesce(attempt_started_at, clock_now()), clock_now(), $2::text::json, attempt_cpu_ms
         from runs where id = any($1) and in_attempt
         on conflict (run_id, number) do nothing",
        runs,
        rows::to_json(error)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets another attempt follow at `due_at`, or at once. Frees the lease; what belonged to the attempt goes.
///
/// # Errors
/// If the database does not answer.
pub async fn retry(
    connection: &mut PgConnection,
    run: RunId,
    due_at: Option<DateTime<Utc>>,
    machine: Option<&str>,
    cpu_ms: u64,
) -> Result<Changed, StoreError> {
    let status = if due_at.is_some() { RunStatus::Executing } else { RunStatus::Queued };
    let seq = query_scalar!(
        "update runs
         set status = $2, parked = false, lease_worker = null, lease_expires_at = null, due_at = $3,
             in_attempt = false, earlier_cpu_ms = earlier_cpu_ms + $4, attempt_cpu_ms = 0, stalls = 0,
             machine = coalesce($5, machine), updated_at = clock_now(), event_seq = event_seq + 1
         where id = $1 returning event_seq",
        run.uuid(),
        status.as_str(),
        due_at,
        cpu_ms as i64,
        machine
    )
    .fetch_one(&mut *connection)
    .await?;
    forget(connection, run).await?;
    Ok(Changed { id: run, seq, status })
}

/// What a run came to.
#[derive(Debug)]
pub struct Ending<'a> {
    /// A final status.
    pub status: RunStatus,
    /// What it returned.
    pub output: Option<&'a Packet>,
    /// Why it failed.
    pub error: Option<&'a RunError>,
    /// CPU milliseconds of the attempt that ends with it, if it has used more than up to its checkpoint.
    pub cpu_ms: u64,
}

/// Ends those of the runs that are not final yet, once and for all, and all that comes of it: nothing but their rows, events,
/// logs and attempts remains, a failed one's idempotency key is free, their ends are entered, their places go to the next in
/// line, whoever waited for them comes back into line, and children of cancelled ones are noted to be cancelled too.
///
/// # Errors
/// If the database does not answer.
pub async fn end(connection: &mut PgConnection, runs: &[Uuid], ending: &Ending<'_>) -> Result<(), StoreError> {
    // A cancelled or completed run keeps its key, so that the trigger is not repeated. Source: facts A8.
    let keeps_key = matches!(ending.status, RunStatus::Completed | RunStatus::Canceled);
    let rows = query!(
        r#"
        with before as (
            select id, lease_worker is not null or status = 'QUEUED' as had_place from runs
            where id = any($1) and finished_at is null
            order by id for no key update
        )
        update runs r
        set status = $2, output = $3, output_type = $4, error = $5::text::json, finished_at = clock_now(), due_at = null,
            lease_worker = null, lease_expires_at = null, parked = false, in_attempt = false,
            earlier_cpu_ms = earlier_cpu_ms + greatest($6, attempt_cpu_ms), attempt_cpu_ms = 0,
            idempotency_active = idempotency_active and $7, updated_at = clock_now(), event_seq = event_seq + 1
        from before where r.id = before.id
        returning r.id, r.event_seq, r.queue_id, r.concurrency_key, before.had_place as "had_place!"
        "#,
        runs,
        ending.status.as_str(),
        ending.output.map(|output| output.data.as_slice()),
        ending.output.map(|output| output.content_type.as_str()),
        ending.error.map(rows::to_json),
        ending.cpu_ms as i64,
        keeps_key
    )
    .fetch_all(&mut *connection)
    .await?;
    let (mut ended, mut changed, mut pools) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        ended.push(row.id);
        changed.push(Changed { id: RunId::from_uuid(row.id), seq: row.event_seq, status: ending.status });
        if row.had_place {
            pools.push(Pool { queue: QueueId::from_uuid(row.queue_id), key: row.concurrency_key });
        }
    }
    if ended.is_empty() {
        return Ok(());
    }
    let blocked = let_go(connection, &ended, ending.status).await?;
    events::record(connection, EventKind::Finished, &changed).await?;
    places::place_freed(connection, &pools).await?;
    // Last, since from here on the ends of other runs that the same one waits for have to wait for this transaction.
    edges::meet(connection, &ended, &blocked).await
}

/// Drops what final runs leave behind, notes those whose children are to be cancelled, and says who waited for them.
///
/// A statement after the one that ended them: only now, with their locks held, are all edges to them there to be seen, and all
/// their children.
async fn let_go(connection: &mut PgConnection, ended: &[Uuid], status: RunStatus) -> Result<Vec<Uuid>, StoreError> {
    Ok(query_scalar!(
        "with edges as (delete from run_waits where run_id = any($1)),
              calls as (delete from journal where run_id = any($1)),
              kept as (delete from checkpoints where run_id = any($1)),
              parents as (
                  insert into cancelled_parents (run_id, cancelled_at)
                  select distinct parent_id, clock_now() from runs
                  where $2 and parent_id = any($1) and finished_at is null
                  on conflict (run_id) do nothing
              )
         select distinct run_id from run_waits where waitpoint_id = any($1)",
        ended,
        status == RunStatus::Canceled
    )
    .fetch_all(connection)
    .await?)
}

/// Drops what an attempt leaves behind: edges, journal, checkpoint.
async fn forget(connection: &mut PgConnection, run: RunId) -> Result<(), StoreError> {
    query!(
        "with edges as (delete from run_waits where run_id = $1),
              calls as (delete from journal where run_id = $1)
         delete from checkpoints where run_id = $1",
        run.uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}
