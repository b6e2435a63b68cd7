//! What happens to a run, one entry each, numbered from 1 without gaps.

use chrono::{DateTime, Utc};

use super::run::RunStatus;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEvent {
    /// From 1.
    pub seq: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What happened.
    pub kind: EventKind,
    /// The run's status after it.
    pub status: RunStatus,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The run was made.
    Triggered,
    /// A deployment brought the task it waited for.
    Deployed,
    /// No deployment has its task any more.
    Undeployed,
    /// It shall begin at another time than before.
    Rescheduled,
    /// The delay is over.
    DelayOver,
    /// A worker has taken it.
    Claimed,
    /// A checkpoint holds it.
    Suspended,
    /// What it waited for has come.
    Resumed,
    /// Its worker gave it back.
    GivenBack,
    /// Its worker was not heard of in time.
    LeaseLost,
    /// An attempt failed; another will follow.
    AttemptFailed,
    /// The delay between two attempts is over.
    RetryDue,
    /// Somebody asked for its end while it runs.
    CancelRequested,
    /// Its metadata or tags changed.
    Changed,
    /// It reached a final status.
    Finished,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 15] = [
        Self::Triggered,
        Self::Deployed,
        Self::Undeployed,
        Self::Rescheduled,
        Self::DelayOver,
        Self::Claimed,
        Self::Suspended,
        Self::Resumed,
        Self::GivenBack,
        Self::LeaseLost,
        Self::AttemptFailed,
        Self::RetryDue,
        Self::CancelRequested,
        Self::Changed,
        Self::Finished,
    ];

    /// The text that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Triggered => "triggered",
            Self::Deployed => "deployed",
            Self::Undeployed => "undeployed",
            Self::Rescheduled => "rescheduled",
            Self::DelayOver => "delay-over",
            Self::Claimed => "claimed",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
            Self::GivenBack => "given-back",
            Self::LeaseLost => "lease-lost",
            Self::AttemptFailed => "attempt-failed",
            Self::RetryDue => "retry-due",
            Self::CancelRequested => "cancel-requested",
            Self::Changed => "changed",
            Self::Finished => "finished",
        }
    }

    /// The kind with this text.
    pub fn parse(text: &str) -> Option<EventKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
