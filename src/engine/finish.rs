//! Ends an attempt: the run is over, or another attempt follows. Source: facts C5, C10, D1-D8.
//!
//! A result is written once. Whoever comes late, with a lease that is no longer the newest or for a run that is over,
//! writes nothing and is told so.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use tracing::warn;

use crate::{
    engine::{Error, trigger::FARTHEST},
    model::{
        attempt::{Lease, Outcome, RetryDecision},
        error::{Cause, ErrorCode, MAX_MESSAGE_CHARS, RunError},
        event::EventKind,
        id::RunId,
        machine::Machine,
        payload::{MAX_OUTPUT_BYTES, Packet},
        run::{Happening, RunStatus},
        task::{RetryPolicy, TaskDefinition},
        trigger::MAX_ATTEMPTS,
    },
    store::{
        Store,
        endings::{self, Completed, Ending},
        events,
        leases::{self, Held},
        notify,
    },
};

/// Most causes kept. Source: facts D12.
const MAX_CAUSES: usize = 5;
/// Most lines of a stack kept, and most characters of each. Source: facts D12.
const MAX_FRAMES: usize = 50;
const MAX_FRAME_CHARS: usize = 1024;

/// What an attempt's end came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// The run is over.
    Final(RunStatus),
    /// Another attempt follows.
    Retry {
        /// When.
        at: DateTime<Utc>,
    },
}

/// Ends the attempt of this lease. A run that was to be cancelled is, whatever the outcome.
///
/// # Errors
/// [`Error::LostLease`] if the lease is not the newest; [`Error::Conflict`] if the run is over; [`Error::NotFound`].
pub async fn finish(store: &Store, lease: &Lease, outcome: Outcome, used_cpu_ms: u64) -> Result<Finished, Error> {
    let lease = *lease;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let held = held_by(tx, &lease).await?;
                end_attempt(tx, &held, outcome, used_cpu_ms.max(held.attempt_cpu_ms)).await
            })
        })
        .await
}

/// Most runs that [`complete_together`] takes: their ids fit into one notification.
pub const MOST_TOGETHER: usize = 128;
/// Longest output of a run that is completed beside others, in bytes: one of 10 MiB shall not keep them waiting.
pub const MOST_OUTPUT_TOGETHER: usize = 64 * 1024;

/// Completes up to [`MOST_TOGETHER`] runs, and says which of them are over now: those that nobody waits for with one statement, the
/// others in a transaction. What is left is to be cancelled, or not held by its lease any more: for that there is [`finish`].
///
/// # Errors
/// If the database does not answer: then any of them may be over.
pub async fn complete_together(store: &Store, completed: Vec<Completed>) -> Result<HashSet<RunId>, Error> {
    let (mut awaited, alone): (Vec<Completed>, Vec<Completed>) = completed.into_iter().partition(|run| run.parent_waits);
    let mut over = HashSet::new();
    if !alone.is_empty() {
        let alone: Arc<[Completed]> = alone.into();
        let completed = alone.clone();
        let ended: Result<Vec<RunId>, Error> =
            store.single(move |connection| Box::pin(async move { Ok(endings::complete(connection, &completed).await?) })).await;
        over.extend(ended?);
        awaited.extend(alone.iter().filter(|run| !over.contains(&run.lease.run)).cloned());
    }
    if !awaited.is_empty() {
        let ended: Result<Vec<RunId>, Error> =
            store.tx(move |tx| Box::pin(async move { Ok(endings::complete_awaited(tx, &awaited).await?) })).await;
        match ended {
            Ok(ended) => over.extend(ended),
            // What is over stays so.
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "runs that others wait for could not be completed together")
            }
        }
    }
    Ok(over)
}

/// The run, if the lease is the newest and still holds it.
pub(super) async fn held_by(tx: &mut PgConnection, lease: &Lease) -> Result<Held, Error> {
    let held = leases::hold(tx, lease.run).await?.ok_or(Error::not_found("run"))?;
    if held.status.is_final() {
        return Err(Error::Conflict(format!("the run is {}", held.status.as_str())));
    }
    if held.worker != Some(lease.worker) || held.epoch != lease.epoch {
        return Err(Error::LostLease);
    }
    Ok(held)
}

/// Ends the attempt of a run that is locked.
pub(super) async fn end_attempt(tx: &mut PgConnection, held: &Held, outcome: Outcome, cpu_ms: u64) -> Result<Finished, Error> {
    match outcome {
        _ if held.cancel_requested => {
            let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run was cancelled");
            end_run(tx, held, None, Some(&error), cpu_ms).await
        }
        Outcome::Completed(output) if output.data.len() > MAX_OUTPUT_BYTES => {
            let message = format!("the output has {} bytes, more than {MAX_OUTPUT_BYTES}", output.data.len());
            end_run(tx, held, None, Some(&RunError::internal(ErrorCode::TaskOutputError, message)), cpu_ms).await
        }
        Outcome::Completed(output) => end_run(tx, held, Some(&output), None, cpu_ms).await,
        Outcome::Failed { error, retry } => {
            let error = storable(error);
            match next_attempt(held, &error, retry, rand::random())? {
                Some(next) => follow_up(tx, held, &error, next, cpu_ms).await,
                None => end_run(tx, held, None, Some(&error), cpu_ms).await,
            }
        }
    }
}

