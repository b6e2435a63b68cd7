//! Appends to streams of runs. What is acknowledged is durable, in order, and there once: an append that is sent again under the same
//! name is answered and not written again. Source: facts H1-H6.
//!
//! What a run appends is named by the place of the call: its attempt, its checkpoint, the call's number since then, and what it
//! appends. So a run that goes on from a checkpoint and makes the same call again doubles nothing; if it says something else this
//! time, that is appended. The name is with the chunks, so unlike other calls these are not journaled.
//!
//! Locks are taken in the order run, stream, waitpoint.

use sqlx::PgConnection;

use crate::{
    engine::{Error, journal::Call},
    model::{
        attempt::Lease,
        event::EventKind,
        id::{EnvironmentId, RunId},
        stream::{
            Direction, MAX_APPEND_BYTES, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_KEY_CHARS, MAX_STREAM_BYTES, MAX_STREAMS, StreamId,
            StreamPage, StreamTarget,
        },
    },
    store::{
        Store, events, notes, notify, runs,
        streams::{self, Hold, Locked, NewChunks},
    },
};

/// What whoever writes to a stream of a run that is over is told.
pub(super) const OVER: &str = "Cannot write to a stream of a completed run";
/// What the names of appends of others than runs begin with.
const OUTSIDE: &str = "x/";
/// Longest name of an append, in characters.
const MAX_PART_CHARS: usize = 512;

/// Appends chunks to what a run says, and returns the index of the last one. `part` names the append.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if the run is over; [`Error::Invalid`] and [`Error::TooLarge`] for what breaks a rule.
pub async fn append(
    store: &Store,
    environment: EnvironmentId,
    stream: StreamId,
    chunks: Vec<String>,
    part: Option<String>,
) -> Result<u64, Error> {
    check(&stream.key, &chunks)?;
    let part = part.map(outside).transpose()?;
    store.tx(move |tx| Box::pin(async move { append_in(tx, environment, None, &stream, &chunks, part.as_deref()).await })).await
}

/// Appends chunks for the run that this lease holds, to what it or another run says.
///
/// # Errors
/// [`Error::LostLease`], and those of [`append`].
pub async fn append_in_run(
    store: &Store,
    lease: &Lease,
    environment: EnvironmentId,
    call: Call,
    target: StreamTarget,
    key: String,
    chunks: Vec<String>,
) -> Result<u64, Error> {
    check(&key, &chunks)?;
    let (lease, part) = (*lease, of_call(lease, call, &chunks));
    store
        .tx(move |tx| {
            Box::pin(async move {
                let run = resolve(tx, environment, lease.run, target).await?;
                let stream = StreamId { run, direction: Direction::Out, key };
                append_in(tx, environment, Some(&lease), &stream, &chunks, Some(&part)).await
            })
        })
        .await
}

async fn append_in(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    lease: Option<&Lease>,
    stream: &StreamId,
    chunks: &[String],
    part: Option<&str>,
) -> Result<u64, Error> {
    let is_new = !streams::exists(tx, stream).await?;
    let mut runs = vec![stream.run];
    runs.extend(lease.map(|lease| lease.run).filter(|run| *run != stream.run));
    let hold = if is_new { Hold::Alone } else { Hold::Shared };
    let runs = streams::lock_runs(tx, environment, &runs, lease, hold).await?;
    if let Some(lease) = lease
        && !runs.iter().any(|run| run.id == lease.run && run.is_held)
    {
        return Err(Error::LostLease);
    }
    let run = runs.iter().find(|run| run.id == stream.run).ok_or(Error::not_found("run"))?;
    if let Some(part) = part
        && let Some(last) = streams::appended(tx, stream, part).await?
    {
        return Ok(last);
    }
    if run.status.is_final() {
        return Err(Error::Conflict(OVER.into()));
    }
    if is_new && make(tx, stream).await? {
        let changed = streams::touch_run(tx, stream.run).await?;
        events::record(tx, EventKind::Changed, &[changed]).await?;
    }
    let locked = streams::lock(tx, stream).await?.ok_or(Error::not_found("stream"))?;
    check_room(locked, chunks)?;
    // Somebody may have sent the same at the same time.
    if let Some(part) = part
        && let Some(last) = streams::appended(tx, stream, part).await?
    {
        return Ok(last);
    }
    let last = streams::append(tx, stream, locked, &NewChunks { chunks, content_type: None, part }).await?;
    notify::streams(tx, &[stream.run.uuid()]).await?;
    Ok(last)
}

/// Makes a stream, if the run may have one more. False: it is there.
pub(super) async fn make(tx: &mut PgConnection, stream: &StreamId) -> Result<bool, Error> {
    let is_made = streams::make(tx, stream).await?;
    if is_made && streams::count(tx, stream.run, stream.direction).await? > u64::from(MAX_STREAMS) {
        return Err(Error::TooLarge { field: "streams", limit: MAX_STREAMS as usize, unit: "streams of a run" });
    }
    Ok(is_made)
}

