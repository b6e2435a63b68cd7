//! Starting other runs, and waiting for them. The new runs are children of this one: they are cancelled with it.
//!
//! Every task of this component has the functions of this module as its own, with its types:
//!
//! ```no_run
//! # use dormouse::TaskError;
//! #[dormouse::task]
//! fn square(number: u64) -> u64 {
//!     number * number
//! }
//!
//! #[dormouse::task]
//! fn sum_of_squares(numbers: Vec<u64>) -> Result<u64, TaskError> {
//!     let squares = square::batch_trigger_and_wait(&numbers)?.unwrap()?;
//!     Ok(squares.into_iter().sum())
//! }
//! # dormouse::bundle!(square, sum_of_squares);
//! # fn main() {}
//! ```
//!
//! While this run waits it is suspended and holds nothing. A child that it waits for runs on its own version; others run on the
//! version that is current when they start.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::dormouse::task::types::{self as wit, Moment};
use crate::bindings::dormouse::task::{trigger as host, wait};
use crate::{BatchResult, HostError, IdempotencyKey, TaskResult, WaitError, packet, time};

/// How a run shall be made; what is left out is up to the task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The same key gets the run that an earlier trigger made.
    pub idempotency_key: Option<IdempotencyKey>,
    /// When it may begin.
    pub delay: Option<Delay>,
    /// The run expires if it has not begun this long after it was queued; zero: never.
    pub ttl: Option<Duration>,
    /// An existing queue; the default is the task's own.
    pub queue: Option<String>,
    /// Each value has its own places in the queue.
    pub concurrency_key: Option<String>,
    /// Shared limits, at most two, in place of the task's; none: the task's.
    pub concurrency_limits: Option<Vec<String>>,
    /// Seconds by which it is put ahead in its queue.
    pub priority: Option<i32>,
    /// At most 10, of 1 to 128 characters each.
    pub tags: Vec<String>,
    /// At most 256 KiB of JSON.
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// 1 to 250.
    pub max_attempts: Option<u32>,
    /// CPU time per attempt; zero: no limit.
    pub max_duration: Option<Duration>,
    /// Machine preset.
    pub machine: Option<String>,
    /// The version to run on.
    pub version: Option<String>,
}

/// When a run may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// So long from now.
    For(Duration),
    /// At that time; at once if it is past.
    Until(SystemTime),
}

impl Options {
    fn to_wit(&self) -> Result<wit::TriggerOptions, HostError> {
        let metadata = (!self.metadata.is_empty()).then(|| serde_json::to_string(&self.metadata)).transpose();
        Ok(wit::TriggerOptions {
            idempotency: self.idempotency_key.as_ref().map(IdempotencyKey::to_wit),
            delay: self.delay.map(|delay| match delay {
                Delay::For(duration) => Moment::After(time::milliseconds(duration)),
                Delay::Until(at) => Moment::At(time::timestamp(at)),
            }),
            ttl_ms: self.ttl.map(time::milliseconds),
            debounce: None,
            queue: self.queue.clone(),
            concurrency_key: self.concurrency_key.clone(),
            concurrency_limits: self.concurrency_limits.clone(),
            priority: self.priority,
            tags: self.tags.clone(),
            metadata: metadata.map_err(|error| HostError::unencodable(&error))?,
            max_attempts: self.max_attempts,
            max_duration_ms: self.max_duration.map(time::milliseconds),
            machine: self.machine.clone(),
            region: None,
            version: self.version.clone(),
            external_deployment_id: None,
            is_test: None,
        })
    }
}

/// A run that was triggered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunHandle {
    /// `run_…`, for [`wait::any`](crate::wait::any).
    pub id: String,
    /// An earlier trigger with the same idempotency key made it.
    pub is_cached: bool,
    /// Lets a browser read this run, for an hour.
    pub public_access_token: String,
}

/// A batch that was triggered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHandle {
    /// `batch_…`, for [`wait::any`](crate::wait::any).
    pub id: String,
    /// How many runs it has.
    pub run_count: u32,
    /// An earlier one with the same idempotency key made it.
    pub is_cached: bool,
    /// Lets a browser read this batch, for an hour.
    pub public_access_token: String,
}

/// One run of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Item(wit::BatchItem);

impl Item {
    /// A run of this task.
    ///
    /// # Errors
    /// The payload cannot be encoded.
    pub fn new(task: &str, payload: &(impl Serialize + ?Sized)) -> Result<Item, HostError> {
        Item::with(task, payload, &Options::default())
    }

    /// A run of this task, made so.
    ///
    /// # Errors
    /// The payload or the metadata cannot be encoded.
    pub fn with(task: &str, payload: &(impl Serialize + ?Sized), options: &Options) -> Result<Item, HostError> {
        Ok(Item(wit::BatchItem { task: task.into(), payload: encode(payload)?, options: options.to_wit()? }))
    }
}

