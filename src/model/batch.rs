//! Batches: many runs that are triggered together. Source: facts B1-B6, 7.2.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    error::ErrorCode,
    id::{BatchId, RunId},
    trigger::{NewRun, RunIdempotency},
};

/// Most items of a batch. Source: facts B1.
pub const MAX_ITEMS: usize = 1000;

/// A batch to be made, its items to come. Source: facts B2.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// How many items it will have, 1 to [`MAX_ITEMS`].
    pub run_count: u32,
    /// The run that triggers them.
    pub parent: Option<RunId>,
    /// That run means to wait for them: they run on its version, unless they name another.
    pub awaited: bool,
    /// The same key gets the batch that an earlier request made, within the environment. Source: facts B3.
    pub idempotency: Option<RunIdempotency>,
    /// Names the HTTP request: sent again within 24 hours it gets the same batch.
    pub request_key: Option<String>,
}

/// One item on its way to be a run.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its place in the batch, from 0.
    pub index: u32,
    /// Its task, 1 to 128 characters.
    pub task: String,
    /// What it shall be.
    pub draft: Draft,
}

/// What an item shall be.
#[derive(Debug, Clone)]
pub enum Draft {
    /// This run.
    Run(Box<NewRun>),
    /// Nothing, for it breaks a rule: a run that failed for that takes its place. Source: facts B4, B5.
    Refused(Refusal),
}

/// Why an item cannot be triggered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// `BATCH_ITEM_COULD_NOT_TRIGGER` or `PAYLOAD_TOO_LARGE`.
    pub code: ErrorCode,
    /// Names the field, the limit and the fix.
    pub message: String,
}

/// A batch that was made whole, or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTriggered {
    /// The batch.
    pub id: BatchId,
    /// Its items.
    pub run_count: u32,
    /// An earlier call with the same key made it.
    pub is_cached: bool,
}

/// How far a batch is on its way from items to runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Items come in. The last one seals it; it is given up if that does not come in time.
    Filling,
    /// Sealed: its items are being turned into runs.
    Making,
    /// Every item has a run.
    Made,
    /// Given up before it was sealed: nothing was started.
    Aborted,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Stage; 4] = [Self::Filling, Self::Making, Self::Made, Self::Aborted];

    /// The text that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "FILLING",
            Self::Making => "MAKING",
            Self::Made => "MADE",
            Self::Aborted => "ABORTED",
        }
    }

    /// The stage with this text.
    pub fn parse(text: &str) -> Option<Stage> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// All items are there.
    pub const fn is_sealed(self) -> bool {
        matches!(self, Self::Making | Self::Made)
    }
}

/// Where a batch is, as the HTTP API says it. Source: facts 7.2, B4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchStatus {
    /// Items are still to come.
    Pending,
    /// Its runs are being made, or are not all final.
    Processing,
    /// All its runs are final.
    Completed,
    /// All its runs are final, and some items could not be triggered.
    PartialFailed,
    /// Nothing could be triggered, or it was given up before all items were there.
    Aborted,
}

impl BatchStatus {
    /// The text of the HTTP API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Processing => "PROCESSING",
            Self::Completed => "COMPLETED",
            Self::PartialFailed => "PARTIAL_FAILED",
            Self::Aborted => "ABORTED",
        }
    }
}

/// A batch as the HTTP API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// How far its items are.
    pub stage: Stage,
    /// How many items it has or will have.
    pub run_count: u32,
    /// What the user wrote, else the key itself.
    pub idempotency_key: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its last item came or its stage changed.
    pub updated_at: DateTime<Utc>,
    /// When every item had a run.
    pub made_at: Option<DateTime<Utc>>,
    /// Its runs, in the order of the items, as far as there are any.
    pub runs: Vec<RunId>,
    /// How many of those are not final.
    pub open_runs: u32,
    /// Items that could not be triggered.
    pub errors: Vec<ItemError>,
}

/// An item that could not be triggered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// Its place in the batch, from 0.
    pub index: u32,
    /// Its task.
    pub task: String,
    /// Why.
    pub message: String,
    /// An error code of the HTTP API.
    pub code: String,
}

impl Batch {
    /// Its status. An item that is too large was made a failed run, as it should, and is no failure of the batch.
    pub fn status(&self) -> BatchStatus {
        match self.stage {
            Stage::Filling => BatchStatus::Pending,
            Stage::Aborted => BatchStatus::Aborted,
            Stage::Making => BatchStatus::Processing,
            Stage::Made if self.errors.len() == self.run_count as usize => BatchStatus::Aborted,
            Stage::Made if self.open_runs > 0 => BatchStatus::Processing,
            Stage::Made if !self.errors.is_empty() => BatchStatus::PartialFailed,
            Stage::Made => BatchStatus::Completed,
        }
    }
}
