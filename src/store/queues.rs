//! Queues.
use crate::{model::{queue::Queue, id::{EnvironmentId, QueueId}}, store::{Store, StoreError}};
/// How a queue is named in a request.
#[derive(Debug, Clone)]
pub enum Which {
    /// By its id.
    Id(QueueId),
    /// By its name; `task/<id>` for a task's own.
    Name(String),
}
/// One queue.
pub async fn get(store: &Store, environment: EnvironmentId, which: &Which) -> Result<Option<Queue>, StoreError> { todo!() }
/// Queues by name, and how many there are; at most `limit` (and 100), from `offset` on.
pub async fn list(store: &Store, environment: EnvironmentId, offset: u32, limit: u32) -> Result<(Vec<Queue>, u64), StoreError> { todo!() }
