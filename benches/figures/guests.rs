//! The components that are measured, and what they are run with.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use dormouse::{
    blobs::Blobs,
    host::{Caller, HostError, WaitDecision},
    model::{
        batch::{BatchTriggered, Item},
        child::Intent,
        context::{EnvironmentKind, RunContext},
        id::{DeploymentId, EnvironmentId, ProjectId, QueueId, RunId, WaitpointId},
        log::LogRecord,
        machine::Machine,
        metadata::{Operation, Target},
        payload::Packet,
        stream::{InputCursor, InputValue, StreamPage, StreamTarget},
        token::{NewToken, TokenHandle},
        trace::{SpanBegin, SpanEnd, SpanId},
        trigger::{NewRun, RunIdempotency, Triggered},
        waitpoint::{Completion, Idempotency, Resolution, WaitRequest},
    },
    rewrite::{self, Limits},
    runtime::{LoadedComponent, Part, RunSetup, Runtime, RuntimeConfig},
};

use crate::{report, support::compiled::Kept};

/// Every guest that `make guests` builds.
pub const ALL: [&str; 8] = ["hello", "approval", "bench", "rust-chain", "c-chain", "js-chain", "python-chain", "go-chain"];
/// Enough of a core that no run is slowed down to its share.
pub const MACHINE: Machine = Machine::Medium2x;

/// The bytes of a guest.
pub fn guest(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/guests").join(format!("{name}.wasm"));
    fs::read(&path).with_context(|| format!("{}: run `make guests` first", path.display()))
}

/// Part of a guest, compiled, and the runtime whose clock ticks for it. Unless the guest or the rewriter has changed, it is what an
/// earlier run compiled. Pages of its runs are in `folder`.
pub async fn load(name: &str, part: Part, folder: &Folder) -> anyhow::Result<(Runtime, Arc<LoadedComponent>)> {
    let kept = Kept::of(name, &guest(name)?).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    let packs = Arc::new(Blobs::open(&folder.path().join("blobs").display().to_string())?);
    let (pages, limits, rewriter) = (folder.path().join("pages"), Limits::default(), rewrite::VERSION);
    let runtime = Runtime::new(RuntimeConfig { cache: kept.cache, pages, packs, cached_bytes: 64 << 20, limits, rewriter })?;
    let loaded = runtime.load(&kept.rewriting, part, async || Ok(kept.bytes)).await;
    Ok((runtime, loaded.with_context(|| format!("compiling {name}"))?))
}

/// What a run is set up with; its scratch folder is in `folder`.
pub fn setup(folder: &Folder) -> anyhow::Result<RunSetup> {
    let scratch = folder.path().join("scratch");
    fs::create_dir_all(&scratch)?;
    Ok(RunSetup {
        context: context(),
        machine: MACHINE,
        cpu_limit: None,
        used_cpu: Duration::ZERO,
        variables: vec![],
        scratch,
        open_files: Default::default(),
        grace: Duration::ZERO,
        egress: Default::default(),
        prices: Default::default(),
    })
}

/// What a timer's wait comes to.
pub fn elapsed() -> Vec<Completion> {
    vec![Completion { index: 0, resolution: Resolution::Elapsed }]
}

fn context() -> RunContext {
    let (run, now) = (RunId::new(), DateTime::<Utc>::UNIX_EPOCH);
    RunContext {
        run,
        tags: vec![],
        is_test: false,
        is_replay: false,
        created_at: now,
        started_at: now,
        parent: None,
        root: run,
        trace: run,
        depth: 0,
        batch: None,
        idempotency_key: None,
        max_attempts: 1,
        max_duration_ms: None,
        attempt: 1,
        attempt_started_at: now,
        task: "task".into(),
        queue: QueueId::new(),
        queue_name: "task/task".into(),
        concurrency_key: None,
        environment: EnvironmentId::new(),
        environment_kind: EnvironmentKind::Production,
        project: ProjectId::new(),
        project_ref: "proj_bench".into(),
        project_name: "Bench".into(),
        deployment: DeploymentId::new(),
        version: "1".into(),
        machine: MACHINE,
    }
}

/// A platform that suspends every wait at once and keeps nothing.
pub struct Suspending;

#[async_trait]
impl Caller for Suspending {
    async fn wait(&self, _: &WaitRequest, _: Option<&str>) -> Result<WaitDecision, HostError> {
        Ok(WaitDecision::Suspend)
    }

    fn log(&self, _: LogRecord) {}

    fn begin_span(&self, _: SpanBegin) -> SpanId {
        SpanId::run(RunId::new())
    }

    fn end_span(&self, _: SpanEnd) {}

    async fn read_metadata(&self) -> Result<serde_json::Value, HostError> {
        Ok(serde_json::json!({}))
    }

    async fn update_metadata(&self, _: Target, _: Vec<Operation>) -> Result<(), HostError> {
        Ok(())
    }

    async fn flush(&self) -> Result<(), HostError> {
        Ok(())
    }

    async fn create_token(&self, _: NewToken) -> Result<TokenHandle, HostError> {
        Err(HostError::not_in_this_version("create-token"))
    }

    async fn complete_token(&self, _: WaitpointId, _: Packet) -> Result<(), HostError> {
        Ok(())
    }

    async fn start_timer(&self, _: DateTime<Utc>, _: Option<Idempotency>) -> Result<WaitpointId, HostError> {
        Ok(WaitpointId::new())
    }

    async fn trigger(&self, _: NewRun, _: Intent) -> Result<Triggered, HostError> {
        Err(HostError::not_in_this_version("trigger"))
    }

    async fn batch_trigger(&self, _: Vec<Item>, _: Option<RunIdempotency>, _: Intent) -> Result<BatchTriggered, HostError> {
        Err(HostError::not_in_this_version("batch-trigger"))
    }

    async fn access_token(&self, _: Vec<String>) -> Result<String, HostError> {
        Err(HostError::not_in_this_version("access tokens"))
    }

    async fn add_tags(&self, _: Vec<String>) -> Result<(), HostError> {
        Ok(())
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

/// A folder of its own on the disk that the repository is on, since a temporary one may be memory. Gone when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder.
    pub fn new() -> anyhow::Result<Folder> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = report::folder().join(name);
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in `target`.
        let _ = fs::remove_dir_all(&self.0);
    }
}
