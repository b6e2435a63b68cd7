//! Values that are sent to a run, and waits for them. Source: facts I1-I4.
//!
//! A send and a wait that begins take turns at the stream's row: either the wait sees the value, or the send sees the wait. Locks are
//! taken in the order run, stream, waitpoint, as by a run that is being suspended. The sweep of timeouts takes them the other way
//! round, so a send does not wait for a waitpoint that somebody holds: it begins again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{
    engine::{
        Error,
        journal::{self, Call},
        stream, token, wait,
    },
    model::{
        attempt::Lease,
        id::{EnvironmentId, RunId, WaitpointId},
        key,
        payload::Packet,
        stream::{Direction, InputCursor, MAX_INPUT_BYTES, StreamId},
        waitpoint::{Idempotency, WaitpointKind},
    },
    store::{
        Store, StoreError, notify,
        streams::{self, Hold, NewChunks},
        waitpoints::{self, NewInput},
    },
};

/// Times that a key may change hands while we look, or a send may find a waitpoint held.
const MAX_ROUNDS: u32 = 5;
/// Before it is sent again.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends a value to a run, and returns its index. `part` names the send: one that is sent again under the same name is not written
/// again.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if the run is over; [`Error::Invalid`] for a value that is not text, or a stream whose
/// name breaks a rule; [`Error::TooLarge`] for a value above 1 MiB.
pub async fn send(
    store: &Store,
    environment: EnvironmentId,
    run: RunId,
    key: String,
    value: Packet,
    part: Option<String>,
) -> Result<u64, Error> {
    let (text, content_type) = check(&key, value)?;
    let part = part.map(stream::outside).transpose()?;
    let stream = StreamId { run, direction: Direction::In, key };
    let sent = Sent { stream, text, content_type, part };
    again(store, environment, None, &sent).await
}

/// Sends a value to a run for the run that this lease holds, which may be the same.
///
/// # Errors
/// [`Error::LostLease`], and those of [`send`].
pub async fn send_in_run(
    store: &Store,
    lease: &Lease,
    environment: EnvironmentId,
    call: Call,
    run: RunId,
    key: String,
    value: Packet,
) -> Result<u64, Error> {
    let (text, content_type) = check(&key, value)?;
    let part = stream::of_call(lease, call, std::slice::from_ref(&text));
    let (lease, stream) = (*lease, StreamId { run, direction: Direction::In, key });
    let sent = Sent { stream, text, content_type, part: Some(part) };
    again(store, environment, Some(lease), &sent).await
}

/// A value on its way.
#[derive(Debug, Clone)]
struct Sent {
    stream: StreamId,
    text: String,
    content_type: String,
    part: Option<String>,
}

