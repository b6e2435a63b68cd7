//! How a run's end in the guest becomes the error that users see. Source: facts C5, 7.3, D12.
//!
//! A guest ends badly in two ways: its task returns an error, which says why and what about another attempt; or the guest
//! stops for good (trap, exit, a limit), and why is read from what stopped it, with the guest's own stack.

use chrono::DateTime;
use wasmtime::{Trap, WasmBacktrace};

use super::{cpu::Exhausted, guest};
use crate::{
    host,
    model::{
        attempt::RetryDecision,
        error::{Cause, ErrorCode, MAX_MESSAGE_CHARS, RunError},
        machine::Machine,
    },
    rewrite,
};

/// Lines of a stack trace that are kept, and characters of each. Source: facts D12.
const STACK_LINES: usize = 50;
const STACK_LINE_CHARS: usize = 1024;
/// Links of an exception's chain that are kept.
const MAX_CAUSES: usize = 5;

/// A task that returned an error.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFailure {
    /// Why, the reason that the task gave already put into its code.
    pub error: RunError,
    /// What the guest decided about another attempt.
    pub retry: RetryDecision,
}

impl TaskFailure {
    /// An output that cannot be accepted.
    pub(super) fn of_output(message: impl Into<String>) -> TaskFailure {
        TaskFailure { error: RunError::internal(ErrorCode::TaskOutputError, message), retry: RetryDecision::Policy }
    }
}

impl From<guest::TaskError> for TaskFailure {
    fn from(failure: guest::TaskError) -> Self {
        let retry = match failure.retry {
            guest::RetryDecision::Policy => RetryDecision::Policy,
            guest::RetryDecision::Abort => RetryDecision::Abort,
            guest::RetryDecision::Delay(ms) => RetryDecision::Delay(ms),
            // A time beyond the calendar is as good as never.
            guest::RetryDecision::At(ms) => i64::try_from(ms)
                .ok()
                .and_then(DateTime::from_timestamp_millis)
                .map_or(RetryDecision::Abort, RetryDecision::At),
        };
        let code = match failure.reason {
            guest::FailureReason::Thrown => return TaskFailure { error: thrown(failure.error), retry },
            guest::FailureReason::UnknownTask => ErrorCode::CouldNotFindTask,
            guest::FailureReason::Input => ErrorCode::TaskInputError,
            guest::FailureReason::Output => ErrorCode::TaskOutputError,
            guest::FailureReason::Middleware => ErrorCode::TaskMiddlewareError,
            guest::FailureReason::CatchError => ErrorCode::HandleErrorError,
            guest::FailureReason::OutOfMemory => ErrorCode::TaskProcessOomKilled,
        };
        TaskFailure { error: coded(code, failure.error), retry }
    }
}

fn thrown(error: guest::RunError) -> RunError {
    match error {
        guest::RunError::Exception(chain) => RunError::Exception {
            name: shortened(&chain.outermost.name),
            message: shortened(&chain.outermost.message),
            stack_trace: cut_stack(chain.outermost.stack_trace.lines()),
            causes: chain.causes.into_iter().take(MAX_CAUSES).map(cause).collect(),
        },
        guest::RunError::Text(raw) => RunError::Text { raw: shortened(&raw) },
        guest::RunError::Custom(raw) => RunError::Custom { raw: raw.replace('\0', "") },
        // Ends that the host decides on are not the guest's to give: shown as what it is, an error of the task.
        guest::RunError::Internal(internal) => RunError::Exception {
            name: shortened(&internal.code),
            message: shortened(&internal.message),
            stack_trace: String::new(),
            causes: Vec::new(),
        },
    }
}

fn cause(exception: guest::Exception) -> Cause {
    Cause {
        name: shortened(&exception.name),
        message: shortened(&exception.message),
        stack_trace: cut_stack(exception.stack_trace.lines()),
    }
}

/// An error whose code says more than the exception does; of that, message and stack remain.
fn coded(code: ErrorCode, error: guest::RunError) -> RunError {
    let (message, stack_trace) = match error {
        guest::RunError::Exception(chain) => (chain.outermost.message, cut_stack(chain.outermost.stack_trace.lines())),
        guest::RunError::Text(raw) | guest::RunError::Custom(raw) => (raw, String::new()),
        guest::RunError::Internal(internal) => (internal.message, String::new()),
    };
    RunError::Internal {
        code,
        message: Some(shortened(&message)),
        stack_trace: Some(stack_trace).filter(|trace| !trace.is_empty()),
    }
}

/// What was being done when a guest stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Ordinary guest code.
    Running,
    /// Leaving the call stack for a suspension.
    Unwinding,
    /// Coming back to it.
    Rewinding,
}

