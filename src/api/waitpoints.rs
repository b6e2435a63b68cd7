//! Waitpoint tokens: what runs wait for until somebody says so. Source: facts 7.4.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, header},
};
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::{Caller, SecretKey},
    body::{self, OneOrMany},
    error::ErrorBody,
    pagination::{Paged, Parameters},
    tasks::{self, Checks},
    tokens::Minted,
    when::{self, rfc3339},
};
use crate::{
    auth, engine,
    model::{
        environment::Environment,
        id::WaitpointId,
        key,
        payload::{MAX_PAYLOAD_BYTES, Packet},
        token::NewToken,
        trigger::MAX_KEY_CHARS,
        waitpoint::{Idempotency, Token, WaitpointStatus},
    },
    store::{environments, waitpoints},
    wall_clock,
};

const MAX_CREATE_BYTES: u64 = 10 * 1024;

/// A token to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateTokenBody {
    /// The same key gets the same token; at most 2048 characters.
    idempotency_key: Option<String>,
    /// How long the key counts: `60s`, `5m`, `2h`, `30d`. For ever unless said otherwise.
    #[serde(rename = "idempotencyKeyTTL")]
    idempotency_key_ttl: Option<String>,
    /// A duration (`1h30m`) or a time; never unless said otherwise.
    timeout: Option<String>,
    /// At most 10 of 1 to 128 characters.
    tags: Option<OneOrMany>,
}

/// The token that was made, or found by its idempotency key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Created {
    /// `waitpoint_…`
    #[schema(value_type = String)]
    id: WaitpointId,
    /// An earlier call with the same key made it.
    is_cached: bool,
    /// A POST to this address completes the token with its body, without any key.
    url: String,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenItem {
    /// `waitpoint_…`
    #[schema(value_type = String)]
    id: WaitpointId,
    /// A POST to this address completes it.
    url: String,
    /// `WAITING`, `COMPLETED` or `TIMED_OUT`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key_expires_at: Option<String>,
    tags: Vec<String>,
    created_at: String,
}

/// A token with what it was completed with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenDetails {
    #[serde(flatten)]
    token: TokenItem,
    /// The value, encoded as `outputType` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_is_error: Option<bool>,
}

/// It is done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Success {
    /// Always true.
    pub(super) success: bool,
}

/// Makes a token.
#[utoipa::path(post, path = "/api/v1/waitpoints/tokens", tag = "waitpoints", security(("secretKey" = [])),
    request_body = CreateTokenBody,
    responses(
        (status = 200, body = Created, headers(
            ("x-trigger-jwt" = String, description = "A public token that may complete this one, for 24 hours"),
            ("x-trigger-jwt-claims" = String, description = "What such a token claims, as JSON"))),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    headers: HeaderMap,
    body: Body,
) -> Result<(Minted, Json<Created>), Error> {
    let body: CreateTokenBody = body::read_json(&headers, body, "The request body", MAX_CREATE_BYTES).await?;
    let now = Utc::now();
    let mut checks = Checks::default();
    let timeout_at =
        checks.read("timeout", body.timeout.as_deref(), |text| when::moment(text, wall_clock::now()), when::MOMENT_HINT);
    checks.length("idempotencyKey", body.idempotency_key.as_deref(), MAX_KEY_CHARS);
    let ttl = body.idempotency_key_ttl.as_deref();
    let ttl_ms = checks.read("idempotencyKeyTTL", ttl, when::key_ttl_ms, "write a number and one unit: 60s, 5m, 2h or 30d");
    let idempotency = body.idempotency_key.map(|key| Idempotency { key, ttl_ms });
    let tags = tasks::tags(body.tags, "tags", &mut checks)?;
    checks.pass()?;

    let created = engine::token::create(&state.store, environment.id, NewToken { timeout_at, idempotency, tags }).await?;

    let url = callback_url(&state, &environment, created.id);
    let scopes = vec![format!("write:waitpoints:{}", created.id)];
    let minted = Minted::for_environment(environment, scopes, now, TimeDelta::hours(24));
    Ok((minted, Json(Created { id: created.id, is_cached: created.is_cached, url })))
}

