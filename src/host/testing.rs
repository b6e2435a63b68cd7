//! A caller for tests: remembers what it was asked and answers what it was told to.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Begin, Caller, CpuMeter, Egress, HostError, HostErrorCode, HostState, HttpLimits, OpenFiles, Run, Setup, WaitDecision,
};
use crate::model::{
    batch::{BatchTriggered, Item},
    child::Intent,
    context::{EnvironmentKind, RunContext},
    egress::{Allowed, EgressPolicy},
    id::{BatchId, DeploymentId, EnvironmentId, ProjectId, QueueId, RunId, WaitpointId},
    log::LogRecord,
    machine::Machine,
    metadata::{Operation, Target},
    payload::Packet,
    price::Prices,
    stream::{Chunk, InputCursor, InputValue, StreamPage, StreamTarget},
    token::{NewToken, TokenHandle},
    trace::{SpanBegin, SpanEnd, SpanId},
    trigger::{NewRun, RunIdempotency, Triggered},
    waitpoint::{Completion, Idempotency, WaitRequest},
};

/// What was asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Wait(WaitRequest, Option<String>),
    Log(LogRecord),
    Begin(SpanBegin),
    End(SpanEnd),
    Metadata(Target, Vec<Operation>),
    Flush,
    Token(NewToken),
    Complete(WaitpointId, Packet),
    Timer(DateTime<Utc>),
    Tags(Vec<String>),
    Trigger(String, Intent),
    Batch(Vec<String>, Intent),
    Append(StreamTarget, String, Vec<String>),
    Read(StreamTarget, String, Option<u64>, u32, Duration),
    Receive(Vec<InputCursor>, u32, Duration),
    Send(RunId, String, Packet),
    Input(InputCursor, Option<DateTime<Utc>>),
}

/// Remembers every call; waits are suspended unless `ready` holds an answer.
#[derive(Default)]
pub struct Recorder {
    asked: Mutex<Vec<Asked>>,
    ready: Mutex<Vec<Vec<Completion>>>,
}

impl Recorder {
    /// Answers the next wait at once.
    pub fn answer(&self, completions: Vec<Completion>) {
        self.ready.lock().unwrap().push(completions);
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The log lines so far.
    pub fn messages(&self) -> Vec<String> {
        let asked = self.asked();
        asked.into_iter().filter_map(|one| if let Asked::Log(record) = one { Some(record.message) } else { None }).collect()
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }
}

#[async_trait]
impl Caller for Recorder {
    async fn wait(&self, request: &WaitRequest, warm_only: Option<&str>) -> Result<WaitDecision, HostError> {
        self.note(Asked::Wait(request.clone(), warm_only.map(str::to_owned)));
        let ready = self.ready.lock().unwrap().pop();
        Ok(ready.map_or(WaitDecision::Suspend, WaitDecision::Ready))
    }

    fn log(&self, record: LogRecord) {
        self.note(Asked::Log(record));
    }

    fn begin_span(&self, begun: SpanBegin) -> SpanId {
        self.note(Asked::Begin(begun));
        SpanId::of(0xff).expect("not zero")
    }

    fn end_span(&self, ended: SpanEnd) {
        self.note(Asked::End(ended));
    }

    async fn read_metadata(&self) -> Result<serde_json::Value, HostError> {
        Ok(serde_json::json!({"step": 1}))
    }

    async fn update_metadata(&self, target: Target, operations: Vec<Operation>) -> Result<(), HostError> {
        self.note(Asked::Metadata(target, operations));
        Ok(())
    }

    async fn flush(&self) -> Result<(), HostError> {
        self.note(Asked::Flush);
        Ok(())
    }

    async fn create_token(&self, token: NewToken) -> Result<TokenHandle, HostError> {
        self.note(Asked::Token(token));
        Ok(TokenHandle {
            id: WaitpointId::new(),
            is_cached: false,
            callback_url: "http://localhost/callback".into(),
            public_access_token: "pat".into(),
        })
    }

    async fn complete_token(&self, token: WaitpointId, value: Packet) -> Result<(), HostError> {
        self.note(Asked::Complete(token, value));
        Err(HostError { code: HostErrorCode::RateLimited, message: "slow down".into(), retry_after_ms: Some(250) })
    }

    async fn start_timer(&self, at: DateTime<Utc>, _idempotency: Option<Idempotency>) -> Result<WaitpointId, HostError> {
        self.note(Asked::Timer(at));
        Ok(WaitpointId::new())
    }

