//! One try at a run, who may make it, and how it ended.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    checkpoint::Checkpoint,
    context::RunContext,
    error::RunError,
    id::{RunId, WorkerId},
    machine::Machine,
    payload::Packet,
    rewriting::Rewriting,
    waitpoint::{Completion, WaitRequest},
};

/// The right to run one attempt, until it expires. Whoever holds a newer epoch has taken the run over, so everything
/// written for a lease names its epoch, and an older one writes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// Who holds it.
    pub worker: WorkerId,
    /// Grows by one with every claim of the run.
    pub epoch: i64,
    /// The attempt's number, from 1.
    pub attempt: u32,
}

/// A run that was claimed, with all a worker needs to run it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The right to run it.
    pub lease: Lease,
    /// Digest of the component (lower-case hex blake3), the name of its blob.
    pub component: String,
    /// The component as rewritten: by the version that its checkpoint needs, or by the one that was asked for. None: by that
    /// version it has not been rewritten yet.
    pub rewriting: Option<Rewriting>,
    /// The task to run.
    pub task: String,
    /// What to run it with.
    pub payload: Packet,
    /// What `context.current` answers.
    pub context: RunContext,
    /// Memory and CPU it may use.
    pub machine: Machine,
    /// CPU milliseconds the attempt may use in all; none: no limit.
    pub max_duration_ms: Option<u64>,
    /// CPU milliseconds the attempt has used before its checkpoint.
    pub used_cpu_ms: u64,
    /// The task listens for cancellation: its run is not ended at once.
    pub on_cancel: bool,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
    /// Where to go on; none: from the start.
    pub resume: Option<Resume>,
}

/// How long a run that listens for its cancellation may go on after it. Source: facts O4.
pub const TIDY_UP: Duration = Duration::from_secs(30);

/// A request to cancel a run, as the run is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancellation {
    /// When it was made.
    pub requested_at: DateTime<Utc>,
    /// When the run is ended, whatever it does: [`TIDY_UP`] later.
    pub deadline: DateTime<Utc>,
}

impl Cancellation {
    /// Of a request made then.
    pub fn requested(at: DateTime<Utc>) -> Cancellation {
        Cancellation { requested_at: at, deadline: at + TIDY_UP }
    }
}

/// A suspended run whose wait is over.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The snapshot, and what it needs.
    pub checkpoint: Checkpoint,
    /// What it waited for.
    pub wait: WaitRequest,
    /// What the wait came to; empty for a sleep.
    pub completions: Vec<Completion>,
}

/// What the guest decided about another attempt. Source: facts D4, D5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetryDecision {
    /// As the task's policy says.
    Policy,
    /// Not again.
    Abort,
    /// After this many milliseconds.
    Delay(u64),
    /// At this time.
    At(DateTime<Utc>),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The task returned.
    Completed(Packet),
    /// The task failed, or the host ended it.
    Failed {
        /// Why.
        error: RunError,
        /// Whether to try again.
        retry: RetryDecision,
    },
}

/// An attempt as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What it failed with.
    pub error: Option<RunError>,
    /// CPU milliseconds it used; none while it goes on.
    pub cpu_ms: Option<u64>,
    /// What it ran on; none: that was not kept, or this version does not know it.
    pub machine: Option<Machine>,
}
