//! Who asks: the two extractors every route but the open ones begins with. Source: facts 2.1-2.3.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::{AppState, Error};
use crate::{
    auth::{self, Claims},
    model::environment::Environment,
    store::environments,
};

/// Whoever holds a secret key of the environment.
#[derive(Debug)]
pub(super) struct SecretKey(pub(super) Environment);

/// Whoever holds a secret key, or a public token that must still be asked what it allows.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) environment: Environment,
    /// The public token's claims and text; none for a secret key, which may do everything.
    pub(super) token: Option<(Claims, String)>,
}

impl Caller {
    /// Refuses a public token that allows `action` on none of the resources, each a type and perhaps an id.
    pub(super) fn must(&self, action: &str, resources: &[(&str, Option<&str>)]) -> Result<(), Error> {
        match &self.token {
            Some((claims, _)) if !auth::allows(&claims.scopes, action, resources) => Err(Error::Forbidden),
            _ => Ok(()),
        }
    }

    /// Refuses a public token that allows `action` on nothing at all: before it is known on what.
    pub(super) fn must_somehow(&self, action: &str) -> Result<(), Error> {
        let verb_of = |scope: &String| scope.split(':').next().is_some_and(|verb| [action, "*", "admin"].contains(&verb));
        match &self.token {
            Some((claims, _)) if !claims.scopes.iter().any(verb_of) => Err(Error::Forbidden),
            _ => Ok(()),
        }
    }
}

impl FromRequestParts<AppState> for SecretKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let key = bearer(&parts.headers)?;
        if Claims::environment(key).is_some() {
            return Err(Error::Unauthenticated("A public access token is not enough here; use the secret key"));
        }
        by_secret(state, key).await.map(SecretKey)
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let key = bearer(&parts.headers)?;
        let Some(id) = Claims::environment(key) else {
            return Ok(Caller { environment: by_secret(state, key).await?, token: None });
        };
        let environment = environments::get(&state.store, id).await?;
        let environment = environment.ok_or(Error::Unauthenticated("Public access token is invalid"))?;
        let claims = Claims::verify(key, &environment.root_key).map_err(|error| {
            Error::Unauthenticated(match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => "Public access token has expired",
                _ => "Public access token is invalid",
            })
        })?;
        Ok(Caller { environment, token: Some((claims, key.to_owned())) })
    }
}

async fn by_secret(state: &AppState, key: &str) -> Result<Environment, Error> {
    // What does not look like a key is not worth a query.
    if auth::environment_kind(key).is_none() {
        return Err(Error::Unauthenticated("Invalid API key"));
    }
    environments::by_secret(&state.store, key).await?.ok_or(Error::Unauthenticated("Invalid API key"))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let missing = Error::Unauthenticated("Invalid or Missing API key");
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return Err(missing) };
    let (scheme, key) = value.split_once(' ').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() { Ok(key.trim()) } else { Err(missing) }
}
