//! Runs that runs start, and what a wait for them comes to. Source: facts A25, B6, D10.

use serde::{Deserialize, Serialize};

use super::{
    error::RunError,
    id::{BatchId, RunId},
    payload::Packet,
    run::RunStatus,
};

/// What a run means to do with the run that it starts. Source: facts A25.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Intent {
    /// Let it go: it takes the version that is current when it starts.
    Forget,
    /// Wait for it: it runs on its parent's version.
    Wait,
}

/// The end of a run, as who waits for it sees it: its failure is data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: String,
    /// What it came to.
    pub outcome: RunOutcome,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOutcome {
    /// It returned.
    Completed(Packet),
    /// It ended in another way.
    Failed {
        /// A final status that is not `COMPLETED`.
        status: RunStatus,
        /// Why.
        error: RunError,
    },
}

/// The end of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchEnd {
    /// The batch.
    pub batch: BatchId,
    /// In the order of its items. Source: facts B6.
    pub runs: Vec<RunEnd>,
}

impl RunOutcome {
    /// What a final run's columns say. A run that expired has no error of its own.
    pub fn of(status: RunStatus, output: Option<Packet>, error: Option<RunError>) -> RunOutcome {
        match status {
            RunStatus::Completed => RunOutcome::Completed(output.unwrap_or_else(Packet::empty)),
            status => RunOutcome::Failed { status, error: error.unwrap_or_else(|| without_error(status)) },
        }
    }
}

fn without_error(status: RunStatus) -> RunError {
    RunError::Text {
        raw: match status {
            RunStatus::Expired => "the run expired: it was not begun within its time to live".into(),
            status => format!("the run is {}", status.as_str()),
        },
    }
}
