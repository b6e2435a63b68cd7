//! Concurrency limits: how full they are, and what is changed by hand. Source: facts 7.6, A17, K4.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::{Caller, SecretKey},
    body::{self, TextOrNumber},
    error::ErrorBody,
    pagination::{OffsetPaged, Parameters},
    queues::Action,
    when::{self, rfc3339},
};
use crate::{
    engine::limit::{self, Change},
    model::{
        id::LimitId,
        limit::{Bound, KeyLimit, Limit},
    },
    store::limits,
};

const DEFAULT_SIZE: u32 = 25;
const MAX_BODY_BYTES: u64 = 4096;

/// A bound of a limit; null: there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BoundObject {
    /// What counts.
    current: Option<u32>,
    /// What the deployment declares.
    base: Option<u32>,
    /// Set by hand.
    #[serde(rename = "override")]
    by_hand: Option<u32>,
    /// When that was.
    overridden_at: Option<String>,
}

impl BoundObject {
    fn of(bound: &Bound) -> BoundObject {
        BoundObject {
            current: bound.current(),
            base: bound.declared,
            by_hand: bound.by_hand,
            overridden_at: bound.set_at.map(rfc3339),
        }
    }
}

/// A concurrency limit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitObject {
    /// `climit_…`
    #[schema(value_type = String)]
    id: LimitId,
    /// `task/<id>` for a task's own.
    name: String,
    /// Of the runs with one concurrency key; those without any count together.
    per_key: BoundObject,
    /// Of all its runs.
    total: BoundObject,
    /// Runs that have a place.
    running: u64,
    /// Runs in line that need one.
    queued: u64,
    /// It lets nothing through.
    paused: bool,
}

impl LimitObject {
    fn of(limit: Limit) -> LimitObject {
        LimitObject {
            id: limit.id,
            per_key: BoundObject::of(&limit.per_key),
            total: BoundObject::of(&limit.total),
            name: limit.name,
            running: limit.running,
            queued: limit.queued,
            paused: limit.is_paused,
        }
    }
}

/// The bound of a limit for one concurrency key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyBoundObject {
    /// What counts.
    current: Option<u32>,
    /// The limit's own.
    base: Option<u32>,
    /// The exception for the key.
    #[serde(rename = "override")]
    by_hand: Option<u32>,
    /// When that ends.
    expires_at: Option<String>,
}

/// A concurrency limit as runs with one key find it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyLimitObject {
    /// The limit's name.
    name: String,
    concurrency_key: String,
    per_key: KeyBoundObject,
    /// Runs of the key that have a place.
    running: u64,
    /// It lets nothing through.
    paused: bool,
}

impl KeyLimitObject {
    fn of(found: KeyLimit) -> KeyLimitObject {
        let base = found.limit.per_key.current();
        let by_hand = found.exception.map(|(bound, _)| bound);
        KeyLimitObject {
            name: found.limit.name,
            concurrency_key: found.key,
            per_key: KeyBoundObject {
                current: by_hand.or(base),
                base,
                by_hand,
                expires_at: found.exception.map(|(_, end)| rfc3339(end)),
            },
            running: found.running,
            paused: found.limit.is_paused,
        }
    }
}

/// A limit, or how runs with one key find it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Shown {
    Limit(LimitObject),
    Key(KeyLimitObject),
}

/// Bounds to be set by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OverrideBody {
    /// 0 to 100000.
    per_key: Option<u32>,
    /// 0 to 100000; not with a key.
    total: Option<u32>,
    /// Only for runs with this key.
    concurrency_key: Option<TextOrNumber>,
    /// With a key: until when it holds, such as `7d`, or in seconds; 30 days at most, 7 days unless said otherwise.
    ttl: Option<TextOrNumber>,
}

/// What shall be as declared again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResetLimitBody {
    /// Only the exception for this key.
    concurrency_key: Option<TextOrNumber>,
}

/// Whether a limit shall be paused.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PauseLimitBody {
    action: Action,
}

