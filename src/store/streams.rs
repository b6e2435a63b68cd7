//! Streams and their chunks. The row of a stream is locked while chunks are numbered, so they become visible in their order.

use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError, events::Changed, rows};
use crate::model::{
    attempt::Lease,
    id::{EnvironmentId, RunId},
    run::RunStatus,
    stream::{Chunk, Direction, StreamId},
};

/// Rows that are read at once.
const ROWS_AT_ONCE: i64 = 256;

/// A stream that is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locked {
    /// The index that its next chunk gets.
    pub next: u64,
    /// Of all its chunks.
    pub bytes: u64,
}

/// Whether there is such a stream. It stays once it is there.
///
/// # Errors
/// If the database does not answer.
pub async fn exists(connection: &mut PgConnection, stream: &StreamId) -> Result<bool, StoreError> {
    let found = query_scalar!(
        "select key from streams where run_id = $1 and direction = $2 and key = $3",
        stream.run.uuid(),
        stream.direction.as_str(),
        stream.key
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Makes a stream. False: it is there.
///
/// # Errors
/// If the database does not answer.
pub async fn make(connection: &mut PgConnection, stream: &StreamId) -> Result<bool, StoreError> {
    let made = query!(
        "insert into streams (run_id, direction, key) values ($1, $2, $3) on conflict (run_id, direction, key) do nothing",
        stream.run.uuid(),
        stream.direction.as_str(),
        stream.key
    )
    .execute(connection)
    .await?;
    Ok(made.rows_affected() > 0)
}

/// How many streams a run has in one direction.
///
/// # Errors
/// If the database does not answer.
pub async fn count(connection: &mut PgConnection, run: RunId, direction: Direction) -> Result<u64, StoreError> {
    let count = query_scalar!(
        r#"select count(*) as "count!" from streams where run_id = $1 and direction = $2"#,
        run.uuid(),
        direction.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(rows::count(count))
}

/// Lets nobody else append until the transaction ends.
///
/// # Errors
/// If the database does not answer.
pub async fn lock(connection: &mut PgConnection, stream: &StreamId) -> Result<Option<Locked>, StoreError> {
    let row = query!(
        "select next_index, bytes from streams where run_id = $1 and direction = $2 and key = $3 for update",
        stream.run.uuid(),
        stream.direction.as_str(),
        stream.key
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Locked { next: rows::count(row.next_index), bytes: rows::count(row.bytes) }))
}

/// The index of the last chunk of the append with this name, if it was made before.
///
/// # Errors
/// If the database does not answer.
pub async fn appended(connection: &mut PgConnection, stream: &StreamId, part: &str) -> Result<Option<u64>, StoreError> {
    let last = query_scalar!(
        "select last_index from stream_chunks where run_id = $1 and direction = $2 and key = $3 and part = $4",
        stream.run.uuid(),
        stream.direction.as_str(),
        stream.key,
        part
    )
    .fetch_optional(connection)
    .await?;
    Ok(last.map(rows::count))
}

/// The last, in their order as texts, of the names of appends that begin so.
///
/// # Errors
/// If the database does not answer.
pub async fn last_part(connection: &mut PgConnection, stream: &StreamId, prefix: &str) -> Result<Option<String>, StoreError> {
    // Names are ASCII and compared by their bytes: `~` is after everything that they have.
    Ok(query_scalar!(
        r#"
        select part as "part!" from stream_chunks
        where run_id = $1 and direction = $2 and key = $3 and part is not null and part >= $4 and part < $4 || '~'
        order by part desc limit 1
        "#,
        stream.run.uuid(),
        stream.direction.as_str(),
        stream.key,
        prefix
    )
    .fetch_optional(connection)
    .await?)
}

/// What is appended to a stream that is locked.
#[derive(Debug)]
pub struct NewChunks<'a> {
    /// One at least.
    pub chunks: &'a [String],
    /// Of a value that is sent to the run.
    pub content_type: Option<&'a str>,
    /// Names the append.
    pub part: Option<&'a str>,
}

/// Appends to a stream that is locked, and returns the index of the last chunk.
///
/// # Errors
/// If the database does not answer.
pub async fn append(
    connection: &mut PgConnection,
    stream: &StreamId,
    locked: Locked,
    new: &NewChunks<'_>,
) -> Result<u64, StoreError> {
    let bytes: usize = new.chunks.iter().map(String::len).sum();
    let next = locked.next + new.chunks.len() as u64;
    query!(
        "with written as (
            insert into stream_chunks (run_id, direction, key, last_index, chunks, bytes, content_type, part)
            values ($1, $2, $3, $4::bigint - 1, $5, $6, $7, $8)
         )
         update streams set next_index = $4, bytes = bytes + $6 where run_id = $1 and direction = $2 and key = $3",
        stream.run.uuid(),
        stream.direction.as_str(),
        stream.key,
        next as i64,
        new.chunks,
        bytes as i64,
        new.content_type,
        new.part
    )
    .execute(connection)
    .await?;
    Ok(next - 1)
}

