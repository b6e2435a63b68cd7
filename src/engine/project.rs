//! Makes projects and environments with their first keys. Source: facts N1, N2.

use sqlx::PgConnection;

use crate::{
    engine::{Error, api_keys},
    model::{
        environment::{ApiKeyKind, Environment, EnvironmentKind, NewApiKey, NewProject},
        id::EnvironmentId,
    },
    store::{self, Store, environments},
};

/// Makes the project, its environment of that kind and the key, or finds them: the same call twice changes nothing. A key that
/// was rotated or revoked stays over.
///
/// # Errors
/// [`Error::Conflict`] if the key opens another environment; [`Error::Invalid`] if the key is not a root key.
pub async fn ensure(store: &Store, project: NewProject, kind: EnvironmentKind, key: NewApiKey) -> Result<Environment, Error> {
    make(store, project, kind, key, AddKey::Always).await
}

/// The same, but the key is added only if no root key opens the environment yet.
///
/// # Errors
/// As [`ensure`].
pub async fn ensure_some_key(
    store: &Store,
    project: NewProject,
    kind: EnvironmentKind,
    key: NewApiKey,
) -> Result<Environment, Error> {
    make(store, project, kind, key, AddKey::IfNoneIsGood).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AddKey {
    Always,
    IfNoneIsGood,
}

async fn make(
    store: &Store,
    project: NewProject,
    kind: EnvironmentKind,
    key: NewApiKey,
    adding: AddKey,
) -> Result<Environment, Error> {
    if key.kind != ApiKeyKind::Root {
        return Err(Error::invalid("key", "an environment begins with a root key"));
    }
    let limit = store.environment_limit();
    let id = store
        .tx(move |tx| {
            Box::pin(async move {
                let project = environments::ensure_project(tx, &project.project_ref, &project.name).await?;
                let environment = environments::ensure(tx, project, kind, limit).await?;
                if adding == AddKey::Always || !has_root_key(tx, environment).await? {
                    api_keys::add(tx, environment, &key.name, &key.secret, ApiKeyKind::Root, key.expires_at).await?;
                }
                Ok::<_, Error>(environment)
            })
        })
        .await?;
    environments::get(store, id).await?.ok_or(Error::not_found("environment"))
}

async fn has_root_key(tx: &mut PgConnection, environment: EnvironmentId) -> Result<bool, Error> {
    Ok(store::api_keys::count(tx, environment, ApiKeyKind::Root).await? > 0)
}
