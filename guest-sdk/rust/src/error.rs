//! How a task fails: what people see of it, and whether it is tried again.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::time::{Duration, SystemTime};

use crate::bindings::dormouse::task::types::{Exception, ExceptionChain, RunError};
use crate::bindings::exports::dormouse::task::tasks::{self, FailureReason, RetryDecision};
use crate::time;

/// Causes below the outermost error that are reported.
const MAX_CAUSES: usize = 5;

/// Why a task failed, and whether it should be tried again.
///
/// Every [`std::error::Error`] becomes one through `?`, with its sources and the place of the `?`; what is retried, and
/// when, is up to the task's retry policy unless the error says otherwise:
///
/// ```
/// # use std::time::Duration;
/// use dormouse::TaskError;
///
/// fn parse(text: &str) -> Result<u32, TaskError> {
///     let number: u32 = text.parse()?; // tried again as the retry policy says
///     match number {
///         0 => Err(TaskError::abort("zero will never do")),
///         1 => Err(TaskError::new("not yet").retry_after(Duration::from_secs(90))),
///         number => Ok(number),
///     }
/// }
/// # assert!(parse("x").is_err() && parse("0").is_err() && parse("1").is_err() && parse("2").is_ok());
/// ```
///
/// It is not itself a [`std::error::Error`], so that every one of those can become it.
pub struct TaskError(Box<Parts>);

struct Parts {
    reason: FailureReason,
    /// Outermost first, never empty.
    exceptions: Vec<Exception>,
    retry: RetryDecision,
}

impl TaskError {
    /// An error with this message, retried as the task's policy says.
    #[track_caller]
    pub fn new(message: impl fmt::Display) -> TaskError {
        TaskError::thrown("Error", message.to_string())
    }

    /// An error with this message that is not retried: the run fails.
    #[track_caller]
    pub fn abort(message: impl fmt::Display) -> TaskError {
        TaskError::thrown("AbortTaskRunError", message.to_string()).no_retry()
    }

    /// Memory that the task needs and does not have, as when a program that it calls ran out of it: the run goes on, in another
    /// attempt, on the machine that `retry(out_of_memory_machine = "…")` names, and has crashed without one.
    #[track_caller]
    pub fn out_of_memory(message: impl fmt::Display) -> TaskError {
        let mut error = TaskError::thrown("OutOfMemoryError", message.to_string());
        error.0.reason = FailureReason::OutOfMemory;
        error
    }

    /// From whatever serves as an error elsewhere: `anyhow::Error`, boxed errors, texts.
    ///
    /// ```
    /// # use dormouse::TaskError;
    /// # fn load() -> Result<u8, Box<dyn std::error::Error + Send + Sync>> { Err("gone".into()) }
    /// let loaded = load().map_err(TaskError::from_any);
    /// assert_eq!(loaded.unwrap_err().to_string(), "gone");
    /// ```
    #[track_caller]
    pub fn from_any(error: impl Into<Box<dyn Error + Send + Sync>>) -> TaskError {
        match error.into().downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(error) => TaskError::from_chain("Error", &*error),
        }
    }

    /// The same error, not to be retried.
    #[must_use]
    pub fn no_retry(mut self) -> TaskError {
        self.0.retry = RetryDecision::Abort;
        self
    }

    /// The same error, to be retried this long from now, whatever the policy's delay is. Attempts stay limited.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> TaskError {
        self.0.retry = RetryDecision::RetryDelay(time::milliseconds(delay));
        self
    }

    /// The same error, to be retried at `at`, whatever the policy's delay is. Attempts stay limited.
    #[must_use]
    pub fn retry_at(mut self, at: SystemTime) -> TaskError {
        self.0.retry = RetryDecision::RetryAt(time::timestamp(at));
        self
    }

    /// The same error under another name, by which people find it in the dashboard; it is "Error", or the type's name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> TaskError {
        self.0.exceptions[0].name = name.into();
        self
    }

    /// From what a task's function returned: its place is not known any more.
    pub(crate) fn returned(error: impl Into<Box<dyn Error + Send + Sync>>) -> TaskError {
        match error.into().downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(error) => {
                let mut error = TaskError::from_chain("Error", &*error);
                error.0.exceptions[0].stack_trace.clear();
                error
            }
        }
    }

    pub(crate) fn unknown_task(id: &str) -> TaskError {
        TaskError::of_the_sdk(FailureReason::UnknownTask, "UnknownTask", format!("there is no task `{id}` in this bundle"))
            .no_retry()
    }

    pub(crate) fn input(error: &dyn Error, is_empty: bool) -> TaskError {
        let what = if is_empty { "the run has no payload" } else { "the payload does not fit the task" };
        TaskError::of_the_sdk(FailureReason::Input, "InvalidPayload", format!("{what}: {error}")).no_retry()
    }

    pub(crate) fn output(error: &dyn Error) -> TaskError {
        TaskError::of_the_sdk(FailureReason::Output, "InvalidOutput", format!("the output cannot be encoded: {error}"))
    }

    pub(crate) fn into_wit(self) -> tasks::TaskError {
        let Parts { reason, mut exceptions, retry } = *self.0;
        let outermost = exceptions.remove(0);
        tasks::TaskError { reason, error: RunError::Exception(ExceptionChain { outermost, causes: exceptions }), retry }
    }

    #[track_caller]
    fn thrown(name: &str, message: String) -> TaskError {
        let mut error = TaskError::of_the_sdk(FailureReason::Thrown, name, message);
        error.0.exceptions[0].stack_trace = format!("    at {}", Location::caller());
        error
    }

    /// Without a place: none in the SDK is of use to anybody.
    fn of_the_sdk(reason: FailureReason, name: &str, message: String) -> TaskError {
        let outermost = Exception { name: name.into(), message, stack_trace: String::new() };
        TaskError(Box::new(Parts { reason, exceptions: vec![outermost], retry: RetryDecision::Policy }))
    }

    #[track_caller]
    fn from_chain(name: &str, error: &dyn Error) -> TaskError {
        let mut task_error = TaskError::thrown(name, error.to_string());
        let causes = std::iter::successors(error.source(), |&cause| cause.source()).take(MAX_CAUSES);
        task_error.0.exceptions.extend(causes.map(|cause| Exception {
            name: "Error".into(),
            message: cause.to_string(),
            stack_trace: String::new(),
        }));
        task_error
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for TaskError {
    #[track_caller]
    fn from(error: E) -> TaskError {
        TaskError::from_chain(short_name(std::any::type_name::<E>()), &error)
    }
}

/// `core::num::error::ParseIntError` is `ParseIntError` to people; paths inside `<…>` stay out of it.
fn short_name(path: &str) -> &str {
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

impl fmt::Display for TaskError {
    /// The message of the outermost error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.exceptions[0].message)
    }
}

impl fmt::Debug for TaskError {
    /// The whole chain and the decision about retries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, exception) in self.0.exceptions.iter().enumerate() {
            let prefix = if depth == 0 { "" } else { "\ncaused by " };
            write!(f, "{prefix}{}: {}", exception.name, exception.message)?;
        }
        write!(f, "\nretry: {:?}", self.0.retry)
    }
}

