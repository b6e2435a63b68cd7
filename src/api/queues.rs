//! Queues: how full they are, and what is changed by hand. Source: facts 7.6, K2, K3.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::{Caller, SecretKey},
    body,
    error::ErrorBody,
    pagination::{OffsetPaged, Parameters},
    when::rfc3339,
};
use crate::{
    engine,
    model::{
        environment::Environment,
        id::QueueId,
        queue::{self, Queue, TASK_PREFIX},
    },
    store::queues::{self, Which},
};

const DEFAULT_SIZE: u32 = 25;
const MAX_BODY_BYTES: u64 = 4096;

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueueObject {
    /// `queue_…`
    #[schema(value_type = String)]
    id: QueueId,
    /// Of a task's own queue, the task's id.
    name: String,
    /// `task` or `custom`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Runs that a worker has.
    running: u64,
    /// Runs in line.
    queued: u64,
    /// Nothing is taken from it.
    paused: bool,
    /// Runs that may execute at a time; null: any number.
    concurrency_limit: Option<u32>,
    concurrency: Concurrency,
}

/// Where a queue's limit comes from.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Concurrency {
    /// The limit that counts.
    current: Option<u32>,
    /// What the deployment declares.
    base: Option<u32>,
    /// Set by hand.
    #[serde(rename = "override")]
    by_hand: Option<u32>,
    /// When that was.
    overridden_at: Option<String>,
    /// Always null: keys have no names of people.
    overridden_by: Option<String>,
}

impl QueueObject {
    fn of(queue: Queue) -> QueueObject {
        let task = queue.name.strip_prefix(TASK_PREFIX);
        QueueObject {
            id: queue.id,
            kind: if task.is_some() { "task" } else { "custom" },
            name: task.unwrap_or(&queue.name).to_owned(),
            running: queue.running,
            queued: queue.queued,
            paused: queue.is_paused,
            concurrency_limit: queue.limit(),
            concurrency: Concurrency {
                current: queue.limit(),
                base: queue.declared_limit,
                by_hand: queue.override_limit,
                overridden_at: queue.overridden_at.map(rfc3339),
                overridden_by: None,
            },
        }
    }
}

/// How the path names the queue.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum NamedBy {
    /// By its id.
    #[default]
    Id,
    /// By the id of the task whose own it is.
    Task,
    /// By its name.
    Custom,
}

/// Whether a queue shall be paused.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PauseQueueBody {
    #[serde(rename = "type", default)]
    named_by: NamedBy,
    action: Action,
}

/// What shall happen to a queue.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// Nothing is taken from it.
    Pause,
    /// Runs are taken from it again.
    Resume,
}

/// A limit to be set by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitBody {
    #[serde(rename = "type", default)]
    named_by: NamedBy,
    /// 0 to 100000.
    concurrency_limit: u32,
}

/// The queue whose limit shall be as declared again.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct ResetQueueBody {
    #[serde(rename = "type", default)]
    named_by: NamedBy,
}

