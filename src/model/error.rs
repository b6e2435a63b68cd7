//! How a run fails: the error as users and clients see it, and the status it leads to.

use serde::{Deserialize, Serialize};

use super::run::RunStatus;

/// Longest message kept, in characters. Source: facts D12.
pub const MAX_MESSAGE_CHARS: usize = 1000;

/// What a run failed with, in the shape of the HTTP API's `TaskRunError`. Source: facts 7.3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum RunError {
    /// The task returned or threw an error.
    #[serde(rename = "BUILT_IN_ERROR", rename_all = "camelCase")]
    Exception {
        /// The exception's name, such as `TypeError`.
        name: String,
        /// What went wrong.
        message: String,
        /// May be empty.
        stack_trace: String,
        /// What caused it, outermost first; at most 5.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        causes: Vec<Cause>,
    },
    /// A string was thrown.
    #[serde(rename = "STRING_ERROR")]
    Text {
        /// The string.
        raw: String,
    },
    /// Something else was thrown.
    #[serde(rename = "CUSTOM_ERROR")]
    Custom {
        /// Its JSON text.
        raw: String,
    },
    /// The host ended the run.
    #[serde(rename = "INTERNAL_ERROR", rename_all = "camelCase")]
    Internal {
        /// From a closed set; clients refuse others.
        code: ErrorCode,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// The guest's own stack at a trap.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_trace: Option<String>,
    },
}

/// One link of an exception's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// The exception's name.
    pub name: String,
    /// What went wrong.
    pub message: String,
    /// May be empty.
    #[serde(default)]
    pub stack_trace: String,
}

/// Why the host ended a run. The part of the API's closed set that this host uses. Source: facts 7.3, C5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The bundle has no task of that id.
    CouldNotFindTask,
    /// The bundle could not be loaded.
    CouldNotImportTask,
    /// The guest left through `exit` with a code other than 0.
    TaskProcessExitedWithNonZeroCode,
    /// The guest asked for more memory than its machine preset has.
    TaskProcessOomKilled,
    /// The run was cancelled.
    TaskRunCancelled,
    /// The payload could not be decoded.
    TaskInputError,
    /// The output could not be encoded, or is too large.
    TaskOutputError,
    /// A middleware failed.
    TaskMiddlewareError,
    /// A `catchError` hook failed.
    HandleErrorError,
    /// The guest trapped.
    TaskRunCrashed,
    /// The attempt used more CPU time than it may.
    MaxDurationExceeded,
    /// The scratch directory is full.
    DiskSpaceExceeded,
    /// The run lost its host more often than it may.
    TaskRunStalledExecuting,
    /// An item of a batch breaks a rule.
    BatchItemCouldNotTrigger,
    /// An item of a batch is too large.
    PayloadTooLarge,
    /// A fault of the host.
    UnspecifiedError,
}

impl ErrorCode {
    /// The text of the HTTP API.
    pub fn text(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(text)) => text,
            _ => unreachable!("a code is a word"),
        }
    }
}

impl RunError {
    /// An internal error with a message.
    pub fn internal(code: ErrorCode, message: impl Into<String>) -> RunError {
        let message: String = message.into();
        RunError::Internal { code, message: Some(message.chars().take(MAX_MESSAGE_CHARS).collect()), stack_trace: None }
    }

    /// The final status that this error gives a run. Source: facts C5.
    pub fn status(&self) -> RunStatus {
        use ErrorCode::*;
        match self {
            RunError::Exception { .. } | RunError::Text { .. } | RunError::Custom { .. } => RunStatus::Failed,
            RunError::Internal { code, .. } => match code {
                TaskInputError | TaskOutputError | TaskMiddlewareError | TaskRunStalledExecuting => RunStatus::Failed,
                TaskProcessExitedWithNonZeroCode
                | TaskProcessOomKilled
                | TaskRunCrashed
                | HandleErrorError
                | DiskSpaceExceeded => RunStatus::Crashed,
                MaxDurationExceeded => RunStatus::TimedOut,
                TaskRunCancelled => RunStatus::Canceled,
                CouldNotFindTask | CouldNotImportTask | BatchItemCouldNotTrigger | PayloadTooLarge | UnspecifiedError => {
                    RunStatus::SystemFailure
                }
            },
        }
    }

    /// Whether another attempt may help. Source: facts D7.
    pub fn is_retriable(&self) -> bool {
        use ErrorCode::*;
        match self {
            RunError::Exception { .. } | RunError::Text { .. } | RunError::Custom { .. } => true,
            RunError::Internal { code, .. } => matches!(
                code,
                TaskRunStalledExecuting
                    | TaskRunCrashed
                    | TaskProcessExitedWithNonZeroCode
                    | TaskInputError
                    | TaskOutputError
                    | TaskMiddlewareError
            ),
        }
    }
}
