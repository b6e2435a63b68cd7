//! The shape protocol in which subscribers get rows of runs: columns, messages, headers, handles and offsets, exactly as the
//! clients read them. Source: facts 8.2-8.6.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use chrono::{DateTime, Utc};
use rand::RngExt;
use serde_json::{Value, json};

use super::when::duration_text;
use crate::{
    model::{feed::RunRow, price::Prices, run::RunStatus},
    realtime::Column,
};

/// Every column with its type and whether it is a list. Source: facts 8.5.
const COLUMNS: [(&str, &str, bool); 28] = [
    ("id", "text", false),
    ("friendlyId", "text", false),
    ("taskIdentifier", "text", false),
    ("status", "text", false),
    ("createdAt", "timestamp", false),
    ("updatedAt", "timestamp", false),
    ("startedAt", "timestamp", false),
    ("delayUntil", "timestamp", false),
    ("queuedAt", "timestamp", false),
    ("expiredAt", "timestamp", false),
    ("completedAt", "timestamp", false),
    ("number", "int4", false),
    ("isTest", "bool", false),
    ("usageDurationMs", "int4", false),
    ("costInCents", "float8", false),
    ("baseCostInCents", "float8", false),
    ("ttl", "text", false),
    ("idempotencyKey", "text", false),
    ("payload", "text", false),
    ("payloadType", "text", false),
    ("output", "text", false),
    ("outputType", "text", false),
    ("metadata", "text", false),
    ("metadataType", "text", false),
    ("runTags", "text", true),
    ("error", "jsonb", false),
    ("realtimeStreams", "text", true),
    ("batchId", "text", false),
];

/// Columns without which clients cannot read a row. Source: facts 8.5.
const REQUIRED: [&str; 6] = ["id", "taskIdentifier", "friendlyId", "status", "createdAt", "updatedAt"];

/// The columns of a run, as JSON texts.
pub(super) fn columns(run: &RunRow, prices: &Prices) -> Vec<Column> {
    let text = |text: &str| Value::from(text).to_string();
    let maybe = |found: Option<String>| found.map_or_else(|| "null".to_owned(), |found| text(&found));
    let time = |at: Option<DateTime<Utc>>| maybe(at.map(timestamp));
    let data = |data: &[u8]| text(&String::from_utf8_lossy(data));
    let is_empty = run.payload.data.is_empty() && run.payload.content_type == crate::model::payload::JSON;
    let output = run.output.as_ref();
    let metadata = serde_json::to_string(&run.metadata).unwrap_or_default();
    let has_metadata = !run.metadata.is_empty();
    vec![
        ("id", text(&run.id.uuid().to_string())),
        ("friendlyId", text(&run.id.to_string())),
        ("taskIdentifier", text(&run.task)),
        ("status", text(raw_status(run.status))),
        ("createdAt", time(Some(run.created_at))),
        ("updatedAt", time(Some(run.updated_at))),
        ("startedAt", time(run.started_at)),
        ("delayUntil", time(run.delayed_until)),
        ("queuedAt", time(run.queued_at)),
        ("expiredAt", time(run.finished_at.filter(|_| run.status == RunStatus::Expired))),
        ("completedAt", time(run.finished_at)),
        ("number", text("0")),
        ("isTest", text(if run.is_test { "t" } else { "f" })),
        ("usageDurationMs", text(&run.cpu_ms.min(i32::MAX as u64).to_string())),
        ("costInCents", text(&prices.compute(&run.machine_time).to_string())),
        ("baseCostInCents", text(&prices.base(run.started_at.is_some()).to_string())),
        ("ttl", maybe(run.ttl_ms.map(duration_text))),
        ("idempotencyKey", maybe(run.idempotency_key.clone())),
        ("payload", if is_empty { "null".into() } else { data(&run.payload.data) }),
        ("payloadType", text(&run.payload.content_type)),
        ("output", output.filter(|output| !output.data.is_empty()).map_or("null".into(), |output| data(&output.data))),
        ("outputType", maybe(output.map(|output| output.content_type.clone()))),
        ("metadata", maybe(has_metadata.then_some(metadata))),
        ("metadataType", text(crate::model::payload::JSON)),
        ("runTags", maybe((!run.tags.is_empty()).then(|| array(&run.tags)))),
        ("error", maybe(run.error.as_ref().map(|error| serde_json::to_string(error).unwrap_or_default()))),
        ("realtimeStreams", text(&array(&run.streams))),
        ("batchId", maybe(run.batch.map(|batch| batch.to_string()))),
    ]
}

