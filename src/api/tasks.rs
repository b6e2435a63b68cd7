//! Triggering: from a body with many options to a [`NewRun`]. Source: facts 7.1, A1-A31.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::Caller,
    batches::one_time_key,
    body::{self, OneOrMany, TextOrNumber},
    error::{ErrorBody, Issue, Part},
    tokens::Minted,
    when,
};
use crate::{
    model::{
        deployment::MAX_EXTERNAL_ID_CHARS,
        id::RunId,
        machine::Machine,
        payload::{self, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, Packet},
        token::{MAX_TAG_CHARS, MAX_TAGS},
        trigger::{Debounce, DebounceMode, MAX_ATTEMPTS, MAX_DEBOUNCE_KEY_CHARS, MAX_KEY_CHARS, NewRun, RunIdempotency},
    },
    wall_clock,
};

const MAX_NAME_CHARS: usize = 128;
/// What is wrong with a run that somebody shall wait for.
pub(super) const AWAITED_BY_NOBODY: &str = "name the run that waits in parentRunId";

/// A run to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggerBody {
    /// Any JSON value; a string if `options.payloadType` is not `application/json`.
    #[serde(default, deserialize_with = "body::written")]
    #[schema(value_type = Option<Value>)]
    pub(super) payload: Option<Box<RawValue>>,
    /// How the run shall be made.
    #[serde(default)]
    pub(super) options: Option<TriggerOptions>,
}

/// How a run shall be made; every one may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggerOptions {
    /// `application/json`, `application/super+json` or `text/plain`.
    pub(super) payload_type: Option<String>,
    /// The queue, if not the task's own.
    pub(super) queue: Option<QueueName>,
    /// A pool of its own within the queue.
    pub(super) concurrency_key: Option<TextOrNumber>,
    /// A duration (`1h30m`) or a time; a time that has passed is no delay.
    pub(super) delay: Option<String>,
    /// A duration or seconds to wait for the start at most; 0: for ever.
    pub(super) ttl: Option<TextOrNumber>,
    /// At most 10 of 1 to 128 characters.
    pub(super) tags: Option<OneOrMany>,
    /// An object of at most 256 KiB.
    #[schema(value_type = Option<Object>)]
    pub(super) metadata: Option<Value>,
    /// The same key gets the same run; at most 2048 characters.
    pub(super) idempotency_key: Option<String>,
    /// How long the key counts: `60s`, `5m`, `2h`, `30d`. 30 days unless said otherwise.
    #[serde(rename = "idempotencyKeyTTL")]
    pub(super) idempotency_key_ttl: Option<String>,
    /// What the key was made of.
    pub(super) idempotency_key_options: Option<KeyOptions>,
    /// 1 to 250.
    pub(super) max_attempts: Option<f64>,
    /// CPU seconds per attempt; at least 5.
    pub(super) max_duration: Option<f64>,
    /// A machine preset.
    pub(super) machine: Option<String>,
    /// Seconds by which it jumps the queue.
    pub(super) priority: Option<f64>,
    /// Marks the run as a test.
    pub(super) test: Option<bool>,
    /// The version to run on, `YYYYMMDD.N`.
    pub(super) lock_to_version: Option<String>,
    /// The run that triggers it.
    pub(super) parent_run_id: Option<String>,
    /// Triggers with the same key become one run, which begins once there is none for a while.
    pub(super) debounce: Option<DebounceOptions>,
    /// Not available in this version.
    pub(super) concurrency: Option<Vec<String>>,
    /// Not available in this version.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(super) gates: Option<Vec<Value>>,
    /// The deployment to run on, by your own name for it, at most 128 characters; if it is not there yet, the run waits for it, an
    /// hour at most.
    pub(super) external_deployment_id: Option<String>,
    /// That run means to wait for this one, which runs on its version unless it names another. Waiting is then its own affair.
    pub(super) resume_parent_on_completion: Option<bool>,
}

/// How triggers become one run. Scoped to the environment and the task.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DebounceOptions {
    /// 1 to 512 characters.
    key: String,
    /// How long there must be no further trigger for the run to begin: a duration of at least `1s`.
    delay: String,
    /// `leading`: the run is as the first trigger made it, unless said otherwise; `trailing`: as the last one says.
    mode: Option<String>,
    /// How long the run is put off at most, counted from the first trigger: a duration longer than the delay. Then the run begins,
    /// and a further trigger makes another.
    max_delay: Option<String>,
}

/// A queue by its name.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct QueueName {
    pub(super) name: String,
}

/// What an SDK made an idempotency key of.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct KeyOptions {
    /// What the user wrote: a text or a list of texts.
    key: OneOrMany,
    /// `run`, `attempt` or `global`.
    scope: Option<String>,
}

