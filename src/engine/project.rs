//! Makes projects and environments, and gives out keys to them. Source: facts N1, N2.

use secrecy::ExposeSecret;

use crate::{
    engine::Error,
    model::{
        environment::{ApiKeyKind, Environment, EnvironmentKind, NewApiKey, NewProject},
        id::EnvironmentId,
    },
    store::{Store, environments},
};

/// Makes the project, its environment of that kind and the key, or finds them: the same call twice changes nothing.
///
/// # Errors
/// [`Error::Conflict`] if the key opens another environment; [`Error::Invalid`] if the key is not a root key.
pub async fn ensure(store: &Store, project: NewProject, kind: EnvironmentKind, key: NewApiKey) -> Result<Environment, Error> {
    if key.kind != ApiKeyKind::Root {
        return Err(Error::invalid("key", "an environment begins with a root key"));
    }
    let id = store
        .tx(move |tx| {
            Box::pin(async move {
                let project = environments::ensure_project(tx, &project.project_ref, &project.name).await?;
                let environment = environments::ensure(tx, project, kind).await?;
                add(tx, environment, &key).await?;
                Ok::<_, Error>(environment)
            })
        })
        .await?;
    environments::get(store, id).await?.ok_or(Error::not_found("environment"))
}

/// Adds a key to an environment.
///
/// # Errors
/// [`Error::Conflict`] if the key opens another environment; [`Error::NotFound`] if there is no such environment.
pub async fn add_key(store: &Store, environment: EnvironmentId, key: NewApiKey) -> Result<(), Error> {
    environments::get(store, environment).await?.ok_or(Error::not_found("environment"))?;
    store.tx(move |tx| Box::pin(async move { add(tx, environment, &key).await })).await
}

async fn add(tx: &mut sqlx::PgConnection, environment: EnvironmentId, key: &NewApiKey) -> Result<(), Error> {
    let secret = key.secret.expose_secret();
    let root_secret = (key.kind == ApiKeyKind::Root).then_some(secret);
    let owner = environments::add_key(tx, environment, &key.name, secret, root_secret, key.expires_at).await?;
    if owner != environment {
        return Err(Error::Conflict("the key belongs to another environment".into()));
    }
    Ok(())
}
