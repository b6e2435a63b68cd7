//! Where new runs would be and begin: what there is to know of their environment, task and queue before there is a run.

use serde_json::Value;
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{StoreError, line::Scene, rows};
use crate::model::id::{EnvironmentId, QueueId};

/// Where runs are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place<'a> {
    /// Their environment.
    pub environment: EnvironmentId,
    /// Their task.
    pub task: &'a str,
    /// The queue that they name; none: their task's.
    pub queue: Option<&'a str>,
}

/// What there is of a place.
#[derive(Debug)]
pub struct Seen {
    /// What a trigger has to know, but for the limits.
    pub scene: Scene,
    /// The queue and its name, if it is there. A task's own may be stored under another name than the task says.
    pub queue: Option<(QueueId, String)>,
    /// Where its runs may begin at once.
    pub stage: Option<Stage>,
}

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

/// What there is of each of these places; none if there is no such environment. `own_queues` are the names of the tasks' own queues.
///
/// With `rewriter`, where runs of these places may begin at once with what it made: the environment has a deployment with the task, and
/// neither it nor the queue is paused or has a limit. If any run at all is in line, there is none for anybody: that run was there
/// first.
///
/// # Errors
/// If the database does not answer.
pub async fn see(
    connection: &mut PgConnection,
    places: &[Place<'_>],
    own_queues: &[String],
    rewriter: Option<u32>,
) -> Result<Vec<Option<Seen>>, StoreError> {
    let environments: Vec<Uuid> = places.iter().map(|place| place.environment.uuid()).collect();
    let tasks: Vec<&str> = places.iter().map(|place| place.task).collect();
    let queues: Vec<Option<&str>> = places.iter().map(|place| place.queue).collect();
    let rows = query!(
        r#"
        select asked.n as "n!", clock_now() as "now!", e.kind, t.definition as "definition?",
            q.id as "queue_id?", q.name as "queue_name?",
            p.id as project_id, p.ref as project_ref, p.name as project_name, d.id as "deployment?", d.version as "version?",
            d.component as "component?", made.digest as "rewritten?", made.rewriter as "rewriter?",
            exists (select from variables v where v.environment_id in (e.id, e.parent_id)) as "has_variables!",
            coalesce($5::integer is not null and not e.paused and e.concurrency_limit is null
                and not q.paused and q.declared_limit is null and q.override_limit is null
                and not exists (select from runs where status = 'QUEUED'), false) as "is_open!"
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) with ordinality as asked (environment_id, task, queue, own, n)
        join environments e on e.id = asked.environment_id
        join projects p on p.id = e.project_id
        left join deployments d on d.id = e.current_deployment_id
        left join tasks t on t.deployment_id = d.id and t.id = asked.task
        left join queues q on q.environment_id = e.id and q.name = coalesce(asked.queue, t.definition ->> 'queue', asked.own)
        left join rewritings made on made.component = d.component and made.rewriter = $5 and made.dropped_at is null
        "#,
        &environments,
        &tasks as &[&str],
        &queues as &[Option<&str>],
        own_queues,
        rewriter.map(|version| version as i32)
    )
    .fetch_all(connection)
    .await?;
    let mut seen: Vec<Option<Seen>> = places.iter().map(|_| None).collect();
    for row in rows {
        let stage = match (row.deployment, row.version, row.component, &row.definition, &row.queue_name) {
            (Some(deployment), Some(version), Some(component), Some(definition), Some(queue_name)) if row.is_open => {
                Some(Stage {
                    environment_kind: row.kind.clone(),
                    project_id: row.project_id,
                    project_ref: row.project_ref,
                    project_name: row.project_name,
                    queue_name: queue_name.clone(),
                    deployment,
                    version,
                    component,
                    definition: definition.clone(),
                    rewriting: row.rewritten.zip(row.rewriter),
                    has_variables: row.has_variables,
                })
            }
            _ => None,
        };
        let scene = Scene {
            now: row.now,
            kind: rows::environment_kind(&row.kind)?,
            deployment: None,
            task: row.definition.map(|definition| rows::json("tasks", definition)).transpose()?,
            limits: Vec::new(),
        };
        let queue = row.queue_id.map(QueueId::from_uuid).zip(row.queue_name);
        seen[row.n as usize - 1] = Some(Seen { scene, queue, stage });
    }
    Ok(seen)
}
