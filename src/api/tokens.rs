//! Public access tokens: what clients need to sign them, and those that answers carry. Source: facts 2.2, 7.1.

use std::convert::Infallible;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue},
    response::{IntoResponseParts, ResponseParts},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::{Caller, KeyHolder, SecretKey},
    body::{self, TextOrNumber},
    error::ErrorBody,
    tasks::Checks,
    when,
};
use crate::{
    auth::{Claims, Realtime},
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
        let realtime = caller.token.as_ref().and_then(|token| token.claims.realtime.clone());
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

/// Longest time that a public token is good for. Source: facts 2.2.
const LONGEST: TimeDelta = TimeDelta::days(30);
/// How long it is good for unless said otherwise. Source: facts 2.2.
const DEFAULT_LIFETIME: TimeDelta = TimeDelta::minutes(15);
const MAX_SCOPES: usize = 100;
const MAX_SCOPE_CHARS: usize = 1024;
const MAX_COLUMNS: usize = 100;

/// A public token to be signed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenBody {
    /// What it allows, 1 to 100 of `action[:type[:id]]`.
    #[serde(default)]
    scopes: Vec<String>,
    /// When it is void: a duration (`1h`), a time, or seconds since 1970. 15 minutes from now unless said otherwise; 30 days at most.
    expiration_time: Option<TextOrNumber>,
    /// Good for one trigger.
    one_time_use: Option<bool>,
    /// What its subscribers do not get to see.
    #[schema(value_type = Option<Object>)]
    realtime: Option<Realtime>,
}

/// A public token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedToken {
    token: String,
}

/// Signs a public token, for clients that hold an additional key and cannot sign themselves. It is void no later than that key.
#[utoipa::path(post, path = "/api/v1/auth/public-tokens", tag = "auth", security(("secretKey" = [])),
    request_body = TokenBody,
    responses((status = 200, body = SignedToken), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody)))]
pub(super) async fn sign(
    State(state): State<AppState>,
    holder: KeyHolder,
    SecretKey(environment): SecretKey,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SignedToken>, Error> {
    let body: TokenBody = body::read_json(&headers, body, "The request body", 256 * 1024).await?;
    let now = state.now().await?;
    let mut checks = Checks::default();
    let well_formed = |scope: &String| {
        let named = scope.split(':').next().is_some_and(|action| !action.is_empty());
        named && scope.chars().count() <= MAX_SCOPE_CHARS
    };
    checks.that((1..=MAX_SCOPES).contains(&body.scopes.len()), "scopes", || format!("write 1 to {MAX_SCOPES} scopes"));
    checks.that(body.scopes.iter().all(well_formed), "scopes", || {
        format!("a scope is action[:type[:id]], such as read:runs, of at most {MAX_SCOPE_CHARS} characters")
    });
    let hidden = body.realtime.as_ref().map_or(0, |realtime| realtime.skip_columns.len());
    checks.that(hidden <= MAX_COLUMNS, "realtime.skipColumns", || format!("write at most {MAX_COLUMNS} columns"));
    let hint = "write a duration such as 1h, a time, or seconds since 1970, in the future and within 30 days";
    let ends = body.expiration_time.map(|time| expiration(&time, now).filter(|end| *end > now && *end <= now + LONGEST));
    checks.that(!matches!(ends, Some(None)), "expirationTime", || hint.into());
    checks.pass()?;

    let end = ends.flatten().unwrap_or(now + DEFAULT_LIFETIME);
    let end = holder.key.expires_at.map_or(end, |expires_at| expires_at.min(end));
    let claims = Claims::new(environment.id, body.scopes, now, end - now);
    let claims = Claims { realtime: body.realtime, one_time_use: body.one_time_use.unwrap_or(false), ..claims };
    Ok(Json(SignedToken { token: claims.sign(&environment.root_key) }))
}

/// The moment that an expiration time names. Source: facts 2.2.
fn expiration(time: &TextOrNumber, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match time {
        TextOrNumber::Number(seconds) => DateTime::from_timestamp(*seconds as i64, 0).filter(|_| seconds.is_finite()),
        TextOrNumber::Text(text) => when::moment(text, now).or_else(|| when::moment(&with_short_units(text)?, now)),
    }
}

/// `2 hours` as `2h`: the clients' own signing takes such words.
fn with_short_units(text: &str) -> Option<String> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let short = match unit.trim() {
        "sec" | "secs" | "second" | "seconds" | "s" => "s",
        "min" | "mins" | "minute" | "minutes" | "m" => "m",
        "hr" | "hrs" | "hour" | "hours" | "h" => "h",
        "day" | "days" | "d" => "d",
        "week" | "weeks" | "w" => "w",
        _ => return None,
    };
    Some(format!("{number}{short}"))
}

/// Who a secret key belongs to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whoami {
    project: Project,
    environment: KeyEnvironment,
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
pub(super) struct KeyEnvironment {
    #[schema(value_type = String)]
    id: EnvironmentId,
    /// `dev`, `stg`, `preview` or `prod`.
    slug: &'static str,
    /// Of a preview environment: the branch that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
}

/// Shows the project and environment of the secret key.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "auth", security(("secretKey" = [])),
    responses((status = 200, body = Whoami), (status = 401, body = ErrorBody)))]
pub(super) async fn whoami(State(state): State<AppState>, SecretKey(environment): SecretKey) -> Result<Json<Whoami>, Error> {
    let current = deployments::current(&state.store, environment.id).await?;
    Ok(Json(Whoami {
        project: Project { id: environment.project, reference: environment.project_ref, name: environment.project_name },
        environment: KeyEnvironment {
            id: environment.id,
            slug: environment.kind.slug(),
            branch: environment.branch.map(|branch| branch.name),
        },
        current_version: current.map(|deployment| deployment.version),
    }))
}
