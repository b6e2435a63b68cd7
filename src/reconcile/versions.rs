//! Puts runs into line whose deployment came at the very moment that they began to wait for one. If this does not run, such runs
//! wait for the next deployment.

use crate::{engine, store::Store};

/// Most deployments of one sweep.
const BATCH: u32 = 100;

/// Puts into line what waits for a deployment that is there, and returns for how many deployments.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<u32, engine::Error> {
    engine::deploy::wake_stranded(store, BATCH).await
}
