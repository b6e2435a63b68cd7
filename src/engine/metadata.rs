//! Metadata.
use serde_json::{Map, Value};
use crate::{engine::Error, model::{metadata::Operation, id::{EnvironmentId, RunId}}, store::Store};
/// Changes to a run's metadata and that of its parent and root, in this order.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Put this object in place of the whole, first.
    pub replace: Option<Map<String, Value>>,
    /// Then these.
    pub own: Vec<Operation>,
    /// To the parent; to itself if it has none.
    pub parent: Vec<Operation>,
    /// To the root; to itself if it is the root.
    pub root: Vec<Operation>,
}
/// The metadata of a run.
pub async fn get(store: &Store, environment: EnvironmentId, run: RunId) -> Result<Map<String, Value>, Error> { todo!() }
/// Applies the update as one step, and returns the run's own object afterwards.
pub async fn update(store: &Store, environment: EnvironmentId, run: RunId, update: Update) -> Result<Map<String, Value>, Error> { todo!() }
