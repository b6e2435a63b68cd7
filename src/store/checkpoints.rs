//! Where suspended runs go on.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, notify, rows};
use crate::model::{
    attempt::Lease,
    checkpoint::Checkpoint,
    event::EventKind,
    id::{EnvironmentId, RunId},
    trace::{Note, Timing},
    waitpoint::WaitRequest,
};

/// A run on its way to be suspended.
#[derive(Debug, Clone)]
pub struct Suspension {
    /// Who runs it.
    pub lease: Lease,
    /// Where it goes on.
    pub checkpoint: Checkpoint,
    /// What it waits for.
    pub wait: WaitRequest,
    /// When it is due by itself, if it is.
    pub moment: Option<DateTime<Utc>>,
    /// CPU milliseconds of its attempt.
    pub used_cpu_ms: u64,
    /// How long its worker took.
    pub timing: Timing,
}

impl Suspension {
    /// Of a run whose worker did not look at the clock.
    pub fn new(lease: Lease, checkpoint: Checkpoint, wait: WaitRequest, used_cpu_ms: u64) -> Suspension {
        Suspension { lease, checkpoint, wait, moment: None, used_cpu_ms, timing: Timing::default() }
    }
}

/// A run that was suspended just now.
#[derive(Debug)]
pub struct Frozen {
    /// Which.
    pub run: RunId,
    /// Where it lives.
    pub environment: EnvironmentId,
    /// The moment that it waits for had come: it is back in line.
    pub is_due: bool,
    /// The blob of the checkpoint that it had, if no other run's names it.
    pub replaced: Option<String>,
}

/// Suspends those of the runs that execute under their leases and that nobody wants to cancel: gives up the lease, puts the checkpoint
/// in place of the one the run had, forgets its journal, which the checkpoint stands for, and enters it. Of the others nothing is
/// written. A run whose moment has come is back in line at once, at the place it had, which is entered too and told to workers. Locks
/// them in the order of their ids.
///
/// One statement, since it is what every wait costs.
///
/// # Errors
/// If the database does not answer.
pub async fn freeze(connection: &mut PgConnection, suspended: &[Suspension]) -> Result<Vec<Frozen>, StoreError> {
    let columns = Columns::of(suspended);
    let rows = query!(
        r#"
        with asked as (
            select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::text[],
                $8::bytea[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $16::bytea[], $17::text[], $18::text[], $19::text[])
            as asked (id, worker, epoch, moment, cpu_ms, sequence, digest, snapshot, stored_bytes, raw_bytes, wait, rewritten, files,
                packs, pages, note)
        ), held as (
            select asked.id, asked.moment, asked.cpu_ms, coalesce(asked.moment <= clock_now(), false) as is_due from asked
            join runs r on r.id = asked.id
            -- Found by their ids, never among all that are leased: that is how it would be planned while few are.
            where r.id = any($1) and r.lease_worker is not distinct from asked.worker and r.epoch = asked.epoch
                and r.status in ('EXECUTING', 'DEQUEUED')
                and r.cancel_requested_at is null
            order by r.id for no key update of r
        ), frozen as (
            update runs r
            set status = case when held.is_due then 'QUEUED' else 'WAITING' end, lease_worker = null, lease_expires_at = null,
                due_at = case when not held.is_due then held.moment end, attempt_cpu_ms = held.cpu_ms, stalls = 0,
                updated_at = clock_now(), event_seq = r.event_seq + case when held.is_due then 2 else 1 end
            from held where r.id = held.id
            returning r.id, r.event_seq, r.environment_id, r.due_at, held.is_due
        ), stored as (
            insert into checkpoints (run_id, sequence, digest, snapshot, stored_bytes, raw_bytes, wait, rewritten, files, packs, pages,
                created_at)
            select id, sequence, digest, snapshot, stored_bytes, raw_bytes, wait::json, rewritten, files, packs::text[], pages::text[],
                clock_now()
            from asked where id in (select id from frozen)
            on conflict (run_id) do update set sequence = excluded.sequence, digest = excluded.digest,
                snapshot = excluded.snapshot, stored_bytes = excluded.stored_bytes, raw_bytes = excluded.raw_bytes,
                wait = excluded.wait, rewritten = excluded.rewritten, files = excluded.files, packs = excluded.packs,
                pages = excluded.pages, created_at = excluded.created_at
        ), forgotten as (
            delete from journal where run_id = any(array(select id from frozen))
        ), entries as (
            insert into run_events (run_id, seq, at, kind, status, data)
            select id, event_seq - is_due::integer, clock_now(), $13, 'WAITING', asked.note::json from frozen join asked using (id)
            union all
            select id, event_seq, clock_now(), $20, 'QUEUED', null from frozen where is_due
        ), told as (
            select pg_notify($14, string_agg(replace(id::text, '-', ''), ',')) from frozen having count(*) > 0
            union all
            select pg_notify($15, '') from frozen where due_at is not null having count(*) > 0
            union all
            select pg_notify($21, '') from frozen where is_due having count(*) > 0
        )
        select f.id, f.environment_id, f.is_due as "is_due!",
            -- Of the statement's beginning: the one that is replaced.
            before.digest as "replaced?",
            (select count(*) from told) as told
        from frozen f
        join asked on asked.id = f.id
        left join checkpoints before on before.run_id = f.id and before.digest is distinct from asked.digest
            and not exists (select from checkpoints other where other.digest = before.digest and other.run_id <> f.id)
        "#,
        &columns.runs,
        &columns.workers,
        &columns.epochs,
        &columns.moments as &[Option<DateTime<Utc>>],
        &columns.cpu_ms,
        &columns.sequences,
        &columns.digests as &[Option<&str>],
        &columns.snapshots as &[Option<&[u8]>],
        &columns.stored_bytes,
        &columns.raw_bytes,
        &columns.waits,
        &columns.rewritten as &[Option<&str>],
        EventKind::Suspended.as_str(),
        notify::RUNS,
        notify::TIMERS,
        &columns.files as &[Option<&[u8]>],
        &columns.packs,
        &columns.pages,
        &columns.notes,
        EventKind::Resumed.as_str(),
        notify::LINE
    )
    .fetch_all(connection)
    .await?;
    let frozen = rows.into_iter().map(|row| Frozen {
        run: RunId::from_uuid(row.id),
        environment: EnvironmentId::from_uuid(row.environment_id),
        is_due: row.is_due,
        replaced: row.replaced,
    });
    Ok(frozen.collect())
}

