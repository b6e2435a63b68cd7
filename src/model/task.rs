//! What a bundle says of itself: its tasks and how they want to be run.

use serde::{Deserialize, Serialize};

use super::{
    environment::EnvironmentKind,
    machine::Machine,
    schedule::{BadTiming, Timing},
};

/// A deployed component's declarations, as `tasks.describe` returned them and every check let them pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleDefinition {
    /// Name and version of the SDK, such as `rust/0.1.0`.
    pub sdk: String,
    /// At least one; ids are unique.
    pub tasks: Vec<TaskDefinition>,
    /// Queues that the bundle declares.
    pub queues: Vec<QueueDefinition>,
    /// Concurrency limits that it declares, shared ones and tasks' own.
    #[serde(default)]
    pub concurrency_limits: Vec<LimitDefinition>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinition {
    /// Unique within the bundle.
    pub id: String,
    /// What starts it.
    #[serde(default)]
    pub kind: TaskKind,
    /// For people.
    pub description: Option<String>,
    /// Where it is written, such as `src/email.rs:12`.
    pub source: Option<String>,
    /// None: no retries. Source: facts D3.
    pub retry: Option<RetryPolicy>,
    /// None: the task's own queue, `task/<id>`.
    pub queue: Option<String>,
    /// Limits that each run needs a place in, by name: the task's own, `task/<id>`, if it has one, and at most two shared ones.
    /// Source: facts A17.
    #[serde(default)]
    pub concurrency_limits: Vec<String>,
    /// None: the default preset.
    pub machine: Option<Machine>,
    /// CPU milliseconds per attempt; 0 switches the limit off; none: the host's default.
    pub max_duration_ms: Option<u64>,
    /// Milliseconds a run may wait for its start; 0: for ever.
    pub ttl_ms: Option<u64>,
    /// JSON Schema (text) of the payload.
    pub payload_schema: Option<String>,
    /// The task listens for cancellation.
    pub on_cancel: bool,
    /// Only for a scheduled task.
    #[serde(default)]
    pub schedule: Option<ScheduleDefinition>,
}

/// What starts a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// Triggers.
    #[default]
    Standard,
    /// May have schedules, too. Source: facts J11.
    Scheduled,
}

/// A schedule that a task declares. Kept as it is written, so that a version which does not understand it can still run the
/// task. Source: facts J5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleDefinition {
    /// Five fields.
    pub cron: String,
    /// Name of a zone.
    pub timezone: String,
    /// `PRODUCTION`, `STAGING`, `PREVIEW`, `DEVELOPMENT`; empty: all.
    pub environments: Vec<String>,
    /// `30m`, `2h`, `50%`; none: exactly then.
    pub window: Option<String>,
}

impl ScheduleDefinition {
    /// When it fires.
    ///
    /// # Errors
    /// What of it cannot be understood.
    pub fn timing(&self) -> Result<Timing, BadTiming> {
        if let Some(unknown) = self.environments.iter().find(|name| EnvironmentKind::from_api_name(name).is_none()) {
            let known = EnvironmentKind::ALL.map(EnvironmentKind::api_name).join(", ");
            let unknown: String = unknown.chars().take(64).collect();
            let message = format!("there is no kind of environment {unknown:?}; there are {known}");
            return Err(BadTiming { field: "environments", message });
        }
        Timing::parse(&self.cron, Some(&self.timezone), self.window.as_deref())
    }

    /// Whether it holds in this kind of environment.
    pub fn holds_in(&self, kind: EnvironmentKind) -> bool {
        self.environments.is_empty() || self.environments.iter().any(|name| EnvironmentKind::from_api_name(name) == Some(kind))
    }
}

/// A queue that the bundle declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueDefinition {
    /// 1 to 128 of `A-Z a-z 0-9 _ - /`.
    pub name: String,
    /// Runs of the queue that may execute at a time.
    pub concurrency_limit: Option<u32>,
}

