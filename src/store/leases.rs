//! Who runs what: the statements of a claim, and those that end a lease.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, postgres::types::PgInterval, query, query_as, query_scalar};
use uuid::Uuid;

use super::{StoreError, events::Changed, notify, rows};
use crate::model::{
    attempt::Lease,
    event::EventKind,
    id::{RunId, WorkerId},
    run::RunStatus,
};

/// A time span as Postgres wants it.
pub(super) fn interval(span: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(span.as_micros()).unwrap_or(i64::MAX) }
}

/// A run in line with all that a worker needs, as columns.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the column of its name")]
pub struct InLine {
    pub id: Uuid,
    pub environment_id: Uuid,
    pub environment_kind: String,
    pub project_id: Uuid,
    pub project_ref: String,
    pub project_name: String,
    pub queue_id: Uuid,
    pub queue_name: String,
    pub limit_ids: Vec<Uuid>,
    pub position: DateTime<Utc>,
    pub concurrency_key: String,
    pub task: String,
    pub deployment_id: Option<Uuid>,
    pub version: Option<String>,
    pub component: Option<String>,
    /// None: the deployment has no such task.
    pub definition: Option<Value>,
    pub payload: Vec<u8>,
    pub payload_type: String,
    pub tags: Vec<String>,
    pub is_test: bool,
    pub replay_of: Option<Uuid>,
    pub parent_id: Option<Uuid>,
    pub root_id: Uuid,
    pub trace_id: Option<Uuid>,
    pub depth: i32,
    pub batch_id: Option<Uuid>,
    pub idempotency_key: Option<String>,
    pub max_attempts: Option<i32>,
    pub max_duration_ms: Option<i64>,
    pub machine: Option<String>,
    pub attempt_cpu_ms: i64,
    pub created_at: DateTime<Utc>,
    pub checkpoint_sequence: Option<i64>,
    pub checkpoint_digest: Option<String>,
    pub checkpoint_snapshot: Option<Vec<u8>>,
    pub checkpoint_stored_bytes: Option<i64>,
    pub checkpoint_raw_bytes: Option<i64>,
    pub checkpoint_wait: Option<Value>,
    pub checkpoint_files: Option<Vec<u8>>,
    pub checkpoint_packs: Option<Vec<String>>,
    pub checkpoint_pages: Option<Vec<String>>,
    /// Digest of the rewritten component that the checkpoint fits.
    pub checkpoint_rewritten: Option<String>,
    /// Digest of that one, or else of the component's own of the version asked for.
    pub rewritten: Option<String>,
    /// Its version of the rewriter.
    pub rewriter: Option<i32>,
}

/// Reads the runs that were picked, in the order of their positions, those without a checkpoint with the component as version
/// `rewriter` of the rewriter made it. A statement of its own: it sees the rows as they were when
/// their locks were got, which the picking statement need not.
///
/// # Errors
/// If the database does not answer.
pub async fn load(connection: &mut PgConnection, picked: &[Uuid], rewriter: u32) -> Result<Vec<InLine>, StoreError> {
    Ok(query_as!(
        InLine,
        r#"
        select r.id, r.environment_id, e.kind as environment_kind, e.project_id, p.ref as project_ref,
            p.name as project_name, r.queue_id, q.name as queue_name, r.limit_ids, r.position as "position!", r.concurrency_key, r.task, d.id as "deployment_id?", d.version as "version?", d.component as "component?",
            t.definition as "definition?", r.payload, r.payload_type, r.tags, r.is_test, r.replay_of, r.parent_id,
            r.root_id, r.trace_id, r.depth, r.batch_id, coalesce(r.idempotency_shown, r.idempotency_key) as idempotency_key,
            r.max_attempts, r.max_duration_ms, r.machine, r.attempt_cpu_ms, r.created_at,
            c.sequence as "checkpoint_sequence?", c.digest as "checkpoint_digest?", c.snapshot as "checkpoint_snapshot?",
            c.stored_bytes as "checkpoint_stored_bytes?", c.raw_bytes as "checkpoint_raw_bytes?",
            c.wait as "checkpoint_wait?", c.rewritten as "checkpoint_rewritten?",
            c.files as "checkpoint_files?", c.packs as "checkpoint_packs?", c.pages as "checkpoint_pages?",
            coalesce(fitting.digest, current.digest) as rewritten, coalesce(fitting.rewriter, current.rewriter) as rewriter
        from runs r
        join environments e on e.id = r.environment_id
        join projects p on p.id = e.project_id
        join queues q on q.id = r.queue_id
        left join deployments d on d.id = coalesce(r.deployment_id, e.current_deployment_id)
        left join tasks t on t.deployment_id = d.id and t.id = r.task
        left join checkpoints c on c.run_id = r.id
        left join rewritings fitting on fitting.digest = c.rewritten
        left join rewritings current on c.rewritten is null and current.component = d.component and current.rewriter = $2
            and current.dropped_at is null
        where r.id = any($1)
        order by r.position, r.id
        "#,
        picked,
        rewriter as i32
    )
    .fetch_all(connection)
    .await?)
}

