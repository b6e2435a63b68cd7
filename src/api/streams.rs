//! Streams of runs: read as server-sent events, and appended to. Source: facts 9, 10.
//!
//! Events are of the second format that the clients know: batches of numbered records. A reader that is cut off goes on after the last
//! number it has seen. The answer ends when the run is over and all has been read, or when nothing came for as long as the reader
//! asked for; when the server stops it is broken off, so that the reader comes back.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::{Caller, SecretKey},
    body,
    error::{ErrorBody, Issue, Part},
    runs,
};
use crate::{
    engine::{self, input, stream as verbs},
    model::{
        id::RunId,
        payload::{JSON, Packet},
        stream::{Chunk, Direction, MAX_CHUNK_BYTES, MAX_INPUT_BYTES, StreamId, StreamTarget},
    },
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
/// Largest body of an append. Source: facts 4.5.
const MAX_APPEND_BYTES: u64 = 512 << 10;
/// Longest pause in a body that is appended line by line.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Lines of such a body that are written at once, and how long they are collected.
const LINES_AT_ONCE: usize = 1000;
const BYTES_AT_ONCE: usize = 1 << 20;

/// Reads what a run says in a stream.
#[utoipa::path(get, path = "/realtime/v1/streams/{runId}/{streamKey}", tag = "streams",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), ("streamKey" = String, Path),
        ("Last-Event-ID" = Option<u64>, Header, description = "The index of the last chunk that was read"),
        ("Timeout-Seconds" = Option<u64>, Header, description = "1 to 600: how long to wait for a chunk; 60 otherwise"),
        ("X-Trigger-Stream-Start" = Option<String>, Header, description = "latest: only what comes from now on")),
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
    params(("runId" = String, Path), ("streamKey" = String, Path),
        ("Last-Event-ID" = Option<u64>, Header, description = "The index of the last value that was read"),
        ("Timeout-Seconds" = Option<u64>, Header, description = "1 to 600: how long to wait for a value; 60 otherwise"),
        ("X-Trigger-Stream-Start" = Option<String>, Header, description = "latest: only what comes from now on")),
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
        number.map(Some).ok_or_else(|| header_error(name, hint))
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

fn header_error(name: &str, message: &str) -> Error {
    Error::Malformed { part: Part::Headers, issues: vec![Issue { path: vec![name.into()], message: message.into() }] }
}

/// How a stream is written to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamMade {
    /// Always `v1`: with a POST to the same address, one JSON value in a line.
    version: &'static str,
}

/// Says how to write to a stream of a run, its parent or its root. Nothing is made: a stream is there with its first chunk.
#[utoipa::path(put, path = "/realtime/v1/streams/{runId}/{target}/{streamKey}", tag = "streams", security(("secretKey" = [])),
    params(("runId" = String, Path), ("target" = String, Path, description = "self, parent or root"), ("streamKey" = String, Path)),
    responses((status = 202, body = StreamMade), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path((id, target, key)): Path<(String, String, String)>,
) -> Result<Response, Error> {
    let stream = written(&state, &environment, &id, &target, key).await?;
    let run = runs::of_environment(&state, &environment, &stream.run.to_string()).await?;
    if run.status.is_final() {
        return Err(over());
    }
    Ok((StatusCode::ACCEPTED, [("x-stream-version", "v1")], Json(StreamMade { version: "v1" })).into_response())
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// Always true.
    ok: bool,
}

const DONE: Json<Done> = Json(Done { ok: true });

