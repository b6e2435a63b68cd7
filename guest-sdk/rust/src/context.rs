//! Who am I? The run, its attempt, and where they run.

use std::time::{Duration, SystemTime};

use crate::bindings::dormouse::task::context as wit;
use crate::time::instant;

/// What is known about this attempt; fixed for its length.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Context {
    /// The run.
    pub run: Run,
    /// The attempt at it.
    pub attempt: Attempt,
    /// The task's id.
    pub task: String,
    /// The queue it came through.
    pub queue: Queue,
    /// The environment it runs in.
    pub environment: Environment,
    /// The project's reference, `proj_…`.
    pub project: String,
    /// The organisation's name.
    pub organization: String,
    /// The version of the deployment; none in development.
    pub deployment: Option<String>,
    /// What it runs on.
    pub machine: Machine,
    /// W3C `traceparent` of the attempt, to pass on with the task's own HTTP calls.
    pub traceparent: String,
}

/// The run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// `run_…`
    pub id: String,
    /// As they were when the attempt began.
    pub tags: Vec<String>,
    /// Whether it was triggered as a test.
    pub is_test: bool,
    /// Whether it repeats an earlier run.
    pub is_replay: bool,
    /// When it was triggered.
    pub created_at: SystemTime,
    /// When its first attempt began.
    pub started_at: SystemTime,
    /// The run that triggered it.
    pub parent: Option<String>,
    /// The run at the top of the tree; its own id if it is that.
    pub root: String,
    /// How far below the root it is.
    pub depth: u32,
    /// The batch it belongs to.
    pub batch: Option<String>,
    /// The key it was triggered with, as the user wrote it.
    pub idempotency_key: Option<String>,
    /// Seconds by which it was put ahead in its queue.
    pub priority: i32,
    /// How often it may be attempted.
    pub max_attempts: u32,
    /// CPU time an attempt may use.
    pub max_duration: Option<Duration>,
    /// The region it is bound to.
    pub region: Option<String>,
    /// The version it is bound to, e.g. "20261120.1".
    pub version: Option<String>,
}

/// The attempt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub started_at: SystemTime,
}

/// The queue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Queue {
    /// Its id.
    pub id: String,
    /// Its name, `task/<id>` for a task's own.
    pub name: String,
    /// The key that this run has a place of its own under.
    pub concurrency_key: Option<String>,
}

/// The environment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Environment {
    /// Its id.
    pub id: String,
    /// Its short name.
    pub slug: String,
    /// Which of the four kinds it is.
    pub kind: EnvironmentKind,
    /// The branch of a preview environment.
    pub branch: Option<String>,
}

/// The kinds of environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentKind {
    /// On a developer's machine.
    Development,
    /// For trying out.
    Staging,
    /// Of a branch.
    Preview,
    /// The real thing.
    Production,
}

/// The machine preset.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Machine {
    /// Its name, e.g. "small-1x".
    pub name: String,
    /// Share of a processor.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: u64,
}

impl Context {
    /// Whether there is no attempt after this one.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt.number >= self.run.max_attempts
    }
}

/// The context of this attempt.
///
/// ```no_run
/// let context = dormouse::context::current();
/// println!("{}, attempt {} of {}", context.run.id, context.attempt.number, context.run.max_attempts);
/// ```
pub fn current() -> Context {
    let context = wit::current();
    Context {
        run: run(context.run),
        attempt: Attempt { number: context.attempt.number, started_at: instant(context.attempt.started_at) },
        task: context.task,
        queue: Queue { id: context.queue.id, name: context.queue.name, concurrency_key: context.queue.concurrency_key },
        environment: environment(context.environment),
        project: context.project.ref_,
        organization: context.organization.name,
        deployment: context.deployment.map(|deployment| deployment.version),
        machine: Machine { name: context.machine.name, cpu: context.machine.cpu, memory: context.machine.memory_bytes },
        traceparent: context.traceparent,
    }
}

/// A request to cancel the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancellation {
    /// When somebody asked for it.
    pub requested_at: SystemTime,
    /// When the run is ended, whatever it is doing.
    pub deadline: SystemTime,
}

/// The request to cancel the run, once there is one. Only a task that is declared with `on_cancel` sees any: it has 30 seconds to
/// tidy up, and its waits end with [`WaitError::Cancelled`](crate::WaitError::Cancelled). Any other is ended at once.
///
/// ```no_run
/// # use std::time::Duration;
/// # use dormouse::{TaskError, WaitError, context, wait};
/// #[dormouse::task(on_cancel)]
/// fn import() -> Result<(), TaskError> {
///     while context::cancellation().is_none() {
///         // … one more page …
///         match wait::duration(Duration::from_secs(60)) {
///             Err(WaitError::Cancelled) => break,
///             waited => waited?,
///         }
///     }
///     // … leave things as they should be …
///     Ok(())
/// }
/// # fn main() {}
/// ```
pub fn cancellation() -> Option<Cancellation> {
    let wit::Cancellation { requested_at, deadline } = wit::get_cancellation()?;
    Some(Cancellation { requested_at: instant(requested_at), deadline: instant(deadline) })
}

/// CPU time that this attempt has used so far, without waits.
pub fn cpu_time() -> Duration {
    Duration::try_from_secs_f64(wit::get_usage().attempt.duration_ms / 1_000.0).unwrap_or_default()
}

fn run(run: wit::RunInfo) -> Run {
    Run {
        id: run.id,
        tags: run.tags,
        is_test: run.is_test,
        is_replay: run.is_replay,
        created_at: instant(run.created_at),
        started_at: instant(run.started_at),
        parent: run.parent,
        root: run.root,
        depth: run.depth,
        batch: run.batch,
        idempotency_key: run.idempotency_key,
        priority: run.priority,
        max_attempts: run.max_attempts,
        max_duration: run.max_duration_ms.map(Duration::from_millis),
        region: run.region,
        version: run.version,
    }
}

fn environment(environment: wit::EnvironmentInfo) -> Environment {
    let kind = match environment.kind {
        wit::EnvironmentType::Development => EnvironmentKind::Development,
        wit::EnvironmentType::Staging => EnvironmentKind::Staging,
        wit::EnvironmentType::Preview => EnvironmentKind::Preview,
        wit::EnvironmentType::Production => EnvironmentKind::Production,
    };
    Environment { id: environment.id, slug: environment.slug, kind, branch: environment.branch }
}