    async fn trigger(&self, new: NewRun, intent: Intent) -> Result<Triggered, HostError> {
        self.note(Asked::Trigger(new.task, intent));
        Ok(Triggered { id: RunId::new(), is_cached: false })
    }

    async fn batch_trigger(
        &self,
        items: Vec<Item>,
        _idempotency: Option<RunIdempotency>,
        intent: Intent,
    ) -> Result<BatchTriggered, HostError> {
        let run_count = items.len() as u32;
        self.note(Asked::Batch(items.into_iter().map(|item| item.task).collect(), intent));
        Ok(BatchTriggered { id: BatchId::new(), run_count, is_cached: true })
    }

    async fn access_token(&self, scopes: Vec<String>) -> Result<String, HostError> {
        Ok(scopes.join(" "))
    }

    async fn add_tags(&self, tags: Vec<String>) -> Result<(), HostError> {
        self.note(Asked::Tags(tags));
        Ok(())
    }

    async fn append_chunks(&self, target: StreamTarget, key: String, chunks: Vec<String>) -> Result<(), HostError> {
        self.note(Asked::Append(target, key, chunks));
        Ok(())
    }

    async fn read_chunks(
        &self,
        target: StreamTarget,
        key: String,
        start: Option<u64>,
        max: u32,
        timeout: Duration,
    ) -> Result<StreamPage, HostError> {
        self.note(Asked::Read(target, key, start, max, timeout));
        let at = DateTime::UNIX_EPOCH;
        let chunk = Chunk { index: 7, at, data: "[1]".into(), content_type: None };
        Ok(StreamPage { chunks: vec![chunk], next: 8, is_ended: true })
    }

    async fn receive_inputs(&self, cursors: Vec<InputCursor>, max: u32, timeout: Duration) -> Result<Vec<InputValue>, HostError> {
        let stream = cursors[0].stream.clone();
        self.note(Asked::Receive(cursors, max, timeout));
        Ok(vec![InputValue { stream, index: 3, value: Packet::json(&serde_json::json!(true)) }])
    }

    async fn send_input(&self, run: RunId, stream: String, value: Packet) -> Result<(), HostError> {
        self.note(Asked::Send(run, stream, value));
        Ok(())
    }

    async fn start_input(
        &self,
        cursor: InputCursor,
        timeout_at: Option<DateTime<Utc>>,
        _idempotency: Option<Idempotency>,
    ) -> Result<WaitpointId, HostError> {
        self.note(Asked::Input(cursor, timeout_at));
        Ok(WaitpointId::new())
    }
}

/// A state on a scratch directory, as the runtime makes it. Requests may go to this machine, three at a time, with a megabyte each.
pub fn state(begin: Begin, scratch: &Path, caller: Arc<Recorder>) -> HostState {
    let policy = EgressPolicy::new(vec![Allowed::Range("127.0.0.1".parse().unwrap())]);
    let limits = HttpLimits { concurrent: 3, body_bytes: 1 << 20, ..HttpLimits::default() };
    let run = Run {
        context: context(),
        caller,
        variables: vec![("NAME".into(), "value".into())],
        scratch: scratch.to_owned(),
        open_files: OpenFiles::default(),
        grace: Duration::from_millis(50),
        egress: Egress::new(policy, limits),
        prices: Prices { per_vcpu_second: 1.0, per_gb_second: 0.0, per_run: 0.5 },
    };
    let cpu: CpuMeter = Arc::new(|| Duration::from_millis(1500));
    HostState::new(Setup { machine: Machine::Micro, cpu, run: Some(run), begin })
}

/// A run in production.
pub fn context() -> RunContext {
    let run = RunId::new();
    let at = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
    RunContext {
        run,
        tags: vec!["a".into()],
        is_test: false,
        is_replay: false,
        created_at: at,
        started_at: at,
        parent: None,
        root: run,
        trace: run,
        depth: 0,
        batch: None,
        idempotency_key: None,
        max_attempts: 3,
        max_duration_ms: None,
        attempt: 2,
        attempt_started_at: at,
        task: "task".into(),
        queue: QueueId::new(),
        queue_name: "task/task".into(),
        concurrency_key: None,
        environment: EnvironmentId::new(),
        environment_kind: EnvironmentKind::Production,
        project: ProjectId::new(),
        project_ref: "proj_x".into(),
        project_name: "Project".into(),
        deployment: DeploymentId::new(),
        version: "20261120.1".into(),
        machine: Machine::Micro,
    }
}