/// Appends the body as one chunk: as the JSON value that it is, or else as a text.
#[utoipa::path(post, path = "/realtime/v1/streams/{runId}/{target}/{streamKey}/append", tag = "streams", security(("secretKey" = [])),
    params(("runId" = String, Path), ("target" = String, Path, description = "self, parent or root"), ("streamKey" = String, Path),
        ("X-Part-Id" = Option<String>, Header, description = "Names the chunk: sent again under the same name it is not written again")),
    request_body(content = String, content_type = "application/json", description = "At most 512 KiB"),
    responses((status = 200, body = Done), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn append(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path((id, target, key)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, Error> {
    let stream = written(&state, &environment, &id, &target, key).await?;
    let part = match headers.get("x-part-id") {
        None => None,
        Some(part) => Some(part.to_str().map_err(|_| header_error("x-part-id", "write visible ASCII characters"))?.to_owned()),
    };
    let bytes = body::read(&headers, body, "The request body", MAX_APPEND_BYTES).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::body("", "a chunk is JSON, or text in UTF-8"))?;
    verbs::append(&state.store, environment.id, stream, vec![chunk(text)], part).await.map_err(refused)?;
    Ok(DONE)
}

/// Appends the lines of the body, each a JSON value, as they come. A writer that names itself, and says which of its lines is the first
/// of the body, may send again what it is not sure of.
#[utoipa::path(post, path = "/realtime/v1/streams/{runId}/{target}/{streamKey}", tag = "streams", security(("secretKey" = [])),
    params(("runId" = String, Path), ("target" = String, Path, description = "self, parent or root"), ("streamKey" = String, Path),
        ("X-Client-Id" = Option<String>, Header, description = "Names the writer"),
        ("X-Resume-From-Chunk" = Option<u64>, Header, description = "Which of the writer's lines is the first one, from 0")),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, body = Done), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn append_lines(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path((id, target, key)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, Error> {
    let stream = written(&state, &environment, &id, &target, key).await?;
    let writer = writer(&headers)?;
    let first = match headers.get("x-resume-from-chunk") {
        None => 0,
        Some(first) => first
            .to_str()
            .ok()
            .and_then(|first| first.trim().parse::<u64>().ok())
            .ok_or_else(|| header_error("x-resume-from-chunk", "write the number of a chunk"))?,
    };
    let done = match &writer {
        None => None,
        Some(writer) => verbs::last_line(&state.store, &stream, writer).await?,
    };
    let mut lines = Lines { state: &state, environment: &environment, stream, writer, next: first, done, waiting: Vec::new() };
    let mut chunks = body.into_data_stream();
    let mut rest: Vec<u8> = Vec::new();
    loop {
        // Lines that came together are written together; a pause writes what has come.
        let came = match timeout(if lines.waiting.is_empty() { MAX_PAUSE } else { Duration::ZERO }, chunks.next()).await {
            Ok(came) => came,
            Err(_pause) if !lines.waiting.is_empty() => {
                lines.write().await?;
                continue;
            }
            Err(_pause) => return Err(Error::Unavailable("Nothing came for 5 minutes; send the rest again")),
        };
        let Some(came) = came else { break };
        rest.extend_from_slice(&came.map_err(|_| Error::body("", "the body broke off"))?);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            lines.take(&line[..end]).await?;
        }
        if rest.len() > MAX_CHUNK_BYTES {
            return Err(Error::TooLarge { what: "A line", limit: MAX_CHUNK_BYTES as u64, unit: "bytes" });
        }
    }
    lines.take(&rest).await?;
    lines.write().await?;
    Ok(DONE)
}

/// A body that is appended line by line.
struct Lines<'a> {
    state: &'a AppState,
    environment: &'a crate::model::environment::Environment,
    stream: StreamId,
    writer: Option<String>,
    /// The number of the next line.
    next: u64,
    /// The last of the writer's lines that were written before.
    done: Option<u64>,
    waiting: Vec<String>,
}

impl Lines<'_> {
    async fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        let text = std::str::from_utf8(line).map_err(|_| Error::body("", "a line is JSON in UTF-8"))?.trim();
        if text.is_empty() {
            return Ok(());
        }
        let number = self.next;
        self.next += 1;
        if self.done.is_some_and(|done| number <= done) {
            return Ok(());
        }
        self.waiting.push(chunk(text));
        let bytes: usize = self.waiting.iter().map(String::len).sum();
        if self.waiting.len() >= LINES_AT_ONCE || bytes >= BYTES_AT_ONCE { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let part = self.writer.as_ref().map(|writer| verbs::line_part(writer, self.next - 1));
        let chunks = std::mem::take(&mut self.waiting);
        let appended = verbs::append(&self.state.store, self.environment.id, self.stream.clone(), chunks, part);
        appended.await.map(drop).map_err(refused)
    }
}

