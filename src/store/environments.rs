//! Projects, environments and their keys.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError, rows};
use crate::model::{
    environment::{Environment, EnvironmentKind},
    id::{DeploymentId, EnvironmentId, ProjectId},
};

/// How a key is found.
pub fn fingerprint(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The environment that a secret key opens.
///
/// # Errors
/// If the database does not answer.
pub async fn by_secret(store: &Store, secret: &str) -> Result<Option<Environment>, StoreError> {
    let connection = &mut *store.read().await?;
    let id = query_scalar!(
        "select environment_id from api_keys
         where secret_sha256 = $1 and (expires_at is null or expires_at > clock_now())",
        &fingerprint(secret)[..]
    )
    .fetch_optional(&mut *connection)
    .await?;
    match id {
        Some(id) => find(connection, id).await,
        None => Ok(None),
    }
}

/// The environment with this id.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, id: EnvironmentId) -> Result<Option<Environment>, StoreError> {
    find(&mut *store.read().await?, id.uuid()).await
}

async fn find(connection: &mut PgConnection, id: Uuid) -> Result<Option<Environment>, StoreError> {
    let row = query!(
        r#"
        select e.id, e.kind, e.project_id, e.current_deployment_id, p.ref as project_ref, p.name as project_name,
            k.root_secret as "root_secret!"
        from environments e
        join projects p on p.id = e.project_id
        join lateral (
            select root_secret from api_keys
            where environment_id = e.id and root_secret is not null
                and (expires_at is null or expires_at > clock_now())
            order by expires_at nulls first, created_at desc
            limit 1
        ) k on true
        where e.id = $1
        "#,
        id
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Environment {
            id: EnvironmentId::from_uuid(row.id),
            kind: rows::environment_kind(&row.kind)?,
            project: ProjectId::from_uuid(row.project_id),
            project_ref: row.project_ref,
            project_name: row.project_name,
            root_key: SecretString::from(row.root_secret),
            current_deployment: row.current_deployment_id.map(DeploymentId::from_uuid),
        })
    })
    .transpose()
}

/// The parent of a branch, none for any other environment; and none of that if there is no such environment.
///
/// # Errors
/// If the database does not answer.
pub async fn parent(
    connection: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<Option<Option<EnvironmentId>>, StoreError> {
    let found =
        query_scalar!("select parent_id from environments where id = $1", environment.uuid()).fetch_optional(connection).await?;
    Ok(found.map(|parent| parent.map(EnvironmentId::from_uuid)))
}

/// Makes the project, or finds the one with this reference.
///
/// # Errors
/// If the database does not answer.
pub async fn ensure_project(connection: &mut PgConnection, reference: &str, name: &str) -> Result<ProjectId, StoreError> {
    let id = query_scalar!(
        "insert into projects (id, ref, name) values ($1, $2, $3)
         on conflict (ref) do update set ref = excluded.ref returning id",
        ProjectId::new().uuid(),
        reference,
        name
    )
    .fetch_one(connection)
    .await?;
    Ok(ProjectId::from_uuid(id))
}

/// Makes the project's environment of this kind, or finds it.
///
/// # Errors
/// If the database does not answer.
pub async fn ensure(
    connection: &mut PgConnection,
    project: ProjectId,
    kind: EnvironmentKind,
) -> Result<EnvironmentId, StoreError> {
    let id = query_scalar!(
        "insert into environments (id, project_id, kind) values ($1, $2, $3)
         on conflict (project_id, kind) where parent_id is null do update set kind = excluded.kind returning id",
        EnvironmentId::new().uuid(),
        project.uuid(),
        kind.slug()
    )
    .fetch_one(connection)
    .await?;
    Ok(EnvironmentId::from_uuid(id))
}

/// Adds a key, and says whose it is: another environment's if it was there before.
///
/// # Errors
/// If the database does not answer.
pub async fn add_key(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    name: &str,
    secret: &str,
    root_secret: Option<&str>,
    expires_at: Option<DateTime<Utc>>,
) -> Result<EnvironmentId, StoreError> {
    let owner = query_scalar!(
        "insert into api_keys (id, environment_id, name, secret_sha256, root_secret, expires_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (secret_sha256) do update set name = api_keys.name returning environment_id",
        Uuid::now_v7(),
        environment.uuid(),
        name,
        &fingerprint(secret)[..],
        root_secret,
        expires_at
    )
    .fetch_one(connection)
    .await?;
    Ok(EnvironmentId::from_uuid(owner))
}
