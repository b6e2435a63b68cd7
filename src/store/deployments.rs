//! Deployments and their tasks.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{Listing, Page, Store, StoreError, rows};
use crate::model::{
    deployment::Deployment,
    id::{DeploymentId, DeploymentKind, EnvironmentId},
    task::LimitDefinition,
};

struct Row {
    id: Uuid,
    version: String,
    component: String,
    sdk: String,
    external_id: Option<String>,
    created_at: DateTime<Utc>,
    is_current: bool,
    tasks: Value,
}

impl Row {
    fn deployment(self, environment: EnvironmentId) -> Result<Deployment, StoreError> {
        Ok(Deployment {
            id: DeploymentId::from_uuid(self.id),
            environment,
            version: self.version,
            component: self.component,
            sdk: self.sdk,
            external_id: self.external_id,
            created_at: self.created_at,
            is_current: self.is_current,
            tasks: rows::json("tasks", self.tasks)?,
        })
    }
}

/// The deployment with this id.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, environment: EnvironmentId, id: DeploymentId) -> Result<Option<Deployment>, StoreError> {
    find(&mut *store.read().await?, environment, Some(id.uuid()), None).await
}

/// The deployment with this version, `YYYYMMDD.N`.
///
/// # Errors
/// If the database does not answer.
pub async fn by_version(store: &Store, environment: EnvironmentId, version: &str) -> Result<Option<Deployment>, StoreError> {
    find(&mut *store.read().await?, environment, None, Some(version)).await
}

/// The current deployment.
///
/// # Errors
/// If the database does not answer.
pub async fn current(store: &Store, environment: EnvironmentId) -> Result<Option<Deployment>, StoreError> {
    find(&mut *store.read().await?, environment, None, None).await
}

/// The deployment with this id or this version, or else the current one.
pub(crate) async fn find(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    id: Option<Uuid>,
    version: Option<&str>,
) -> Result<Option<Deployment>, StoreError> {
    query_as!(
        Row,
        r#"
        select d.id, d.version, d.component, d.sdk, d.external_id, d.created_at,
            coalesce(d.id = e.current_deployment_id, false) as "is_current!",
            (select coalesce(json_agg(t.definition order by t.id), '[]') from tasks t where t.deployment_id = d.id) as "tasks!"
        from environments e
        join deployments d on d.environment_id = e.id
        where e.id = $1
            and case when $2::uuid is not null then d.id = $2
                when $3::text is not null then d.version = $3
                else d.id = e.current_deployment_id end
        "#,
        environment.uuid(),
        id,
        version
    )
    .fetch_optional(connection)
    .await?
    .map(|row| row.deployment(environment))
    .transpose()
}

/// Which deployments; what is none says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Deployed at this time or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Deployed at this time or earlier.
    pub created_to: Option<DateTime<Utc>>,
}

/// Deployments, newest first.
///
/// # Errors
/// If the database does not answer.
pub async fn list(
    store: &Store,
    environment: EnvironmentId,
    filter: &Filter,
    page: Page<DeploymentKind>,
) -> Result<Listing<Deployment, DeploymentKind>, StoreError> {
    let cut = page.cut();
    let found = query_as!(
        Row,
        r#"
        select d.id, d.version, d.component, d.sdk, d.external_id, d.created_at,
            coalesce(d.id = e.current_deployment_id, false) as "is_current!",
            (select coalesce(json_agg(t.definition order by t.id), '[]') from tasks t where t.deployment_id = d.id) as "tasks!"
        from deployments d
        join environments e on e.id = d.environment_id
        where d.environment_id = $1 and ($2::uuid is null or d.id < $2) and ($3::uuid is null or d.id > $3)
            and ($5::timestamptz is null or d.created_at >= $5) and ($6::timestamptz is null or d.created_at <= $6)
        order by case when $3::uuid is null then d.id end desc, d.id
        limit $4
        "#,
        environment.uuid(),
        cut.below,
        cut.above,
        cut.limit,
        filter.created_from,
        filter.created_to
    )
    .fetch_all(&mut *store.browse().await?)
    .await?;
    let found = found.into_iter().map(|row| row.deployment(environment)).collect::<Result<Vec<_>, _>>()?;
    Ok(page.listing(found, |deployment| deployment.id))
}

