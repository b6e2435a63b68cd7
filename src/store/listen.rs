//! One LISTEN connection for the whole process, and who hears it.
use tokio::sync::{broadcast, watch};
use crate::{model::id::{RunId, WaitpointId}, store::Store};
/// What the database says: "look". Rows are the truth, so whoever misses one looks again after a while.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Changes when a run may have come into line.
    pub line: watch::Receiver<u64>,
    /// Changes when something may be due earlier than before.
    pub timers: watch::Receiver<u64>,
    /// Runs that changed. Who lags looks at all it cares about.
    pub runs: broadcast::Sender<RunId>,
    /// Waitpoints that completed. Who lags looks at all it cares about.
    pub waitpoints: broadcast::Sender<WaitpointId>,
}
/// Whether to listen at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Hold one connection.
    On,
    /// Hold none: everybody polls.
    Off,
}
/// Listens until the token is cancelled.
pub fn listen(store: &Store, listening: Listening, tasks: &tokio_util::task::TaskTracker, stop: tokio_util::sync::CancellationToken) -> Signals { todo!() }