/// The run that was made, or found by its idempotency key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggerResponse {
    /// `run_…`
    #[schema(value_type = String)]
    id: RunId,
    /// An earlier trigger with the same key made it.
    is_cached: bool,
}

/// Starts a run of a task. The task need not be deployed yet.
#[utoipa::path(post, path = "/api/v1/tasks/{taskId}/trigger", tag = "tasks", security(("secretKey" = []), ("publicToken" = [])),
    params(
        ("taskId" = String, Path, description = "The task's id, percent-encoded"),
        ("idempotency-key" = Option<String>, Header, description = "As options.idempotencyKey"),
        ("idempotency-key-ttl" = Option<String>, Header, description = "As options.idempotencyKeyTTL"),
        ("x-trigger-request-idempotency-key" = Option<String>, Header,
            description = "Names the request: sent again within a day it makes no second run")),
    request_body = TriggerBody,
    responses(
        (status = 200, body = TriggerResponse, headers(
            ("x-trigger-jwt" = String, description = "A public token that may read the run, for an hour"),
            ("x-trigger-jwt-claims" = String, description = "What such a token claims, as JSON"))),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn trigger(
    State(state): State<AppState>,
    caller: Caller,
    Path(task): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(Minted, Json<TriggerResponse>), Error> {
    caller.must("trigger", &[("tasks", Some(&task))])?;
    let body: TriggerBody = body::read_json(&headers, body, "The request body", MAX_PAYLOAD_BYTES as u64).await?;
    let mut new = new_run(task, body, &headers, wall_clock::now())?;
    // Whatever else the request says, a token that is good for one call makes one run; sent again, it gets that one.
    new.request_key = one_time_key(&caller).or(new.request_key);

    let triggered = state.intake.trigger(caller.environment.id, new).await?;

    let scopes = vec![format!("read:runs:{}", triggered.id), format!("write:inputStreams:{}", triggered.id)];
    let minted = Minted::new(&caller, scopes, Utc::now(), TimeDelta::hours(1));
    Ok((minted, Json(TriggerResponse { id: triggered.id, is_cached: triggered.is_cached })))
}

/// Checks every option; everything that is wrong is said at once.
pub(super) fn new_run(task: String, body: TriggerBody, headers: &HeaderMap, now: DateTime<Utc>) -> Result<NewRun, Error> {
    let options = body.options.unwrap_or_default();
    let mut checks = Checks::default();
    unavailable(&options)?;

    if task.is_empty() || task.chars().count() > MAX_NAME_CHARS {
        let issue = Issue::new("taskId", format!("write a task id of 1 to {MAX_NAME_CHARS} characters"));
        return Err(Error::Malformed { part: Part::Path, issues: vec![issue] });
    }
    let payload = packet(body.payload, options.payload_type.as_deref(), &mut checks);
    let mut new = NewRun::of(task, payload);

    new.idempotency = idempotency(&options, headers, &mut checks);
    new.request_key = request_key(headers, &mut checks);
    new.delay_until = checks.read("options.delay", options.delay.as_deref(), |text| when::moment(text, now), when::MOMENT_HINT);
    new.debounce = debounce(options.debounce, &mut checks)?;
    new.ttl_ms = match options.ttl {
        Some(TextOrNumber::Number(seconds)) => {
            let ms = (seconds.fract() == 0.0 && (0.0..1e12).contains(&seconds)).then(|| seconds as u64 * 1000);
            checks.known("options.ttl", ms, "write a whole number of seconds, 0 or more, or a duration such as 10m")
        }
        Some(TextOrNumber::Text(text)) => checks.read("options.ttl", Some(&text), when::duration_ms, when::DURATION_HINT),
        None => None,
    };
    new.tags = tags(options.tags, "options.tags", &mut checks)?;
    new.metadata = metadata(options.metadata, &mut checks)?;
    new.queue = options.queue.map(|queue| queue.name);
    checks.that(new.queue.as_deref().is_none_or(is_queue_name), "options.queue.name", || {
        format!("write 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ - /")
    });
    new.concurrency_key = options.concurrency_key.map(TextOrNumber::into_text);
    checks.length("options.concurrencyKey", new.concurrency_key.as_deref(), MAX_NAME_CHARS);
    new.concurrency_limits = options.concurrency;
    for name in new.concurrency_limits.iter().flatten() {
        checks.length("options.concurrency", Some(name), MAX_NAME_CHARS);
    }
    new.max_attempts = whole(options.max_attempts, 1, MAX_ATTEMPTS, "options.maxAttempts", &mut checks);
    new.max_duration_ms = seconds("options.maxDuration", options.max_duration, &mut checks).map(|ms| ms.max(0) as u64);
    checks.that(options.max_duration.is_none_or(|seconds| seconds >= 0.0), "options.maxDuration", || "0 or more seconds".into());
    let presets = Machine::ALL.map(Machine::as_str).join(", ");
    new.machine = checks.read("options.machine", options.machine.as_deref(), Machine::parse, &format!("write one of {presets}"));
    new.priority_ms = seconds("options.priority", options.priority, &mut checks).unwrap_or(0);
    new.is_test = options.test.unwrap_or(false);
    new.version = options.lock_to_version;
    checks.length("options.lockToVersion", new.version.as_deref(), MAX_NAME_CHARS);
    new.external_deployment = options.external_deployment_id;
    checks.length("options.externalDeploymentId", new.external_deployment.as_deref(), MAX_EXTERNAL_ID_CHARS);
    let parent = options.parent_run_id.as_deref();
    new.parent = checks.read("options.parentRunId", parent, |text| text.parse().ok(), "write the id of a run, run_…");
    new.awaited = options.resume_parent_on_completion == Some(true);
    checks.that(!new.awaited || parent.is_some(), "options.resumeParentOnCompletion", || AWAITED_BY_NOBODY.into());
    checks.pass().map(|()| new)
}

/// What would be ignored is refused: a run that does not wait for a place when it should is worse than none.
fn unavailable(options: &TriggerOptions) -> Result<(), Error> {
    match options.gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        true => Err(Error::Rule("options.gates is not available in this version; leave it out".into())),
        false => Ok(()),
    }
}

/// Source: facts A11-A14.
fn debounce(options: Option<DebounceOptions>, checks: &mut Checks) -> Result<Option<Debounce>, Error> {
    let Some(options) = options else { return Ok(None) };
    let duration = |name: &str, text: &str| {
        let hint = when::DURATION_HINT;
        when::duration_ms(text).ok_or_else(|| Error::Rule(format!("options.debounce.{name}: {hint}, not a date: {text:?}")))
    };
    checks.length("options.debounce.key", Some(&options.key), MAX_DEBOUNCE_KEY_CHARS);
    let delay_ms = duration("delay", &options.delay)?;
    let max_delay_ms = options.max_delay.as_deref().map(|text| duration("maxDelay", text)).transpose()?;
    let known = |mode: &str| match mode {
        "leading" => Some(DebounceMode::Leading),
        "trailing" => Some(DebounceMode::Trailing),
        _ => None,
    };
    let mode = checks.read("options.debounce.mode", options.mode.as_deref(), known, "write leading or trailing");
    Ok(Some(Debounce { key: options.key, delay_ms, mode: mode.unwrap_or(DebounceMode::Leading), max_delay_ms }))
}

/// The payload as it will reach the task. JSON keeps its text; everything else comes as a JSON string that holds it.
fn packet(payload: Option<Box<RawValue>>, content_type: Option<&str>, checks: &mut Checks) -> Packet {
    checks.length("options.payloadType", content_type, MAX_NAME_CHARS);
    let content_type = content_type.unwrap_or(payload::JSON);
    let Some(payload) = payload else { return Packet { content_type: content_type.into(), ..Packet::empty() } };
    match content_type {
        payload::JSON => Packet { data: payload.get().into(), content_type: payload::JSON.into() },
        payload::STORE => {
            checks.issue("options.payloadType", "application/store is not available in this version; send the payload itself");
            Packet::empty()
        }
        other => match serde_json::from_str::<String>(payload.get()) {
            Ok(text) => Packet { data: text.into(), content_type: other.into() },
            Err(_) => {
                checks.issue("payload", format!("must be a string, because options.payloadType is {other}"));
                Packet::empty()
            }
        },
    }
}

/// What names the request, so that it has one effect however often it is sent.
pub(super) fn request_key(headers: &HeaderMap, checks: &mut Checks) -> Option<String> {
    let key = header(headers, "x-trigger-request-idempotency-key").map(str::to_owned);
    checks.that(key.as_ref().is_none_or(|key| key.len() <= 256), "x-trigger-request-idempotency-key", || {
        "at most 256 characters".into()
    });
    key
}

fn idempotency(options: &TriggerOptions, headers: &HeaderMap, checks: &mut Checks) -> Option<RunIdempotency> {
    let key = options.idempotency_key.as_deref().or_else(|| header(headers, "idempotency-key"))?.to_owned();
    let ttl = options.idempotency_key_ttl.as_deref().or_else(|| header(headers, "idempotency-key-ttl"));
    let ttl_ms = checks.read(
        "options.idempotencyKeyTTL",
        ttl,
        |text| when::key_ttl_ms(text).filter(|ms| *ms > 0),
        "write a number and one unit: 60s, 5m, 2h or 30d",
    );
    Some(key_of(key, ttl_ms, options.idempotency_key_options.as_ref(), "options.", checks))
}

/// An idempotency key with what it was made of; `prefix` is that of the fields' paths.
pub(super) fn key_of(
    key: String,
    ttl_ms: Option<u64>,
    made_of: Option<&KeyOptions>,
    prefix: &str,
    checks: &mut Checks,
) -> RunIdempotency {
    checks.length(&format!("{prefix}idempotencyKey"), Some(&key), MAX_KEY_CHARS);
    let shown = made_of.map(|made_of| made_of.key.clone().into_vec().join("-"));
    let scope = made_of.and_then(|made_of| made_of.scope.clone());
    checks.length(&format!("{prefix}idempotencyKeyOptions.key"), shown.as_deref(), MAX_KEY_CHARS);
    let known = |scope: &str| ["run", "attempt", "global"].contains(&scope);
    checks.that(scope.as_deref().is_none_or(known), &format!("{prefix}idempotencyKeyOptions.scope"), || {
        "write run, attempt or global".into()
    });
    RunIdempotency { key, shown, scope, ttl_ms }
}

/// Tags of a run or a token, each once. Source: facts A19.
pub(super) fn tags(tags: Option<OneOrMany>, path: &str, checks: &mut Checks) -> Result<Vec<String>, Error> {
    let mut unique: Vec<String> = Vec::new();
    for tag in tags.map(OneOrMany::into_vec).unwrap_or_default() {
        if !unique.contains(&tag) {
            unique.push(tag);
        }
    }
    if unique.len() > MAX_TAGS {
        return Err(Error::Rule(format!("{path}: at most {MAX_TAGS} tags; these are {}", unique.len())));
    }
    let fits = |tag: &String| (1..=MAX_TAG_CHARS).contains(&tag.chars().count()) && !tag.contains('\0');
    checks.that(unique.iter().all(fits), path, || format!("every tag has 1 to {MAX_TAG_CHARS} characters, none of them NUL"));
    Ok(unique)
}

fn metadata(metadata: Option<Value>, checks: &mut Checks) -> Result<Map<String, Value>, Error> {
    match metadata {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => {
            let length = serde_json::to_string(&object).expect("it was JSON").len();
            if length > MAX_METADATA_BYTES {
                return Err(Error::TooLarge { what: "options.metadata", limit: MAX_METADATA_BYTES as u64, unit: "bytes" });
            }
            Ok(object)
        }
        Some(_) => {
            checks.issue("options.metadata", "must be an object");
            Ok(Map::new())
        }
    }
}

fn is_queue_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-/".contains(c);
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(known)
}

