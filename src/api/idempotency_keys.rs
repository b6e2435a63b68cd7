//! Idempotency keys. Source: facts 7.3, A9.

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
    auth::Caller,
    body,
    error::{ErrorBody, Issue, Part},
};
use crate::{engine, model::trigger::MAX_KEY_CHARS};

/// Whose key it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResetKeyBody {
    /// The task.
    task_identifier: String,
}

/// A key that is free again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reset {
    /// The key.
    id: String,
}

/// Frees a key: the next trigger of the task with it makes a new run.
#[utoipa::path(post, path = "/api/v1/idempotencyKeys/{key}/reset", tag = "runs",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("key" = String, Path, description = "As it was triggered with: from an SDK, a hash; percent-encoded")),
    request_body = ResetKeyBody,
    responses((status = 200, body = Reset), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody, description = "No run of the task holds it"),
        (status = 413, body = ErrorBody)))]
pub(super) async fn reset(
    State(state): State<AppState>,
    caller: Caller,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Reset>, Error> {
    caller.must(&[("runs", None)])?;
    if key.chars().count() > MAX_KEY_CHARS {
        let issue = Issue::new("key", format!("a key has at most {MAX_KEY_CHARS} characters"));
        return Err(Error::Malformed { part: Part::Path, issues: vec![issue] });
    }
    let body: ResetKeyBody = body::read_json(&headers, body, "The request body", 16 * 1024).await?;
    if key.contains('\0') || body.task_identifier.contains('\0') {
        return Err(Error::not_found("idempotency key"));
    }
    engine::trigger::reset_key(&state.store, caller.environment.id, body.task_identifier, key.clone()).await?;
    Ok(Json(Reset { id: key }))
}
