//! Projects and their environments, branches among them.

use secrecy::SecretString;
use sqlx::{PgConnection, query, query_scalar};

use super::{Store, StoreError, queues::to_column, rows};
use crate::model::{
    environment::{Branch, Environment, EnvironmentKind, Standing},
    id::{DeploymentId, EnvironmentId, ProjectId},
};

/// Most root keys that are good at a time.
pub const MAX_ROOT_KEYS: u32 = 10;

/// The environment with this id.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, id: EnvironmentId) -> Result<Option<Environment>, StoreError> {
    find(&mut *store.read().await?, Some(id), None).await
}

/// The environment of a branch.
///
/// # Errors
/// If the database does not answer.
pub async fn of_branch(store: &Store, parent: EnvironmentId, name: &str) -> Result<Option<Environment>, StoreError> {
    find(&mut *store.read().await?, None, Some((parent, name))).await
}

/// The environment with this id, or of this branch.
async fn find(
    connection: &mut PgConnection,
    id: Option<EnvironmentId>,
    branch: Option<(EnvironmentId, &str)>,
) -> Result<Option<Environment>, StoreError> {
    let (parent, name) = branch.unzip();
    let row = query!(
        r#"
        select e.id, e.kind, e.parent_id, e.branch, e.project_id, e.current_deployment_id, p.ref as project_ref,
            p.name as project_name,
            array(
                select root_secret from api_keys
                where environment_id = coalesce(e.parent_id, e.id) and root_secret is not null
                    and (expires_at is null or expires_at > clock_now())
                order by expires_at nulls first, created_at desc
                limit $4
            ) as "root_secrets!"
        from environments e
        join projects p on p.id = e.project_id
        where e.id = $1 or (e.parent_id = $2 and e.branch = $3)
        "#,
        id.map(|id| id.uuid()),
        parent.map(|id| id.uuid()),
        name,
        i64::from(MAX_ROOT_KEYS)
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut root_keys = row.root_secrets.into_iter().map(SecretString::from);
    let Some(root_key) = root_keys.next() else { return Ok(None) };
    let parent = row.parent_id.map(EnvironmentId::from_uuid);
    Ok(Some(Environment {
        id: EnvironmentId::from_uuid(row.id),
        kind: rows::environment_kind(&row.kind)?,
        branch: row.branch.zip(parent).map(|(name, parent)| Branch { name, parent }),
        project: ProjectId::from_uuid(row.project_id),
        project_ref: row.project_ref,
        project_name: row.project_name,
        root_key,
        earlier_root_keys: root_keys.collect(),
        current_deployment: row.current_deployment_id.map(DeploymentId::from_uuid),
    }))
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

/// Makes the project's environment of this kind, with a limit of its own, or finds it.
///
/// # Errors
/// If the database does not answer.
pub async fn ensure(
    connection: &mut PgConnection,
    project: ProjectId,
    kind: EnvironmentKind,
    limit: Option<u32>,
) -> Result<EnvironmentId, StoreError> {
    let id = query_scalar!(
        "insert into environments (id, project_id, kind, concurrency_limit) values ($1, $2, $3, $4)
         on conflict (project_id, kind) where parent_id is null do update set kind = excluded.kind returning id",
        EnvironmentId::new().uuid(),
        project.uuid(),
        kind.slug(),
        limit.map(to_column)
    )
    .fetch_one(connection)
    .await?;
    Ok(EnvironmentId::from_uuid(id))
}

/// Makes the environment of a branch, with a limit of its own, or finds it.
///
/// # Errors
/// If the database does not answer.
pub async fn ensure_branch(
    connection: &mut PgConnection,
    parent: EnvironmentId,
    name: &str,
    limit: Option<u32>,
) -> Result<EnvironmentId, StoreError> {
    let id = query_scalar!(
        "insert into environments (id, project_id, kind, parent_id, branch, concurrency_limit)
         select $1, project_id, kind, id, $3, $4 from environments where id = $2
         on conflict (parent_id, branch) where parent_id is not null do update set branch = excluded.branch returning id",
        EnvironmentId::new().uuid(),
        parent.uuid(),
        name,
        limit.map(to_column)
    )
    .fetch_one(connection)
    .await?;
    Ok(EnvironmentId::from_uuid(id))
}

/// How many branches an environment has.
///
/// # Errors
/// If the database does not answer.
pub async fn count_branches(connection: &mut PgConnection, parent: EnvironmentId) -> Result<u64, StoreError> {
    let count = query_scalar!(r#"select count(*) as "count!" from environments where parent_id = $1"#, parent.uuid())
        .fetch_one(connection)
        .await?;
    Ok(rows::count(count))
}

/// Sets how many runs of an environment may execute at a time, and whether any may begin; what is none stays as it is.
///
/// # Errors
/// If the database does not answer.
pub async fn set_gate(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    limit: Option<Option<u32>>,
    paused: Option<bool>,
) -> Result<(), StoreError> {
    query!(
        "update environments
         set concurrency_limit = case when $2 then $3 else concurrency_limit end, paused = coalesce($4, paused) where id = $1",
        environment.uuid(),
        limit.is_some(),
        limit.flatten().map(to_column),
        paused
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How an environment stands; none if there is none.
///
/// # Errors
/// If the database does not answer.
pub async fn standing(connection: &mut PgConnection, environment: EnvironmentId) -> Result<Option<Standing>, StoreError> {
    let row = query!(
        r#"
        select concurrency_limit, paused,
            (select count(*) from runs where environment_id = $1 and status = 'QUEUED') as "queued!",
            (select count(*) from runs where environment_id = $1 and lease_worker is not null) as "running!"
        from environments where id = $1
        "#,
        environment.uuid()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Standing {
        concurrency_limit: row.concurrency_limit.map(i32::unsigned_abs),
        is_paused: row.paused,
        queued: rows::count(row.queued),
        running: rows::count(row.running),
    }))
}
