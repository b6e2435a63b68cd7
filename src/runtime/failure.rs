//! How a guest that stopped for good becomes the error that users see. Source: facts C5, 7.3, D12.
//!
//! Why it stopped (trap, exit, a limit) is read from what stopped it, with the guest's own stack. A task that merely
//! returns an error says itself why: [`crate::host::task::convert::TaskFailure`].

use wasmtime::{ThrownException, Trap, WasmBacktrace};

use super::cpu::Exhausted;
use crate::{
    host::{
        self,
        task::convert::{cut, cut_stack},
    },
    model::{
        error::{ErrorCode, MAX_MESSAGE_CHARS, RunError},
        machine::Machine,
    },
};

/// What was being done when a guest stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Ordinary guest code.
    Running,
    /// Leaving the call stack for a suspension.
    Unwinding {
        /// Version of the rewriter whose code does it.
        rewriter: u32,
    },
    /// Coming back to it.
    Rewinding {
        /// Version of the rewriter whose code does it.
        rewriter: u32,
    },
}

/// A guest that stopped for good.
pub(super) fn of_stopped(error: &wasmtime::Error, machine: Machine, memory_denied: bool, doing: Doing) -> RunError {
    let (code, message) = code_and_message(error, machine, memory_denied);
    let stack = error.downcast_ref::<WasmBacktrace>();
    let message = match doing {
        Doing::Running => message,
        Doing::Unwinding { rewriter } => format!("while the run was being suspended (rewriter version {rewriter}): {message}"),
        Doing::Rewinding { rewriter } => format!("while the run was being resumed (rewriter version {rewriter}): {message}"),
    };
    let stack_trace = stack.map(|stack| cut_stack(&names(&stack.to_string()))).filter(|trace| !trace.is_empty());
    RunError::Internal { code, message: Some(cut(&message, MAX_MESSAGE_CHARS)), stack_trace }
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
        None if error.is::<ThrownException>() => "the task threw an exception that nothing caught".into(),
        None => error.root_cause().to_string(),
    };
    (ErrorCode::TaskRunCrashed, message)
}

/// A backtrace without heading and addresses, which are of the rewritten code and tell an author nothing, and without the
/// rewriter's own frames, whose modules have no name.
fn names(backtrace: &str) -> String {
    let frame = |line: &'_ str| -> Option<String> {
        let (_, frame) = line.split_once(": ")?;
        let name = frame.split_once(" - ").map_or(frame, |(_, name)| name);
        (!name.starts_with("<unknown>!")).then(|| name.to_owned())
    };
    backtrace.lines().skip(1).filter_map(frame).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(error: wasmtime::Error, memory_denied: bool, doing: Doing) -> String {
        match of_stopped(&error, Machine::Micro, memory_denied, doing) {
            RunError::Internal { code, message, .. } => format!("{code:?}: {}", message.unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_end_has_its_code_and_says_why() {
        let exit = |code| wasmtime::Error::from(wasmtime_wasi::I32Exit(code));
        let limit = Exhausted { limit: std::time::Duration::from_secs(5) };
        let running = |error: wasmtime::Error| stopped(error, false, Doing::Running);
        insta::assert_snapshot!(running(exit(3)), @"TaskProcessExitedWithNonZeroCode: the task exited with code 3");
        insta::assert_snapshot!(running(exit(0)), @"TaskProcessExitedWithNonZeroCode: the task called exit(0) before it returned a result");
        insta::assert_snapshot!(running(limit.into()), @"MaxDurationExceeded: Run exceeded maximum compute time (maxDuration) of 5 seconds");
        insta::assert_snapshot!(running(Trap::StackOverflow.into()), @"TaskRunCrashed: the call stack is full: the task recursed too deeply");
        insta::assert_snapshot!(running(Trap::UnreachableCodeReached.into()), @"TaskRunCrashed: the task aborted: a panic, a failed assertion or `abort`");
        insta::assert_snapshot!(running(Trap::MemoryOutOfBounds.into()), @"TaskRunCrashed: wasm trap: out of bounds memory access");
        insta::assert_snapshot!(running(ThrownException.into()), @"TaskRunCrashed: the task threw an exception that nothing caught");
        insta::assert_snapshot!(stopped(Trap::UnreachableCodeReached.into(), true, Doing::Running), @"TaskProcessOomKilled: the task asked for more memory than the 256 MiB of its machine, micro");
    }

    #[test]
    fn a_fault_of_suspending_or_resuming_names_the_rewriter() {
        let message = stopped(Trap::UnreachableCodeReached.into(), false, Doing::Unwinding { rewriter: 3 });
        assert!(message.contains("while the run was being suspended (rewriter version 3)"), "{message}");
    }

    #[test]
    fn a_backtrace_is_reduced_to_names() {
        let text = "error while executing at wasm backtrace:\n    0: app!task::inner\n    1:   0x2b - app!run\n    \
            2:   0x3c - <unknown>!<wasm function 9>";
        assert_eq!(names(text), "app!task::inner\napp!run");
    }
}
