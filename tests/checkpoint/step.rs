//! One process of a chain: from a snapshot, or the beginning, to the next wait, or the end.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use dormouse::{
    blobs::Blobs,
    model::{
        context::{EnvironmentKind, RunContext},
        id::{DeploymentId, EnvironmentId, ProjectId, QueueId, RunId},
        machine::Machine,
        payload::Packet,
        rewriting::Rewriting,
    },
    rewrite::{self, Limits},
    runtime::{Execution, LoadedComponent, Part, RunSetup, Runtime, RuntimeConfig, Step},
};
use serde::{Deserialize, Serialize};

use super::caller::{Platform, Waits, elapsed};

/// The environment variable that names a step's folder; the others are only looked at if it is there.
pub const FOLDER: &str = "CHAIN_FOLDER";
/// The folder of compiled components.
pub const CACHE: &str = "CHAIN_CACHE";
/// The rewritten component's name, as JSON.
pub const COMPONENT: &str = "CHAIN_COMPONENT";
/// The task's payload, as JSON.
pub const PAYLOAD: &str = "CHAIN_PAYLOAD";

/// What a process was started for.
pub struct Task {
    folder: PathBuf,
    cache: PathBuf,
    component: Rewriting,
    payload: String,
}

/// What a process says of itself: one line of `steps`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub pid: u32,
    /// Whether the guest waits again; otherwise `output` is there.
    pub is_suspended: bool,
}

impl Task {
    pub fn from_environment() -> Option<Task> {
        let folder = std::env::var(FOLDER).ok()?.into();
        let get = |variable: &str| std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
        let component = serde_json::from_str(&get(COMPONENT)).unwrap();
        Some(Task { folder, cache: get(CACHE).into(), component, payload: get(PAYLOAD) })
    }

    pub async fn perform(&self) {
        let runtime = runtime(&self.cache, &self.folder.join("blobs"));
        let platform = Arc::new(Platform::new(Waits::Suspended, &self.folder.join("log")));
        let snapshot = self.folder.join("snapshot");
        let compiled =
            async |part| runtime.load(&self.component, part, async || anyhow::bail!("it is not in the cache")).await.unwrap();
        let (mut execution, step) = match std::fs::read(&snapshot) {
            Ok(bytes) => self.go_on(&compiled(Part::Whole).await, &bytes, platform.clone()).await,
            Err(_) => self.begin(&compiled(Part::Beginning).await, platform.clone()).await,
        };
        let is_suspended = match step {
            Step::Suspended(request) => {
                assert_eq!(platform.asked(), 1, "it was suspended at the first wait");
                std::fs::write(self.folder.join("wait"), serde_json::to_vec(&request).unwrap()).unwrap();
                std::fs::write(&snapshot, execution.capture().await.unwrap().bytes).unwrap();
                true
            }
            Step::Returned(Ok(output)) => {
                std::fs::write(self.folder.join("output"), output.data).unwrap();
                false
            }
            other => panic!("{other:?}"),
        };
        let report = serde_json::to_string(&Report { pid: std::process::id(), is_suspended }).unwrap() + "\n";
        let steps = std::fs::File::options().create(true).append(true).open(self.folder.join("steps"));
        steps.unwrap().write_all(report.as_bytes()).unwrap();
    }

    async fn begin(&self, component: &Arc<LoadedComponent>, platform: Arc<Platform>) -> (Execution, Step) {
        let mut execution = Execution::start(component, setup(&self.folder, Duration::ZERO), platform).await.unwrap();
        let payload = Packet { data: self.payload.clone().into_bytes(), content_type: "application/json".into() };
        let step = execution.call("chain", &payload).await;
        (execution, step)
    }

    async fn go_on(&self, component: &Arc<LoadedComponent>, snapshot: &[u8], platform: Arc<Platform>) -> (Execution, Step) {
        let request = serde_json::from_slice(&std::fs::read(self.folder.join("wait")).unwrap()).unwrap();
        let setup = setup(&self.folder, Duration::ZERO);
        let mut execution = Execution::restore(component, snapshot, setup, platform).await.unwrap();
        let step = execution.resume(elapsed(&request)).await;
        (execution, step)
    }
}

/// A runtime on a cache and a store that processes share.
pub fn runtime(cache: &Path, blobs: &Path) -> Runtime {
    let (limits, rewriter) = (Limits::default(), rewrite::VERSION);
    let packs = Arc::new(Blobs::open(blobs.to_str().unwrap()).unwrap());
    let (cache, pages) = (cache.to_owned(), cache.with_extension("pages"));
    Runtime::new(RuntimeConfig { cache, pages, packs, cached_bytes: 64 << 20, limits, rewriter }).unwrap()
}

/// How a run in this folder is set up. A sleep that is shorter than `grace` is slept.
pub fn setup(folder: &Path, grace: Duration) -> RunSetup {
    let scratch = folder.join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let machine = Machine::Small1x;
    RunSetup {
        context: context(machine),
        machine,
        cpu_limit: None,
        used_cpu: Duration::ZERO,
        variables: vec![],
        scratch,
        open_files: Default::default(),
        grace,
        egress: Default::default(),
        prices: Default::default(),
    }
}

fn context(machine: Machine) -> RunContext {
    // The same in every process: a snapshot is of one run.
    let (run, begun) = (RunId::from_uuid(uuid::Uuid::from_u128(1)), DateTime::<Utc>::UNIX_EPOCH);
    RunContext {
        run,
        tags: vec![],
        is_test: false,
        is_replay: false,
        created_at: begun,
        started_at: begun,
        parent: None,
        root: run,
        trace: run,
        depth: 0,
        batch: None,
        idempotency_key: None,
        max_attempts: 1,
        max_duration_ms: None,
        attempt: 1,
        attempt_started_at: begun,
        task: "chain".into(),
        queue: QueueId::new(),
        queue_name: "task/chain".into(),
        concurrency_key: None,
        environment: EnvironmentId::new(),
        environment_kind: EnvironmentKind::Development,
        project: ProjectId::new(),
        project_ref: "proj_test".into(),
        project_name: "test".into(),
        deployment: DeploymentId::new(),
        version: "20261120.1".into(),
        machine,
    }
}
