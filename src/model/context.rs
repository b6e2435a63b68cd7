//! Who a run is: what `context.current` tells the guest.

use chrono::{DateTime, Utc};

use super::{
    id::{BatchId, DeploymentId, EnvironmentId, ProjectId, QueueId, RunId},
    machine::Machine,
};

/// What kind of environment a run is in. Source: facts N1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvironmentKind {
    /// A developer's own.
    Development,
    /// Before production.
    Staging,
    /// Of a branch.
    Preview,
    /// The real thing.
    Production,
}

impl EnvironmentKind {
    /// Every kind.
    pub const ALL: [EnvironmentKind; 4] = [Self::Development, Self::Staging, Self::Preview, Self::Production];

    /// The short name in keys and addresses.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Development => "dev",
            Self::Staging => "stg",
            Self::Preview => "preview",
            Self::Production => "prod",
        }
    }

    /// The name by which the HTTP API and bundles call it.
    pub const fn api_name(self) -> &'static str {
        match self {
            Self::Development => "DEVELOPMENT",
            Self::Staging => "STAGING",
            Self::Preview => "PREVIEW",
            Self::Production => "PRODUCTION",
        }
    }

    /// The kind with this name, in letters of any size.
    pub fn from_api_name(name: &str) -> Option<EnvironmentKind> {
        Self::ALL.into_iter().find(|kind| kind.api_name().eq_ignore_ascii_case(name))
    }

    /// The kind with this slug.
    pub fn from_slug(slug: &str) -> Option<EnvironmentKind> {
        Self::ALL.into_iter().find(|kind| kind.slug() == slug)
    }
}

/// Fixed for the length of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct RunContext {
    /// The run.
    pub run: RunId,
    /// Its tags.
    pub tags: Vec<String>,
    /// Started from a test page.
    pub is_test: bool,
    /// A replay of another run.
    pub is_replay: bool,
    /// When it was triggered.
    pub created_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: DateTime<Utc>,
    /// The run that triggered it.
    pub parent: Option<RunId>,
    /// The first of its tree; itself if it has no parent.
    pub root: RunId,
    /// The run that its trace begins with; itself unless its parent waits for it.
    pub trace: RunId,
    /// Parents above it.
    pub depth: u32,
    /// The batch it came with.
    pub batch: Option<BatchId>,
    /// What the user wrote, else the key itself.
    pub idempotency_key: Option<String>,
    /// After all overrides.
    pub max_attempts: u32,
    /// CPU milliseconds per attempt.
    pub max_duration_ms: Option<u64>,
    /// From 1.
    pub attempt: u32,
    /// When the attempt began.
    pub attempt_started_at: DateTime<Utc>,
    /// The task.
    pub task: String,
    /// Its queue.
    pub queue: QueueId,
    /// The queue's name.
    pub queue_name: String,
    /// The pool within the queue.
    pub concurrency_key: Option<String>,
    /// The environment.
    pub environment: EnvironmentId,
    /// What kind it is.
    pub environment_kind: EnvironmentKind,
    /// The project.
    pub project: ProjectId,
    /// Its public reference, `proj_…`.
    pub project_ref: String,
    /// Its name.
    pub project_name: String,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The deployment's version, `YYYYMMDD.N`.
    pub version: String,
    /// Memory and CPU.
    pub machine: Machine,
}
