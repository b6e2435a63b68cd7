//! Public access tokens: what clients need to sign them, and those that answers carry. Source: facts 2.2, 7.1.

use std::convert::Infallible;

use axum::{
    Json,
    extract::State,
    http::HeaderValue,
    response::{IntoResponseParts, ResponseParts},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::{Caller, SecretKey},
    error::ErrorBody,
};
use crate::{
    auth::Claims,
    model::{
        environment::Environment,
        id::{EnvironmentId, ProjectId},
    },
    store::deployments,
};

/// A token for what was just made, in the headers where clients look for it.
#[derive(Debug)]
pub(super) struct Minted {
    token: String,
    claims: String,
}

impl Minted {
    /// A token with these scopes; what the caller's own token hides stays hidden.
    pub(super) fn new(caller: &Caller, scopes: Vec<String>, now: DateTime<Utc>, lifetime: TimeDelta) -> Minted {
        let realtime = caller.token.as_ref().and_then(|(claims, _)| claims.realtime.clone());
        let claims = Claims { realtime, ..Claims::new(caller.environment.id, scopes, now, lifetime) };
        let token = claims.sign(&caller.environment.root_key);
        let mut shown = json!({ "sub": claims.sub, "pub": true });
        if let Some(realtime) = &claims.realtime {
            shown["realtime"] = json!(realtime);
        }
        Minted { token, claims: shown.to_string() }
    }

    /// For whoever holds the secret key.
    pub(super) fn for_environment(
        environment: Environment,
        scopes: Vec<String>,
        now: DateTime<Utc>,
        lifetime: TimeDelta,
    ) -> Minted {
        Minted::new(&Caller { environment, token: None }, scopes, now, lifetime)
    }
}

impl IntoResponseParts for Minted {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        for (name, value) in [("x-trigger-jwt", self.token), ("x-trigger-jwt-claims", self.claims)] {
            // Ids, base64 and JSON without control characters are always header values.
            if let Ok(value) = HeaderValue::try_from(value) {
                parts.headers_mut().insert(name, value);
            }
        }
        Ok(parts)
    }
}

/// What a client puts into the tokens it signs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClaimsResponse {
    /// The environment.
    #[schema(value_type = String)]
    sub: EnvironmentId,
    /// Always true.
    #[serde(rename = "pub")]
    public: bool,
}

/// Tells what a public access token claims, for clients that sign with the secret key.
#[utoipa::path(post, path = "/api/v1/auth/jwt/claims", tag = "auth", security(("secretKey" = [])),
    responses((status = 200, body = ClaimsResponse), (status = 401, body = ErrorBody)))]
pub(super) async fn claims(SecretKey(environment): SecretKey) -> Json<ClaimsResponse> {
    Json(ClaimsResponse { sub: environment.id, public: true })
}

/// Who a secret key belongs to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whoami {
    project: Project,
    environment: EnvironmentObject,
    /// The version that new runs start on.
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<String>,
}

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Project {
    #[schema(value_type = String)]
    id: ProjectId,
    /// `proj_…`
    #[serde(rename = "ref")]
    reference: String,
    name: String,
}

/// An environment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EnvironmentObject {
    #[schema(value_type = String)]
    id: EnvironmentId,
    /// `dev`, `stg`, `preview` or `prod`.
    slug: &'static str,
}

/// Shows the project and environment of the secret key.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "auth", security(("secretKey" = [])),
    responses((status = 200, body = Whoami), (status = 401, body = ErrorBody)))]
pub(super) async fn whoami(State(state): State<AppState>, SecretKey(environment): SecretKey) -> Result<Json<Whoami>, Error> {
    let current = deployments::current(&state.store, environment.id).await?;
    Ok(Json(Whoami {
        project: Project { id: environment.project, reference: environment.project_ref, name: environment.project_name },
        environment: EnvironmentObject { id: environment.id, slug: environment.kind.slug() },
        current_version: current.map(|deployment| deployment.version),
    }))
}
