//! What is noted on a run: tags and metadata. Source: facts 7.3, A19, G1-G7.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::SecretKey,
    body::{self, OneOrMany},
    error::ErrorBody,
    runs,
    tasks::{self, Checks},
};
use crate::{
    engine::{self, metadata::Update},
    model::metadata::Operation,
};

/// Largest change of metadata. Source: facts 4.5.
const MAX_METADATA_REQUEST_BYTES: u64 = 2 << 20;
const MAX_TAGS_REQUEST_BYTES: u64 = 64 * 1024;

/// Tags to be added.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TagsBody {
    /// A run has at most 10, of 1 to 128 characters.
    tags: OneOrMany,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message {
    message: String,
}

/// Adds tags to a run, also to one that has ended.
#[utoipa::path(post, path = "/api/v1/runs/{runId}/tags", tag = "runs", security(("secretKey" = [])),
    params(("runId" = String, Path)),
    request_body = TagsBody,
    responses((status = 200, body = Message), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn add_tags(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Message>, Error> {
    let run = runs::of_environment(&state, &environment, &id).await?;
    let body: TagsBody = body::read_json(&headers, body, "The request body", MAX_TAGS_REQUEST_BYTES).await?;
    let mut checks = Checks::default();
    let new = tasks::tags(Some(body.tags), "tags", &mut checks)?;
    checks.pass()?;
    let all = engine::tags::add(&state.store, environment.id, run.id, new).await?;
    let message = match all.len().saturating_sub(run.tags.len()) {
        0 => "No new tags to add".to_owned(),
        1 => "Added 1 tag".to_owned(),
        count => format!("Added {count} tags"),
    };
    Ok(Json(Message { message }))
}

/// A run's metadata.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Metadata {
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
}

/// Shows a run's metadata.
#[utoipa::path(get, path = "/api/v1/runs/{runId}/metadata", tag = "runs", security(("secretKey" = [])),
    params(("runId" = String, Path)),
    responses((status = 200, body = Metadata), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn metadata(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<Metadata>, Error> {
    let metadata = engine::metadata::get(&state.store, environment.id, runs::parse(&id)?).await?;
    Ok(Json(Metadata { metadata }))
}

/// Changes to the metadata of a run, its parent and its root, made in this order, all of them or none.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetadataBody {
    /// Put in place of all there is.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Each `{type: "set" | "append" | "remove", key, value}`, `{type: "increment", key, value: number}`, `{type: "delete", key}` or
    /// `{type: "update", value: object}`; a key that begins with `$.` is a JSON path.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    operations: Vec<Operation>,
    /// To its parent's; its own if it has none.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    parent_operations: Vec<Operation>,
    /// To its root's; its own if it is the root.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    root_operations: Vec<Operation>,
}

/// Changes a run's metadata, at most 256 KiB of it.
#[utoipa::path(put, path = "/api/v1/runs/{runId}/metadata", tag = "runs", security(("secretKey" = [])),
    params(("runId" = String, Path)),
    request_body = MetadataBody,
    responses((status = 200, body = Metadata), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody, description = "The run has ended, or a key must not be set")))]
pub(super) async fn update_metadata(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Metadata>, Error> {
    let id = runs::parse(&id)?;
    let body: MetadataBody = body::read_json(&headers, body, "The request body", MAX_METADATA_REQUEST_BYTES).await?;
    let update =
        Update { replace: body.metadata, own: body.operations, parent: body.parent_operations, root: body.root_operations };
    let metadata = engine::metadata::update(&state.store, environment.id, id, update).await?;
    Ok(Json(Metadata { metadata }))
}
