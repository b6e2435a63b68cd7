//! Runs again, and runs at another time. Source: facts 7.3, C8, C9.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::SecretKey,
    body::{self, OneOrMany, TextOrNumber},
    error::ErrorBody,
    run_object::RunDetails,
    runs,
    tasks::{Checks, QueueName, TriggerBody, TriggerOptions, new_run},
    when,
};
use crate::{
    engine::{self, replay::Changes},
    model::{
        id::RunId,
        payload::{self, MAX_PAYLOAD_BYTES},
    },
    store,
};

/// The version that is current, by the name that clients have for it.
const LATEST: &str = "latest";

/// What shall be otherwise than in the run that is repeated; everything may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReplayBody {
    /// Another payload: any JSON, or its text if the type is `application/super+json`.
    #[serde(default, deserialize_with = "body::written")]
    #[schema(value_type = Option<Value>)]
    payload: Option<Box<RawValue>>,
    /// `application/json` or `application/super+json`.
    payload_type: Option<String>,
    /// Other metadata to begin with.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Other tags.
    tags: Option<OneOrMany>,
    /// Another queue.
    #[schema(value_type = Option<String>)]
    queue: Option<NamedQueue>,
    /// Another pool within the queue.
    concurrency_key: Option<TextOrNumber>,
    /// Another machine preset.
    machine: Option<String>,
    /// The version to run on; the current one unless said otherwise.
    version: Option<String>,
    /// There is one region.
    #[serde(rename = "region")]
    _region: Option<String>,
    /// As for a trigger.
    delay: Option<String>,
    /// As for a trigger.
    ttl: Option<TextOrNumber>,
    /// As for a trigger; the run's own is not repeated.
    idempotency_key: Option<String>,
    /// As for a trigger.
    #[serde(rename = "idempotencyKeyTTL")]
    idempotency_key_ttl: Option<String>,
    /// As for a trigger.
    max_attempts: Option<f64>,
    /// As for a trigger.
    max_duration: Option<f64>,
    /// As for a trigger.
    priority: Option<f64>,
}

/// A queue by its name, as a text or as triggers write it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a queue's name")]
enum NamedQueue {
    Name(String),
    Object(QueueName),
}

impl ReplayBody {
    /// What a trigger with these changes would be.
    fn into_trigger(self) -> TriggerBody {
        let options = TriggerOptions {
            payload_type: self.payload_type,
            metadata: self.metadata,
            tags: self.tags,
            queue: self.queue.map(|queue| match queue {
                NamedQueue::Name(name) => QueueName { name },
                NamedQueue::Object(queue) => queue,
            }),
            concurrency_key: self.concurrency_key,
            machine: self.machine,
            lock_to_version: self.version.filter(|version| version != LATEST),
            delay: self.delay,
            ttl: self.ttl,
            idempotency_key: self.idempotency_key,
            idempotency_key_ttl: self.idempotency_key_ttl,
            max_attempts: self.max_attempts,
            max_duration: self.max_duration,
            priority: self.priority,
            ..TriggerOptions::default()
        };
        TriggerBody { payload: self.payload, options: Some(options) }
    }
}

/// The run that repeats another.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    /// `run_…`
    #[schema(value_type = String)]
    id: RunId,
}

/// Repeats a run, whatever became of it: same payload, metadata, tags, queue, concurrency key and machine, on the current version.
#[utoipa::path(post, path = "/api/v1/runs/{runId}/replay", tag = "runs", security(("secretKey" = [])),
    params(
        ("runId" = String, Path),
        ("x-trigger-request-idempotency-key" = Option<String>, Header,
            description = "Names the request: sent again within a day it makes no second run")),
    request_body = ReplayBody,
    responses((status = 200, body = Replayed), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn replay(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Replayed>, Error> {
    let run = runs::of_environment(&state, &environment, &id).await?;
    let body: ReplayBody = body::read_json(&headers, body, "The request body", MAX_PAYLOAD_BYTES as u64).await?;
    let mut checks = Checks::default();
    let known = |text: &str| [payload::JSON, payload::SUPER_JSON].contains(&text);
    checks.that(body.payload_type.as_deref().is_none_or(known), "payloadType", || {
        format!("write {} or {}", payload::JSON, payload::SUPER_JSON)
    });
    checks.that(body.payload.is_some() || body.payload_type.is_none(), "payloadType", || "write a payload, too".into());
    checks.pass()?;
    let (has_payload, has_metadata, has_tags) = (body.payload.is_some(), body.metadata.is_some(), body.tags.is_some());

    let others = new_run(run.task, body.into_trigger(), &headers, state.now().await?)?;
    let changes = Changes {
        payload: has_payload.then(|| others.payload.clone()),
        metadata: has_metadata.then(|| others.metadata.clone()),
        tags: has_tags.then(|| others.tags.clone()),
        others,
    };
    let replayed = engine::replay::replay(&state.store, environment.id, run.id, changes).await?;
    Ok(Json(Replayed { id: replayed.id }))
}

/// When a delayed run shall begin.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct RescheduleBody {
    /// A duration from now (`1h30m`) or a time; a time that has passed lets it begin at once.
    delay: String,
}

/// Lets a delayed run begin at another time.
#[utoipa::path(post, path = "/api/v1/runs/{runId}/reschedule", tag = "runs", security(("secretKey" = [])),
    params(("runId" = String, Path)),
    request_body = RescheduleBody,
    responses((status = 200, body = RunDetails),
        (status = 400, body = ErrorBody, description = "The delay cannot be understood, or the run is not delayed"),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody)))]
pub(super) async fn reschedule(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RunDetails>, Error> {
    let id = runs::parse(&id)?;
    let body: RescheduleBody = body::read_json(&headers, body, "The request body", 1024).await?;
    let until = when::moment(&body.delay, state.now().await?);
    let until = until.ok_or_else(|| Error::body("delay", when::MOMENT_HINT))?;
    engine::reschedule::reschedule(&state.store, environment.id, id, until).await.map_err(|error| match error {
        // Not a rule that is broken, but the wrong time to ask.
        engine::Error::Conflict(message) => Error::NotNow(message),
        error => error.into(),
    })?;
    let detail = store::runs::detail(&state.store, environment.id, id).await?;
    detail.map(|detail| Json(RunDetails::of(detail, &state, &environment))).ok_or_else(|| Error::not_found("run"))
}
