//! What subscribers follow, and a run as they see it. Source: facts 8.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{
    error::RunError,
    id::{BatchId, EnvironmentId, RunId},
    payload::Packet,
    price::MachineTime,
    run::RunStatus,
};

/// Which runs of an environment a feed is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selection {
    /// One run.
    Run(RunId),
    /// Those that have all of these tags, which are sorted and each there once.
    Tags(Vec<String>),
    /// Those of a batch.
    Batch(BatchId),
}

impl Selection {
    /// Whether the run is one of them.
    pub fn holds(&self, run: &RunRow) -> bool {
        match self {
            Selection::Run(id) => run.id == *id,
            Selection::Tags(tags) => tags.iter().all(|tag| run.tags.contains(tag)),
            Selection::Batch(id) => run.batch == Some(*id),
        }
    }
}

/// A run as subscribers see it, after one change.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// Whose it is.
    pub environment: EnvironmentId,
    /// The number of its last change, from 1.
    pub seq: i64,
    /// Its task.
    pub task: String,
    /// Where it is.
    pub status: RunStatus,
    /// Its tags.
    pub tags: Vec<String>,
    /// From a test page.
    pub is_test: bool,
    /// The batch it came with.
    pub batch: Option<BatchId>,
    /// What it was triggered with.
    pub payload: Packet,
    /// What it returned.
    pub output: Option<Packet>,
    /// Why it failed.
    pub error: Option<RunError>,
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// Keys of its streams.
    pub streams: Vec<String>,
    /// Milliseconds it may wait for its start.
    pub ttl_ms: Option<u64>,
    /// What the user wrote, else the key itself.
    pub idempotency_key: Option<String>,
    /// CPU milliseconds used, up to the last checkpoint or end of an attempt.
    pub cpu_ms: u64,
    /// The same by the machine that it was used on.
    pub machine_time: Vec<MachineTime>,
    /// When it was triggered.
    pub created_at: DateTime<Utc>,
    /// When anything about it last changed.
    pub updated_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// Not before this.
    pub delayed_until: Option<DateTime<Utc>>,
    /// When it came into line for the first time.
    pub queued_at: Option<DateTime<Utc>>,
    /// When it reached its final status.
    pub finished_at: Option<DateTime<Utc>>,
}
