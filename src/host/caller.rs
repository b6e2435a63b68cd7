//! The port through which a guest's wishes leave the host: implemented by whoever holds the run's lease.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::model::{
    attempt::Cancellation,
    batch::{BatchTriggered, Item},
    child::Intent,
    id::{RunId, WaitpointId},
    log::LogRecord,
    metadata::{Operation, Target},
    payload::Packet,
    stream::{InputCursor, InputValue, StreamPage, StreamTarget},
    token::{NewToken, TokenHandle},
    trace::{SpanBegin, SpanEnd, SpanId},
    trigger::{NewRun, RunIdempotency, Triggered},
    waitpoint::{Completion, Idempotency, WaitRequest},
};

/// What a run may ask of the platform. Arguments have been checked against the limits of the guest's contract; whether they
/// are allowed for this run is for the implementation to say.
#[async_trait]
pub trait Caller: Send + Sync + 'static {
    /// Decides a wait, staying here (warm) for the grace time at most.
    ///
    /// `warm_only` says why the run must not be suspended now: then the call stays until the wait is over and never answers
    /// [`WaitDecision::Suspend`].
    async fn wait(&self, request: &WaitRequest, warm_only: Option<&str>) -> Result<WaitDecision, HostError>;
    /// The request to cancel the run, once there is one. It interrupts waits: they answer [`HostErrorCode::Cancelled`].
    fn cancellation(&self) -> Option<Cancellation> {
        None
    }
    /// Takes a log line. Never fails and never blocks.
    fn log(&self, record: LogRecord);
    /// Begins a span, and says which. Never fails and never blocks.
    fn begin_span(&self, begun: SpanBegin) -> SpanId;
    /// Ends a span. Never fails and never blocks.
    fn end_span(&self, ended: SpanEnd);
    /// The run's metadata object with all updates made so far.
    async fn read_metadata(&self) -> Result<serde_json::Value, HostError>;
    /// Applies operations in order, as one step against other writers.
    async fn update_metadata(&self, target: Target, operations: Vec<Operation>) -> Result<(), HostError>;
    /// Writes metadata now; an error if an update was dropped since the last flush.
    async fn flush(&self) -> Result<(), HostError>;
    /// Makes a token, or finds the one with the same idempotency key.
    async fn create_token(&self, token: NewToken) -> Result<TokenHandle, HostError>;
    /// Completes a token; the first completion counts, later ones are no error.
    async fn complete_token(&self, token: WaitpointId, value: Packet) -> Result<(), HostError>;
    /// Starts a timer.
    async fn start_timer(&self, at: DateTime<Utc>, idempotency: Option<Idempotency>) -> Result<WaitpointId, HostError>;
    /// Triggers a run as a child of this one, or finds the one with the same idempotency key.
    async fn trigger(&self, new: NewRun, intent: Intent) -> Result<Triggered, HostError>;
    /// Triggers runs as children of this one and as one batch, or finds the batch with the same idempotency key.
    async fn batch_trigger(
        &self,
        items: Vec<Item>,
        idempotency: Option<RunIdempotency>,
        intent: Intent,
    ) -> Result<BatchTriggered, HostError>;
    /// A public access token with these scopes, for an hour.
    async fn access_token(&self, scopes: Vec<String>) -> Result<String, HostError>;
    /// Adds tags to the run; those it has are left out.
    async fn add_tags(&self, tags: Vec<String>) -> Result<(), HostError>;
    /// Appends chunks to what a run says; they are durable then.
    async fn append_chunks(&self, target: StreamTarget, key: String, chunks: Vec<String>) -> Result<(), HostError>;
    /// Reads at most `max` chunks from `start` on (none: what is yet to come), staying at most `timeout` for the first.
    async fn read_chunks(
        &self,
        target: StreamTarget,
        key: String,
        start: Option<u64>,
        max: u32,
        timeout: Duration,
    ) -> Result<StreamPage, HostError>;
    /// Reads at most `max` values that were sent to the run after these places, staying at most `timeout` for the first.
    async fn receive_inputs(&self, cursors: Vec<InputCursor>, max: u32, timeout: Duration) -> Result<Vec<InputValue>, HostError>;
    /// Sends a value to a run.
    async fn send_input(&self, run: RunId, stream: String, value: Packet) -> Result<(), HostError>;
    /// Makes a waitpoint that the next value after the cursor completes.
    async fn start_input(
        &self,
        cursor: InputCursor,
        timeout_at: Option<DateTime<Utc>>,
        idempotency: Option<Idempotency>,
    ) -> Result<WaitpointId, HostError>;
}

/// What becomes of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitDecision {
    /// It is over; the guest goes on. Empty for a sleep.
    Ready(Vec<Completion>),
    /// The run is to be suspended.
    Suspend,
}

/// Why the host did not do what the guest asked; the guest sees it as the contract's `host-error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// What the guest can branch on.
    pub code: HostErrorCode,
    /// Names the field, the limit and the fix.
    pub message: String,
    /// Milliseconds after which asking again makes sense.
    pub retry_after_ms: Option<u64>,
}

/// The contract's `error-code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostErrorCode {
    /// An argument breaks a rule.
    Invalid,
    /// The run's credentials do not allow it.
    Denied,
    /// No such thing in this environment.
    NotFound,
    /// The state forbids it.
    Conflict,
    /// A size or count is above its limit.
    TooLarge,
    /// Too many calls.
    RateLimited,
    /// The run is being cancelled.
    Cancelled,
    /// Not now: the store is away, there is no run, or this version lacks the function.
    Unavailable,
    /// A fault of the host.
    Internal,
}

impl HostError {
    /// An error without a time to ask again.
    pub fn new(code: HostErrorCode, message: impl Into<String>) -> HostError {
        HostError { code, message: message.into(), retry_after_ms: None }
    }

    /// An argument breaks a rule.
    pub fn invalid(message: impl Into<String>) -> HostError {
        HostError::new(HostErrorCode::Invalid, message)
    }

    /// A size or count is above its limit.
    pub fn too_large(message: impl Into<String>) -> HostError {
        HostError::new(HostErrorCode::TooLarge, message)
    }

    /// This version of the host does not have the function.
    pub fn not_in_this_version(function: &str) -> HostError {
        HostError::new(HostErrorCode::Unavailable, format!("{function} is not available in this version"))
    }
}
