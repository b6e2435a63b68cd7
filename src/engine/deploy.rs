//! Deploys.
use crate::{engine::Error, model::{deployment::*, id::EnvironmentId}, store::Store};
/// Adds a deployment.
pub async fn deploy(store: &Store, environment: EnvironmentId, new: NewDeployment) -> Result<Deployment, Error> { todo!() }
/// Makes the deployment with this version the current one.
pub async fn promote(store: &Store, environment: EnvironmentId, version: String) -> Result<Deployment, Error> { todo!() }