/// Starts a run of a task by its id, and goes on.
///
/// # Errors
/// What the host refuses, and a payload that cannot be encoded or is larger than 3 MiB.
pub fn trigger(task: &str, payload: &(impl Serialize + ?Sized)) -> Result<RunHandle, HostError> {
    trigger_with(task, payload, &Options::default())
}

/// Starts a run of a task by its id, made so, and goes on.
///
/// # Errors
/// As [`trigger`].
pub fn trigger_with(task: &str, payload: &(impl Serialize + ?Sized), options: &Options) -> Result<RunHandle, HostError> {
    let handle = host::trigger(task, &encode(payload)?, &options.to_wit()?, host::Intent::Forget)?;
    Ok(RunHandle { id: handle.id, is_cached: handle.is_cached, public_access_token: handle.public_access_token })
}

/// Starts a run of a task by its id and waits for its end, suspended. That it failed is a value, not an error.
///
/// # Errors
/// As [`trigger`]; [`WaitError::Cancelled`] if this run is cancelled meanwhile; [`WaitError::Value`] if the output is no `T`.
pub fn trigger_and_wait<T: DeserializeOwned>(
    task: &str,
    payload: &(impl Serialize + ?Sized),
) -> Result<TaskResult<T>, WaitError> {
    trigger_and_wait_with(task, payload, &Options::default())
}

/// Starts a run of a task by its id, made so, and waits for its end.
///
/// # Errors
/// As [`trigger_and_wait`].
pub fn trigger_and_wait_with<T: DeserializeOwned>(
    task: &str,
    payload: &(impl Serialize + ?Sized),
    options: &Options,
) -> Result<TaskResult<T>, WaitError> {
    let (payload, options) = (encode(payload)?, options.to_wit()?);
    TaskResult::of(wait::trigger_and_wait(task, &payload, &options)?)
}

/// Starts 1 to 1000 runs, of one task or of several, and goes on. An item that cannot be triggered becomes a failed run.
///
/// # Errors
/// What the host refuses: more than 1000 items, more than 16 MiB in all.
pub fn batch_trigger(items: Vec<Item>) -> Result<BatchHandle, HostError> {
    let items: Vec<wit::BatchItem> = items.into_iter().map(|item| item.0).collect();
    let host::BatchHandle { id, run_count, is_cached, public_access_token } =
        host::batch_trigger(&items, None, host::Intent::Forget)?;
    Ok(BatchHandle { id, run_count, is_cached, public_access_token })
}

/// Starts 1 to 1000 runs, of one task or of several, and waits until the last has ended. The results have the order of the items.
///
/// # Errors
/// As [`batch_trigger`] and [`trigger_and_wait`]; the outputs of all runs are at most 16 MiB.
pub fn batch_trigger_and_wait<T: DeserializeOwned>(items: Vec<Item>) -> Result<BatchResult<T>, WaitError> {
    let items: Vec<wit::BatchItem> = items.into_iter().map(|item| item.0).collect();
    BatchResult::of(wait::batch_trigger_and_wait(&items, None)?)
}

fn encode(payload: &(impl Serialize + ?Sized)) -> Result<wit::Packet, HostError> {
    packet::encode(payload).map_err(|error| HostError::unencodable(&error))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Delay, Item, Options};
    use crate::IdempotencyKey;
    use crate::bindings::dormouse::task::types::Moment;

    #[test]
    fn options_that_are_left_out_are_left_to_the_task() {
        let item = Item::new("count", &7).unwrap().0;
        assert_eq!((item.task.as_str(), item.payload.data.as_slice()), ("count", b"7".as_slice()));
        assert_eq!((item.options.metadata, item.options.delay, item.options.queue), (None, None, None));
    }

    #[test]
    fn options_reach_the_host_in_its_units() {
        let options = Options {
            idempotency_key: Some(IdempotencyKey::global("k").expires_after(Duration::from_secs(60))),
            delay: Some(Delay::Until(UNIX_EPOCH + Duration::from_millis(5))),
            ttl: Some(Duration::from_micros(1_500)),
            priority: Some(-1),
            tags: vec!["a".into()],
            metadata: [("n".to_owned(), 1.into())].into(),
            max_duration: Some(Duration::ZERO),
            ..Options::default()
        };
        let wit = options.to_wit().unwrap();
        assert_eq!((wit.delay, wit.ttl_ms, wit.max_duration_ms), (Some(Moment::At(5)), Some(2), Some(0)));
        assert_eq!((wit.metadata.as_deref(), wit.priority), (Some(r#"{"n":1}"#), Some(-1)));
        assert_eq!(wit.idempotency.unwrap().ttl_ms, Some(60_000));
    }
}
