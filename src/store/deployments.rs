//! Deployments.
use crate::{model::{deployment::Deployment, id::{DeploymentKind, DeploymentId, EnvironmentId}}, store::{Listing, Page, Store, StoreError}};
/// The deployment with this id.
pub async fn get(store: &Store, environment: EnvironmentId, id: DeploymentId) -> Result<Option<Deployment>, StoreError> { todo!() }
/// The current deployment.
pub async fn current(store: &Store, environment: EnvironmentId) -> Result<Option<Deployment>, StoreError> { todo!() }
/// Deployments, newest first.
pub async fn list(store: &Store, environment: EnvironmentId, page: Page<DeploymentKind>) -> Result<Listing<Deployment, DeploymentKind>, StoreError> { todo!() }
