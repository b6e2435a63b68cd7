//! Whether the server can do its work.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{AppState, Error, error::ErrorBody};

/// A server that can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`; a server that is not answers 503.
    status: &'static str,
    /// The version of the server.
    version: &'static str,
}

/// Whether the server answers and reaches its database.
#[utoipa::path(get, path = "/healthcheck", tag = "server", security(()),
    responses((status = 200, body = Health), (status = 503, body = ErrorBody)))]
pub(super) async fn check(State(state): State<AppState>) -> Result<Json<Health>, Error> {
    state.store.ping().await?;
    Ok(Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") }))
}