/// A task's error among errors of all kinds, so that a task may return any of them.
struct Boxed(TaskError);

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Boxed {}

impl From<TaskError> for Box<dyn Error + Send + Sync> {
    fn from(error: TaskError) -> Box<dyn Error + Send + Sync> {
        Box::new(Boxed(error))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};
    use std::{fmt, io};

    use super::{TaskError, short_name};
    use crate::bindings::dormouse::task::types::{ExceptionChain, RunError};
    use crate::bindings::exports::dormouse::task::tasks::{self, FailureReason, RetryDecision};

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("could not load")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    fn chain(error: tasks::TaskError) -> ExceptionChain {
        match error.error {
            RunError::Exception(chain) => chain,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_brings_its_sources_its_name_and_the_place_of_the_question_mark() {
        fn load() -> Result<(), TaskError> {
            Err(Outer(io::Error::other("disk on fire")))?;
            Ok(())
        }
        let error = load().unwrap_err().into_wit();
        assert_eq!((error.reason, &error.retry), (FailureReason::Thrown, &RetryDecision::Policy));
        let chain = chain(error);
        assert_eq!((chain.outermost.name.as_str(), chain.outermost.message.as_str()), ("Outer", "could not load"));
        assert!(chain.outermost.stack_trace.contains("error.rs:"), "{}", chain.outermost.stack_trace);
        assert_eq!(chain.causes[0].message, "disk on fire");
    }

    #[test]
    fn an_error_decides_about_retries() {
        assert_eq!(TaskError::abort("never").into_wit().retry, RetryDecision::Abort);
        assert_eq!(TaskError::new("x").no_retry().into_wit().retry, RetryDecision::Abort);
        let later = TaskError::new("x").retry_after(Duration::from_secs(2));
        assert_eq!(later.into_wit().retry, RetryDecision::RetryDelay(2_000));
        let at = TaskError::new("x").retry_at(SystemTime::UNIX_EPOCH + Duration::from_millis(77));
        assert_eq!(at.into_wit().retry, RetryDecision::RetryAt(77));
    }

    #[test]
    fn a_lack_of_memory_is_a_reason_of_its_own() {
        let error = TaskError::out_of_memory("the model needs 3 GB").into_wit();
        assert_eq!((error.reason, &error.retry), (FailureReason::OutOfMemory, &RetryDecision::Policy));
        assert_eq!(chain(error).outermost.name, "OutOfMemoryError");
    }

    #[test]
    fn a_task_error_survives_being_boxed() {
        let boxed: Box<dyn std::error::Error + Send + Sync> = TaskError::abort("never").into();
        assert_eq!(boxed.to_string(), "never");
        assert_eq!(TaskError::from_any(boxed).into_wit().retry, RetryDecision::Abort);
    }

    #[test]
    fn names_are_short() {
        assert_eq!(short_name("core::num::error::ParseIntError"), "ParseIntError");
        assert_eq!(short_name("a::Outer<b::Inner>"), "Outer");
    }
}
