//! What a run shall be, as whoever triggers it says. Source: facts 7.1, A1-A31.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    id::{BatchId, RunId, ScheduleId},
    machine::Machine,
    payload::Packet,
};

/// Most attempts a run may have. Source: facts A21.
pub const MAX_ATTEMPTS: u32 = 250;
/// Longest idempotency key, in characters. Source: facts A9.
pub const MAX_KEY_CHARS: usize = 2048;
/// How long a key counts unless the trigger says otherwise: 30 days. Source: facts A7.
pub const DEFAULT_KEY_TTL_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Milliseconds that a run in an environment for development waits for its start at most, unless its trigger or its task says
/// otherwise: what was triggered while nobody was there shall not begin the next morning. Source: facts A4.
pub const DEVELOPMENT_TTL_MS: u64 = 10 * 60 * 1000;
/// Least CPU time limit of an attempt, in milliseconds; smaller ones are raised to it. Source: facts A22.
pub const MIN_MAX_DURATION_MS: u64 = 5000;

/// Longest debounce key, in characters. Source: facts A11.
pub const MAX_DEBOUNCE_KEY_CHARS: usize = 512;
/// Shortest debounce delay, in milliseconds. Source: facts A11.
pub const MIN_DEBOUNCE_DELAY_MS: u64 = 1000;

/// A run to be made. `NewRun::of` fills in what most leave out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewRun {
    /// The task's id; it need not be deployed yet. Source: facts A28.
    pub task: String,
    /// What to run it with, at most [`super::payload::MAX_PAYLOAD_BYTES`]. Where a run is kept before it is made, its payload
    /// is kept beside it.
    #[serde(skip, default = "Packet::empty")]
    pub payload: Packet,
    /// The same key gets the run that an earlier trigger made. Source: facts A5.
    pub idempotency: Option<RunIdempotency>,
    /// Names the HTTP request: sent twice it makes one run, for 24 hours. Source: facts A30.
    pub request_key: Option<String>,
    /// Not before this; a time that has passed is no delay. Source: facts A1-A3.
    pub delay_until: Option<DateTime<Utc>>,
    /// Triggers with the same key become one run, as long as that has not begun. Source: facts A11-A14.
    pub debounce: Option<Debounce>,
    /// Milliseconds to wait for the start at most; 0: for ever; none: as the task says, else
    /// [`DEVELOPMENT_TTL_MS`] in development and for ever elsewhere. Source: facts A4.
    pub ttl_ms: Option<u64>,
    /// At most 10 of 1 to 128 characters. Source: facts A19.
    pub tags: Vec<String>,
    /// At most [`super::payload::MAX_METADATA_BYTES`] as text.
    pub metadata: Map<String, Value>,
    /// None: the one the task names, else its own.
    pub queue: Option<String>,
    /// A pool of its own within the queue. Source: facts A16.
    pub concurrency_key: Option<String>,
    /// Shared limits that it needs a place in, by name, at most two, in place of those that the task names; none: these. Source:
    /// facts A17.
    #[serde(default)]
    pub concurrency_limits: Option<Vec<String>>,
    /// None: as the task says.
    pub max_attempts: Option<u32>,
    /// CPU milliseconds per attempt; 0: no limit; none: as the task says.
    pub max_duration_ms: Option<u64>,
    /// None: as the task says.
    pub machine: Option<Machine>,
    /// Milliseconds by which it jumps the line. Source: facts A18.
    pub priority_ms: i64,
    /// From a test page.
    pub is_test: bool,
    /// The version to run on, `YYYYMMDD.N`; none: the one that is current when it starts. Source: facts A25.
    pub version: Option<String>,
    /// The deployment to run on, by the user's own name for it, 1 to [`MAX_EXTERNAL_ID_CHARS`](super::deployment::MAX_EXTERNAL_ID_CHARS);
    /// if it is not there yet, the run waits for it, an hour at most. Source: facts A26.
    pub external_deployment: Option<String>,
    /// The run that triggers it.
    pub parent: Option<RunId>,
    /// That run means to wait for it: it runs on its version, unless it names another. Source: facts A25.
    pub awaited: bool,
    /// The batch it belongs to.
    pub batch: Option<BatchId>,
    /// The run it repeats.
    pub replay_of: Option<RunId>,
    /// The schedule that starts it.
    pub schedule: Option<ScheduleId>,
}

/// An idempotency key of a run. Source: facts A5-A9.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIdempotency {
    /// What is compared, 1 to [`MAX_KEY_CHARS`]: from an SDK, a hash.
    pub key: String,
    /// What the user wrote, if the key is its hash.
    pub shown: Option<String>,
    /// `run`, `attempt` or `global`.
    pub scope: Option<String>,
    /// Milliseconds it counts; none: [`DEFAULT_KEY_TTL_MS`].
    pub ttl_ms: Option<u64>,
}

/// How triggers with one key become one run. Source: facts A11-A14.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debounce {
    /// Compared within the environment and the task, 1 to [`MAX_DEBOUNCE_KEY_CHARS`].
    pub key: String,
    /// Milliseconds without another trigger after which the run begins; at least [`MIN_DEBOUNCE_DELAY_MS`].
    pub delay_ms: u64,
    /// What a further trigger changes besides the time.
    pub mode: DebounceMode,
    /// Milliseconds from the first trigger on which further ones may put the run off at most, more than the delay; none: for ever.
    /// Not kept: each trigger says its own.
    pub max_delay_ms: Option<u64>,
}

/// What a further trigger changes besides the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DebounceMode {
    /// Nothing: the run is as the first trigger made it.
    Leading,
    /// The run is as the last trigger says: its payload, and of metadata, tags, attempts, duration and machine what that sets.
    Trailing,
}

/// What a trigger came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered {
    /// The run.
    pub id: RunId,
    /// An earlier trigger with the same key made it.
    pub is_cached: bool,
}

impl NewRun {
    /// A run of the task with nothing special about it.
    pub fn of(task: impl Into<String>, payload: Packet) -> NewRun {
        NewRun {
            task: task.into(),
            payload,
            idempotency: None,
            request_key: None,
            delay_until: None,
            debounce: None,
            ttl_ms: None,
            tags: Vec::new(),
            metadata: Map::new(),
            queue: None,
            concurrency_key: None,
            concurrency_limits: None,
            max_attempts: None,
            max_duration_ms: None,
            machine: None,
            priority_ms: 0,
            is_test: false,
            version: None,
            external_deployment: None,
            parent: None,
            awaited: false,
            batch: None,
            replay_of: None,
            schedule: None,
        }
    }
}