/// A guest that stopped for good.
pub(super) fn of_stopped(error: &wasmtime::Error, machine: Machine, memory_denied: bool, doing: Doing) -> RunError {
    let (code, message) = code_and_message(error, machine, memory_denied);
    let stack = error.downcast_ref::<WasmBacktrace>();
    let message = match doing_by_stack(stack).unwrap_or(doing) {
        Doing::Running => message,
        Doing::Unwinding => format!("while the run was being suspended (rewriter version {}): {message}", rewrite::VERSION),
        Doing::Rewinding => format!("while the run was being resumed (rewriter version {}): {message}", rewrite::VERSION),
    };
    let stack_trace = stack.map(|stack| cut_stack(frames(&stack.to_string()))).filter(|trace| !trace.is_empty());
    RunError::Internal { code, message: Some(shortened(&message)), stack_trace }
}

fn code_and_message(error: &wasmtime::Error, machine: Machine, memory_denied: bool) -> (ErrorCode, String) {
    match host::exit_code(error) {
        Some(0) => {
            return (ErrorCode::TaskProcessExitedWithNonZeroCode, "the task called exit(0) before it returned a result".into());
        }
        Some(code) => return (ErrorCode::TaskProcessExitedWithNonZeroCode, format!("the task exited with code {code}")),
        None => {}
    }
    if let Some(Exhausted { limit }) = error.downcast_ref() {
        let seconds = limit.as_secs_f64();
        let message = format!("Run exceeded maximum compute time (maxDuration) of {seconds} seconds");
        return (ErrorCode::MaxDurationExceeded, message);
    }
    if memory_denied {
        let mib = machine.linear_memory_bytes() >> 20;
        let message = format!("the task asked for more memory than the {mib} MiB of its machine, {}", machine.as_str());
        return (ErrorCode::TaskProcessOomKilled, message);
    }
    let message = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => "the call stack is full: the task recursed too deeply".into(),
        Some(Trap::UnreachableCodeReached) => "the task aborted: a panic, a failed assertion or `abort`".into(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    (ErrorCode::TaskRunCrashed, message)
}

/// The frames of the checkpoint module are on top only while a stack is left or restored.
fn doing_by_stack(stack: Option<&WasmBacktrace>) -> Option<Doing> {
    let module = stack?.frames().first()?.module().name()?;
    (module == "ckpt").then_some(Doing::Rewinding)
}

/// The lines of a backtrace, without heading and addresses: those are of the rewritten code and tell an author nothing.
fn frames(backtrace: &str) -> impl Iterator<Item = &str> {
    backtrace.lines().skip(1).map(|line| line.split_once(" - ").map_or(line, |(_, name)| name).trim())
}

fn cut_stack<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.take(STACK_LINES).map(|line| cut(line, STACK_LINE_CHARS)).collect::<Vec<_>>().join("\n")
}

fn shortened(text: &str) -> String {
    cut(text, MAX_MESSAGE_CHARS)
}

/// At most `chars` characters, none of them NUL, which no database column holds.
fn cut(text: &str, chars: usize) -> String {
    text.chars().filter(|letter| *letter != '\0').take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: guest::FailureReason, error: guest::RunError) -> RunError {
        TaskFailure::from(guest::TaskError { reason, error, retry: guest::RetryDecision::Policy }).error
    }

    fn exception(message: &str) -> guest::RunError {
        let one = |message: &str| guest::Exception {
            name: "TypeError".into(),
            message: message.into(),
            stack_trace: "at a\nat b".into(),
        };
        guest::RunError::Exception(guest::ExceptionChain { outermost: one(message), causes: (0..9).map(|_| one("cause")).collect() })
    }

    #[test]
    fn what_a_task_throws_is_shown_as_it_is_but_for_its_length() {
        let RunError::Exception { name, message, stack_trace, causes } =
            failure(guest::FailureReason::Thrown, exception(&"x".repeat(5000)))
        else {
            panic!("an exception stays one");
        };
        assert_eq!((name.as_str(), message.len(), stack_trace.as_str(), causes.len()), ("TypeError", 1000, "at a\nat b", 5));
        let custom = failure(guest::FailureReason::Thrown, guest::RunError::Custom("{\"a\":1}".into()));
        assert_eq!(custom, RunError::Custom { raw: "{\"a\":1}".into() });
    }

    #[test]
    fn a_reason_becomes_its_code_and_keeps_the_message() {
        use guest::FailureReason::*;
        let codes = [UnknownTask, Input, Output, Middleware, CatchError, OutOfMemory].map(|reason| {
            match failure(reason, exception("why")) {
                RunError::Internal { code, message, stack_trace } => {
                    assert_eq!((message.as_deref(), stack_trace.as_deref()), (Some("why"), Some("at a\nat b")));
                    code
                }
                other => panic!("{other:?}"),
            }
        });
        use ErrorCode::*;
        let expected =
            [CouldNotFindTask, TaskInputError, TaskOutputError, TaskMiddlewareError, HandleErrorError, TaskProcessOomKilled];
        assert_eq!(codes, expected);
    }

    #[test]
    fn a_backtrace_is_reduced_to_names() {
        let text = "error while executing at wasm backtrace:\n    0:   0x1a - app!task::inner\n    1:   0x2b - app!run";
        assert_eq!(cut_stack(frames(text)), "app!task::inner\napp!run");
    }
}
