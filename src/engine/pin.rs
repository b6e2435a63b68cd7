//! Runs that are pinned to a deployment by the user's own name for it, such as a commit: whoever triggers them may be deployed
//! sooner than their tasks. Part of [`trigger`](super::trigger). Source: facts A26.
//!
//! Of several deployments with a name, the newest counts. One that is not there yet is waited for: the run is `PENDING_VERSION`, also
//! if the current deployment has its task, and its `due_at` ends the waiting.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{
    engine::{Error, trigger::short},
    model::{deployment::MAX_EXTERNAL_ID_CHARS, id::EnvironmentId, trigger::NewRun},
    store::{line::Scene, pins},
};

/// How long a run waits for its deployment. Then it expires. Source: facts A26.
pub(super) const PARKED_FOR: Duration = Duration::from_secs(60 * 60);

/// Whether a run can be pinned like this.
///
/// # Errors
/// [`Error::Invalid`] that names the field.
pub(super) fn check(new: &NewRun) -> Result<(), Error> {
    let Some(name) = &new.external_deployment else { return Ok(()) };
    short("externalDeploymentId", name, MAX_EXTERNAL_ID_CHARS)?;
    if new.version.is_some() {
        return Err(Error::invalid("externalDeploymentId", "a run has a version or an external deployment, not both"));
    }
    Ok(())
}

/// The version that the run is pinned to; none if it is not pinned, or if that is not there yet.
///
/// # Errors
/// If the database does not answer.
pub(super) async fn version(tx: &mut PgConnection, environment: EnvironmentId, new: &NewRun) -> Result<Option<String>, Error> {
    match &new.external_deployment {
        Some(name) => Ok(pins::newest_version(tx, environment, name).await?),
        None => Ok(None),
    }
}

/// The scene as a pinned run sees it: what the current deployment has means nothing to it.
///
/// # Errors
/// [`Error::Invalid`] if its deployment does not have the task.
pub(super) fn seen_from(new: &NewRun, scene: Scene) -> Result<Scene, Error> {
    if new.external_deployment.is_none() {
        return Ok(scene);
    }
    match (&scene.deployment, &scene.task) {
        (None, _) => Ok(Scene { task: None, ..scene }),
        (Some(_), Some(_)) => Ok(scene),
        (Some(_), None) => Err(Error::invalid("externalDeploymentId", "the deployment with this id does not have the task")),
    }
}

/// Until when a run that is not deployed yet waits for its deployment; none if it is not pinned: for ever.
pub(super) fn parked_until(new: &NewRun, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    new.external_deployment.as_ref().map(|_| now + PARKED_FOR)
}
