//! The platform as a chain needs it: it suspends every wait, or none, and writes the log down.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use dormouse::{
    host::{Caller, HostError, WaitDecision},
    model::{
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
        waitpoint::{Completion, Idempotency, Resolution, WaitRequest},
    },
};
use serde_json::{Value, json};

/// What becomes of waits.
#[derive(Clone, Copy, PartialEq)]
pub enum Waits {
    Suspended,
    /// Over at once.
    Straight,
}

/// Appends log lines to a file, and counts waits.
pub struct Platform {
    waits: Waits,
    log: Mutex<File>,
    asked: AtomicU32,
}

impl Platform {
    pub fn new(waits: Waits, log: &Path) -> Platform {
        let log = File::options().create(true).append(true).open(log).unwrap();
        Platform { waits, log: Mutex::new(log), asked: AtomicU32::new(0) }
    }

    /// How many waits it was asked about.
    pub fn asked(&self) -> u32 {
        self.asked.load(Relaxed)
    }
}

/// The lines that platforms wrote to this file: all that can be seen of them but their time.
pub fn transcript(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<LogRecord>(line).unwrap());
    records.map(|record| json!([record.source, record.level, record.message, record.attributes])).collect()
}

/// What a wait comes to once its time has come.
pub fn elapsed(request: &WaitRequest) -> Vec<Completion> {
    match request {
        WaitRequest::Timer { .. } => vec![Completion { index: 0, resolution: Resolution::Elapsed }],
        WaitRequest::Sleep { .. } => vec![],
        WaitRequest::Any { .. } => panic!("the guest waits for nothing but time: {request:?}"),
    }
}

#[async_trait]
impl Caller for Platform {
    async fn wait(&self, request: &WaitRequest, warm_only: Option<&str>) -> Result<WaitDecision, HostError> {
        assert_eq!(warm_only, None, "nothing keeps this run from being suspended");
        self.asked.fetch_add(1, Relaxed);
        Ok(match self.waits {
            Waits::Suspended => WaitDecision::Suspend,
            Waits::Straight => WaitDecision::Ready(elapsed(request)),
        })
    }

    fn log(&self, record: LogRecord) {
        let line = serde_json::to_string(&record).unwrap() + "\n";
        self.log.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }

    fn begin_span(&self, _begun: SpanBegin) -> SpanId {
        panic!("the guest measures nothing")
    }

    fn end_span(&self, _ended: SpanEnd) {
        panic!("the guest measures nothing")
    }

    async fn read_metadata(&self) -> Result<Value, HostError> {
        Err(HostError::not_in_this_version("metadata"))
    }

    async fn update_metadata(&self, _target: Target, _operations: Vec<Operation>) -> Result<(), HostError> {
        Err(HostError::not_in_this_version("metadata"))
    }

    async fn flush(&self) -> Result<(), HostError> {
        Err(HostError::not_in_this_version("metadata"))
    }

    async fn create_token(&self, _token: NewToken) -> Result<TokenHandle, HostError> {
        Err(HostError::not_in_this_version("waitpoints"))
    }

    async fn complete_token(&self, _token: WaitpointId, _value: Packet) -> Result<(), HostError> {
        Err(HostError::not_in_this_version("waitpoints"))
    }

    async fn start_timer(&self, _at: DateTime<Utc>, _idempotency: Option<Idempotency>) -> Result<WaitpointId, HostError> {
        Err(HostError::not_in_this_version("waitpoints"))
    }

    async fn trigger(&self, _new: NewRun, _intent: Intent) -> Result<Triggered, HostError> {
        Err(HostError::not_in_this_version("trigger"))
    }

    async fn batch_trigger(
        &self,
        _items: Vec<Item>,
        _idempotency: Option<RunIdempotency>,
        _intent: Intent,
    ) -> Result<BatchTriggered, HostError> {
        Err(HostError::not_in_this_version("trigger"))
    }

    async fn access_token(&self, _scopes: Vec<String>) -> Result<String, HostError> {
        Err(HostError::not_in_this_version("trigger"))
    }

    async fn add_tags(&self, _tags: Vec<String>) -> Result<(), HostError> {
        Err(HostError::not_in_this_version("tags"))
    }

    async fn append_chunks(&self, _target: StreamTarget, _key: String, _chunks: Vec<String>) -> Result<(), HostError> {
        Err(HostError::not_in_this_version("streams"))
    }

    async fn read_chunks(
        &self,
        _target: StreamTarget,
        _key: String,
        _start: Option<u64>,
        _max: u32,
        _timeout: Duration,
    ) -> Result<StreamPage, HostError> {
        Err(HostError::not_in_this_version("streams"))
    }

    async fn receive_inputs(
        &self,
        _cursors: Vec<InputCursor>,
        _max: u32,
        _timeout: Duration,
    ) -> Result<Vec<InputValue>, HostError> {
        Err(HostError::not_in_this_version("input"))
    }

    async fn send_input(&self, _run: RunId, _stream: String, _value: Packet) -> Result<(), HostError> {
        Err(HostError::not_in_this_version("input"))
    }

    async fn start_input(
        &self,
        _cursor: InputCursor,
        _timeout_at: Option<DateTime<Utc>>,
        _idempotency: Option<Idempotency>,
    ) -> Result<WaitpointId, HostError> {
        Err(HostError::not_in_this_version("input"))
    }
}
