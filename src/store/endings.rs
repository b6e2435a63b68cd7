//! How attempts and runs end. Every run that becomes final does so in [`end`] or, beside others, in [`complete`] or [`complete_awaited`].

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{
    StoreError, edges,
    events::{self, Changed},
    notify, rows,
};
use crate::model::{
    attempt::Lease, error::RunError, event::EventKind, id::RunId, machine::Machine, payload::Packet, run::RunStatus, trace::Note,
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
        "insert into attempts (run_id, number, started_at, finished_at, error, cpu_ms, machine)
         select r.id, r.attempt, coalesce(r.attempt_started_at, clock_now()), clock_now(), $2::text::json, $3,
             coalesce(r.machine, t.definition ->> 'machine', $4)
         from runs r left join tasks t on t.deployment_id = r.deployment_id and t.id = r.task
         where r.id = $1
         on conflict (run_id, number) do nothing",
        run.uuid(),
        error.map(rows::to_json),
        cpu_ms as i64,
        Machine::default().as_str()
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
        "insert into attempts (run_id, number, started_at, finished_at, error, cpu_ms, machine)
         select r.id, r.attempt, coalesce(r.attempt_started_at, clock_now()), clock_now(), $2::text::json, r.attempt_cpu_ms,
             coalesce(r.machine, t.definition ->> 'machine', $3)
         from runs r left join tasks t on t.deployment_id = r.deployment_id and t.id = r.task
         where r.id = any($1) and r.in_attempt
         on conflict (run_id, number) do nothing",
        runs,
        rows::to_json(error),
        Machine::default().as_str()
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
         set status = $2, lease_worker = null, lease_expires_at = null, due_at = $3,
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
/// logs and attempts remains, a failed one's idempotency key is free, their ends are entered, whoever waited for them comes back into line, and children of cancelled ones are noted to be cancelled too.
///
/// # Errors
/// If the database does not answer.
pub async fn end(connection: &mut PgConnection, runs: &[Uuid], ending: &Ending<'_>) -> Result<(), StoreError> {
    // A cancelled or completed run keeps its key, so that the trigger is not repeated. Source: facts A8.
    let keeps_key = matches!(ending.status, RunStatus::Completed | RunStatus::Canceled);
    let rows = query!(
        r#"
        with before as (
            select id from runs where id = any($1) and finished_at is null order by id for no key update
        )
        update runs r
        set status = $2, output = $3, output_type = $4, error = $5::text::json, finished_at = clock_now(), due_at = null,
            lease_worker = null, lease_expires_at = null, in_attempt = false,
            earlier_cpu_ms = earlier_cpu_ms + greatest($6, attempt_cpu_ms), attempt_cpu_ms = 0,
            idempotency_active = idempotency_active and $7, updated_at = clock_now(), event_seq = event_seq + 1
        from before where r.id = before.id
        returning r.id, r.event_seq
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
    let ended: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let change = |id, seq| Changed { id: RunId::from_uuid(id), seq, status: ending.status };
    let changed: Vec<Changed> = rows.into_iter().map(|row| change(row.id, row.event_seq)).collect();
    if ended.is_empty() {
        return Ok(());
    }
    events::record(connection, EventKind::Finished, &changed).await?;
    let blocked = let_go(connection, &ended, ending.status).await?;
    // Last, since from here on the ends of other runs that the same one waits for have to wait for this transaction.
    edges::meet(connection, &ended, &blocked).await
}

/// Drops what final runs leave behind, notes those whose children are to be cancelled, and says who waited for them.
///
/// A statement after the one that ended them: only now, with their locks held, are all edges to them there to be seen, and all
/// their children.
async fn let_go(connection: &mut PgConnection, ended: &[Uuid], status: RunStatus) -> Result<Vec<Uuid>, StoreError> {
    Ok(query_scalar!(
        "with parents as (
             insert into cancelled_parents (run_id, cancelled_at)
             select distinct parent_id, clock_now() from runs
             where $2 and parent_id = any($1) and finished_at is null
             on conflict (run_id) do nothing
         ), gone as (
             select leave_nothing($1)
         )
         select distinct run_id from run_waits where waitpoint_id = any($1) and (select count(*) from gone) = 1",
        ended,
        status == RunStatus::Canceled
    )
    .fetch_all(connection)
    .await?)
}

/// A run that returned, on its way to be ended beside others.
#[derive(Debug, Clone)]
pub struct Completed {
    /// Who ran it.
    pub lease: Lease,
    /// What it returned.
    pub output: Packet,
    /// CPU milliseconds of its attempt.
    pub cpu_ms: u64,
    /// What it ran on.
    pub machine: Machine,
    /// Microseconds that it took to restore it, if it was.
    pub restored_us: Option<u64>,
    /// Its parent means to wait for it. Others may, too.
    pub parent_waits: bool,
}

/// Completes runs that nobody waits for, all in one statement, as [`end`] does. Only those that are as their leases say and that
/// nobody cancels; returns these. Locks them in the order of their ids.
///
/// # Errors
/// If the database does not answer.
pub async fn complete(connection: &mut PgConnection, completed: &[Completed]) -> Result<Vec<RunId>, StoreError> {
    Ok(rows::ids(complete_those(connection, completed, false).await?))
}

/// The same for runs that somebody waits for, with all that comes of it.
///
/// # Errors
/// The same.
pub async fn complete_awaited(connection: &mut PgConnection, completed: &[Completed]) -> Result<Vec<RunId>, StoreError> {
    let ended = complete_those(connection, completed, true).await?;
    if ended.is_empty() {
        return Ok(Vec::new());
    }
    let blocked = edges::blocked_by(connection, &ended).await?;
    edges::meet(connection, &ended, &blocked).await?;
    Ok(rows::ids(ended))
}

/// `with_awaited`: also those that somebody waits for, who is to be told of it in the same transaction.
async fn complete_those(
    connection: &mut PgConnection,
    completed: &[Completed],
    with_awaited: bool,
) -> Result<Vec<Uuid>, StoreError> {
    let of = |each: fn(&Completed) -> Uuid| completed.iter().map(each).collect::<Vec<_>>();
    let epochs: Vec<i64> = completed.iter().map(|run| run.lease.epoch).collect();
    let outputs: Vec<&[u8]> = completed.iter().map(|run| run.output.data.as_slice()).collect();
    let types: Vec<&str> = completed.iter().map(|run| run.output.content_type.as_str()).collect();
    let cpu_ms: Vec<i64> = completed.iter().map(|run| run.cpu_ms as i64).collect();
    let machines: Vec<&str> = completed.iter().map(|run| run.machine.as_str()).collect();
    let noted = |restored_us| rows::to_json(&Note { restored_us: Some(restored_us), ..Note::default() });
    let notes: Vec<Option<String>> = completed.iter().map(|run| run.restored_us.map(noted)).collect();
    let rows = query!(
        r#"
        with held as materialized (
            select r.id, r.attempt, r.attempt_started_at, done.output, done.output_type,
                greatest(done.cpu_ms, r.attempt_cpu_ms) as cpu_ms, done.machine, done.note
            from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[], $5::text[], $6::bigint[], $9::text[],
                $10::text[]) as done (id, worker, epoch, output, output_type, cpu_ms, machine, note)
            join runs r on r.id = done.id
            -- Found by their ids, never among all that are leased: that is how it would be planned while few are.
            where r.id = any($1) and r.lease_worker is not distinct from done.worker and r.epoch = done.epoch
                and r.status = 'EXECUTING'
                and r.cancel_requested_at is null
            order by r.id for no key update of r
        ), done as materialized (
            select * from held where $11 or id not in (select waited_for(array_agg(id)) from held)
        ), ended as (
            update runs r
            set status = 'COMPLETED', output = done.output, output_type = done.output_type, finished_at = clock_now(),
                due_at = null, lease_worker = null, lease_expires_at = null, in_attempt = false,
                earlier_cpu_ms = r.earlier_cpu_ms + done.cpu_ms, attempt_cpu_ms = 0,
                updated_at = clock_now(), event_seq = r.event_seq + 1
            from done where r.id = done.id
            returning r.id, r.event_seq
        ), tried as (
            insert into attempts (run_id, number, started_at, finished_at, cpu_ms, machine)
            select id, attempt, coalesce(attempt_started_at, clock_now()), clock_now(), cpu_ms, machine from done
            on conflict (run_id, number) do nothing
        ), entries as (
            insert into run_events (run_id, seq, at, kind, status, data)
            select id, event_seq, clock_now(), $7, 'COMPLETED', done.note::json from ended join done using (id)
        ), told as (
            select pg_notify($8, string_agg(replace(id::text, '-', ''), ',')) from ended having count(*) > 0
        ), gone as (
            select leave_nothing(array_agg(id)) from ended having count(*) > 0
        )
        select id as "id!", (select count(*) from told) as told, (select count(*) from gone) as gone from ended
        "#,
        &of(|run| run.lease.run.uuid()),
        &of(|run| run.lease.worker.uuid()),
        &epochs,
        &outputs as &[&[u8]],
        &types as &[&str],
        &cpu_ms,
        EventKind::Finished.as_str(),
        notify::RUNS,
        &machines as &[&str],
        &notes as &[Option<String>],
        with_awaited
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Drops what an attempt leaves behind: edges, journal, checkpoint.
async fn forget(connection: &mut PgConnection, run: RunId) -> Result<(), StoreError> {
    query!("select leave_nothing($1)", &[run.uuid()]).execute(connection).await?;
    Ok(())
}
