//! What a run can wait for, and what the wait comes to.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    child::{BatchEnd, RunEnd},
    id::WaitpointId,
    payload::Packet,
    stream::InputValue,
    waitable::Waitable,
};

/// A wait as the guest asked for it. Every wait ends as soon as one of its waitables is complete; a batch is once all its runs
/// are final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitRequest {
    /// A timer made by the wait itself.
    Timer {
        /// When it is due.
        at: DateTime<Utc>,
        /// A later wait with the same key, in this or another attempt, is the same timer. Source: facts F9.
        idempotency: Option<Idempotency>,
    },
    /// Things made before: tokens, timers, runs, batches.
    Any {
        /// 1 to 1000, in the guest's order. Stored under the name it had when waitpoints were all there was.
        #[serde(rename = "waitpoints")]
        waitables: Vec<Waitable>,
    },
    /// A sleep through WASI: the guest asks again what is ready once `at` has come, so nothing is answered.
    Sleep {
        /// The nearest deadline of the timers that are polled.
        at: DateTime<Utc>,
    },
}

/// Makes a creation happen once within an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// 1 to 2048 characters.
    pub key: String,
    /// Milliseconds the key counts. None: for ever.
    pub ttl_ms: Option<u64>,
}

/// What a waitpoint came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// A timer is due.
    Elapsed,
    /// A token was completed with a value.
    Completed(Packet),
    /// A token's timeout struck.
    TimedOut(DateTime<Utc>),
    /// A value was sent to the run's own input stream.
    Input(InputValue),
    /// No value came in time.
    NoInput(DateTime<Utc>),
    /// A run is final.
    Run(RunEnd),
    /// All runs of a batch are final.
    Batch(BatchEnd),
    /// All runs of a batch are final, but what they came to is more than one wait may answer.
    TooLarge {
        /// Bytes of their outputs.
        bytes: u64,
    },
}

/// A waitable that has completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Place in the list that was waited for; 0 for a wait's own timer.
    pub index: u32,
    /// What it came to.
    pub resolution: Resolution,
}

/// What a waitpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitpointKind {
    /// Completes when its time has come.
    Timer,
    /// Completes when somebody completes it, or times out.
    Token,
    /// Completes when a value comes on an input stream of the run that made it, or times out.
    Input,
}

/// Where a waitpoint is. The texts are those of the HTTP API. Source: facts F5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitpointStatus {
    /// Open.
    Waiting,
    /// A value has come, or the timer elapsed.
    Completed,
    /// A token's time is over.
    TimedOut,
}

impl WaitpointStatus {
    /// Every status.
    pub const ALL: [WaitpointStatus; 3] = [Self::Waiting, Self::Completed, Self::TimedOut];

    /// The text of the HTTP API, which is also the one stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Completed => "COMPLETED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    /// The status with this text.
    pub fn parse(text: &str) -> Option<WaitpointStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A token as its owner sees it. Source: facts 7.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The waitpoint.
    pub id: WaitpointId,
    /// Where it is.
    pub status: WaitpointStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was completed or timed out.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it times out, or would have.
    pub timeout_at: Option<DateTime<Utc>>,
    /// The key it was made with.
    pub idempotency_key: Option<String>,
    /// Until when the key counts; none: for ever.
    pub idempotency_key_expires_at: Option<DateTime<Utc>>,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it was completed with. A timeout has none stored: its text follows from [`Token::timeout_at`].
    pub output: Option<Packet>,
}
