//! Tags.
use crate::{engine::Error, model::id::{EnvironmentId, RunId}, store::Store};
/// Adds tags to a run, and returns all it has.
pub async fn add(store: &Store, environment: EnvironmentId, run: RunId, tags: Vec<String>) -> Result<Vec<String>, Error> { todo!() }
