//! Where new runs would begin: what a worker needs to know of their environment, task and queue before there is a run.

use serde_json::Value;
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::StoreError;
use crate::model::id::{EnvironmentId, QueueId};

/// What runs of one task in one queue begin with.
#[derive(Debug)]
pub struct Stage {
    /// Kind of the environment, as it is written.
    pub environment_kind: String,
    /// Its project.
    pub project_id: Uuid,
    /// The project's ref.
    pub project_ref: String,
    /// The project's name.
    pub project_name: String,
    /// Name of the queue.
    pub queue_name: String,
    /// The current deployment, which has the task.
    pub deployment: Uuid,
    /// Its version.
    pub version: String,
    /// Digest of its component.
    pub component: String,
    /// The task as it declares it.
    pub definition: Value,
    /// Digest of the component as the rewriter made it, and the version of the rewriter.
    pub rewriting: Option<(String, i32)>,
    /// The environment has variables, of its own or inherited.
    pub has_variables: bool,
}

/// For each environment, task and queue asked for, where its runs may begin at once: the environment has a deployment with the task, and
/// neither it nor the queue is paused or has a limit. If any run at all is in line, there is none for anybody: that run was there
/// first.
///
/// # Errors
/// If the database does not answer.
pub async fn open(
    connection: &mut PgConnection,
    asked: &[(EnvironmentId, &str, QueueId)],
    rewriter: u32,
) -> Result<Vec<Option<Stage>>, StoreError> {
    let environments: Vec<Uuid> = asked.iter().map(|(environment, ..)| environment.uuid()).collect();
    let tasks: Vec<&str> = asked.iter().map(|(_, task, _)| *task).collect();
    let queues: Vec<Uuid> = asked.iter().map(|(.., queue)| queue.uuid()).collect();
    let rows = query!(
        r#"
        select asked.n as "n!", e.kind as environment_kind, p.id as project_id, p.ref as project_ref, p.name as project_name,
            q.name as queue_name, d.id as deployment, d.version, d.component, t.definition,
            made.digest as "rewritten?", made.rewriter as "rewriter?",
            exists (select from variables v where v.environment_id in (e.id, e.parent_id)) as "has_variables!"
        from unnest($1::uuid[], $2::text[], $3::uuid[]) with ordinality as asked (environment_id, task, queue_id, n)
        join environments e on e.id = asked.environment_id
        join projects p on p.id = e.project_id
        join queues q on q.id = asked.queue_id
        join deployments d on d.id = e.current_deployment_id
        join tasks t on t.deployment_id = d.id and t.id = asked.task
        left join rewritings made on made.component = d.component and made.rewriter = $4 and made.dropped_at is null
        where not e.paused and e.concurrency_limit is null
            and not q.paused and q.declared_limit is null and q.override_limit is null
            and not exists (select from runs where status = 'QUEUED')
        "#,
        &environments,
        &tasks as &[&str],
        &queues,
        rewriter as i32
    )
    .fetch_all(connection)
    .await?;
    let mut stages: Vec<Option<Stage>> = asked.iter().map(|_| None).collect();
    for row in rows {
        stages[row.n as usize - 1] = Some(Stage {
            environment_kind: row.environment_kind,
            project_id: row.project_id,
            project_ref: row.project_ref,
            project_name: row.project_name,
            queue_name: row.queue_name,
            deployment: row.deployment,
            version: row.version,
            component: row.component,
            definition: row.definition,
            rewriting: row.rewritten.zip(row.rewriter),
            has_variables: row.has_variables,
        });
    }
    Ok(stages)
}