pub(super) fn whole(number: Option<f64>, least: u32, most: u32, path: &str, checks: &mut Checks) -> Option<u32> {
    let number = number?;
    let fits = number.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(&number);
    checks.known(path, fits.then_some(number as u32), &format!("write a whole number from {least} to {most}"))
}

/// Milliseconds of seconds, which may have a fraction.
fn seconds(path: &str, seconds: Option<f64>, checks: &mut Checks) -> Option<i64> {
    let ms = seconds? * 1000.0;
    checks.known(path, (ms.is_finite() && ms.abs() < 1e15).then_some(ms.round() as i64), "write a number of seconds")
}

pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

/// Collects what is wrong with a body, so that all of it is said at once.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<Issue>);

impl Checks {
    /// Something is wrong.
    pub(super) fn issue(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Issue::new(path, message));
    }

    /// An issue unless the condition holds.
    pub(super) fn that(&mut self, holds: bool, path: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.issue(path, message());
        }
    }

    /// The value, or an issue if there is none.
    fn known<T>(&mut self, path: &str, value: Option<T>, message: &str) -> Option<T> {
        self.that(value.is_some(), path, || message.into());
        value
    }

    /// What a text says, if there is one; an issue if it says nothing known.
    pub(super) fn read<T>(
        &mut self,
        path: &str,
        text: Option<&str>,
        parse: impl Fn(&str) -> Option<T>,
        message: &str,
    ) -> Option<T> {
        let text = text?;
        self.known(path, parse(text), message)
    }

    /// An issue unless the text, if there is one, has 1 to `most` characters, none of them NUL, which Postgres does not store.
    pub(super) fn length(&mut self, path: &str, text: Option<&str>, most: usize) {
        let fits = text.is_none_or(|text| (1..=most).contains(&text.chars().count()) && !text.contains('\0'));
        self.that(fits, path, || format!("write 1 to {most} characters, none of them NUL"));
    }

    /// Refuses the body if anything was wrong.
    pub(super) fn pass(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Malformed { part: Part::Body, issues: self.0 }) }
    }
}
