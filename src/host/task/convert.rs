//! Between the contract's types and the domain's.

use chrono::{DateTime, Utc};

use super::{
    bindings::exports::dormouse::task::tasks,
    wit::types::{self, ErrorCode as WitCode},
};
use crate::{
    host::{HostError, HostErrorCode},
    model::{
        attempt::RetryDecision,
        child::{BatchEnd, RunEnd, RunOutcome},
        error::{Cause, ErrorCode, MAX_MESSAGE_CHARS, RunError},
        payload::Packet,
        run::RunStatus,
        stream::InputValue,
        waitpoint::{Completion, Resolution},
    },
};

/// Most causes of an exception that are kept. Source: facts D12.
const MAX_CAUSES: usize = 5;
/// Most lines of a stack trace that are kept. Source: facts D12.
const MAX_STACK_LINES: usize = 50;
/// Most characters of such a line that are kept. Source: facts D12.
const MAX_STACK_LINE_CHARS: usize = 1024;
/// Longest name of an exception that is kept, in characters.
const MAX_NAME_CHARS: usize = 256;

impl From<HostError> for types::HostError {
    fn from(error: HostError) -> types::HostError {
        let code = match error.code {
            HostErrorCode::Invalid => WitCode::Invalid,
            HostErrorCode::Denied => WitCode::Denied,
            HostErrorCode::NotFound => WitCode::NotFound,
            HostErrorCode::Conflict => WitCode::Conflict,
            HostErrorCode::TooLarge => WitCode::TooLarge,
            HostErrorCode::RateLimited => WitCode::RateLimited,
            HostErrorCode::Cancelled => WitCode::Cancelled,
            HostErrorCode::Unavailable => WitCode::Unavailable,
            HostErrorCode::Internal => WitCode::Internal,
        };
        types::HostError { code, message: error.message, retry_after_ms: error.retry_after_ms }
    }
}

impl From<Packet> for types::Packet {
    fn from(packet: Packet) -> types::Packet {
        types::Packet { data: packet.data, content_type: packet.content_type }
    }
}

impl From<types::Packet> for Packet {
    fn from(packet: types::Packet) -> Packet {
        Packet { data: packet.data, content_type: packet.content_type }
    }
}

/// Milliseconds since 1970; instants before that are 1970.
pub fn milliseconds(at: DateTime<Utc>) -> u64 {
    u64::try_from(at.timestamp_millis()).unwrap_or_default()
}

/// What was waited for, as `wait.any` tells it.
///
/// # Errors
/// `too-large`: it is more than one wait answers.
pub fn completion(completion: Completion) -> Result<types::Completion, HostError> {
    let outcome = match completion.resolution {
        Resolution::Elapsed => types::WaitOutcome::Timer,
        Resolution::Completed(packet) => types::WaitOutcome::Token(types::TokenOutcome::Completed(packet.into())),
        Resolution::TimedOut(at) => types::WaitOutcome::Token(types::TokenOutcome::TimedOut(milliseconds(at))),
        Resolution::Input(value) => types::WaitOutcome::Input(types::InputOutcome::Received(input_value(value))),
        Resolution::NoInput(at) => types::WaitOutcome::Input(types::InputOutcome::TimedOut(milliseconds(at))),
        Resolution::Run(end) => types::WaitOutcome::Run(run_result(end)),
        Resolution::Batch(end) => types::WaitOutcome::Batch(batch_result(end)),
        Resolution::TooLarge { bytes } => return Err(too_large(bytes)),
    };
    Ok(types::Completion { index: completion.index, outcome })
}

/// A value that was sent to the run.
pub fn input_value(value: InputValue) -> types::InputValue {
    types::InputValue { stream_id: value.stream, seq: value.index, value: value.value.into() }
}

/// The end of a run, as the contract has it.
pub fn run_result(end: RunEnd) -> types::RunResult {
    let outcome = match end.outcome {
        RunOutcome::Completed(output) => types::RunOutcome::Completed(output.into()),
        RunOutcome::Failed { status, error } => {
            types::RunOutcome::Failed(types::RunFailure { status: failed_status(status), error: wit_error(error) })
        }
    };
    types::RunResult { run: end.run.to_string(), task: end.task, outcome }
}

