//! Environments and keys.
use crate::{model::{environment::*, id::EnvironmentId}, store::{Store, StoreError}};
/// The environment that a secret key opens.
pub async fn by_secret(store: &Store, secret: &str) -> Result<Option<Environment>, StoreError> { todo!() }
/// The environment with this id.
pub async fn get(store: &Store, id: EnvironmentId) -> Result<Option<Environment>, StoreError> { todo!() }
/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Not to be shown again.
    pub is_secret: bool,
}
/// The variables of an environment, by name.
pub async fn variables(store: &Store, id: EnvironmentId) -> Result<Vec<Variable>, StoreError> { todo!() }
