//! Why the host did not do what it was asked.

use std::fmt;
use std::time::Duration;

use crate::bindings::dormouse::task::types as wit;

/// Why the host did not do what it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct HostError {
    /// The kind of refusal, to branch on.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// When asking again makes sense, if it does.
    pub retry_after: Option<Duration>,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// An argument breaks a rule; asking again will not help.
    Invalid,
    /// The run may not do this.
    Denied,
    /// There is no such thing in this environment.
    NotFound,
    /// The state of things forbids it.
    Conflict,
    /// A size or a count is above its limit.
    TooLarge,
    /// Too many calls; `retry_after` is set.
    RateLimited,
    /// The run is being cancelled.
    Cancelled,
    /// The store is away for a moment, or this version of the host has no such function.
    Unavailable,
    /// A fault of the host.
    Internal,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HostError {}

impl From<wit::HostError> for HostError {
    fn from(error: wit::HostError) -> HostError {
        let code = match error.code {
            wit::ErrorCode::Invalid => ErrorCode::Invalid,
            wit::ErrorCode::Denied => ErrorCode::Denied,
            wit::ErrorCode::NotFound => ErrorCode::NotFound,
            wit::ErrorCode::Conflict => ErrorCode::Conflict,
            wit::ErrorCode::TooLarge => ErrorCode::TooLarge,
            wit::ErrorCode::RateLimited => ErrorCode::RateLimited,
            wit::ErrorCode::Cancelled => ErrorCode::Cancelled,
            wit::ErrorCode::Unavailable => ErrorCode::Unavailable,
            wit::ErrorCode::Internal => ErrorCode::Internal,
        };
        HostError { code, message: error.message, retry_after: error.retry_after_ms.map(Duration::from_millis) }
    }
}

impl HostError {
    /// For a value that serde could not turn into JSON before the host was asked.
    pub(crate) fn unencodable(error: &serde_json::Error) -> HostError {
        let message = format!("the value cannot be encoded: {error}");
        HostError { code: ErrorCode::Invalid, message, retry_after: None }
    }

    /// For a value of the host's that does not fit the type it is asked for as.
    pub(crate) fn undecodable(what: &str, error: &dyn std::error::Error) -> HostError {
        let message = format!("{what} does not fit the type it is read as: {error}");
        HostError { code: ErrorCode::Invalid, message, retry_after: None }
    }
}