/// Says which of a writer's lines was the last that was written.
#[utoipa::path(head, path = "/realtime/v1/streams/{runId}/{target}/{streamKey}", tag = "streams", security(("secretKey" = [])),
    params(("runId" = String, Path), ("target" = String, Path, description = "self, parent or root"), ("streamKey" = String, Path),
        ("X-Client-Id" = Option<String>, Header, description = "Names the writer")),
    responses((status = 200, description = "In `X-Last-Chunk-Index`; -1: none was"), (status = 401), (status = 404)))]
pub(super) async fn last_line(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path((id, target, key)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let stream = written(&state, &environment, &id, &target, key).await?;
    let last = match writer(&headers)? {
        None => None,
        Some(writer) => verbs::last_line(&state.store, &stream, &writer).await?,
    };
    let last = last.map_or("-1".to_owned(), |last| last.to_string());
    Ok(([("x-last-chunk-index", last)], ()).into_response())
}

fn writer(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(writer) = headers.get("x-client-id") else { return Ok(None) };
    let fits = |writer: &str| {
        (1..=128).contains(&writer.len()) && writer.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let writer = writer.to_str().ok().filter(|writer| fits(writer));
    let hint = "write 1 to 128 letters, digits, dashes or underscores";
    writer.map(|writer| Some(writer.to_owned())).ok_or_else(|| header_error("x-client-id", hint))
}

/// A chunk of a body: the JSON that it is, or else a text.
fn chunk(text: &str) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) => value.get().to_owned(),
        Err(_) => Value::from(text).to_string(),
    }
}

/// The stream that a writer means.
async fn written(
    state: &AppState,
    environment: &crate::model::environment::Environment,
    id: &str,
    target: &str,
    key: String,
) -> Result<StreamId, Error> {
    let run: RunId = runs::parse(id)?;
    let target = match target {
        "self" => StreamTarget::This,
        "parent" => StreamTarget::Parent,
        "root" => StreamTarget::Root,
        _ => {
            let issue = Issue { path: vec!["target".into()], message: "write self, parent or root".into() };
            return Err(Error::Malformed { part: Part::Path, issues: vec![issue] });
        }
    };
    let run = verbs::find(&state.store, environment.id, run, target).await?;
    Ok(StreamId { run, direction: Direction::Out, key })
}

/// A run that is over is no rule that is broken here, but a request that comes too late. Source: facts 9, 10.
fn refused(error: engine::Error) -> Error {
    match error {
        engine::Error::Conflict(message) => Error::NotNow(message),
        other => other.into(),
    }
}

fn over() -> Error {
    Error::NotNow("Cannot write to a stream of a completed run".into())
}

/// A value for a run.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SendBody {
    /// Any JSON value.
    #[serde(default, deserialize_with = "body::written")]
    #[schema(value_type = Option<Object>)]
    data: Option<Box<RawValue>>,
}

/// Sends a value to a run. One that waits for it goes on.
#[utoipa::path(post, path = "/realtime/v1/streams/{runId}/input/{streamKey}", tag = "streams",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), ("streamKey" = String, Path)),
    request_body(content = SendBody, description = "At most 1 MiB"),
    responses((status = 200, body = Done), (status = 400, body = ErrorBody, description = "The run is over, or the body is not what it should be"),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn send(
    State(state): State<AppState>,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, Error> {
    caller.must(&[("inputStreams", Some(&id))])?;
    let run = runs::parse(&id)?;
    // The envelope has room of its own.
    let body: SendBody = body::read_json(&headers, body, "The request body", MAX_INPUT_BYTES as u64 + 1024).await?;
    let data = body.data.ok_or_else(|| Error::body("data", "is missing; write any JSON value"))?;
    let value = Packet { data: data.get().into(), content_type: JSON.into() };
    // Clients repeat a request that was not answered under the same name.
    let part = headers.get("x-trigger-request-idempotency-key").and_then(|key| key.to_str().ok());
    let part = part.filter(|part| !part.is_empty()).map(|part| blake3::hash(part.as_bytes()).to_hex().to_string());
    input::send(&state.store, caller.environment.id, run, key, value, part).await.map_err(refused)?;
    Ok(DONE)
}
