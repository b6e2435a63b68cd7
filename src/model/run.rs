//! A run and the states it goes through.

use serde::{Deserialize, Serialize};

/// Where a run is. The texts are those of the HTTP API. Source: facts C1, C3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// Triggered for a task that no deployment has yet; a deployment with the task queues it.
    PendingVersion,
    /// Triggered with a delay; its time queues it.
    Delayed,
    /// Waits for a worker; a claim takes it.
    Queued,
    /// A worker has it and loads it; starting or restoring it makes it execute.
    Dequeued,
    /// A worker runs it, or it is between two attempts. A wait, an end or a failure leaves it.
    Executing,
    /// Suspended: a checkpoint holds it, nothing else does. Resolving what it waits for queues it.
    Waiting,
    /// Final: returned an output.
    Completed,
    /// Final: cancelled.
    Canceled,
    /// Final: the last attempt returned an error.
    Failed,
    /// Final: the last attempt trapped, ran out of memory or left through `exit`.
    Crashed,
    /// Final: a fault of the host.
    SystemFailure,
    /// Final: not begun within its time to live.
    Expired,
    /// Final: used more CPU time than it may.
    TimedOut,
}

impl RunStatus {
    /// Every status, in the order of a run's life.
    pub const ALL: [RunStatus; 13] = [
        Self::PendingVersion,
        Self::Delayed,
        Self::Queued,
        Self::Dequeued,
        Self::Executing,
        Self::Waiting,
        Self::Completed,
        Self::Canceled,
        Self::Failed,
        Self::Crashed,
        Self::SystemFailure,
        Self::Expired,
        Self::TimedOut,
    ];

    /// The text of the HTTP API, which is also the one stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingVersion => "PENDING_VERSION",
            Self::Delayed => "DELAYED",
            Self::Queued => "QUEUED",
            Self::Dequeued => "DEQUEUED",
            Self::Executing => "EXECUTING",
            Self::Waiting => "WAITING",
            Self::Completed => "COMPLETED",
            Self::Canceled => "CANCELED",
            Self::Failed => "FAILED",
            Self::Crashed => "CRASHED",
            Self::SystemFailure => "SYSTEM_FAILURE",
            Self::Expired => "EXPIRED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    /// The status with this text.
    pub fn parse(text: &str) -> Option<RunStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Nothing happens to the run any more; its result is written once. Source: facts C10.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::Canceled
                | Self::Failed
                | Self::Crashed
                | Self::SystemFailure
                | Self::Expired
                | Self::TimedOut
        )
    }
}