/// The end of a batch, as the contract has it.
pub fn batch_result(end: BatchEnd) -> types::BatchResult {
    types::BatchResult { batch: end.batch.to_string(), runs: end.runs.into_iter().map(run_result).collect() }
}

/// The outputs of a batch's runs are more than one wait answers.
pub fn too_large(bytes: u64) -> HostError {
    HostError::too_large(format!(
        "the outputs of the batch's runs have {bytes} bytes in all, more than one wait answers: trigger the runs one by one and wait \
         for them with wait.any, or let them store what they make elsewhere"
    ))
}

fn failed_status(status: RunStatus) -> types::FailedStatus {
    match status {
        RunStatus::Crashed => types::FailedStatus::Crashed,
        RunStatus::TimedOut => types::FailedStatus::TimedOut,
        RunStatus::Expired => types::FailedStatus::Expired,
        RunStatus::Canceled => types::FailedStatus::Canceled,
        RunStatus::SystemFailure => types::FailedStatus::SystemFailure,
        // The others are no ends.
        _ => types::FailedStatus::Failed,
    }
}

/// An error as who waited for its run gets it.
fn wit_error(error: RunError) -> types::RunError {
    match error {
        RunError::Exception { name, message, stack_trace, causes } => types::RunError::Exception(types::ExceptionChain {
            outermost: types::Exception { name, message, stack_trace },
            causes: causes
                .into_iter()
                .map(|cause| types::Exception { name: cause.name, message: cause.message, stack_trace: cause.stack_trace })
                .collect(),
        }),
        RunError::Text { raw } => types::RunError::Text(raw),
        RunError::Custom { raw } => types::RunError::Custom(raw),
        RunError::Internal { code, message, .. } => {
            let code = code.text();
            types::RunError::Internal(types::InternalError { message: message.unwrap_or_default(), code })
        }
    }
}

/// What a task's attempt failed with, and what the guest decided about another one.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFailure {
    /// With the failure's reason worked in. Source: facts C5, D12.
    pub error: RunError,
    /// Never another attempt after an unknown task or a failed `catch-error` hook.
    pub retry: RetryDecision,
}

impl From<tasks::TaskError> for TaskFailure {
    fn from(failure: tasks::TaskError) -> TaskFailure {
        use tasks::FailureReason as Reason;
        let code = match failure.reason {
            Reason::Thrown => None,
            Reason::UnknownTask => Some(ErrorCode::CouldNotFindTask),
            Reason::Input => Some(ErrorCode::TaskInputError),
            Reason::Output => Some(ErrorCode::TaskOutputError),
            Reason::Middleware => Some(ErrorCode::TaskMiddlewareError),
            Reason::CatchError => Some(ErrorCode::HandleErrorError),
            Reason::OutOfMemory => Some(ErrorCode::TaskProcessOomKilled),
        };
        let retry = match failure.retry {
            _ if matches!(failure.reason, Reason::UnknownTask | Reason::CatchError) => RetryDecision::Abort,
            tasks::RetryDecision::Policy => RetryDecision::Policy,
            tasks::RetryDecision::Abort => RetryDecision::Abort,
            tasks::RetryDecision::RetryDelay(delay) => RetryDecision::Delay(delay.min(super::check::MAX_AHEAD_MS)),
            // An instant nobody can mean leaves it to the policy.
            tasks::RetryDecision::RetryAt(at) => {
                super::check::at("retry-at", at).map_or(RetryDecision::Policy, RetryDecision::At)
            }
        };
        let error = match code {
            Some(code) => internal(code, failure.error),
            None => run_error(failure.error),
        };
        TaskFailure { error, retry }
    }
}