/// Lists concurrency limits by name.
#[utoipa::path(get, path = "/api/v1/concurrency-limits", tag = "concurrency limits", security(("secretKey" = []), ("publicToken" = [])),
    params(("page" = Option<u32>, Query, description = "From 1"), ("perPage" = Option<u32>, Query, description = "At most 100")),
    responses((status = 200, body = OffsetPaged<LimitObject>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Parameters,
) -> Result<Json<OffsetPaged<LimitObject>>, Error> {
    caller.must(&[("queues", None)])?;
    let page = query.offset_page(DEFAULT_SIZE)?;
    let (found, count) = limits::list(&state.store, caller.environment.id, None, page.offset(), page.size).await?;
    Ok(Json(OffsetPaged::of(found.into_iter().map(LimitObject::of).collect(), page, count)))
}

/// Shows a concurrency limit, or how runs with one key find it.
#[utoipa::path(get, path = "/api/v1/concurrency-limits/{name}", tag = "concurrency limits", security(("secretKey" = []), ("publicToken" = [])),
    params(("name" = String, Path, description = "Its name; a slash as %2F"),
        ("concurrencyKey" = Option<String>, Query, description = "For runs with this key")),
    responses((status = 200, body = Shown), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Json<Shown>, Error> {
    caller.must(&[("queues", None)])?;
    let environment = caller.environment.id;
    let connection = &mut *state.store.read().await?;
    let limit = limits::find(connection, environment, &name).await?.ok_or(Error::not_found("concurrency limit"))?;
    Ok(Json(match query.text("concurrencyKey") {
        Some(key) => Shown::Key(KeyLimitObject::of(limits::of_key(connection, environment, limit, key).await?)),
        None => Shown::Limit(LimitObject::of(limit)),
    }))
}

/// Sets bounds of a limit by hand; they stay over deployments, until they are reset. With a key: an exception for a while.
#[utoipa::path(post, path = "/api/v1/concurrency-limits/{name}/override", tag = "concurrency limits", security(("secretKey" = [])),
    params(("name" = String, Path)),
    request_body = OverrideBody,
    responses((status = 200, body = Shown), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn set_by_hand(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Shown>, Error> {
    let body: OverrideBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let Some(key) = body.concurrency_key else {
        if body.ttl.is_some() {
            return Err(Error::Rule("ttl: only an exception for a concurrencyKey ends by itself; leave it out".into()));
        }
        let change = Change::Override { total: body.total, per_key: body.per_key };
        return Ok(Json(Shown::Limit(LimitObject::of(limit::change(&state.store, environment.id, name, change).await?))));
    };
    if body.total.is_some() {
        return Err(Error::Rule("total: it is not for single keys; leave it out with a concurrencyKey".into()));
    }
    let bound = body.per_key.ok_or_else(|| Error::Rule("perKey: an exception for a concurrencyKey needs it".into()))?;
    let ttl = body.ttl.map(duration).transpose()?;
    let found = limit::except(&state.store, environment.id, name, key.into_text(), Some((bound, ttl))).await?;
    Ok(Json(Shown::Key(KeyLimitObject::of(found))))
}

fn duration(ttl: TextOrNumber) -> Result<Duration, Error> {
    let ms = match ttl {
        TextOrNumber::Number(seconds) => {
            (seconds.fract() == 0.0 && (1.0..1e12).contains(&seconds)).then_some(seconds as u64 * 1000)
        }
        TextOrNumber::Text(text) => when::duration_ms(&text),
    };
    let ms = ms.ok_or_else(|| Error::Rule("ttl: write a whole number of seconds, or a duration such as 7d".into()))?;
    Ok(Duration::from_millis(ms))
}

/// Puts a limit's bounds back to what the deployment declares, or ends the exception for a key.
#[utoipa::path(post, path = "/api/v1/concurrency-limits/{name}/reset", tag = "concurrency limits", security(("secretKey" = [])),
    params(("name" = String, Path)),
    request_body = ResetLimitBody,
    responses((status = 200, body = Shown), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn reset(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Shown>, Error> {
    let body: ResetLimitBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    Ok(Json(match body.concurrency_key {
        Some(key) => {
            let found = limit::except(&state.store, environment.id, name, key.into_text(), None).await?;
            Shown::Key(KeyLimitObject::of(found))
        }
        None => Shown::Limit(LimitObject::of(limit::change(&state.store, environment.id, name, Change::Reset).await?)),
    }))
}

/// Pauses or resumes a limit. Runs that have a place go on.
#[utoipa::path(post, path = "/api/v1/concurrency-limits/{name}/pause", tag = "concurrency limits", security(("secretKey" = [])),
    params(("name" = String, Path)),
    request_body = PauseLimitBody,
    responses((status = 200, body = LimitObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody)))]
pub(super) async fn pause(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LimitObject>, Error> {
    let body: PauseLimitBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let change = match body.action {
        Action::Pause => Change::Pause,
        Action::Resume => Change::Resume,
    };
    Ok(Json(LimitObject::of(limit::change(&state.store, environment.id, name, change).await?)))
}
