//! Brings the schedules of an environment into step with what its current deployment declares. Source: facts J5.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::must_have_room;
use crate::{
    engine::Error,
    model::{
        id::{EnvironmentId, ScheduleId},
        schedule::{Schedule, ScheduleKind, Timing},
        task::TaskDefinition,
    },
    store::{
        clock, notify,
        schedules::{self, Held},
    },
};

/// Part of the transaction that makes a deployment the current one: schedules that its tasks do not declare go, new ones come,
/// and those that are declared as before stay with what comes next.
///
/// # Errors
/// [`Error::Invalid`] if the project would have too many.
pub async fn declare(tx: &mut PgConnection, environment: EnvironmentId, tasks: &[TaskDefinition]) -> Result<(), Error> {
    let (project, kind) = schedules::lock_project(tx, environment).await?.ok_or(Error::not_found("environment"))?;
    let now = clock::now(tx).await?;
    let before = schedules::lock_declared(tx, environment).await?;
    let mut before: HashMap<String, Held> = before.into_iter().map(|held| (held.task.clone(), held)).collect();
    let mut new = Vec::new();
    for task in tasks {
        let Some(definition) = task.schedule.as_ref().filter(|definition| definition.holds_in(kind)) else { continue };
        let earlier = before.remove(&task.id);
        let timing = match definition.timing() {
            Ok(timing) => timing,
            Err(bad) => {
                // Checked when it was uploaded, perhaps by another version. A rollback to it is worth more.
                tracing::error!(task.id, "a declared schedule stays as it is, for this version does not understand it: {bad}");
                continue;
            }
        };
        match earlier {
            Some(Held { schedule: Some(schedule), .. }) if schedule.timing == timing => {}
            Some(Held { id, .. }) => {
                let mut schedule = Schedule { id, ..declarative(environment, &task.id, timing) };
                schedule.next = schedule.timing.next(schedule.id, now);
                schedules::update(tx, &schedule).await?;
            }
            None => new.push(declarative(environment, &task.id, timing)),
        }
    }
    let gone: Vec<ScheduleId> = before.into_values().map(|held| held.id).collect();
    schedules::delete(tx, &gone).await?;
    if !new.is_empty() {
        must_have_room(schedules::count(tx, project).await? as usize + new.len())?;
    }
    for mut schedule in new {
        schedule.next = schedule.timing.next(schedule.id, now);
        schedules::insert(tx, project, &schedule).await?;
    }
    notify::schedules(tx).await?;
    Ok(())
}

fn declarative(environment: EnvironmentId, task: &str, timing: Timing) -> Schedule {
    Schedule {
        id: ScheduleId::new(),
        kind: ScheduleKind::Declarative,
        environment,
        task: task.into(),
        deduplication_key: None,
        external_id: None,
        timing,
        is_active: true,
        next: None,
        last_run_at: None,
    }
}
