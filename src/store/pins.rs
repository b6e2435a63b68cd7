//! Runs that wait for a deployment: for one of a name, or for any with their task.

use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, events::Changed, line::Place, rows};
use crate::model::{
    id::{DeploymentId, EnvironmentId, RunId},
    trigger::DEVELOPMENT_TTL_MS,
};

/// The version of the newest deployment with this external id.
///
/// # Errors
/// If the database does not answer.
pub async fn newest_version(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    external_id: &str,
) -> Result<Option<String>, StoreError> {
    Ok(query_scalar!(
        "select version from deployments where environment_id = $1 and external_id = $2 order by id desc limit 1",
        environment.uuid(),
        external_id
    )
    .fetch_optional(connection)
    .await?)
}

/// The deployment with their external id is there: runs of the task that wait for it come into line, in the queue that the task
/// names there unless the trigger named another one than the task's own; those that are still delayed are bound to it.
///
/// # Errors
/// If the database does not answer.
pub async fn wake(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    deployment: DeploymentId,
    task: &str,
    place: &Place,
) -> Result<Vec<Changed>, StoreError> {
    query!(
        r#"
        update runs r
        set deployment_id = d.id, queue_id = case when r.queue_id = $4 then $5 else r.queue_id end,
            limit_ids = case when r.limit_names is null then $6
                else array(select distinct id from unnest(r.limit_ids || $7::uuid) as id where id is not null order by id) end,
            status = case r.status when 'DELAYED' then 'DELAYED' else 'QUEUED' end,
            position = case r.status when 'DELAYED' then r.position
                else coalesce(r.position, clock_now() - r.priority_ms * interval '1 millisecond') end,
            due_at = case r.status when 'DELAYED' then r.due_at
                else clock_now() + nullif(coalesce(r.ttl_ms, (t.definition ->> 'ttlMs')::bigint,
                    case e.kind when 'dev' then $8::bigint end), 0) * interval '1 millisecond' end,
            updated_at = clock_now(), event_seq = r.event_seq + 1
        from deployments d
        join environments e on e.id = d.environment_id
        join tasks t on t.deployment_id = d.id and t.id = $3
        where d.id = $2 and r.environment_id = $1 and r.external_deployment = d.external_id and r.deployment_id is null
            and r.task = $3 and r.status in ('PENDING_VERSION', 'DELAYED')
        returning r.id, r.event_seq, r.status
        "#,
        environment.uuid(),
        deployment.uuid(),
        task,
        place.own_queue.uuid(),
        place.queue.uuid(),
        &place.limits,
        place.own_limit,
        DEVELOPMENT_TTL_MS as i64
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok(Changed { id: RunId::from_uuid(row.id), seq: row.event_seq, status: rows::run_status(&row.status)? }))
    .collect()
}

/// Deployments that runs wait for though they are there, at most `max`.
///
/// # Errors
/// If the database does not answer.
pub async fn stranded(connection: &mut PgConnection, max: i64) -> Result<Vec<(EnvironmentId, DeploymentId)>, StoreError> {
    let rows = query!(
        r#"
        select distinct r.environment_id, d.id as deployment_id
        from runs r
        join environments e on e.id = r.environment_id
        join deployments d on d.environment_id = e.id and case when r.external_deployment is null
            then d.id = e.current_deployment_id
            else d.id = (
                select newest.id from deployments newest
                where newest.environment_id = e.id and newest.external_id = r.external_deployment
                order by newest.id desc limit 1
            ) end
        join tasks t on t.deployment_id = d.id and t.id = r.task
        where r.status = 'PENDING_VERSION'
        limit $1
        "#,
        max
    )
    .fetch_all(connection)
    .await?;
    let pair = |environment, deployment| (EnvironmentId::from_uuid(environment), DeploymentId::from_uuid(deployment));
    Ok(rows.into_iter().map(|row| pair(row.environment_id, row.deployment_id)).collect())
}
