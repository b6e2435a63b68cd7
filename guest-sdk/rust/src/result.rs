//! What became of other runs: a failure is a value, because a task may well go on after one.

use std::error::Error;
use std::fmt;

use serde::de::DeserializeOwned;

use crate::bindings::dormouse::task::types as wit;
use crate::{WaitError, packet};

/// What became of a run that was waited for.
///
/// ```no_run
/// # use dormouse::{TaskResult, tasks};
/// # fn task() -> Result<(), dormouse::TaskError> {
/// match tasks::trigger_and_wait::<u32>("count", "words")? {
///     TaskResult::Ok { output, .. } => println!("{output} words"),
///     TaskResult::Failed { run, failure, .. } => println!("{run} failed: {failure}"),
/// }
/// // Or: the output, or this run fails too.
/// let words = tasks::trigger_and_wait::<u32>("count", "words")?.unwrap()?;
/// # let _ = words;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum TaskResult<T> {
    /// It returned.
    Ok {
        /// `run_…`
        run: String,
        /// The id of its task.
        task: String,
        /// What it returned.
        output: T,
    },
    /// It failed, was cancelled or never began.
    Failed {
        /// `run_…`
        run: String,
        /// The id of its task.
        task: String,
        /// Why.
        failure: RunFailure,
    },
}

impl<T> TaskResult<T> {
    /// The run's id.
    pub fn run(&self) -> &str {
        match self {
            TaskResult::Ok { run, .. } | TaskResult::Failed { run, .. } => run,
        }
    }

    /// Whether it returned.
    pub fn is_ok(&self) -> bool {
        matches!(self, TaskResult::Ok { .. })
    }

    /// What it returned, if it did.
    pub fn output(&self) -> Option<&T> {
        match self {
            TaskResult::Ok { output, .. } => Some(output),
            TaskResult::Failed { .. } => None,
        }
    }

    /// What it returned, for tasks that fail with their children: `result.unwrap()?`. Unlike that of the standard library it does
    /// not panic.
    ///
    /// # Errors
    /// The run's failure, with its id and task.
    pub fn unwrap(self) -> Result<T, SubtaskUnwrapError> {
        match self {
            TaskResult::Ok { output, .. } => Ok(output),
            TaskResult::Failed { run, task, failure } => {
                Err(SubtaskUnwrapError { run_id: run, task_id: task, cause: Box::new(failure) })
            }
        }
    }
}

impl<T: DeserializeOwned> TaskResult<T> {
    pub(crate) fn of(result: wit::RunResult) -> Result<TaskResult<T>, WaitError> {
        let wit::RunResult { run, task, outcome } = result;
        match outcome {
            wit::RunOutcome::Completed(output) => {
                let output = packet::decode(&output).map_err(|error| WaitError::Value(format!("output of {run}: {error}")))?;
                Ok(TaskResult::Ok { run, task, output })
            }
            wit::RunOutcome::Failed(failure) => Ok(TaskResult::Failed { run, task, failure: RunFailure::of(failure) }),
        }
    }
}

/// What became of the runs of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchResult<T> {
    /// `batch_…`
    pub id: String,
    /// In the order of the items; an item that could not be triggered has a failed run.
    pub runs: Vec<TaskResult<T>>,
}

impl<T> BatchResult<T> {
    /// All outputs in the order of the items, for tasks that fail with the first of their children that failed.
    ///
    /// # Errors
    /// The failure of the first run that has one.
    pub fn unwrap(self) -> Result<Vec<T>, SubtaskUnwrapError> {
        self.runs.into_iter().map(TaskResult::unwrap).collect()
    }
}

impl<T: DeserializeOwned> BatchResult<T> {
    pub(crate) fn of(result: wit::BatchResult) -> Result<BatchResult<T>, WaitError> {
        let runs = result.runs.into_iter().map(TaskResult::of).collect::<Result<_, _>>()?;
        Ok(BatchResult { id: result.batch, runs })
    }
}

/// How a run can end without an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedStatus {
    /// The last attempt returned an error.
    Failed,
    /// The last attempt trapped, ran out of memory or left through `exit`.
    Crashed,
    /// A fault of the host, or of the trigger: see the message.
    SystemFailure,
    /// It used more CPU time than it may.
    TimedOut,
    /// It was not begun within its time to live.
    Expired,
    /// It was cancelled.
    Canceled,
}

/// Why a run has no output.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFailure {
    /// How it ended.
    pub status: FailedStatus,
    /// The error's name, or the host's code such as `MAX_DURATION_EXCEEDED`.
    pub name: String,
    /// For people.
    pub message: String,
    /// May be empty.
    pub stack_trace: String,
    causes: Option<Box<Cause>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Cause {
    message: String,
    next: Option<Box<Cause>>,
}

