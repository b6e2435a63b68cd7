//! The keys of an environment: additional ones with a name and an end, and the rotation of its root key. Only the root key may
//! change keys. These routes are our own. Source: facts N2, 2.1.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::KeyHolder,
    body,
    error::ErrorBody,
    tasks::Checks,
    when::{self, rfc3339},
};
use crate::{
    auth, engine,
    model::{
        environment::{ApiKey, ApiKeyKind},
        id::ApiKeyId,
    },
    store::api_keys,
};

const MAX_BODY_BYTES: u64 = 16 * 1024;
/// How long a rotated key goes on unless said otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// A key, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyObject {
    /// `apikey_…`
    #[schema(value_type = String)]
    id: ApiKeyId,
    name: String,
    /// `ROOT` or `ADDITIONAL`.
    kind: &'static str,
    /// How the key ends.
    hint: String,
    created_at: String,
    /// When it stops opening anything; never if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl KeyObject {
    fn of(key: ApiKey) -> KeyObject {
        KeyObject {
            id: key.id,
            name: key.name,
            kind: match key.kind {
                ApiKeyKind::Root => "ROOT",
                ApiKeyKind::Additional => "ADDITIONAL",
            },
            hint: key.hint,
            created_at: rfc3339(key.created_at),
            expires_at: key.expires_at.map(rfc3339),
        }
    }
}

/// The keys of an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    data: Vec<KeyObject>,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateKeyBody {
    /// 1 to 128 characters.
    name: String,
    /// When it stops opening anything: a duration (`90d`) or a time; never unless said otherwise.
    expires_at: Option<String>,
}

/// A new key. It is shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewKey {
    #[serde(flatten)]
    object: KeyObject,
    /// The key itself.
    key: String,
    /// Of a rotation: until when the root key before this one is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier_until: Option<String>,
}

/// How the root key shall be rotated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotateBody {
    /// How long the present key goes on, 30 days at most; `0s`: not at all. A day unless said otherwise.
    grace_period: Option<String>,
}

/// A key that opens nothing any more.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Revoked {
    /// `apikey_…`
    #[schema(value_type = String)]
    id: ApiKeyId,
}

/// Lists the keys of the environment that are good, newest first. The keys themselves are not shown.
#[utoipa::path(get, path = "/api/v1/api-keys", tag = "keys", security(("secretKey" = [])),
    responses((status = 200, body = Keys), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(state): State<AppState>, holder: KeyHolder) -> Result<Json<Keys>, Error> {
    let keys = api_keys::list(&state.store, holder.environment.id).await?;
    Ok(Json(Keys { data: keys.into_iter().map(KeyObject::of).collect() }))
}

/// Makes an additional key. It opens all of the environment but its keys, until it expires or is revoked.
#[utoipa::path(post, path = "/api/v1/api-keys", tag = "keys", security(("secretKey" = [])),
    request_body = CreateKeyBody,
    responses((status = 201, body = NewKey), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "An additional key makes no keys"), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    holder: KeyHolder,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<NewKey>), Error> {
    holder.must_hold_the_root_key()?;
    let body: CreateKeyBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let now = state.now().await?;
    let mut checks = Checks::default();
    let end = body.expires_at.as_deref();
    let expires_at = checks.read("expiresAt", end, |text| when::moment(text, now), when::MOMENT_HINT);
    checks.pass()?;
    let secret = auth::new_additional_key(holder.environment.kind);
    let made = engine::api_keys::create(&state.store, holder.environment.id, body.name, secret.clone(), expires_at).await?;
    tracing::info!(key.id = %made.id, "a key was made");
    let new = NewKey { object: KeyObject::of(made), key: secret.expose_secret().to_owned(), earlier_until: None };
    Ok((StatusCode::CREATED, Json(new)))
}

/// Makes a new root key. The present one goes on for a while: requests with it and tokens signed with it are accepted.
#[utoipa::path(post, path = "/api/v1/api-keys/rotate", tag = "keys", security(("secretKey" = [])),
    request_body = RotateBody,
    responses((status = 201, body = NewKey), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "An additional key rotates nothing"), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn rotate(
    State(state): State<AppState>,
    holder: KeyHolder,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<NewKey>), Error> {
    holder.must_hold_the_root_key()?;
    let body: RotateBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let mut checks = Checks::default();
    let grace = checks.read("gracePeriod", body.grace_period.as_deref(), when::duration_ms, when::DURATION_HINT);
    checks.pass()?;
    let grace = grace.map_or(DEFAULT_GRACE, Duration::from_millis);
    let secret = auth::new_secret_key(holder.environment.kind);
    let environment = holder.environment.id;
    let rotated = engine::api_keys::rotate(&state.store, environment, "root".into(), secret.clone(), grace).await?;
    state.known.forget();
    tracing::info!(key.id = %rotated.key.id, "the root key was rotated");
    let new = NewKey {
        object: KeyObject::of(rotated.key),
        key: secret.expose_secret().to_owned(),
        earlier_until: Some(rfc3339(rotated.earlier_until)),
    };
    Ok((StatusCode::CREATED, Json(new)))
}

/// Revokes a key: it opens nothing any more, on other servers within a second. The present root key can only be rotated.
#[utoipa::path(delete, path = "/api/v1/api-keys/{keyId}", tag = "keys", security(("secretKey" = [])),
    params(("keyId" = String, Path)),
    responses((status = 200, body = Revoked), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "An additional key revokes nothing"), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn revoke(
    State(state): State<AppState>,
    holder: KeyHolder,
    Path(id): Path<String>,
) -> Result<Json<Revoked>, Error> {
    holder.must_hold_the_root_key()?;
    let id = id.parse().map_err(|_| Error::not_found("key"))?;
    let revoked = engine::api_keys::revoke(&state.store, holder.environment.id, id).await?;
    state.known.forget();
    tracing::info!(key.id = %revoked.id, "a key was revoked");
    Ok(Json(Revoked { id: revoked.id }))
}