/// An error as the guest threw it.
fn run_error(error: types::RunError) -> RunError {
    match error {
        types::RunError::Exception(chain) => RunError::Exception {
            name: cut(&chain.outermost.name, MAX_NAME_CHARS),
            message: cut(&chain.outermost.message, MAX_MESSAGE_CHARS),
            stack_trace: cut_stack(&chain.outermost.stack_trace),
            causes: chain.causes.iter().take(MAX_CAUSES).map(cause).collect(),
        },
        types::RunError::Text(raw) => RunError::Text { raw: cut(&raw, MAX_MESSAGE_CHARS) },
        types::RunError::Custom(raw) => RunError::Custom { raw: cut(&raw, MAX_MESSAGE_CHARS) },
        // The contract keeps this case to the host: it counts as a text.
        types::RunError::Internal(error) => {
            RunError::Text { raw: cut(&format!("{}: {}", error.code, error.message), MAX_MESSAGE_CHARS) }
        }
    }
}

fn cause(exception: &types::Exception) -> Cause {
    Cause {
        name: cut(&exception.name, MAX_NAME_CHARS),
        message: cut(&exception.message, MAX_MESSAGE_CHARS),
        stack_trace: cut_stack(&exception.stack_trace),
    }
}

/// An error whose reason says more than its kind.
fn internal(code: ErrorCode, error: types::RunError) -> RunError {
    let (message, stack_trace) = match run_error(error) {
        RunError::Exception { name, message, stack_trace, .. } => (format!("{name}: {message}"), Some(stack_trace)),
        RunError::Text { raw } | RunError::Custom { raw } => (raw, None),
        RunError::Internal { message, stack_trace, .. } => (message.unwrap_or_default(), stack_trace),
    };
    let stack_trace = stack_trace.filter(|stack| !stack.is_empty());
    RunError::Internal { code, message: Some(cut(&message, MAX_MESSAGE_CHARS)), stack_trace }
}

/// The first characters of a text, without NULs, which the store does not take.
pub fn cut(text: &str, characters: usize) -> String {
    text.chars().filter(|character| *character != '\0').take(characters).collect()
}

/// The first lines of a stack trace, each cut.
pub fn cut_stack(stack: &str) -> String {
    let lines: Vec<String> = stack.lines().take(MAX_STACK_LINES).map(|line| cut(line, MAX_STACK_LINE_CHARS)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::RunStatus;

    fn thrown(reason: tasks::FailureReason, error: types::RunError) -> TaskFailure {
        tasks::TaskError { reason, error, retry: tasks::RetryDecision::Policy }.into()
    }

    fn exception(message: &str) -> types::RunError {
        let one = types::Exception {
            name: "TypeError".into(),
            message: message.into(),
            stack_trace: "  at f\n".repeat(60) + &"x".repeat(5000),
        };
        types::RunError::Exception(types::ExceptionChain { outermost: one.clone(), causes: vec![one; 9] })
    }

    #[test]
    fn an_exception_is_cut_to_what_is_stored() {
        let failure = thrown(tasks::FailureReason::Thrown, exception(&format!("a\0b{}", "é".repeat(2000))));
        let RunError::Exception { message, stack_trace, causes, .. } = failure.error else { panic!("{failure:?}") };
        assert!(message.starts_with("abé") && message.chars().count() == 1000);
        assert_eq!(stack_trace.lines().count(), 50);
        assert_eq!(causes.len(), 5);
    }

    #[test]
    fn the_reason_decides_the_status_and_may_forbid_another_attempt() {
        use tasks::FailureReason as Reason;
        let cases = [
            (Reason::Thrown, RunStatus::Failed, RetryDecision::Policy),
            (Reason::UnknownTask, RunStatus::SystemFailure, RetryDecision::Abort),
            (Reason::Input, RunStatus::Failed, RetryDecision::Policy),
            (Reason::CatchError, RunStatus::Crashed, RetryDecision::Abort),
            (Reason::OutOfMemory, RunStatus::Crashed, RetryDecision::Policy),
        ];
        for (reason, status, retry) in cases {
            let failure = thrown(reason, exception("no"));
            assert_eq!((failure.error.status(), failure.retry), (status, retry), "{reason:?}");
        }
    }

    #[test]
    fn a_guest_cannot_make_an_error_of_the_host() {
        let internal = types::InternalError { code: "MAX_DURATION_EXCEEDED".into(), message: "ha".into() };
        let failure = thrown(tasks::FailureReason::Thrown, types::RunError::Internal(internal));
        assert_eq!(failure.error, RunError::Text { raw: "MAX_DURATION_EXCEEDED: ha".into() });
    }
}
