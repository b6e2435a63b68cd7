//! Who asks: the extractors that every route but the open ones begins with. Source: facts 2.1-2.3.
//!
//! The key alone says which environment a request is about; the header `x-trigger-branch` chooses a branch of the preview
//! environment and means nothing to any other.

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderMap, header, request::Parts},
};

use super::{
    AppState, Error,
    error::{Issue, Part},
    scopes::{self, Need, Needs},
};
use crate::{
    auth::{self, Claims},
    engine,
    model::{
        environment::{ApiKey, ApiKeyKind, Environment, EnvironmentKind, branch_name},
        id::EnvironmentId,
    },
    store::environments,
};

const BRANCH: &str = "x-trigger-branch";
/// What is said to whoever comes with a public token where only a key will do.
const KEY_ONLY: &str = "A public access token is not enough here; use the secret key";

/// Whoever holds a secret key of the environment.
#[derive(Debug)]
pub(super) struct SecretKey(pub(super) Environment);

/// Whoever holds a secret key, for what may be the first that is done with a branch: its environment is made if need be.
#[derive(Debug)]
pub(super) struct SecretKeyOfAnyBranch(pub(super) Environment);

/// Whoever holds a secret key, and which. The environment is the key's own, whatever branch the request names.
#[derive(Debug, Clone)]
pub(super) struct KeyHolder {
    pub(super) environment: Environment,
    pub(super) key: ApiKey,
}

/// Whoever holds a secret key, or a public token that must still be asked what it allows.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) environment: Environment,
    /// The public token; none for a secret key, which may do everything.
    pub(super) token: Option<PublicToken>,
}

/// A public token whose signature, end and environment are checked, on a route that such tokens can open.
#[derive(Debug)]
pub(super) struct PublicToken {
    pub(super) claims: Claims,
    /// As it was sent.
    pub(super) text: String,
    /// What the route asks of it.
    needs: Needs,
}

impl KeyHolder {
    /// Refuses an additional key: with the right to make keys it could outlive its end.
    pub(super) fn must_hold_the_root_key(&self) -> Result<(), Error> {
        match self.key.kind {
            ApiKeyKind::Root => Ok(()),
            ApiKeyKind::Additional => Err(Error::RootKeyOnly),
        }
    }
}

impl Caller {
    /// Refuses a public token that allows what the route needs on none of the resources, each a type and perhaps an id; see
    /// [`scopes`].
    pub(super) fn must(&self, resources: &[(&str, Option<&str>)]) -> Result<(), Error> {
        let Some(PublicToken { claims, needs, .. }) = &self.token else { return Ok(()) };
        let is_about = |need: &Need| resources.iter().filter(|(kind, _)| *kind == need.kind).copied().collect::<Vec<_>>();
        let allowed = needs.is_empty() || needs.iter().any(|need| auth::allows(&claims.scopes, need.action, &is_about(need)));
        if allowed { Ok(()) } else { Err(Error::Forbidden) }
    }
}

impl PublicToken {
    /// Refuses a token that cannot open the route whatever the request is about: before more of it is read.
    fn must_somehow(&self) -> Result<(), Error> {
        let could = |need: &Need| self.claims.scopes.iter().any(|scope| auth::could_allow(scope, need.action, need.kind));
        if self.needs.is_empty() || self.needs.iter().any(could) { Ok(()) } else { Err(Error::Forbidden) }
    }
}

impl FromRequestParts<AppState> for KeyHolder {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let key = bearer(&parts.headers)?;
        if Claims::environment(key).is_some() {
            return Err(Error::Unauthenticated(KEY_ONLY));
        }
        let holder = by_secret(state, key).await?;
        state.rates.count(holder.environment.id, parts)?;
        Ok(holder)
    }
}

impl FromRequestParts<AppState> for SecretKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let holder = KeyHolder::from_request_parts(parts, state).await?;
        of_branch(state, holder.environment, &parts.headers).await.map(SecretKey)
    }
}

impl FromRequestParts<AppState> for SecretKeyOfAnyBranch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let environment = KeyHolder::from_request_parts(parts, state).await?.environment;
        let environment = match branch(&environment, &parts.headers)? {
            Some(name) => engine::branch::ensure(&state.store, &environment, &name).await?,
            None => environment,
        };
        Ok(SecretKeyOfAnyBranch(environment))
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let key = bearer(&parts.headers)?;
        let Some(id) = Claims::environment(key) else {
            let holder = by_secret(state, key).await?;
            state.rates.count(holder.environment.id, parts)?;
            return Ok(Caller { environment: of_branch(state, holder.environment, &parts.headers).await?, token: None });
        };
        let (environment, claims) = by_token(state, id, key).await?;
        state.rates.count_token(key, environment.id, parts)?;
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let needs = scopes::needs(parts.method.as_str(), path).ok_or(Error::Unauthenticated(KEY_ONLY))?;
        let token = PublicToken { claims, text: key.to_owned(), needs };
        token.must_somehow()?;
        Ok(Caller { environment, token: Some(token) })
    }
}

/// The environment that a public token is for, and what it says.
async fn by_token(state: &AppState, id: EnvironmentId, token: &str) -> Result<(Environment, Claims), Error> {
    if let Some(environment) = state.known.environment(id)
        && let Ok(claims) = Claims::verify_any(token, environment.root_keys())
    {
        return Ok((environment, claims));
    }
    let environment = state.known.look_up(&state.store, id).await?;
    let environment = environment.ok_or(Error::Unauthenticated("Public access token is invalid"))?;
    let claims = Claims::verify_any(token, environment.root_keys()).map_err(|error| {
        Error::Unauthenticated(match error.kind() {
            jsonwebtoken::errors::ErrorKind::ExpiredSignature => "Public access token has expired",
            _ => "Public access token is invalid",
        })
    })?;
    Ok((environment, claims))
}

async fn by_secret(state: &AppState, key: &str) -> Result<KeyHolder, Error> {
    let invalid = || Error::Unauthenticated("Invalid API key");
    // What does not look like a key is not worth a query.
    if !auth::is_secret_key(key) {
        return Err(invalid());
    }
    state.known.holder(&state.store, key).await?.ok_or_else(invalid)
}

/// The environment of the branch that the request names, or the key's own.
async fn of_branch(state: &AppState, environment: Environment, headers: &HeaderMap) -> Result<Environment, Error> {
    let Some(name) = branch(&environment, headers)? else { return Ok(environment) };
    let found = environments::of_branch(&state.store, environment.id, &name).await?;
    found.ok_or_else(|| Error::NotFound(format!("There is no branch {name}; deploy to it first")))
}

/// The branch that the request names, if its key is one of the preview environment. Clients send the header with every key.
fn branch(environment: &Environment, headers: &HeaderMap) -> Result<Option<String>, Error> {
    if environment.kind != EnvironmentKind::Preview {
        return Ok(None);
    }
    let Some(value) = headers.get(BRANCH).filter(|value| !value.is_empty()) else { return Ok(None) };
    let name = std::str::from_utf8(value.as_bytes()).ok().and_then(|name| branch_name(name).ok());
    name.map(Some).ok_or_else(|| {
        let message = crate::model::environment::BadBranch.to_string();
        Error::Malformed { part: Part::Headers, issues: vec![Issue { path: vec![BRANCH.into()], message }] }
    })
}

fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let missing = Error::Unauthenticated("Invalid or Missing API key");
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return Err(missing) };
    let (scheme, key) = value.split_once(' ').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() { Ok(key.trim()) } else { Err(missing) }
}