/// A concurrency limit that the bundle declares. Source: facts A17.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitDefinition {
    /// 1 to 122 of `A-Z a-z 0-9 _ -`; `task/<id>` for a task's own.
    pub name: String,
    /// Runs that may execute at a time, of all that need a place in it; none: any number.
    pub total: Option<u32>,
    /// Of those with one concurrency key.
    pub per_key: Option<u32>,
}

/// When and how often to try again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// 1 to 250; 1 means no retry. Source: facts A21.
    pub max_attempts: u32,
    /// What each delay is multiplied by.
    pub factor: f64,
    /// The first delay, in milliseconds.
    pub min_timeout_ms: u64,
    /// The longest delay, in milliseconds.
    pub max_timeout_ms: u64,
    /// Stretch each delay by a random factor from [1, 2).
    pub randomize: bool,
    /// Preset to try again on after running out of memory. None: no retry for that. Source: facts D8.
    pub out_of_memory_machine: Option<Machine>,
}

impl Default for RetryPolicy {
    /// Source: facts D1.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            factor: 2.0,
            min_timeout_ms: 1000,
            max_timeout_ms: 60_000,
            randomize: true,
            out_of_memory_machine: None,
        }
    }
}

impl RetryPolicy {
    /// Milliseconds to wait before the attempt after attempt `number` (from 1), or none if it was the last. `random` is
    /// from [0, 1). Source: facts D2.
    pub fn delay_ms(&self, number: u32, random: f64) -> Option<u64> {
        if number >= self.max_attempts {
            return None;
        }
        let stretch = if self.randomize { 1.0 + random } else { 1.0 };
        let delay = stretch * self.min_timeout_ms as f64 * self.factor.powi(number as i32 - 1);
        Some(delay.min(self.max_timeout_ms as f64).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_its_limit_and_ends_with_the_last_attempt() {
        let policy = RetryPolicy { max_attempts: 9, randomize: false, ..RetryPolicy::default() };
        let delays: Vec<Option<u64>> = (1..=9).map(|number| policy.delay_ms(number, 0.9)).collect();
        assert_eq!(
            delays,
            [Some(1000), Some(2000), Some(4000), Some(8000), Some(16_000), Some(32_000), Some(60_000), Some(60_000), None]
        );
    }

    #[test]
    fn a_declared_schedule_holds_in_the_environments_it_names() {
        let definition = |environments: &[&str]| ScheduleDefinition {
            cron: "0 9 * * *".into(),
            timezone: "UTC".into(),
            environments: environments.iter().map(ToString::to_string).collect(),
            window: None,
        };
        use EnvironmentKind::*;
        assert!(definition(&[]).holds_in(Development) && definition(&["production", "STAGING"]).holds_in(Production));
        assert!(!definition(&["PRODUCTION"]).holds_in(Development));
        definition(&["Preview"]).timing().unwrap();
        let bad = definition(&["prod"]).timing().unwrap_err();
        assert!(bad.field == "environments" && bad.message.contains("\"prod\"; there are DEVELOPMENT"), "{bad}");
    }

    #[test]
    fn a_task_that_an_earlier_version_stored_has_no_schedule() {
        let stored = r#"{"id":"a","description":null,"source":null,"retry":null,"queue":null,"machine":null,
            "maxDurationMs":null,"ttlMs":null,"payloadSchema":null,"onCancel":false}"#;
        let task: TaskDefinition = serde_json::from_str(stored).unwrap();
        assert_eq!((task.kind, task.schedule), (TaskKind::Standard, None));
    }

    #[test]
    fn a_random_delay_stays_between_one_and_two_times_the_plain_one() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay_ms(1, 0.0), Some(1000));
        assert_eq!(policy.delay_ms(1, 0.5), Some(1500));
        assert_eq!(policy.delay_ms(2, 0.999), Some(3998));
        assert_eq!(policy.delay_ms(3, 0.0), None);
    }
}