/// Makes the environment's deployments take turns; false if there is no such environment.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_environment(connection: &mut PgConnection, environment: EnvironmentId) -> Result<bool, StoreError> {
    let found = query_scalar!("select id from environments where id = $1 for no key update", environment.uuid())
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

/// The version that the next deployment has: today's date and the next number of the day. Needs the environment's lock.
///
/// # Errors
/// If the database does not answer.
pub async fn next_version(connection: &mut PgConnection, environment: EnvironmentId) -> Result<String, StoreError> {
    Ok(query_scalar!(
        r#"
        with today as (select to_char(clock_now() at time zone 'UTC', 'YYYYMMDD') as date)
        select today.date || '.' || (
            select coalesce(max(split_part(version, '.', 2)::integer), 0) + 1
            from deployments
            where environment_id = $1 and version like today.date || '.%'
        ) as "version!"
        from today
        "#,
        environment.uuid()
    )
    .fetch_one(connection)
    .await?)
}

/// What a deployment declares besides its tasks.
#[derive(Debug, Default)]
pub struct Declared {
    /// Limits by queue.
    pub queues: Vec<(String, Option<u32>)>,
    /// Concurrency limits.
    pub limits: Vec<LimitDefinition>,
}

/// Adds a deployment, its tasks and what it declares.
///
/// # Errors
/// If the database does not answer, or the version is taken.
pub async fn insert(connection: &mut PgConnection, deployment: &Deployment, declared: &Declared) -> Result<(), StoreError> {
    query!(
        "insert into deployments (id, environment_id, version, component, sdk, external_id, queues, limits)
         values ($1, $2, $3, $4, $5, $6, $7::text::json, $8::text::json)",
        deployment.id.uuid(),
        deployment.environment.uuid(),
        deployment.version,
        deployment.component,
        deployment.sdk,
        deployment.external_id,
        rows::to_json(&declared.queues),
        rows::to_json(&declared.limits)
    )
    .execute(&mut *connection)
    .await?;
    let ids: Vec<&str> = deployment.tasks.iter().map(|task| task.id.as_str()).collect();
    let definitions: Vec<String> = deployment.tasks.iter().map(rows::to_json).collect();
    query!(
        "insert into tasks (deployment_id, id, definition)
         select $1, id, definition::json from unnest($2::text[], $3::text[]) as task (id, definition)",
        deployment.id.uuid(),
        &ids as &[&str],
        &definitions
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a deployment the current one, and tells what it declares; nothing is known of one of before that was kept.
///
/// # Errors
/// If the database does not answer.
pub async fn promote(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    deployment: DeploymentId,
) -> Result<Declared, StoreError> {
    let row = query!(
        "with current as (update environments set current_deployment_id = $2 where id = $1)
         update deployments set promoted_at = clock_now() where id = $2 returning queues, limits",
        environment.uuid(),
        deployment.uuid()
    )
    .fetch_one(connection)
    .await?;
    let queues = row.queues.map_or(Ok(Vec::new()), |queues| rows::json("deployments", queues))?;
    Ok(Declared { queues, limits: row.limits.map_or(Ok(Vec::new()), |limits| rows::json("deployments", limits))? })
}

/// The version of the newest deployment before this one that has ever been the current one.
///
/// # Errors
/// If the database does not answer.
pub async fn version_before(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    deployment: DeploymentId,
) -> Result<Option<String>, StoreError> {
    Ok(query_scalar!(
        "select version from deployments where environment_id = $1 and id < $2 and promoted_at is not null
         order by id desc limit 1",
        environment.uuid(),
        deployment.uuid()
    )
    .fetch_optional(connection)
    .await?)
}