/// What a claim gave a run.
#[derive(Debug)]
pub struct Granted {
    /// The lease.
    pub lease: Lease,
    /// When the run's first attempt began.
    pub started_at: DateTime<Utc>,
    /// When this attempt began.
    pub attempt_started_at: DateTime<Utc>,
}

/// Leases these runs, each bound to its deployment from now on, and enters that they were claimed. An attempt that has begun
/// goes on, else the next begins.
///
/// # Errors
/// If the database does not answer.
pub async fn grant(
    connection: &mut PgConnection,
    worker: WorkerId,
    lease_for: Duration,
    runs: &[Uuid],
    deployments: &[Uuid],
) -> Result<Vec<Granted>, StoreError> {
    let rows = query!(
        r#"
        with granted as (
            update runs r
            set status = 'EXECUTING', deployment_id = claimed.deployment_id,
                epoch = r.epoch + 1, lease_worker = $1, lease_expires_at = clock_now() + $2::interval, due_at = null,
                attempt = case when r.in_attempt then r.attempt else r.attempt + 1 end,
                attempt_started_at = case when r.in_attempt then r.attempt_started_at else clock_now() end,
                in_attempt = true, started_at = coalesce(r.started_at, clock_now()),
                updated_at = clock_now(), event_seq = r.event_seq + 1
            from unnest($3::uuid[], $4::uuid[]) as claimed (id, deployment_id)
            where r.id = claimed.id and r.id = any($3)
            returning r.id, r.epoch, r.attempt, r.event_seq, r.started_at, r.attempt_started_at
        ), entries as (
            insert into run_events (run_id, seq, at, kind, status)
            select id, event_seq, clock_now(), $5, 'EXECUTING' from granted
        ), told as (
            select pg_notify($6, payload) from unnest($7::text[]) as payload
        )
        select id as "id!", epoch as "epoch!", attempt as "attempt!", started_at as "started_at!",
            attempt_started_at as "attempt_started_at!", (select count(*) from told) as told
        from granted
        "#,
        worker.uuid(),
        interval(lease_for),
        runs,
        deployments,
        EventKind::Claimed.as_str(),
        notify::RUNS,
        &notify::payloads(runs)
    )
    .fetch_all(connection)
    .await?;
    let grant =
        |run: Uuid, epoch, attempt: i32| Lease { run: RunId::from_uuid(run), worker, epoch, attempt: attempt.unsigned_abs() };
    Ok(rows
        .into_iter()
        .map(|row| Granted {
            lease: grant(row.id, row.epoch, row.attempt),
            started_at: row.started_at,
            attempt_started_at: row.attempt_started_at,
        })
        .collect())
}

/// Puts the end of these leases off, and says which there still are and whether the run is to be cancelled.
///
/// # Errors
/// If the database does not answer.
pub async fn renew(
    connection: &mut PgConnection,
    worker: WorkerId,
    leases: &[(RunId, i64)],
    lease_for: Duration,
) -> Result<Vec<(RunId, bool)>, StoreError> {
    let runs: Vec<Uuid> = leases.iter().map(|(run, _)| run.uuid()).collect();
    let epochs: Vec<i64> = leases.iter().map(|(_, epoch)| *epoch).collect();
    let rows = query!(
        r#"
        with held as (
            select r.id from runs r
            join unnest($1::uuid[], $2::bigint[]) as lease (id, epoch) on r.id = lease.id and r.epoch = lease.epoch
            -- Found by their ids, never among all that are leased: that is how it would be planned while few are.
            where r.id = any($1) and r.lease_worker is not distinct from $3
            order by r.id for no key update of r
        )
        update runs r set lease_expires_at = clock_now() + $4::interval
        from held where r.id = held.id
        returning r.id, r.cancel_requested_at is not null as "cancel!"
        "#,
        &runs,
        &epochs,
        worker.uuid(),
        interval(lease_for)
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (RunId::from_uuid(row.id), row.cancel)).collect())
}

