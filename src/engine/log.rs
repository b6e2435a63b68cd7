//! Logs.
use crate::{engine::Error, model::{attempt::Lease, log::LogRecord}, store::Store};
/// Adds lines to a run's log, and returns how many were kept.
pub async fn append(store: &Store, lease: &Lease, lines: Vec<LogRecord>) -> Result<u32, Error> { todo!() }
