//! Cancels.
use crate::{engine::Error, model::id::{EnvironmentId, RunId}, store::Store};
/// Cancels a run; a final one stays as it is.
pub async fn cancel(store: &Store, environment: EnvironmentId, run: RunId) -> Result<(), Error> { todo!() }
