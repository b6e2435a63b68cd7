//! Projects, environments, their keys and their variables.

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
         on conflict (project_id, kind) do update set kind = excluded.kind returning id",
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

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Not to be shown again.
    pub is_secret: bool,
}

/// The variables of an environment, by name.
///
/// # Errors
/// If the database does not answer.
pub async fn variables(store: &Store, id: EnvironmentId) -> Result<Vec<Variable>, StoreError> {
    Ok(sqlx::query_as!(
        Variable,
        "select name, value, is_secret from variables where environment_id = $1 order by name",
        id.uuid()
    )
    .fetch_all(&mut *store.read().await?)
    .await?)
}

/// The variables of several environments, as their runs see them.
pub(crate) async fn variables_of(
    connection: &mut PgConnection,
    environments: &[Uuid],
) -> Result<Vec<(Uuid, String, String)>, StoreError> {
    let rows =
        query!("select environment_id, name, value from variables where environment_id = any($1) order by name", environments)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|row| (row.environment_id, row.name, row.value)).collect())
}

/// Sets a variable.
///
/// # Errors
/// If the database does not answer.
pub async fn set_variable(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    variable: &Variable,
) -> Result<(), StoreError> {
    query!(
        "insert into variables (environment_id, name, value, is_secret) values ($1, $2, $3, $4)
         on conflict (environment_id, name)
         do update set value = excluded.value, is_secret = excluded.is_secret, updated_at = clock_now()",
        environment.uuid(),
        variable.name,
        variable.value,
        variable.is_secret
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a variable; false if there was none.
///
/// # Errors
/// If the database does not answer.
pub async fn delete_variable(connection: &mut PgConnection, environment: EnvironmentId, name: &str) -> Result<bool, StoreError> {
    let done = query!("delete from variables where environment_id = $1 and name = $2", environment.uuid(), name)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// How many variables an environment has.
///
/// # Errors
/// If the database does not answer.
pub async fn count_variables(connection: &mut PgConnection, environment: EnvironmentId) -> Result<u64, StoreError> {
    let count = query_scalar!(r#"select count(*) as "count!" from variables where environment_id = $1"#, environment.uuid())
        .fetch_one(connection)
        .await?;
    Ok(rows::count(count))
}