/// The chunks from an index on: as many as there are rows up to a bound, and no more than about so many bytes, but one always.
///
/// # Errors
/// If the database does not answer.
pub async fn read(
    connection: &mut PgConnection,
    stream: &StreamId,
    from: u64,
    most_bytes: u64,
) -> Result<Vec<Chunk>, StoreError> {
    let rows = query!(
        r#"
        with next as (
            select last_index, bytes from stream_chunks
            where run_id = $1 and direction = $2 and key = $3 and last_index >= $4
            order by last_index limit $6
        ), fitting as (
            select last_index, sum(bytes) over (order by last_index) - bytes as before from next
        )
        select c.last_index, c.chunks, c.content_type, c.at from fitting f
        join stream_chunks c on c.run_id = $1 and c.direction = $2 and c.key = $3 and c.last_index = f.last_index
        where f.before < $5::bigint
        order by c.last_index
        "#,
        stream.run.uuid(),
        stream.direction.as_str(),
        stream.key,
        from as i64,
        most_bytes as i64,
        ROWS_AT_ONCE
    )
    .fetch_all(connection)
    .await?;
    let mut chunks = Vec::new();
    for row in rows {
        let first = rows::count(row.last_index + 1 - row.chunks.len() as i64);
        for (index, data) in (first..).zip(row.chunks).filter(|(index, _)| *index >= from) {
            chunks.push(Chunk { index, at: row.at, data, content_type: row.content_type.clone() });
        }
    }
    Ok(chunks)
}

/// Where a stream stands: the index of its next chunk, 0 if it was never written to, and whether its run is over. None: there is no
/// such run in the environment.
///
/// # Errors
/// If the database does not answer.
pub async fn standing(store: &Store, environment: EnvironmentId, stream: &StreamId) -> Result<Option<(u64, bool)>, StoreError> {
    let row = query!(
        r#"
        select r.finished_at is not null as "is_over!", coalesce(s.next_index, 0) as "next!"
        from runs r left join streams s on s.run_id = r.id and s.direction = $2 and s.key = $3
        where r.id = $1 and r.environment_id is not distinct from $4
        "#,
        stream.run.uuid(),
        stream.direction.as_str(),
        stream.key,
        environment.uuid()
    )
    .fetch_optional(&mut *store.read().await?)
    .await?;
    Ok(row.map(|row| (rows::count(row.next), row.is_over)))
}

/// A run whose streams are written to, or that writes.
#[derive(Debug, Clone, Copy)]
pub struct Party {
    /// The run.
    pub id: RunId,
    /// Where it is.
    pub status: RunStatus,
    /// The lease that was asked about holds it.
    pub is_held: bool,
}

struct PartyRow {
    id: Uuid,
    status: String,
    is_held: bool,
}

impl PartyRow {
    fn party(self) -> Result<Party, StoreError> {
        Ok(Party { id: RunId::from_uuid(self.id), status: rows::run_status(&self.status)?, is_held: self.is_held })
    }
}

/// How much these runs are to be kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// They do not end until the transaction does.
    Shared,
    /// And nobody else changes them: this transaction does.
    Alone,
}

/// These runs of an environment, locked in the order of their ids.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_runs(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    ids: &[RunId],
    lease: Option<&Lease>,
    hold: Hold,
) -> Result<Vec<Party>, StoreError> {
    let (ids, environment) = (rows::uuids(ids), environment.uuid());
    let (worker, epoch) = (lease.map(|lease| lease.worker.uuid()), lease.map(|lease| lease.epoch));
    let rows = match hold {
        Hold::Shared => {
            query_as!(
                PartyRow,
                r#"
            select id, status, coalesce(lease_worker = $3 and epoch = $4, false) as "is_held!" from runs
            where id = any($1) and environment_id is not distinct from $2 order by id for share
            "#,
                &ids,
                environment,
                worker,
                epoch
            )
            .fetch_all(connection)
            .await?
        }
        Hold::Alone => {
            query_as!(
                PartyRow,
                r#"
            select id, status, coalesce(lease_worker = $3 and epoch = $4, false) as "is_held!" from runs
            where id = any($1) and environment_id is not distinct from $2 order by id for no key update
            "#,
                &ids,
                environment,
                worker,
                epoch
            )
            .fetch_all(connection)
            .await?
        }
    };
    rows.into_iter().map(PartyRow::party).collect()
}

/// A run has a stream more. Its row is locked.
///
/// # Errors
/// If the database does not answer.
pub async fn touch_run(connection: &mut PgConnection, run: RunId) -> Result<Changed, StoreError> {
    let row = query!(
        "update runs set updated_at = clock_now(), event_seq = event_seq + 1 where id = $1 returning event_seq, status",
        run.uuid()
    )
    .fetch_one(connection)
    .await?;
    Ok(Changed { id: run, seq: row.event_seq, status: rows::run_status(&row.status)? })
}
