//! Triggers.
use crate::{engine::Error, model::{trigger::*, id::EnvironmentId}, store::Store};
/// Makes a run.
pub async fn trigger(store: &Store, environment: EnvironmentId, new: NewRun) -> Result<Triggered, Error> { todo!() }
