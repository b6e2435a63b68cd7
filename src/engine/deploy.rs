//! Adds a deployment: one transaction declares its queues, writes its tasks, makes it the current one with its schedules, and
//! puts the runs that waited for one of its tasks into line. Source: facts N3-N5, A28.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;

use crate::{
    engine::{Error, schedule},
    model::{
        deployment::{Deployment, NewDeployment, Promotion},
        event::EventKind,
        id::{DeploymentId, EnvironmentId},
        queue,
        task::{BundleDefinition, TaskDefinition, TaskKind},
    },
    store::{Store, deployments, events, line, notify, places, queues},
};

/// Longest external id, in characters. Source: facts A26.
const MAX_EXTERNAL_ID_CHARS: usize = 128;
/// Most tasks of a bundle.
const MAX_TASKS: usize = 1000;
/// Most queues that a bundle declares.
const MAX_QUEUES: usize = 1000;
/// Longest id of a task, in characters.
const MAX_TASK_ID_CHARS: usize = 255;

/// Adds a deployment whose component is in the blob store.
///
/// # Errors
/// [`Error::NotFound`] without such an environment; [`Error::Invalid`] and [`Error::TooLarge`] if the definition breaks a
/// rule.
pub async fn deploy(store: &Store, environment: EnvironmentId, new: NewDeployment) -> Result<Deployment, Error> {
    check(&new)?;
    store
        .tx(move |tx| {
            Box::pin(async move {
                if !deployments::lock_environment(tx, environment).await? {
                    return Err(Error::not_found("environment"));
                }
                let mut tasks = new.definition.tasks.clone();
                tasks.sort_by(|a, b| a.id.cmp(&b.id));
                let deployment = Deployment {
                    id: DeploymentId::new(),
                    environment,
                    version: deployments::next_version(tx, environment).await?,
                    component: new.component,
                    sdk: new.definition.sdk.clone(),
                    external_id: new.external_id,
                    created_at: crate::store::clock::now(tx).await?,
                    is_current: new.promotion == Promotion::Promote,
                    tasks,
                };
                deployments::insert(tx, &deployment).await?;
                if deployment.is_current {
                    let queues = declared_queues(&new.definition);
                    let changed = queues::declare(tx, environment, &queues).await?;
                    places::unpark_all(tx, &changed).await?;
                    make_current(tx, &deployment).await?;
                }
                Ok(deployment)
            })
        })
        .await
}

/// Makes the deployment with this version the current one: a promotion or a rollback. The queues' limits stay.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn promote(store: &Store, environment: EnvironmentId, version: String) -> Result<Deployment, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                deployments::lock_environment(tx, environment).await?;
                let found = deployments::find(tx, environment, None, Some(&version)).await?;
                let mut deployment = found.ok_or(Error::not_found("deployment"))?;
                deployment.is_current = true;
                make_current(tx, &deployment).await?;
                Ok(deployment)
            })
        })
        .await
}

async fn make_current(tx: &mut PgConnection, deployment: &Deployment) -> Result<(), Error> {
    deployments::promote(tx, deployment.environment, deployment.id).await?;
    let mut woken = Vec::new();
    for task in &deployment.tasks {
        let queue = queues::ensure(tx, deployment.environment, &queue_of(task)).await?;
        let own = queues::ensure(tx, deployment.environment, &queue::name_of_task(&task.id)).await?;
        woken.extend(line::wake_pending(tx, deployment.environment, &task.id, own, queue).await?);
    }
    events::record(tx, EventKind::Deployed, &woken).await?;
    schedule::declare(tx, deployment.environment, &deployment.tasks).await?;
    notify::line(tx).await?;
    Ok(())
}

/// The queue that the task names, else its own.
pub(super) fn queue_of(task: &TaskDefinition) -> String {
    task.queue.as_deref().map_or_else(|| queue::name_of_task(&task.id), queue::sanitize)
}

/// Every queue that the bundle declares or a task names.
fn declared_queues(definition: &BundleDefinition) -> Vec<(String, Option<u32>)> {
    let mut queues: BTreeMap<String, Option<u32>> = definition.tasks.iter().map(|task| (queue_of(task), None)).collect();
    queues.extend(definition.queues.iter().map(|queue| (queue::sanitize(&queue.name), queue.concurrency_limit)));
    queues.into_iter().collect()
}

fn check(new: &NewDeployment) -> Result<(), Error> {
    let definition = &new.definition;
    if definition.tasks.is_empty() {
        return Err(Error::invalid("tasks", "a bundle has at least one task"));
    }
    if definition.tasks.len() > MAX_TASKS {
        return Err(Error::TooLarge { field: "tasks", limit: MAX_TASKS, unit: "tasks" });
    }
    if definition.queues.len() > MAX_QUEUES {
        return Err(Error::TooLarge { field: "queues", limit: MAX_QUEUES, unit: "queues" });
    }
    if new.external_id.as_ref().is_some_and(|id| id.chars().count() > MAX_EXTERNAL_ID_CHARS || id.contains('\0')) {
        return Err(Error::invalid("externalId", format!("an external id has at most {MAX_EXTERNAL_ID_CHARS} characters")));
    }
    let mut ids = HashSet::new();
    for task in &definition.tasks {
        if task.id.is_empty() || task.id.contains('\0') || task.id.chars().count() > MAX_TASK_ID_CHARS {
            return Err(Error::invalid("tasks", format!("a task's id has 1 to {MAX_TASK_ID_CHARS} characters")));
        }
        if !ids.insert(&task.id) {
            return Err(Error::invalid("tasks", format!("two tasks are called {:?}", task.id)));
        }
        if let Some(schedule) = &task.schedule {
            if task.kind != TaskKind::Scheduled {
                return Err(Error::invalid("tasks", format!("{:?} has a schedule and is no scheduled task", task.id)));
            }
            let timing = schedule.timing();
            timing.map_err(|bad| Error::invalid("tasks", format!("the schedule of {:?}: {bad}", task.id)))?;
        }
    }
    Ok(())
}
