//! The environment that the caller's key opens: how many of its runs may execute at a time, and whether any may begin. Ours, in the
//! style of the queues. Source: facts K1, K8.

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{AppState, Error, auth::SecretKey, body, error::ErrorBody};
use crate::{
    engine,
    model::{environment::Standing, id::EnvironmentId},
    store::environments,
};

const MAX_BODY_BYTES: u64 = 4096;

/// An environment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnvironmentObject {
    /// `env_…`
    #[schema(value_type = String)]
    id: EnvironmentId,
    /// Of all its runs, how many may execute at a time; null: any number.
    concurrency_limit: Option<u32>,
    /// Nothing may begin.
    paused: bool,
    /// Runs that a worker has.
    running: u64,
    /// Runs in line.
    queued: u64,
}

impl EnvironmentObject {
    fn of(id: EnvironmentId, standing: Standing) -> EnvironmentObject {
        let Standing { concurrency_limit, is_paused, queued, running } = standing;
        EnvironmentObject { id, concurrency_limit, paused: is_paused, running, queued }
    }
}

/// What shall be otherwise; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnvironmentChanges {
    /// 0 to 100000; null: no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    concurrency_limit: Option<Option<u32>>,
    /// Whether nothing may begin.
    paused: Option<bool>,
}

/// Null is a value, not the lack of one.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Shows the environment.
#[utoipa::path(get, path = "/api/v1/environment", tag = "environments", security(("secretKey" = [])),
    responses((status = 200, body = EnvironmentObject), (status = 401, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
) -> Result<Json<EnvironmentObject>, Error> {
    let standing = environments::standing(&mut *state.store.read().await?, environment.id).await?;
    let standing = standing.ok_or(Error::not_found("environment"))?;
    Ok(Json(EnvironmentObject::of(environment.id, standing)))
}

/// Sets its limit, pauses it or lets it go on. Runs that a worker has go on.
#[utoipa::path(put, path = "/api/v1/environment", tag = "environments", security(("secretKey" = [])),
    request_body = EnvironmentChanges,
    responses((status = 200, body = EnvironmentObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn update(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EnvironmentObject>, Error> {
    let body: EnvironmentChanges = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let standing = engine::environment::set(&state.store, environment.id, body.concurrency_limit, body.paused).await?;
    Ok(Json(EnvironmentObject::of(environment.id, standing)))
}