/// Sends, and again if a waitpoint was held by somebody.
async fn again(store: &Store, environment: EnvironmentId, lease: Option<Lease>, sent: &Sent) -> Result<u64, Error> {
    let mut round = 1;
    loop {
        let sent = sent.clone();
        let answer = store.tx(move |tx| Box::pin(async move { send_in(tx, environment, lease.as_ref(), &sent).await })).await;
        match answer {
            Err(Error::Unavailable(StoreError::Undone(_))) if round < MAX_ROUNDS => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
        round += 1;
    }
}

async fn send_in(tx: &mut PgConnection, environment: EnvironmentId, lease: Option<&Lease>, sent: &Sent) -> Result<u64, Error> {
    let stream = &sent.stream;
    let mut runs = vec![stream.run];
    runs.extend(lease.map(|lease| lease.run).filter(|run| *run != stream.run));
    let runs = streams::lock_runs(tx, environment, &runs, lease, Hold::Alone).await?;
    if let Some(lease) = lease
        && !runs.iter().any(|run| run.id == lease.run && run.is_held)
    {
        return Err(Error::LostLease);
    }
    let run = runs.iter().find(|run| run.id == stream.run).ok_or(Error::not_found("run"))?;
    stream::make(tx, stream).await?;
    let locked = streams::lock(tx, stream).await?.ok_or(Error::not_found("stream"))?;
    if let Some(part) = &sent.part
        && let Some(index) = streams::appended(tx, stream, part).await?
    {
        return Ok(index);
    }
    if run.status.is_final() {
        return Err(Error::Conflict(stream::OVER.into()));
    }
    let chunks = std::slice::from_ref(&sent.text);
    stream::check_room(locked, chunks)?;
    let new = NewChunks { chunks, content_type: Some(&sent.content_type), part: sent.part.as_deref() };
    let index = streams::append(tx, stream, locked, &new).await?;
    let waiting = waitpoints::complete_inputs(tx, stream, index, &sent.text, &sent.content_type).await?;
    wait::wake_blocked(tx, &waiting).await?;
    notify::streams(tx, &[stream.run.uuid()]).await?;
    Ok(index)
}

/// Makes a waitpoint that the next value after the cursor completes; it is complete already if that is there. The same call made again
/// after its host was lost gets the same waitpoint.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::Invalid`] for a stream or key that breaks a rule.
pub async fn start(
    store: &Store,
    lease: &Lease,
    call: Call,
    cursor: InputCursor,
    timeout_at: Option<DateTime<Utc>>,
    idempotency: Option<Idempotency>,
) -> Result<WaitpointId, Error> {
    stream::check_key(&cursor.stream)?;
    token::check_key(idempotency.as_ref())?;
    let lease = *lease;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let stream = StreamId { run: lease.run, direction: Direction::In, key: cursor.stream };
                // The time is left out: the guest computes it from now, which is later when it asks again.
                let arguments = (&stream.key, cursor.after, &idempotency);
                journal::once(tx, &lease, call, "start-input", &arguments, async |tx, environment| {
                    stream::make(tx, &stream).await?;
                    let locked = streams::lock(tx, &stream).await?.ok_or(Error::not_found("stream"))?;
                    let new = NewInput {
                        stream: &stream,
                        after: cursor.after,
                        timeout_at: timeout_at.map(|at| at.max(DateTime::UNIX_EPOCH)),
                        idempotency: idempotency.as_ref(),
                    };
                    let (id, is_new) = ensure(tx, environment, &new).await?;
                    let first = cursor.after.map_or(0, |after| after.saturating_add(1));
                    if is_new && locked.next > first {
                        waitpoints::complete_input_with(tx, id, &stream, first).await?;
                    } else if is_new && timeout_at.is_some() {
                        notify::timers(tx).await?;
                    }
                    Ok(id)
                })
                .await
            })
        })
        .await
}

/// Makes the waitpoint, or finds the one with the same key; and whether it was made.
async fn ensure(tx: &mut PgConnection, environment: EnvironmentId, new: &NewInput<'_>) -> Result<(WaitpointId, bool), Error> {
    for _ in 0..MAX_ROUNDS {
        if let Some(id) = waitpoints::insert_input(tx, environment, new).await? {
            return Ok((id, true));
        }
        let key = new.idempotency.map(|idempotency| key::indexed(idempotency.key.clone())).unwrap_or_default();
        if let Some(id) = waitpoints::holder_of_key(tx, environment, WaitpointKind::Input, &key).await? {
            return Ok((id, false));
        }
    }
    Err(Error::Conflict("the idempotency key is being used by other requests".into()))
}

fn check(key: &str, value: Packet) -> Result<(String, String), Error> {
    stream::check_key(key)?;
    if value.data.len() > MAX_INPUT_BYTES {
        return Err(Error::TooLarge { field: "data", limit: MAX_INPUT_BYTES, unit: "bytes" });
    }
    let text = String::from_utf8(value.data).ok().filter(|text| !text.contains('\0'));
    let text =
        text.ok_or_else(|| Error::invalid("data", "a value is text, such as JSON, without NUL: encode bytes as base64"))?;
    Ok((text, value.content_type))
}