impl RunFailure {
    fn of(failure: wit::RunFailure) -> RunFailure {
        let status = match failure.status {
            wit::FailedStatus::Failed => FailedStatus::Failed,
            wit::FailedStatus::Crashed => FailedStatus::Crashed,
            wit::FailedStatus::SystemFailure => FailedStatus::SystemFailure,
            wit::FailedStatus::TimedOut => FailedStatus::TimedOut,
            wit::FailedStatus::Expired => FailedStatus::Expired,
            wit::FailedStatus::Canceled => FailedStatus::Canceled,
        };
        let plain = |name: String, message| RunFailure { status, name, message, stack_trace: String::new(), causes: None };
        match failure.error {
            wit::RunError::Exception(chain) => RunFailure {
                stack_trace: chain.outermost.stack_trace,
                causes: chain
                    .causes
                    .into_iter()
                    .rev()
                    .fold(None, |next, cause| Some(Box::new(Cause { message: cause.message, next }))),
                ..plain(chain.outermost.name, chain.outermost.message)
            },
            wit::RunError::Text(text) | wit::RunError::Custom(text) => plain("Error".into(), text),
            wit::RunError::Internal(error) => plain(error.code, error.message),
        }
    }
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.name),
            message => write!(f, "{}: {message}", self.name),
        }
    }
}

impl Error for RunFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.causes.as_deref().map(|cause| cause as _)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.next.as_deref().map(|cause| cause as _)
    }
}

/// A run that was waited for failed; says which, and brings its failure as the cause. Source: facts D10.
#[derive(Clone, Debug, PartialEq)]
pub struct SubtaskUnwrapError {
    /// `run_…`
    pub run_id: String,
    /// The id of its task.
    pub task_id: String,
    /// Why it failed.
    pub cause: Box<RunFailure>,
}

impl fmt::Display for SubtaskUnwrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the task {} failed", self.run_id, self.task_id)
    }
}

impl Error for SubtaskUnwrapError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{BatchResult, FailedStatus, TaskResult};
    use crate::bindings::dormouse::task::types as wit;
    use crate::{TaskError, WaitError};

    pub(crate) fn completed(json: &str) -> wit::RunResult {
        let packet = wit::Packet { data: json.into(), content_type: "application/json".into() };
        wit::RunResult { run: "run_1".into(), task: "count".into(), outcome: wit::RunOutcome::Completed(packet) }
    }

    fn failed(error: wit::RunError) -> wit::RunResult {
        let failure = wit::RunFailure { status: wit::FailedStatus::Crashed, error };
        wit::RunResult { outcome: wit::RunOutcome::Failed(failure), ..completed("") }
    }

    fn exception(message: &str) -> wit::Exception {
        wit::Exception { name: "TypeError".into(), message: message.into(), stack_trace: "at f".into() }
    }

    #[test]
    fn a_result_is_the_output_or_the_failure_as_a_value() {
        let ok = TaskResult::<u8>::of(completed("7")).unwrap();
        assert_eq!((ok.is_ok(), ok.output(), ok.run()), (true, Some(&7), "run_1"));
        assert_eq!(ok.unwrap(), Ok(7));
        assert!(matches!(TaskResult::<u8>::of(completed("\"x\"")), Err(WaitError::Value(text)) if text.contains("run_1")));
        let internal = wit::InternalError { code: "TASK_RUN_CRASHED".into(), message: "unreachable".into() };
        let TaskResult::Failed { failure, .. } = TaskResult::<u8>::of(failed(wit::RunError::Internal(internal))).unwrap() else {
            panic!("it failed")
        };
        assert_eq!((failure.status, failure.to_string().as_str()), (FailedStatus::Crashed, "TASK_RUN_CRASHED: unreachable"));
    }

    #[test]
    fn a_failed_child_fails_its_parent_with_the_whole_chain() {
        let chain = wit::ExceptionChain { outermost: exception("no"), causes: vec![exception("why"), exception("deep")] };
        let result = TaskResult::<u8>::of(failed(wit::RunError::Exception(chain))).unwrap();
        let error: TaskError = result.unwrap().unwrap_err().into();
        let wit::RunError::Exception(chain) = error.into_wit().error else { panic!("an exception") };
        assert_eq!(chain.outermost.name, "SubtaskUnwrapError");
        assert_eq!(chain.outermost.message, "run_1 of the task count failed");
        let causes: Vec<&str> = chain.causes.iter().map(|cause| cause.message.as_str()).collect();
        assert_eq!(causes, ["TypeError: no", "why", "deep"]);
    }

    #[test]
    fn a_batch_keeps_its_order_and_fails_with_its_first_failure() {
        let text = |text: &str| failed(wit::RunError::Text(text.into()));
        let of = |runs| BatchResult::<u8>::of(wit::BatchResult { batch: "batch_1".into(), runs }).unwrap();
        assert_eq!(of(vec![completed("1"), completed("2")]).unwrap(), Ok(vec![1, 2]));
        let error = of(vec![completed("1"), text("first"), text("second")]).unwrap().unwrap_err();
        assert_eq!(error.cause.message, "first");
    }
}