/// Suspensions, column by column.
#[derive(Default)]
struct Columns<'a> {
    runs: Vec<Uuid>,
    workers: Vec<Uuid>,
    epochs: Vec<i64>,
    moments: Vec<Option<DateTime<Utc>>>,
    cpu_ms: Vec<i64>,
    sequences: Vec<i64>,
    digests: Vec<Option<&'a str>>,
    snapshots: Vec<Option<&'a [u8]>>,
    stored_bytes: Vec<i64>,
    raw_bytes: Vec<i64>,
    waits: Vec<String>,
    rewritten: Vec<Option<&'a str>>,
    files: Vec<Option<&'a [u8]>>,
    /// Each the text of an array: rows of arrays would all have to be of one length.
    packs: Vec<String>,
    pages: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Columns<'a> {
    fn of(suspended: &'a [Suspension]) -> Columns<'a> {
        let mut columns = Columns::default();
        for Suspension { lease, checkpoint, wait, moment, used_cpu_ms, timing } in suspended {
            columns.runs.push(lease.run.uuid());
            columns.workers.push(lease.worker.uuid());
            columns.epochs.push(lease.epoch);
            columns.moments.push(*moment);
            columns.cpu_ms.push(*used_cpu_ms as i64);
            columns.sequences.push(checkpoint.sequence as i64);
            columns.digests.push(checkpoint.snapshot.blob());
            columns.snapshots.push(checkpoint.snapshot.in_row());
            columns.stored_bytes.push(checkpoint.stored_bytes as i64);
            columns.raw_bytes.push(checkpoint.raw_bytes as i64);
            columns.waits.push(rows::to_json(wait));
            columns.rewritten.push(checkpoint.rewritten.as_deref());
            columns.files.push(checkpoint.files.as_ref().map(|files| &files.manifest[..]));
            columns.packs.push(array(checkpoint.files.as_ref().map_or(&[][..], |files| &files.packs)));
            columns.pages.push(array(&checkpoint.pages));
            columns.notes.push(rows::to_json(&Note::suspension(wait, checkpoint, *timing)));
        }
        columns
    }
}

/// Digests as the text of an array. They are hexadecimal, so nothing in them has to be quoted.
fn array(digests: &[String]) -> String {
    format!("{{{}}}", digests.join(","))
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
