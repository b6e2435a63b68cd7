//! What a run can wait for, and what the wait comes to.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{id::WaitpointId, payload::Packet};

/// A wait as the guest asked for it. Every wait ends as soon as one of its waitables is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitRequest {
    /// A timer made by the wait itself.
    Timer {
        /// When it is due.
        at: DateTime<Utc>,
        /// A later wait with the same key, in this or another attempt, is the same timer. Source: facts F9.
        idempotency: Option<Idempotency>,
    },
    /// Things made before: tokens, timers.
    Any {
        /// 1 to 1000, in the guest's order.
        waitpoints: Vec<WaitpointId>,
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
}

/// A waitable that has completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Place in the list that was waited for; 0 for a wait's own timer.
    pub index: u32,
    /// What it came to.
    pub resolution: Resolution,
}