async fn end_run(
    tx: &mut PgConnection,
    held: &Held,
    output: Option<&Packet>,
    error: Option<&RunError>,
    cpu_ms: u64,
) -> Result<Finished, Error> {
    let status = error.map_or(RunStatus::Completed, RunError::status);
    held.status.on(Happening::Finish(status))?;
    endings::end_attempt(tx, held.id, error, cpu_ms).await?;
    endings::end(tx, &[held.id.uuid()], &Ending { status, output, error, cpu_ms }).await?;
    Ok(Finished::Final(status))
}

struct Next {
    /// None: at once.
    delay: Option<Duration>,
    machine: Option<Machine>,
}

async fn follow_up(tx: &mut PgConnection, held: &Held, error: &RunError, next: Next, cpu_ms: u64) -> Result<Finished, Error> {
    held.status.on(Happening::Retry)?;
    let due_at = next.delay.map(|delay| held.now + delay);
    endings::end_attempt(tx, held.id, Some(error), cpu_ms).await?;
    let machine = next.machine.map(Machine::as_str);
    let changed = endings::retry(tx, held.id, due_at, machine, cpu_ms).await?;
    events::record(tx, EventKind::AttemptFailed, &[changed]).await?;
    if due_at.is_some() {
        notify::timers(tx).await?
    } else {
        notify::line(tx).await?
    }
    Ok(Finished::Retry { at: due_at.unwrap_or(held.now) })
}

/// Whether, when and where another attempt follows. `random` is from [0, 1).
fn next_attempt(held: &Held, error: &RunError, retry: RetryDecision, random: f64) -> Result<Option<Next>, Error> {
    let task = held.definition.clone().map(serde_json::from_value::<TaskDefinition>).transpose();
    let task = task.map_err(|error| Error::Internal(error.into()))?;
    let declared = task.as_ref().and_then(|task| task.retry.clone());
    let attempts = max_attempts(held.max_attempts, declared.as_ref());
    if held.attempt >= attempts || retry == RetryDecision::Abort {
        return Ok(None);
    }
    let policy = RetryPolicy { max_attempts: attempts, ..declared.unwrap_or_default() };
    if matches!(error, RunError::Internal { code: ErrorCode::TaskProcessOomKilled, .. }) {
        // Only on another preset does it make sense to try again. Source: facts D8.
        let current = held.machine.as_deref().and_then(Machine::parse).or(task.and_then(|task| task.machine));
        let larger = policy.out_of_memory_machine.filter(|machine| *machine != current.unwrap_or_default());
        return Ok(larger.map(|machine| Next { delay: None, machine: Some(machine) }));
    }
    if !error.is_retriable() {
        return Ok(None);
    }
    let delay_ms = match retry {
        RetryDecision::Delay(ms) => ms,
        RetryDecision::At(at) => (at - held.now).max(TimeDelta::zero()).num_milliseconds().unsigned_abs(),
        RetryDecision::Policy | RetryDecision::Abort => policy.delay_ms(held.attempt, random).unwrap_or(0),
    };
    let delay = Duration::from_millis(delay_ms).min(FARTHEST);
    Ok(Some(Next { delay: (!delay.is_zero()).then_some(delay), machine: None }))
}

/// Attempts a run may have: what the trigger says, else the task; a task without a policy has one. Source: facts A21, D3.
pub(super) fn max_attempts(triggered: Option<u32>, declared: Option<&RetryPolicy>) -> u32 {
    triggered.or(declared.map(|policy| policy.max_attempts)).unwrap_or(1).clamp(1, MAX_ATTEMPTS)
}

/// The error within the limits of what is kept. Source: facts D12.
fn storable(error: RunError) -> RunError {
    let text = |text: String| text.replace('\0', "").chars().take(MAX_MESSAGE_CHARS).collect::<String>();
    let stack = |stack: String| {
        let lines = stack.lines().take(MAX_FRAMES).map(|line| line.chars().take(MAX_FRAME_CHARS).collect::<String>());
        lines.collect::<Vec<_>>().join("\n").replace('\0', "")
    };
    match error {
        RunError::Exception { name, message, stack_trace, causes } => RunError::Exception {
            name: text(name),
            message: text(message),
            stack_trace: stack(stack_trace),
            causes: causes
                .into_iter()
                .take(MAX_CAUSES)
                .map(|cause| Cause {
                    name: text(cause.name),
                    message: text(cause.message),
                    stack_trace: stack(cause.stack_trace),
                })
                .collect(),
        },
        RunError::Text { raw } => RunError::Text { raw: text(raw) },
        // JSON cut anywhere is no JSON: what is too long is kept as a string of its beginning.
        RunError::Custom { raw } if raw.chars().count() > MAX_MESSAGE_CHARS => {
            RunError::Custom { raw: serde_json::Value::String(text(raw)).to_string() }
        }
        RunError::Custom { raw } => RunError::Custom { raw: raw.replace('\0', "") },
        RunError::Internal { code, message, stack_trace } => {
            RunError::Internal { code, message: message.map(text), stack_trace: stack_trace.map(stack) }
        }
    }
}