/// As the clients read it: without a zone, which they add. Source: facts 8.5.
fn timestamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

/// A Postgres array literal.
fn array(texts: &[String]) -> String {
    let quoted = texts.iter().map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}

/// Source: facts 8.6.
fn raw_status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::PendingVersion => "PENDING_VERSION",
        RunStatus::Delayed => "DELAYED",
        RunStatus::Queued => "PENDING",
        RunStatus::Dequeued => "DEQUEUED",
        RunStatus::Executing => "EXECUTING",
        RunStatus::Waiting => "WAITING_TO_RESUME",
        RunStatus::Completed => "COMPLETED_SUCCESSFULLY",
        RunStatus::Canceled => "CANCELED",
        RunStatus::Failed => "COMPLETED_WITH_ERRORS",
        RunStatus::Crashed => "CRASHED",
        RunStatus::SystemFailure => "SYSTEM_FAILURE",
        RunStatus::Expired => "EXPIRED",
        RunStatus::TimedOut => "TIMED_OUT",
    }
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// It is there.
    Insert,
    /// It is now so.
    Update,
}

/// The messages of one answer.
pub(super) struct Messages {
    text: String,
    is_first: bool,
    skip: Vec<String>,
}

impl Messages {
    /// None yet; rows will be without these columns, as far as clients can do without them.
    pub(super) fn without(skip: &[String]) -> Messages {
        let skip = skip.iter().filter(|column| !REQUIRED.contains(&column.as_str())).cloned().collect();
        Messages { text: "[".into(), is_first: true, skip }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    fn next(&mut self) {
        if !std::mem::replace(&mut self.is_first, false) {
            self.text.push(',');
        }
    }

    /// A row with its columns.
    pub(super) fn row(&mut self, columns: &[Column], operation: Operation) {
        self.next();
        let id = columns.iter().find(|(name, _)| *name == "id").map_or("", |(_, id)| id.trim_matches('"'));
        let key = Value::from(format!(r#""public"."TaskRun"/"{id}""#));
        self.text.push_str(&format!("{{\"key\":{key},\"value\":{{"));
        let shown = columns.iter().filter(|(name, _)| !self.skip.iter().any(|skipped| skipped == name));
        for (place, (name, value)) in shown.enumerate() {
            let comma = if place == 0 { "" } else { "," };
            self.text.push_str(&format!("{comma}\"{name}\":{value}"));
        }
        let operation = match operation {
            Operation::Insert => "insert",
            Operation::Update => "update",
        };
        self.text.push_str(&format!("}},\"headers\":{{\"operation\":\"{operation}\"}}}}"));
    }

    /// All that is there now has been told: only then do clients show it.
    pub(super) fn up_to_date(&mut self) {
        self.next();
        self.text.push_str(r#"{"headers":{"control":"up-to-date"}}"#);
    }

    /// The answer, which goes on at `place`.
    pub(super) fn answer(mut self, place: &Place, kind: Kind) -> Response {
        self.text.push(']');
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: String| {
            let value = HeaderValue::from_str(&value).expect("letters, digits and the punctuation of JSON");
            headers.insert(HeaderName::from_static(name), value);
        };
        set(place.names.handle, place.handle.clone());
        set(place.names.offset, place.offset.clone());
        match kind {
            // Another one each time, so that no cache between takes one answer for the next.
            Kind::Live => set("electric-cursor", Utc::now().timestamp_millis().to_string()),
            Kind::Snapshot { is_whole } => {
                set("electric-schema", schema(&self.skip));
                if is_whole {
                    set("electric-up-to-date", "true".into());
                }
            }
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        respond(StatusCode::OK, headers, self.text)
    }
}

/// Sends a client back to the beginning, with a new handle. Source: facts 8.3.
pub(super) fn must_refetch(names: Names, handle: &str) -> Response {
    let mut headers = HeaderMap::new();
    let handle = HeaderValue::from_str(handle).expect("letters and digits");
    headers.insert(HeaderName::from_static(names.handle), handle);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    respond(StatusCode::CONFLICT, headers, r#"[{"headers":{"control":"must-refetch"}}]"#.into())
}

fn respond(status: StatusCode, headers: HeaderMap, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What an answer says of the columns.
fn schema(skip: &[String]) -> String {
    let shown = COLUMNS.iter().filter(|(name, ..)| !skip.iter().any(|skipped| skipped == name));
    let types = shown.map(|(name, kind, is_list)| {
        let kind = if *is_list { json!({ "type": kind, "dims": 1 }) } else { json!({ "type": kind }) };
        ((*name).to_owned(), kind)
    });
    Value::Object(types.collect()).to_string()
}

/// What kind of answer it is: each has headers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To a request that waits for changes.
    Live,
    /// To one that does not.
    Snapshot {
        /// Nothing of what is there is missing.
        is_whole: bool,
    },
}

/// Where a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) names: Names,
    pub(super) handle: String,
    pub(super) offset: String,
}

/// How the headers are called that say so: clients of old have other names. Source: facts 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    handle: &'static str,
    offset: &'static str,
    /// The parameter that a client sends its handle in.
    pub(super) parameter: &'static str,
}

impl Names {
    pub(super) fn of(request: &HeaderMap) -> Names {
        match request.contains_key("x-trigger-electric-version") {
            true => Names { handle: "electric-handle", offset: "electric-offset", parameter: "handle" },
            false => Names { handle: "electric-shape-id", offset: "electric-chunk-last-offset", parameter: "shape_id" },
        }
    }
}

/// The beginning, before anything was told.
pub(super) const BEGINNING: &str = "-1";

/// Two numbers, as `12_0`.
pub(super) fn offset(text: &str) -> Option<(u64, u128)> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (first, second) = text.split_once('_').filter(|(first, second)| digits(first) && digits(second))?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// Names one subscriber of a feed. What it says after the first dash is the feed's own; the rest tells subscribers apart.
pub(super) fn new_handle(prefix: &str, own: &str) -> String {
    let mut random = rand::rng();
    format!("{prefix}-{own}-{:016x}", random.random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_two_numbers() {
        assert_eq!(offset("12_0"), Some((12, 0)));
        assert_eq!(offset(&format!("{}_{}", u64::MAX, u128::MAX)), Some((u64::MAX, u128::MAX)));
        for wrong in ["", "-1", "1", "_", "1_", "_1", "+1_0", "1_x", "1_2_3", "99999999999999999999999_0"] {
            assert_eq!(offset(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_list_is_an_array_literal() {
        assert_eq!(array(&["a".into(), "b,\"c\"\\".into()]), r#"{"a","b,\"c\"\\"}"#);
        assert_eq!(array(&[]), "{}");
    }

    #[test]
    fn rows_and_schema_have_the_columns_that_are_not_left_out_and_those_that_must_be_there() {
        let skip = ["payload".to_owned(), "updatedAt".to_owned()];
        let columns: Vec<Column> = COLUMNS.iter().map(|(name, ..)| (*name, "\"1\"".to_owned())).collect();
        let mut messages = Messages::without(&skip);
        messages.row(&columns, Operation::Insert);
        messages.up_to_date();
        let schema: Value = serde_json::from_str(&schema(&messages.skip)).unwrap();
        let body: Value = serde_json::from_str(&(messages.text + "]")).unwrap();
        assert_eq!(body[0]["key"], r#""public"."TaskRun"/"1""#);
        assert_eq!(body[0]["headers"]["operation"], "insert");
        assert_eq!(body[1]["headers"]["control"], "up-to-date");
        let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&body[0]["value"]), names(&schema));
        assert!(schema.get("payload").is_none() && schema.get("updatedAt").is_some());
        assert_eq!(schema["runTags"], json!({"type": "text", "dims": 1}));
    }
}
