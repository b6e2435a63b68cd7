//! Queues: lines of runs with a limit on how many may execute at a time. Source: facts A15, K2, K3.

use chrono::{DateTime, Utc};

use super::id::QueueId;

/// Longest name of a queue, in characters.
pub const MAX_QUEUE_NAME_CHARS: usize = 128;

/// Highest limit on how many runs may execute at a time. Source: facts K3.
pub const MAX_CONCURRENCY: u32 = 100_000;

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its id.
    pub id: QueueId,
    /// `task/<id>` for a task's own.
    pub name: String,
    /// What the newest deployment declares; none: no limit.
    pub declared_limit: Option<u32>,
    /// Set by hand.
    pub override_limit: Option<u32>,
    /// When that was.
    pub overridden_at: Option<DateTime<Utc>>,
    /// Nothing is taken from it.
    pub is_paused: bool,
    /// Runs in line.
    pub queued: u64,
    /// Runs that a worker has.
    pub running: u64,
}

impl Queue {
    /// How many of its runs may execute at a time; none: any number.
    pub fn limit(&self) -> Option<u32> {
        self.override_limit.or(self.declared_limit)
    }
}

/// What the names of tasks' own queues begin with.
pub const TASK_PREFIX: &str = "task/";

/// The name of a task's own queue.
pub fn name_of_task(task: &str) -> String {
    sanitize(&format!("{TASK_PREFIX}{task}"))
}

/// A name as it is stored: letters that no queue may have are left out, the rest is cut to length. Source: facts A15.
pub fn sanitize(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/')).take(MAX_QUEUE_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_name_keeps_only_what_it_may_have() {
        assert_eq!(name_of_task("send-email"), "task/send-email");
        assert_eq!(sanitize("a b/ü_1"), "ab/_1");
        assert_eq!(sanitize(&"x".repeat(200)).len(), MAX_QUEUE_NAME_CHARS);
    }
}
