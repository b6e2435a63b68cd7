//! Streams of runs, written to: what a run says, and what is sent to it. Source: facts 9, 10.
//!
//! An answer says that everything in the request is durable. What is sent again under the same name, because an answer did not arrive,
//! is there once.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

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
        environment::Environment,
        id::RunId,
        payload::{JSON, Packet},
        stream::{Direction, MAX_CHUNK_BYTES, MAX_INPUT_BYTES, StreamId, StreamTarget},
    },
};

/// Largest body of an append. Source: facts 4.5.
const MAX_APPEND_BYTES: u64 = 512 << 10;
/// Longest pause in a body that is appended line by line.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Lines of such a body that are written at once, and how long they are collected.
const LINES_AT_ONCE: usize = 1000;
const BYTES_AT_ONCE: usize = 1 << 20;

/// Which stream is written to.
#[derive(IntoParams)]
#[into_params(parameter_in = Path, rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what is taken from the path as a tuple")]
struct WrittenPath {
    run_id: String,
    /// self, parent or root
    target: String,
    stream_key: String,
}

/// How a stream is written to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamMade {
    /// Always `v1`: with a POST to the same address, one JSON value in a line.
    version: &'static str,
}

/// Says how to write to a stream of a run, its parent or its root. Nothing is made: a stream is there with its first chunk.
#[utoipa::path(put, path = "/realtime/v1/streams/{runId}/{target}/{streamKey}", tag = "streams", security(("secretKey" = [])),
    params(WrittenPath),
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
    params(WrittenPath,
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
        Some(part) => Some(part.to_str().map_err(|_| Error::header("x-part-id", "write visible ASCII characters"))?.to_owned()),
    };
    let bytes = body::read(&headers, body, "The request body", MAX_APPEND_BYTES).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::body("", "a chunk is JSON, or text in UTF-8"))?;
    verbs::append(&state.store, environment.id, stream, vec![chunk(text)], part).await.map_err(refused)?;
    Ok(DONE)
}

/// Appends the lines of the body, each a JSON value, as they come. A writer that names itself, and says which of its lines is the first
/// of the body, may send again what it is not sure of.
#[utoipa::path(post, path = "/realtime/v1/streams/{runId}/{target}/{streamKey}", tag = "streams", security(("secretKey" = [])),
    params(WrittenPath,
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
            .ok_or_else(|| Error::header("x-resume-from-chunk", "write the number of a chunk"))?,
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
    environment: &'a Environment,
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
    params(WrittenPath,
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
    writer.map(|writer| Some(writer.to_owned())).ok_or_else(|| Error::header("x-client-id", hint))
}

/// A chunk of a body: the JSON that it is, or else a text.
fn chunk(text: &str) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) => value.get().to_owned(),
        Err(_) => Value::from(text).to_string(),
    }
}

/// The stream that a writer means.
async fn written(state: &AppState, environment: &Environment, id: &str, target: &str, key: String) -> Result<StreamId, Error> {
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
