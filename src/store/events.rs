//! Events.
use crate::{model::{event::RunEvent, id::RunId}, store::{Store, StoreError}};
/// A run's events after `seq`, oldest first, at most `limit`.
pub async fn after(store: &Store, run: RunId, seq: i64, limit: u32) -> Result<Vec<RunEvent>, StoreError> { todo!() }
