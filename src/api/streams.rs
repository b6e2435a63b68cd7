//! Streams of runs, read as server-sent events. Source: facts 9, 10.
//!
//! Events are of the second format that the clients know: batches of numbered records. A reader that is cut off goes on after the last
//! number it has seen. The answer ends when the run is over and all has been read, or when nothing came for as long as the reader
//! asked for; when the server stops it is broken off, so that the reader comes back.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::{AppState, Error, auth::Caller, error::ErrorBody, runs};
use crate::{
    model::stream::{Chunk, Direction, StreamId},
    realtime::chunks::{Begin, Read, Reader},
};

/// How long a reader waits for the next chunk, unless it says otherwise, and at most. Source: facts 9.
const IDLE: Duration = Duration::from_secs(60);
const MAX_IDLE_SECONDS: u64 = 600;
/// How often a reader that waits is told that the connection stands.
const PING: Duration = Duration::from_secs(15);
/// Records and bytes of one event.
const MAX_RECORDS: usize = 500;
const MAX_EVENT_BYTES: usize = 256 << 10;

/// Where a reader begins, and how long it stays.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what is read by name")]
struct ReadHeaders {
    /// The index of the last chunk or value that was read
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<u64>,
    /// 1 to 600: how long to wait for the next one; 60 otherwise
    #[param(rename = "Timeout-Seconds")]
    timeout_seconds: Option<u64>,
    /// latest: only what comes from now on
    #[param(rename = "X-Trigger-Stream-Start")]
    start: Option<String>,
}

/// Reads what a run says in a stream.
#[utoipa::path(get, path = "/realtime/v1/streams/{runId}/{streamKey}", tag = "streams",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), ("streamKey" = String, Path), ReadHeaders),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody)))]
pub(super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    events(state, caller, &id, Direction::Out, key, &headers).await
}

/// Reads what was sent to a run in a stream.
#[utoipa::path(get, path = "/realtime/v1/streams/{runId}/input/{streamKey}", tag = "streams",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), ("streamKey" = String, Path), ReadHeaders),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody)))]
pub(super) async fn read_input(
    State(state): State<AppState>,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    events(state, caller, &id, Direction::In, key, &headers).await
}

async fn events(
    state: AppState,
    caller: Caller,
    id: &str,
    direction: Direction,
    key: String,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let run = runs::of_environment(&state, &caller.environment, id).await?;
    runs::may_read(&caller, &run)?;
    let number = |name: &'static str, hint: &str| {
        let Some(value) = headers.get(name) else { return Ok(None) };
        let number = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
        number.map(Some).ok_or_else(|| Error::header(name, hint))
    };
    let idle = number("timeout-seconds", "write a number of seconds from 1 to 600")?;
    let idle = idle.map_or(IDLE, |seconds| Duration::from_secs(seconds.clamp(1, MAX_IDLE_SECONDS)));
    let is_latest = headers.get("x-trigger-stream-start").is_some_and(|start| start == "latest");
    let begin = match number("last-event-id", "write the index of the last chunk that was read")? {
        Some(last) => Begin::At(last.saturating_add(1).min(i64::MAX as u64)),
        None if is_latest => Begin::Latest,
        None => Begin::At(0),
    };
    let place = state.hub.place()?;
    let stream = StreamId { run: run.id, direction, key };
    let reader = state.hub.reader(caller.environment.id, stream, begin).await?;
    let closing = state.hub.closing().clone();
    let reading = Reading { reader, direction, idle, heard_at: Instant::now(), closing, is_done: false, _place: place };
    let body = Body::from_stream(stream::unfold(reading, Reading::next));
    let mut response = Response::new(body);
    let set = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (HeaderName::from_static("x-stream-version"), "v2"),
        // Proxies are not to collect what is to arrive at once.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    response.headers_mut().extend(set.map(|(name, value)| (name, HeaderValue::from_static(value))));
    Ok(response)
}

/// An answer in progress.
struct Reading {
    reader: Reader,
    direction: Direction,
    idle: Duration,
    heard_at: Instant,
    closing: CancellationToken,
    is_done: bool,
    _place: OwnedSemaphorePermit,
}

impl Reading {
    /// The next events. None: the answer is complete.
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Reading)> {
        if self.is_done {
            return None;
        }
        let (ends_at, ping_at) = (self.heard_at + self.idle, Instant::now() + PING);
        let came = tokio::select! {
            biased;
            came = self.reader.next() => came,
            () = self.closing.cancelled() => return self.break_off("the server is being stopped"),
            () = tokio::time::sleep_until(ends_at) => return None,
            () = tokio::time::sleep_until(ping_at) => {
                let ping = format!("event: ping\ndata: {{\"timestamp\":{}}}\n\n", chrono::Utc::now().timestamp_millis());
                return Some((Ok(ping.into()), self));
            }
        };
        match came {
            Ok(Read::Chunks(chunks)) => {
                self.heard_at = Instant::now();
                let events = batches(&chunks, self.direction);
                Some((Ok(events.into()), self))
            }
            Ok(Read::Ended) => None,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a stream could not be read on");
                self.break_off("the database is not available")
            }
        }
    }

    /// A reader takes the clean end of an answer for the end of the stream; one that breaks off makes it come again.
    fn break_off(mut self, why: &'static str) -> Option<(Result<Bytes, std::io::Error>, Reading)> {
        self.is_done = true;
        Some((Err(std::io::Error::other(why)), self))
    }
}

/// The chunks as events.
fn batches(chunks: &[Arc<Chunk>], direction: Direction) -> String {
    let mut text = String::new();
    let mut rest = chunks;
    while !rest.is_empty() {
        let (begin, mut count) = (text.len(), 0);
        text.push_str("event: batch\ndata: {\"records\":[");
        for chunk in rest.iter().take(MAX_RECORDS) {
            if count > 0 {
                text.push(',');
            }
            let data = match direction {
                Direction::Out => chunk.data.clone(),
                // The clients parse what is a text once more.
                Direction::In => Value::from(chunk.data.as_str()).to_string(),
            };
            let body = Value::from(format!("{{\"data\":{data},\"id\":\"{}\"}}", chunk.index));
            let (index, at) = (chunk.index, chunk.at.timestamp_millis());
            let _ = write!(text, "{{\"seq_num\":{index},\"timestamp\":{at},\"body\":{body}}}");
            count += 1;
            if text.len() - begin > MAX_EVENT_BYTES {
                break;
            }
        }
        text.push_str("]}\n\n");
        rest = &rest[count..];
    }
    text
}
