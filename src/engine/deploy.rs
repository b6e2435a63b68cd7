//! Adds a deployment, and makes deployments current: one transaction writes its tasks, declares its queues and schedules, and puts the
//! runs that waited for one of its tasks into line. Source: facts N3-N5, A28.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;

use crate::{
    engine::{Error, schedule, trigger},
    model::{
        deployment::{Deployment, MAX_EXTERNAL_ID_CHARS, NewDeployment, Promotion},
        event::EventKind,
        id::{DeploymentId, EnvironmentId},
        queue,
        task::{BundleDefinition, TaskDefinition, TaskKind},
    },
    store::{
        self, Store,
        deployments::{self, Declared},
        events, limits,
        line::{self, Place},
        notify, pins, queues,
    },
};

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
                let declared = Declared { queues: declared_queues(&new.definition), limits: new.definition.concurrency_limits };
                deployments::insert(tx, &deployment, &declared).await?;
                if deployment.is_current {
                    make_current(tx, &deployment).await?;
                } else {
                    // Runs that name the version need its limits, or they would have none.
                    limits::declare(tx, environment, &declared.limits, false).await?;
                    wake(tx, &deployment).await?;
                }
                Ok(deployment)
            })
        })
        .await
}

/// Makes the deployment with this version the current one: new runs start on it, and its queues have the limits it declares.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn promote(store: &Store, environment: EnvironmentId, version: String) -> Result<Deployment, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                deployments::lock_environment(tx, environment).await?;
                promote_in(tx, environment, &version).await
            })
        })
        .await
}

/// Promotes the version before the current one: the newest earlier one that has been current. So a rollback never comes to a
/// version that was never live, nor back to one that was rolled back from; whoever wants such a one names it to [`promote`].
///
/// `from` is the version that the caller takes for the current one. A rollback that is asked for twice, because the answer to the
/// first was lost, goes back once if it says so.
///
/// # Errors
/// [`Error::NotFound`] if nothing is deployed; [`Error::Conflict`] if another version than `from` is current, or there is none
/// before it.
pub async fn rollback(store: &Store, environment: EnvironmentId, from: Option<String>) -> Result<Deployment, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                deployments::lock_environment(tx, environment).await?;
                let current = deployments::find(tx, environment, None, None).await?.ok_or(Error::not_found("deployment"))?;
                if from.as_ref().is_some_and(|from| *from != current.version) {
                    return Err(Error::Conflict(format!(
                        "{} is the current version by now; nothing was changed",
                        current.version
                    )));
                }
                let before = deployments::version_before(tx, environment, current.id).await?;
                let none = || Error::Conflict(format!("no version before {} has been current; promote one", current.version));
                promote_in(tx, environment, &before.ok_or_else(none)?).await
            })
        })
        .await
}

async fn promote_in(tx: &mut PgConnection, environment: EnvironmentId, version: &str) -> Result<Deployment, Error> {
    let found = deployments::find(tx, environment, None, Some(version)).await?;
    let mut deployment = found.ok_or(Error::not_found("deployment"))?;
    deployment.is_current = true;
    make_current(tx, &deployment).await?;
    Ok(deployment)
}

async fn make_current(tx: &mut PgConnection, deployment: &Deployment) -> Result<(), Error> {
    let declared = deployments::promote(tx, deployment.environment, deployment.id).await?;
    queues::declare(tx, deployment.environment, &declared.queues).await?;
    limits::declare(tx, deployment.environment, &declared.limits, true).await?;
    schedule::declare(tx, deployment.environment, &deployment.tasks).await?;
    wake(tx, deployment).await
}

/// Puts the runs into line that waited for this deployment: for any with their task, if it is the current one, and for one of its
/// name.
async fn wake(tx: &mut PgConnection, deployment: &Deployment) -> Result<(), Error> {
    let mut woken = Vec::new();
    let environment = deployment.environment;
    for task in &deployment.tasks {
        let queue = queues::ensure(tx, environment, &queue_of(task)).await?;
        let own_queue = queues::ensure(tx, environment, &queue::name_of_task(&task.id)).await?;
        let (own_limit, limits) = trigger::limits_of_task(tx, environment, task).await?;
        let place = Place { own_queue, queue, own_limit, limits };
        if deployment.is_current {
            woken.extend(line::wake_pending(tx, environment, &task.id, &place).await?);
        }
        if deployment.external_id.is_some() {
            woken.extend(pins::wake(tx, environment, deployment.id, &task.id, &place).await?);
        }
    }
    events::record(tx, EventKind::Deployed, &woken).await?;
    notify::line(tx).await?;
    Ok(())
}

/// Puts runs into line that wait for a deployment which is there, and returns for how many deployments there were some; it looks
/// at `max` at most. A run begins to wait if its task is not deployed when it is looked up; if a deployment with it is committed
/// just then, neither sees the other.
///
/// # Errors
/// If the database does not answer.
pub async fn wake_stranded(store: &Store, max: u32) -> Result<u32, Error> {
    let stranded = store::in_time(async { pins::stranded(&mut *store.read().await?, i64::from(max)).await }).await?;
    for (environment, deployment) in &stranded {
        let (environment, deployment) = (*environment, *deployment);
        store
            .tx(move |tx| {
                Box::pin(async move {
                    deployments::lock_environment(tx, environment).await?;
                    match deployments::find(tx, environment, Some(deployment.uuid()), None).await? {
                        Some(deployment) => wake(tx, &deployment).await,
                        None => Ok(()),
                    }
                })
            })
            .await?;
    }
    Ok(stranded.len() as u32)
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