/// The run that is meant.
pub(super) async fn resolve(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    run: RunId,
    target: StreamTarget,
) -> Result<RunId, Error> {
    match target {
        StreamTarget::This => Ok(run),
        StreamTarget::Run(other) => Ok(other),
        StreamTarget::Parent | StreamTarget::Root => {
            let (parent, root) = notes::family(tx, environment, run).await?.ok_or(Error::not_found("run"))?;
            Ok(if target == StreamTarget::Root { root } else { parent.unwrap_or(run) })
        }
    }
}

/// The run whose stream is meant. Writes nothing.
///
/// # Errors
/// [`Error::NotFound`] if it is not in the environment.
pub async fn find(store: &Store, environment: EnvironmentId, run: RunId, target: StreamTarget) -> Result<RunId, Error> {
    let connection = &mut *store.read().await?;
    let found = resolve(connection, environment, run, target).await?;
    let is_there = runs::exists(connection, environment, found).await?;
    is_there.then_some(found).ok_or(Error::not_found("run"))
}

/// What a stream has from an index on, or if it is beyond its end where that is: as much as about so many bytes, but one chunk always. Writes nothing; a stream that was never
/// written to is empty.
///
/// # Errors
/// [`Error::NotFound`] if its run is gone.
pub async fn read(
    store: &Store,
    environment: EnvironmentId,
    stream: &StreamId,
    from: u64,
    most_bytes: u64,
) -> Result<StreamPage, Error> {
    // In this order: once the run is over nothing comes any more.
    let (next, is_over) = streams::standing(store, environment, stream).await?.ok_or(Error::not_found("run"))?;
    let chunks = match from < next {
        true => streams::read(&mut *store.read().await?, stream, from, most_bytes).await?,
        false => Vec::new(),
    };
    let reached = chunks.last().map_or(from.min(next), |chunk| chunk.index + 1);
    Ok(StreamPage { is_ended: is_over && reached >= next, next: reached, chunks })
}

/// The name of an append of lines of a writer that numbers them, of which this is the last. In the order of the numbers.
pub fn line_part(writer: &str, last: u64) -> String {
    format!("{writer}/{last:020}")
}

/// The last of a writer's lines that was appended.
///
/// # Errors
/// If the database does not answer.
pub async fn last_line(store: &Store, stream: &StreamId, writer: &str) -> Result<Option<u64>, Error> {
    let prefix = format!("{OUTSIDE}{writer}/");
    let part = streams::last_part(&mut *store.read().await?, stream, &prefix).await?;
    Ok(part.and_then(|part| part.strip_prefix(&prefix)?.parse().ok()))
}

fn check(key: &str, chunks: &[String]) -> Result<(), Error> {
    check_key(key)?;
    if chunks.is_empty() || chunks.len() > MAX_CHUNKS {
        return Err(Error::invalid("chunks", format!("an append has 1 to {MAX_CHUNKS} chunks, this one {}", chunks.len())));
    }
    if chunks.iter().any(|chunk| chunk.len() > MAX_CHUNK_BYTES) {
        return Err(Error::TooLarge { field: "a chunk", limit: MAX_CHUNK_BYTES, unit: "bytes" });
    }
    if chunks.iter().map(String::len).sum::<usize>() > MAX_APPEND_BYTES {
        return Err(Error::TooLarge { field: "an append", limit: MAX_APPEND_BYTES, unit: "bytes" });
    }
    Ok(())
}

pub(super) fn check_key(key: &str) -> Result<(), Error> {
    let length = key.chars().count();
    if length == 0 || length > MAX_KEY_CHARS || key.contains('\0') {
        let rule = format!("the key of a stream has 1 to {MAX_KEY_CHARS} characters, none of them NUL");
        return Err(Error::invalid("stream", rule));
    }
    Ok(())
}

pub(super) fn check_room(locked: Locked, chunks: &[String]) -> Result<(), Error> {
    let bytes: usize = chunks.iter().map(String::len).sum();
    if locked.bytes + bytes as u64 > MAX_STREAM_BYTES {
        return Err(Error::TooLarge { field: "the stream", limit: MAX_STREAM_BYTES as usize, unit: "bytes" });
    }
    Ok(())
}

/// The name of an append that somebody outside gave it.
pub(super) fn outside(part: String) -> Result<String, Error> {
    if part.is_empty() || part.len() > MAX_PART_CHARS || !part.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid("part", format!("the name of a part has 1 to {MAX_PART_CHARS} visible ASCII characters")));
    }
    Ok(format!("{OUTSIDE}{part}"))
}

/// The name of what a run appends.
pub(super) fn of_call(lease: &Lease, call: Call, chunks: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for chunk in chunks {
        hasher.update(&(chunk.len() as u64).to_le_bytes());
        hasher.update(chunk.as_bytes());
    }
    let digest = hasher.finalize().to_hex();
    let (run, attempt) = (lease.run.uuid().simple(), lease.attempt);
    format!("r/{run}/{attempt}/{}/{}/{}", call.sequence, call.ordinal, &digest[..32])
}