/// Lists queues by name.
#[utoipa::path(get, path = "/api/v1/queues", tag = "queues", security(("secretKey" = []), ("publicToken" = [])),
    params(("page" = Option<u32>, Query, description = "From 1"), ("perPage" = Option<u32>, Query, description = "At most 100")),
    responses((status = 200, body = OffsetPaged<QueueObject>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Parameters,
) -> Result<Json<OffsetPaged<QueueObject>>, Error> {
    caller.must(&[("queues", None)])?;
    let page = query.offset_page(DEFAULT_SIZE)?;
    let (queues, count) = queues::list(&state.store, caller.environment.id, page.offset(), page.size).await?;
    Ok(Json(OffsetPaged::of(queues.into_iter().map(QueueObject::of).collect(), page, count)))
}

/// Shows a queue.
#[utoipa::path(get, path = "/api/v1/queues/{queue}", tag = "queues", security(("secretKey" = []), ("publicToken" = [])),
    params(("queue" = String, Path, description = "Its id or name; a slash in a name as %2F, and that percent-encoded again"),
        ("type" = Option<String>, Query, description = "How it is named: id (unless said otherwise), task or custom")),
    responses((status = 200, body = QueueObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Path(named): Path<String>,
    query: Parameters,
) -> Result<Json<QueueObject>, Error> {
    let named_by = match query.text("type") {
        None | Some("id") => NamedBy::Id,
        Some("task") => NamedBy::Task,
        Some("custom") => NamedBy::Custom,
        Some(_) => return Err(Error::query("type", "write id, task or custom")),
    };
    let found = find(&state, &caller.environment, &named, named_by).await;
    // Who may not read queues is not told which there are.
    let shown = found.as_ref().ok().map(|queue| queue.name.clone());
    caller.must(&[("queues", shown.as_deref()), ("queues", Some(&named))])?;
    found.map(|queue| Json(QueueObject::of(queue)))
}

/// Pauses or resumes a queue. Runs that a worker has go on.
#[utoipa::path(post, path = "/api/v1/queues/{queue}/pause", tag = "queues", security(("secretKey" = [])),
    params(("queue" = String, Path)),
    request_body = PauseQueueBody,
    responses((status = 200, body = QueueObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody)))]
pub(super) async fn pause(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(named): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<QueueObject>, Error> {
    let body: PauseQueueBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let queue = find(&state, &environment, &named, body.named_by).await?.id;
    let queue = match body.action {
        Action::Pause => engine::queue::pause(&state.store, environment.id, queue).await?,
        Action::Resume => engine::queue::resume(&state.store, environment.id, queue).await?,
    };
    Ok(Json(QueueObject::of(queue)))
}

/// Sets a queue's limit by hand; it stays over deployments, until it is reset.
#[utoipa::path(post, path = "/api/v1/queues/{queue}/concurrency/override", tag = "queues", security(("secretKey" = [])),
    params(("queue" = String, Path)),
    request_body = LimitBody,
    responses((status = 200, body = QueueObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn set_limit(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(named): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<QueueObject>, Error> {
    let body: LimitBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let queue = find(&state, &environment, &named, body.named_by).await?.id;
    let queue = engine::queue::set_limit(&state.store, environment.id, queue, Some(body.concurrency_limit)).await?;
    Ok(Json(QueueObject::of(queue)))
}

/// Puts a queue's limit back to what the deployment declares.
#[utoipa::path(post, path = "/api/v1/queues/{queue}/concurrency/reset", tag = "queues", security(("secretKey" = [])),
    params(("queue" = String, Path)),
    request_body = ResetQueueBody,
    responses((status = 200, body = QueueObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody)))]
pub(super) async fn reset_limit(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(named): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<QueueObject>, Error> {
    let body: ResetQueueBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let queue = find(&state, &environment, &named, body.named_by).await?.id;
    let queue = engine::queue::set_limit(&state.store, environment.id, queue, None).await?;
    Ok(Json(QueueObject::of(queue)))
}

async fn find(state: &AppState, environment: &Environment, named: &str, named_by: NamedBy) -> Result<Queue, Error> {
    let not_found = || Error::NotFound("queue-not-found".into());
    let which = match named_by {
        NamedBy::Id => Which::Id(named.parse().map_err(|_| not_found())?),
        NamedBy::Task => Which::Name(queue::name_of_task(&decoded(named))),
        NamedBy::Custom => Which::Name(queue::sanitize(&decoded(named))),
    };
    queues::get(&state.store, environment.id, &which).await?.ok_or_else(not_found)
}

/// The name without the second encoding: clients write `%2F` for a slash and then encode the whole. No name has a percent sign of
/// its own, so nothing is decoded too often. Source: facts 7.6.
fn decoded(named: &str) -> String {
    named.replace("%2F", "/").replace("%2f", "/")
}
