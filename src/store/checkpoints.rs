//! Where suspended runs go on.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, notify, rows};
use crate::model::{attempt::Lease, checkpoint::Checkpoint, event::EventKind, id::EnvironmentId, waitpoint::WaitRequest};

/// A run that was suspended just now.
#[derive(Debug)]
pub struct Frozen {
    /// Where it lives.
    pub environment: EnvironmentId,
    /// The moment that it waits for has come.
    pub is_due: bool,
    /// The blob of the checkpoint that it had, if no other run's names it.
    pub replaced: Option<String>,
}

/// Suspends a run that executes under this lease and that nobody wants to cancel: gives up the lease, puts the checkpoint in
/// place of the one it had, forgets its journal, which the checkpoint stands for, and enters it. None: it is not such a run,
/// and nothing was written. `moment` is when it is due by itself, not before now.
///
/// One statement, since it is what every wait costs.
///
/// # Errors
/// If the database does not answer.
pub async fn freeze(
    connection: &mut PgConnection,
    lease: &Lease,
    checkpoint: &Checkpoint,
    wait: &WaitRequest,
    moment: Option<DateTime<Utc>>,
    used_cpu_ms: u64,
) -> Result<Option<Frozen>, StoreError> {
    let row = query!(
        r#"
        with frozen as (
            update runs
            set status = 'WAITING', lease_worker = null, lease_expires_at = null,
                due_at = case when $4::timestamptz is not null then greatest($4, clock_now()) end,
                attempt_cpu_ms = $5, stalls = 0, updated_at = clock_now(), event_seq = event_seq + 1
            where id = $1 and lease_worker = $2 and epoch = $3 and status in ('EXECUTING', 'DEQUEUED')
                and cancel_requested_at is null
            returning id, event_seq, environment_id, due_at
        ), stored as (
            insert into checkpoints (run_id, sequence, digest, snapshot, stored_bytes, raw_bytes, wait, rewritten, files, packs, pages,
                created_at)
            select id, $6, $7, $8, $9, $10, $11::text::json, $12, $16, $17, $18, clock_now() from frozen
            on conflict (run_id) do update set sequence = excluded.sequence, digest = excluded.digest,
                snapshot = excluded.snapshot, stored_bytes = excluded.stored_bytes, raw_bytes = excluded.raw_bytes,
                wait = excluded.wait, rewritten = excluded.rewritten, files = excluded.files, packs = excluded.packs,
                pages = excluded.pages, created_at = excluded.created_at
        ), forgotten as (
            delete from journal where run_id in (select id from frozen)
        ), entry as (
            insert into run_events (run_id, seq, at, kind, status)
            select id, event_seq, clock_now(), $13, 'WAITING' from frozen
        ), told as (
            select pg_notify($14, replace(id::text, '-', '')) from frozen
            union all
            select pg_notify($15, '') from frozen where due_at > clock_now()
        )
        select f.environment_id as "environment_id!", coalesce(f.due_at <= clock_now(), false) as "is_due!",
            -- Of the statement's beginning: the one that is replaced.
            before.digest as "replaced?",
            (select count(*) from told) as told
        from frozen f
        left join checkpoints before on before.run_id = f.id and before.digest is distinct from $7
            and not exists (select from checkpoints other where other.digest = before.digest and other.run_id <> f.id)
        "#,
        lease.run.uuid(),
        lease.worker.uuid(),
        lease.epoch,
        moment,
        used_cpu_ms as i64,
        checkpoint.sequence as i64,
        checkpoint.snapshot.blob(),
        checkpoint.snapshot.in_row(),
        checkpoint.stored_bytes as i64,
        checkpoint.raw_bytes as i64,
        rows::to_json(wait),
        checkpoint.rewritten,
        EventKind::Suspended.as_str(),
        notify::RUNS,
        notify::TIMERS,
        checkpoint.files.as_ref().map(|files| &files.manifest[..]),
        checkpoint.files.as_ref().map_or(&[][..], |files| &files.packs),
        &checkpoint.pages
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Frozen {
        environment: EnvironmentId::from_uuid(row.environment_id),
        is_due: row.is_due,
        replaced: row.replaced,
    }))
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
            and not exists (select from checkpoints c where c.packs @> array[asked.digest] and c.packs <> '{}')
            and not exists (select from checkpoints c where c.pages @> array[asked.digest] and c.pages <> '{}')
            and not exists (select from packets p where p.digest = asked.digest)
            and not exists (select from runs r where r.payload_type = 'application/store'
                and substring(r.payload from 1 for 64) = convert_to(asked.digest, 'UTF8'))
        "#,
        digests
    )
    .fetch_all(connection)
    .await?)
}
