//! Projects, environments and the keys that open them.
use crate::{engine::Error, model::{environment::*, id::EnvironmentId}, store::Store};
/// Makes the project, its environment of that kind and the root key, or finds them: the same call twice changes nothing.
pub async fn ensure(store: &Store, project: NewProject, kind: EnvironmentKind, key: NewApiKey) -> Result<Environment, Error> { todo!() }
/// Adds a key to an environment.
pub async fn add_key(store: &Store, environment: EnvironmentId, key: NewApiKey) -> Result<(), Error> { todo!() }
