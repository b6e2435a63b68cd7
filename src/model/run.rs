//! A run and the states it goes through.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    attempt::Attempt,
    error::RunError,
    id::{BatchId, RunId},
    machine::Machine,
    payload::Packet,
    price::MachineTime,
    schedule::Schedule,
};

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
    /// A worker has it and loads it. Shown by the API only for hosts that fetch a machine first: here a worker has room
    /// before it claims, so a claimed run executes at once.
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

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A deployment brings its task.
    Deploy,
    /// It is its turn, but no deployment has its task.
    Undeploy,
    /// Its time has come: a delay, a wait or the pause between attempts is over.
    Due,
    /// A worker takes it.
    Claim,
    /// It is frozen until something comes.
    Suspend,
    /// What it waits for has come.
    Resolve,
    /// Its worker gave it back or was lost.
    Requeue,
    /// Its attempt failed and another will follow.
    Retry,
    /// It ends with this status.
    Finish(RunStatus),
    /// Somebody ends it.
    Cancel,
    /// It was not begun within its time to live.
    Expire,
}

/// Something that cannot happen to a run in this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{happening:?} cannot happen to a run that is {}", .status.as_str())]
pub struct Illegal {
    /// Where the run is.
    pub status: RunStatus,
    /// What was to happen.
    pub happening: Happening,
}

impl RunStatus {
    /// The status after something happened: the whole state machine. Nothing happens to a final run.
    ///
    /// # Errors
    /// [`Illegal`] if it cannot happen; the run stays as it is.
    pub fn on(self, happening: Happening) -> Result<RunStatus, Illegal> {
        use Happening::*;
        use RunStatus::*;
        match (self, happening) {
            (PendingVersion, Deploy) => Ok(Queued),
            (Queued, Undeploy) | (Delayed, Undeploy) => Ok(PendingVersion),
            (Delayed, Due) | (Waiting, Due) | (Executing, Due) => Ok(Queued),
            (Queued, Claim) => Ok(Executing),
            (Executing | Dequeued, Suspend) => Ok(Waiting),
            (Waiting, Resolve) => Ok(Queued),
            (Executing | Dequeued, Requeue) => Ok(Queued),
            (Executing | Dequeued, Retry) => Ok(Executing),
            (Executing | Dequeued, Finish(status)) if status.is_final() => Ok(status),
            (PendingVersion | Delayed | Queued | Dequeued | Executing | Waiting, Cancel) => Ok(Canceled),
            (PendingVersion | Queued, Expire) => Ok(Expired),
            (status, happening) => Err(Illegal { status, happening }),
        }
    }
}

/// A run as lists show it. Source: facts 7.3.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Where it is.
    pub status: RunStatus,
    /// Its task.
    pub task: String,
    /// The version it runs on, once it has one.
    pub version: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// From a test page.
    pub is_test: bool,
    /// Repeats another run.
    pub is_replay: bool,
    /// When it was triggered.
    pub created_at: DateTime<Utc>,
    /// When anything about it last changed.
    pub updated_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it reached its final status.
    pub finished_at: Option<DateTime<Utc>>,
    /// Not before this.
    pub delayed_until: Option<DateTime<Utc>>,
    /// Milliseconds it may wait for its start.
    pub ttl_ms: Option<u64>,
    /// What the user wrote, else the key itself.
    pub idempotency_key: Option<String>,
    /// Its parent.
    pub parent: Option<RunId>,
    /// The first of its tree; itself if it has no parent.
    pub root: RunId,
    /// Parents above it.
    pub depth: u32,
    /// The batch it came with.
    pub batch: Option<BatchId>,
    /// Triggered by a run that meant to wait for it.
    pub awaited: bool,
    /// Name of its queue.
    pub queue: String,
    /// Its pool within the queue.
    pub concurrency_key: Option<String>,
    /// What it runs on: set by the trigger or by an attempt that ran out of memory, else as its task says, else the default. None:
    /// a preset that this version does not know.
    pub machine: Option<Machine>,
    /// Attempts begun.
    pub attempt_count: u32,
    /// CPU milliseconds used, up to the last checkpoint or end of an attempt.
    pub cpu_ms: u64,
    /// The same by the machine that it was used on.
    pub machine_time: Vec<MachineTime>,
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// Why it failed.
    pub error: Option<RunError>,
    /// Somebody asked for its end while it runs.
    pub cancel_requested_at: Option<DateTime<Utc>>,
}

/// A run with all there is to see. Source: facts 7.3.
#[derive(Debug, Clone, PartialEq)]
pub struct RunDetail {
    /// The run.
    pub run: Run,
    /// What it was triggered with.
    pub payload: Packet,
    /// What it returned.
    pub output: Option<Packet>,
    /// Its attempts, first to last.
    pub attempts: Vec<Attempt>,
    /// Its parent.
    pub parent: Option<Run>,
    /// The first of its tree, if that is another run.
    pub root: Option<Run>,
    /// Its children, newest first, at most 100.
    pub children: Vec<Run>,
    /// The schedule that started it, if that is there still.
    pub schedule: Option<Schedule>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_answers_every_happening_as_the_table_says() {
        use Happening::*;
        let happenings =
            [Deploy, Undeploy, Due, Claim, Suspend, Resolve, Requeue, Retry, Finish(RunStatus::Completed), Cancel, Expire];
        let table: Vec<String> = RunStatus::ALL
            .into_iter()
            .map(|status| {
                let answers: Vec<&str> =
                    happenings.into_iter().map(|happening| status.on(happening).map_or("-", RunStatus::as_str)).collect();
                format!("{}: {}", status.as_str(), answers.join(" "))
            })
            .collect();
        assert_eq!(
            table,
            [
                "PENDING_VERSION: QUEUED - - - - - - - - CANCELED EXPIRED",
                "DELAYED: - PENDING_VERSION QUEUED - - - - - - CANCELED -",
                "QUEUED: - PENDING_VERSION - EXECUTING - - - - - CANCELED EXPIRED",
                "DEQUEUED: - - - - WAITING - QUEUED EXECUTING COMPLETED CANCELED -",
                "EXECUTING: - - QUEUED - WAITING - QUEUED EXECUTING COMPLETED CANCELED -",
                "WAITING: - - QUEUED - - QUEUED - - - CANCELED -",
                "COMPLETED: - - - - - - - - - - -",
                "CANCELED: - - - - - - - - - - -",
                "FAILED: - - - - - - - - - - -",
                "CRASHED: - - - - - - - - - - -",
                "SYSTEM_FAILURE: - - - - - - - - - - -",
                "EXPIRED: - - - - - - - - - - -",
                "TIMED_OUT: - - - - - - - - - - -",
            ]
        );
    }

    #[test]
    fn a_run_cannot_finish_with_a_status_that_is_not_final() {
        assert!(RunStatus::Executing.on(Happening::Finish(RunStatus::Queued)).is_err());
    }

    #[test]
    fn a_status_is_what_its_text_says() {
        for status in RunStatus::ALL {
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(RunStatus::parse("queued"), None);
    }
}
