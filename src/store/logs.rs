//! Logs.
use crate::{model::{log::LogRecord, id::RunId}, store::{Store, StoreError}};
/// A line as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// From 1, without gaps within a run: the cursor.
    pub line: u32,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// What was written.
    pub record: LogRecord,
}
/// A run's lines after `line` (0: from the start), oldest first, at most `limit` (and 1000).
pub async fn after(store: &Store, run: RunId, line: u32, limit: u32) -> Result<Vec<Line>, StoreError> { todo!() }