/// Lists tokens, newest first.
#[utoipa::path(get, path = "/api/v1/waitpoints/tokens", tag = "waitpoints", security(("secretKey" = [])),
    params(
        ("page[size]" = Option<u32>, Query), ("page[after]" = Option<String>, Query), ("page[before]" = Option<String>, Query),
        ("filter[status]" = Option<String>, Query, description = "WAITING, COMPLETED, TIMED_OUT; comma-separated"),
        ("filter[idempotencyKey]" = Option<String>, Query),
        ("filter[tags]" = Option<String>, Query, description = "Comma-separated; any of them"),
        ("filter[createdAt][from]" = Option<String>, Query, description = "Milliseconds since 1970"),
        ("filter[createdAt][to]" = Option<String>, Query, description = "Milliseconds since 1970"),
        ("filter[createdAt][period]" = Option<String>, Query, description = "Such as 1d")),
    responses((status = 200, body = Paged<TokenItem>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    query: Parameters,
) -> Result<Json<Paged<TokenItem>>, Error> {
    let known = WaitpointStatus::ALL.map(WaitpointStatus::as_str).join(", ");
    let (created_from, created_to) = query.range("filter[createdAt]", Utc::now())?;
    let filter = waitpoints::Filter {
        statuses: query.list_of("filter[status]", &known, WaitpointStatus::parse)?,
        idempotency_key: query.text("filter[idempotencyKey]").map(|key| key::indexed(key.to_owned())),
        tags: query.list("filter[tags]"),
        created_from,
        created_to,
    };
    let listing = waitpoints::list_tokens(&state.store, environment.id, &filter, query.page()?).await?;
    Ok(Json(Paged::of(listing, |token| item(&state, &environment, &token))))
}

/// Shows a token.
#[utoipa::path(get, path = "/api/v1/waitpoints/tokens/{tokenId}", tag = "waitpoints", security(("secretKey" = [])),
    params(("tokenId" = String, Path)),
    responses((status = 200, body = TokenDetails), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<TokenDetails>, Error> {
    let token = waitpoints::get_token(&state.store, environment.id, parse(&id)?).await?.ok_or_else(not_found)?;
    let item = item(&state, &environment, &token);
    let (output, is_error) = match (token.status, token.timeout_at) {
        (WaitpointStatus::TimedOut, at) => {
            let at = at.or(token.completed_at).map(rfc3339).unwrap_or_default();
            let message = format!("Waitpoint timed out at {at}");
            (Some(Packet::json(&json!({ "code": "TRIGGER_WAITPOINT_TIMEOUT", "message": message }))), true)
        }
        _ => (token.output, false),
    };
    let (output, output_type) =
        output.map(|packet| (String::from_utf8_lossy(&packet.data).into_owned(), packet.content_type)).unzip();
    Ok(Json(TokenDetails { token: item, output_is_error: output.as_ref().map(|_| is_error), output, output_type }))
}

/// What a token shall be completed with.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct CompleteBody {
    /// Any JSON value.
    #[serde(default, deserialize_with = "body::written")]
    #[schema(value_type = Option<Value>)]
    data: Option<Box<RawValue>>,
}

/// Completes a token: the runs that wait for it go on. One that is complete already stays as it is.
#[utoipa::path(post, path = "/api/v1/waitpoints/tokens/{tokenId}/complete", tag = "waitpoints",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("tokenId" = String, Path)),
    request_body = CompleteBody,
    responses((status = 200, body = Success), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody)))]
pub(super) async fn complete(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Success>, Error> {
    caller.must(&[("waitpoints", Some(&id))])?;
    let id = parse(&id)?;
    let body: CompleteBody = body::read_json(&headers, body, "The request body", MAX_PAYLOAD_BYTES as u64).await?;
    let value = body.data.map_or_else(Packet::empty, |data| json_packet(data.get()));
    engine::wait::complete(&state.store, caller.environment.id, id, value).await?;
    Ok(Json(Success { success: true }))
}

/// Completes a token with the body. Who knows the address needs no key; it is not for browsers.
#[utoipa::path(post, path = "/api/v1/waitpoints/tokens/{tokenId}/callback/{hash}", tag = "waitpoints", security(()),
    params(("tokenId" = String, Path), ("hash" = String, Path)),
    request_body(content = Object, description = "Any JSON; what is not becomes an empty object"),
    responses((status = 200, body = Success), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 411, body = ErrorBody), (status = 413, body = ErrorBody)))]
pub(super) async fn callback(
    State(state): State<AppState>,
    Path((id, hash)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Success>, Error> {
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Error::LengthRequired);
    }
    let id = parse(&id)?;
    let (environment, _) = waitpoints::find_token(&state.store, id).await?.ok_or_else(not_found)?;
    let environment = environments::get(&state.store, environment).await?.ok_or_else(not_found)?;
    // One that was given out before the key was rotated is good as long as that key.
    if !environment.root_keys().any(|key| auth::is_callback_hash(&hash, id, key)) {
        return Err(Error::Unauthenticated("Invalid callback address"));
    }
    let bytes = body::read(&headers, body, "The request body", MAX_PAYLOAD_BYTES as u64).await?;
    let text = std::str::from_utf8(&bytes).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    let value = json_packet(text.map_or("{}", RawValue::get));
    engine::wait::complete(&state.store, environment.id, id, value).await?;
    Ok(Json(Success { success: true }))
}

fn json_packet(text: &str) -> Packet {
    Packet { data: text.into(), content_type: crate::model::payload::JSON.into() }
}

fn item(state: &AppState, environment: &Environment, token: &Token) -> TokenItem {
    TokenItem {
        id: token.id,
        url: callback_url(state, environment, token.id),
        status: token.status.as_str(),
        completed_at: token.completed_at.map(rfc3339),
        timeout_at: token.timeout_at.map(rfc3339),
        idempotency_key: token.idempotency_key.clone(),
        idempotency_key_expires_at: token.idempotency_key_expires_at.map(rfc3339),
        tags: token.tags.clone(),
        created_at: rfc3339(token.created_at),
    }
}

fn callback_url(state: &AppState, environment: &Environment, token: WaitpointId) -> String {
    auth::callback_url(&state.public_url, token, &environment.root_key)
}

/// What is no id names nothing.
fn parse(id: &str) -> Result<WaitpointId, Error> {
    id.parse().map_err(|_| not_found())
}

fn not_found() -> Error {
    Error::not_found("waitpoint")
}
