//! Environment variables.
use crate::{engine::Error, model::id::EnvironmentId, store::Store};
/// Sets a variable.
pub async fn set(store: &Store, environment: EnvironmentId, name: String, value: String, is_secret: bool) -> Result<(), Error> { todo!() }
/// Deletes a variable; false if there was none.
pub async fn delete(store: &Store, environment: EnvironmentId, name: String) -> Result<bool, Error> { todo!() }
