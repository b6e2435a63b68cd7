//! Makes, rotates and revokes the keys of an environment. A key that is over is over for ever, also for a server that still has
//! it in its settings. Source: facts N2, 2.1, 2.2.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgConnection;

use crate::{
    engine::{Error, trigger::text_only},
    model::{
        environment::{ApiKey, ApiKeyKind},
        id::{ApiKeyId, EnvironmentId},
    },
    store::{
        Store,
        api_keys::{self, Added},
        clock, deployments,
        environments::MAX_ROOT_KEYS,
    },
};

/// Most additional keys of an environment that are good at a time.
pub const MAX_KEYS: u64 = 100;
/// Longest name of a key, in characters.
pub const MAX_NAME_CHARS: usize = 128;
/// Longest that a rotated key may go on: 30 days.
pub const MAX_GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A root key in place of another.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// The new one.
    pub key: ApiKey,
    /// Until when the one before is good.
    pub earlier_until: DateTime<Utc>,
}

/// Adds a key with a name and perhaps an end; only its hash is kept.
///
/// # Errors
/// [`Error::NotFound`] without such an environment; [`Error::Invalid`] for a name or an end that breaks a rule;
/// [`Error::Conflict`] beyond 100 keys.
pub async fn create(
    store: &Store,
    environment: EnvironmentId,
    name: String,
    secret: SecretString,
    expires_at: Option<DateTime<Utc>>,
) -> Result<ApiKey, Error> {
    if name.trim().is_empty() {
        return Err(Error::invalid("name", "name is empty"));
    }
    text_only("name", &name, MAX_NAME_CHARS)?;
    store
        .tx(move |tx| {
            Box::pin(async move {
                lock(tx, environment).await?;
                let now = clock::now(tx).await?;
                if expires_at.is_some_and(|at| at <= now) {
                    return Err(Error::invalid("expiresAt", "a key ends in the future, or never"));
                }
                if api_keys::count(tx, environment, ApiKeyKind::Additional).await? >= MAX_KEYS {
                    return Err(Error::Conflict(format!("there are {MAX_KEYS} keys, and no more can be; revoke one first")));
                }
                add(tx, environment, &name, &secret, ApiKeyKind::Additional, expires_at).await
            })
        })
        .await
}

/// Puts a new root key in place of the one that is good now, which stays good for `grace`: requests with it are answered, and
/// tokens signed with it are accepted. Without any grace it is over at once.
///
/// # Errors
/// [`Error::NotFound`] without such an environment; [`Error::Invalid`] for a grace of more than 30 days; [`Error::Conflict`] if ten
/// root keys are good.
pub async fn rotate(
    store: &Store,
    environment: EnvironmentId,
    name: String,
    secret: SecretString,
    grace: Duration,
) -> Result<Rotated, Error> {
    if grace > MAX_GRACE {
        return Err(Error::invalid("gracePeriod", "a rotated key goes on for at most 30 days"));
    }
    store
        .tx(move |tx| {
            Box::pin(async move {
                lock(tx, environment).await?;
                let earlier_until = api_keys::end_roots(tx, environment, grace).await?;
                if api_keys::count(tx, environment, ApiKeyKind::Root).await? >= u64::from(MAX_ROOT_KEYS) {
                    let message = format!("{MAX_ROOT_KEYS} root keys are still good; revoke one of the earlier ones first");
                    return Err(Error::Conflict(message));
                }
                let key = add(tx, environment, &name, &secret, ApiKeyKind::Root, None).await?;
                Ok(Rotated { key, earlier_until })
            })
        })
        .await
}

/// Lets a key open nothing any more, at once.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for the root key that is current: nothing else could open the environment.
pub async fn revoke(store: &Store, environment: EnvironmentId, id: ApiKeyId) -> Result<ApiKey, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                lock(tx, environment).await?;
                let key = api_keys::find(tx, environment, id).await?.ok_or(Error::not_found("key"))?;
                if key.kind == ApiKeyKind::Root && key.expires_at.is_none() {
                    return Err(Error::Conflict("the root key cannot be revoked; rotate it".into()));
                }
                api_keys::end(tx, id).await?;
                Ok(key)
            })
        })
        .await
}

/// Those who change an environment's keys take turns, so that limits hold.
async fn lock(tx: &mut PgConnection, environment: EnvironmentId) -> Result<(), Error> {
    let found = deployments::lock_environment(tx, environment).await?;
    if found { Ok(()) } else { Err(Error::not_found("environment")) }
}

/// Adds a key that nobody else has.
pub(super) async fn add(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    name: &str,
    secret: &SecretString,
    kind: ApiKeyKind,
    expires_at: Option<DateTime<Utc>>,
) -> Result<ApiKey, Error> {
    let added = Added { environment, name, secret: secret.expose_secret(), kind, expires_at };
    let (owner, key) = api_keys::add(tx, &added).await?;
    if owner != environment {
        return Err(Error::Conflict("the key belongs to another environment".into()));
    }
    Ok(key)
}
