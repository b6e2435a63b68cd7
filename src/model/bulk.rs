//! Bulk actions: many runs that are cancelled or replayed together. Source: facts 7.3.

use chrono::{DateTime, Utc};

use super::id::BulkActionId;

/// Most runs that an action can name one by one.
pub const MAX_RUN_IDS: usize = 5000;
/// Longest name, in characters. Source: facts 7.3.
pub const MAX_NAME_CHARS: usize = 255;

/// What is done to each run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkKind {
    /// It is cancelled.
    Cancel,
    /// It is replayed.
    Replay,
}

impl BulkKind {
    /// As the API and the database write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "CANCEL",
            Self::Replay => "REPLAY",
        }
    }

    /// What [`as_str`](Self::as_str) has written.
    pub fn parse(text: &str) -> Option<BulkKind> {
        [Self::Cancel, Self::Replay].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkStatus {
    /// The sweep is at it.
    Pending,
    /// All runs were dealt with.
    Completed,
    /// Somebody said to stop; what was done by then stays done.
    Aborted,
}

impl BulkStatus {
    /// As the API and the database write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Completed => "COMPLETED",
            Self::Aborted => "ABORTED",
        }
    }

    /// What [`as_str`](Self::as_str) has written.
    pub fn parse(text: &str) -> Option<BulkStatus> {
        [Self::Pending, Self::Completed, Self::Aborted].into_iter().find(|status| status.as_str() == text)
    }
}

/// A bulk action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkAction {
    /// Its id.
    pub id: BulkActionId,
    /// The user's name for it.
    pub name: Option<String>,
    /// What is done to each run.
    pub kind: BulkKind,
    /// How far it is.
    pub status: BulkStatus,
    /// Runs that it was to deal with when it was made.
    pub total: u64,
    /// Runs that were cancelled, or replayed.
    pub success: u64,
    /// Runs that could not be: they had ended already, are not there, or a replay was refused.
    pub failure: u64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was completed or aborted.
    pub completed_at: Option<DateTime<Utc>>,
}
