//! Concurrency limits that several tasks share, and those of one task. Source: facts A17, K4.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::id::LimitId;

/// Longest name of a shared limit, in characters. Source: facts 4.5.
pub const MAX_LIMIT_NAME_CHARS: usize = 122;
/// Most shared limits of a run, besides its task's own. Source: facts A17.
pub const MAX_SHARED: usize = 2;
/// How long an exception for a concurrency key holds unless said otherwise, and at most. Source: facts K4.
pub const KEY_TTL: (Duration, Duration) = (Duration::from_secs(7 * 24 * 60 * 60), Duration::from_secs(30 * 24 * 60 * 60));

/// The name of a task's own limit.
pub fn own_name(task: &str) -> String {
    format!("task/{task}")
}

/// Where a bound comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// What the newest deployment that names the limit declares; none: none.
    pub declared: Option<u32>,
    /// Set by hand.
    pub by_hand: Option<u32>,
    /// When that was.
    pub set_at: Option<DateTime<Utc>>,
}

impl Bound {
    /// What counts; none: no bound.
    pub fn current(&self) -> Option<u32> {
        self.by_hand.or(self.declared)
    }
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its id.
    pub id: LimitId,
    /// `task/<id>` for a task's own.
    pub name: String,
    /// Of all runs that need a place in it.
    pub total: Bound,
    /// Of those with one concurrency key; those without any count together.
    pub per_key: Bound,
    /// It lets nothing through.
    pub is_paused: bool,
    /// Runs in line that need a place in it.
    pub queued: u64,
    /// Runs that have one.
    pub running: u64,
}

/// A limit as runs with one concurrency key find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLimit {
    /// The limit.
    pub limit: Limit,
    /// The key.
    pub key: String,
    /// What holds for the key instead of the limit's own bound, and until when.
    pub exception: Option<(u32, DateTime<Utc>)>,
    /// Runs of the key that have a place.
    pub running: u64,
}
