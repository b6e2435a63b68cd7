//! Queues.
use crate::{engine::Error, model::{queue::Queue, id::{EnvironmentId, QueueId}}, store::Store};
/// Stops taking runs from a queue.
pub async fn pause(store: &Store, environment: EnvironmentId, queue: QueueId) -> Result<Queue, Error> { todo!() }
/// Takes runs from it again.
pub async fn resume(store: &Store, environment: EnvironmentId, queue: QueueId) -> Result<Queue, Error> { todo!() }
/// Overrides the declared limit, or goes back to it.
pub async fn set_limit(store: &Store, environment: EnvironmentId, queue: QueueId, limit: Option<u32>) -> Result<Queue, Error> { todo!() }