/// A run as the end of an attempt or of a lease finds it. Its row is locked.
#[derive(Debug)]
pub struct Held {
    /// The run.
    pub id: RunId,
    /// Where it is.
    pub status: RunStatus,
    /// Whose lease; none: nobody's.
    pub worker: Option<WorkerId>,
    /// The newest.
    pub epoch: i64,
    /// The attempt that goes on, or the last one.
    pub attempt: u32,
    /// Whether it goes on.
    pub in_attempt: bool,
    /// Somebody asked for its end.
    pub cancel_requested: bool,
    /// Leases lost since it last got on.
    pub stalls: u32,
    /// Override of the task's attempts.
    pub max_attempts: Option<u32>,
    /// The preset it was given, if not the task's.
    pub machine: Option<String>,
    /// CPU milliseconds of the attempt at its checkpoint.
    pub attempt_cpu_ms: u64,
    /// The task as its deployment declares it.
    pub definition: Option<Value>,
    /// What the clock says.
    pub now: DateTime<Utc>,
}

/// A run, locked; none if there is none.
///
/// # Errors
/// If the database does not answer.
pub async fn hold(connection: &mut PgConnection, run: RunId) -> Result<Option<Held>, StoreError> {
    let row = query!(
        r#"
        select r.status, r.lease_worker, r.epoch, r.attempt, r.in_attempt, r.cancel_requested_at is not null as "cancel_requested!", r.stalls, r.max_attempts, r.machine,
            r.attempt_cpu_ms, t.definition as "definition?", clock_now() as "now!"
        from runs r
        left join tasks t on t.deployment_id = r.deployment_id and t.id = r.task
        where r.id = $1
        for no key update of r
        "#,
        run.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Held {
            id: run,
            status: rows::run_status(&row.status)?,
            worker: row.lease_worker.map(WorkerId::from_uuid),
            epoch: row.epoch,
            attempt: row.attempt.unsigned_abs(),
            in_attempt: row.in_attempt,
            cancel_requested: row.cancel_requested,
            stalls: row.stalls.unsigned_abs(),
            max_attempts: row.max_attempts.map(i32::unsigned_abs),
            machine: row.machine,
            attempt_cpu_ms: rows::count(row.attempt_cpu_ms),
            definition: row.definition,
            now: row.now,
        })
    })
    .transpose()
}

/// Ends every lease now. For the only process that uses the database, at its start: whoever held a lease is gone.
///
/// # Errors
/// If the database does not answer.
pub async fn end_all(connection: &mut PgConnection) -> Result<u64, StoreError> {
    let ended = query!(
        "update runs set lease_expires_at = clock_now() where lease_worker is not null and lease_expires_at > clock_now()"
    )
    .execute(connection)
    .await?;
    Ok(ended.rows_affected())
}

/// Ends the leases of these workers now.
///
/// # Errors
/// If the database does not answer.
pub async fn end_of(connection: &mut PgConnection, workers: &[WorkerId]) -> Result<u64, StoreError> {
    let workers: Vec<Uuid> = workers.iter().map(|worker| worker.uuid()).collect();
    let ended = query!(
        "update runs set lease_expires_at = clock_now() where lease_worker = any($1) and lease_expires_at > clock_now()",
        &workers
    )
    .execute(connection)
    .await?;
    Ok(ended.rows_affected())
}

/// Locks runs whose lease is over, the longest ones first.
///
/// # Errors
/// If the database does not answer.
pub async fn pick_expired(connection: &mut PgConnection, max: u32) -> Result<Vec<RunId>, StoreError> {
    let ids = query_scalar!(
        "select id from runs where lease_expires_at <= clock_now()
         order by lease_expires_at limit $1 for no key update skip locked",
        i64::from(max)
    )
    .fetch_all(connection)
    .await?;
    Ok(rows::ids(ids))
}

/// Ends a lease and puts the run back into line, to go on from its last checkpoint. `stalls` is what its count shall be.
///
/// # Errors
/// If the database does not answer.
pub async fn requeue(connection: &mut PgConnection, run: RunId, stalls: u32) -> Result<Changed, StoreError> {
    let seq = query_scalar!(
        "update runs
         set status = 'QUEUED', lease_worker = null, lease_expires_at = null, due_at = null,
             stalls = $2, updated_at = clock_now(), event_seq = event_seq + 1
         where id = $1 returning event_seq",
        run.uuid(),
        stalls as i32
    )
    .fetch_one(connection)
    .await?;
    Ok(Changed { id: run, seq, status: RunStatus::Queued })
}

/// Notes that somebody asked for the end of a run that executes.
///
/// # Errors
/// If the database does not answer.
pub async fn request_cancel(connection: &mut PgConnection, run: RunId) -> Result<Changed, StoreError> {
    let row = query!(
        "update runs set cancel_requested_at = clock_now(), updated_at = clock_now(), event_seq = event_seq + 1
         where id = $1 returning event_seq, status",
        run.uuid()
    )
    .fetch_one(connection)
    .await?;
    Ok(Changed { id: run, seq: row.event_seq, status: rows::run_status(&row.status)? })
}
