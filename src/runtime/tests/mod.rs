//! The runtime through its public door: a component by hand, rewritten, compiled, run, captured and restored.

mod components;
mod executions;

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tempfile::TempDir;

use super::{Execution, LoadedComponent, Part, PrepareError, RunSetup, Runtime, RuntimeConfig, Step};
use crate::{
    blobs::Blobs,
    host::testing::Recorder,
    model::{
        context::{EnvironmentKind, RunContext},
        id::{DeploymentId, EnvironmentId, ProjectId, QueueId, RunId},
        machine::Machine,
        payload::Packet,
        waitpoint::{Completion, Resolution},
    },
    rewrite::{self, Limits},
};

fn guest() -> Vec<u8> {
    wat::parse_str(include_str!("guest.wat")).unwrap()
}

/// A runtime with its own folder, and folders for runs.
struct Bench {
    folder: TempDir,
    runtime: Runtime,
    /// The run that every setup is for.
    run: RunId,
}

impl Bench {
    fn new() -> Bench {
        let folder = TempDir::new().unwrap();
        let runtime = runtime(folder.path().join("cache"));
        Bench { folder, runtime, run: RunId::new() }
    }

    async fn load(&self) -> Arc<LoadedComponent> {
        self.prepare(guest()).await.unwrap()
    }

    /// Rewritten and compiled.
    async fn prepare(&self, component: Vec<u8>) -> Result<Arc<LoadedComponent>, PrepareError> {
        let rewritten = self.runtime.rewrite(component.into()).await?;
        self.runtime.load(&rewritten.rewriting, Part::Whole, async || Ok(rewritten.bytes)).await
    }

    fn setup(&self, machine: Machine) -> RunSetup {
        let scratch = self.folder.path().join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        RunSetup {
            context: context(self.run, machine),
            machine,
            cpu_limit: None,
            used_cpu: Duration::ZERO,
            variables: Vec::new(),
            scratch,
            open_files: Default::default(),
            grace: Duration::ZERO,
            egress: Default::default(),
            prices: Default::default(),
        }
    }
}

fn runtime(cache: PathBuf) -> Runtime {
    of_version(cache, rewrite::VERSION)
}

/// A runtime whose rewritings are of this version.
fn of_version(cache: PathBuf, rewriter: u32) -> Runtime {
    // All runtimes of a test share what is stored, as all processes do.
    let packs = Arc::new(Blobs::open(cache.with_file_name("blobs").to_str().unwrap()).unwrap());
    let (pages, limits) = (cache.with_extension("pages"), Limits::default());
    Runtime::new(RuntimeConfig { cache, pages, packs, cached_bytes: 64 << 20, limits, rewriter }).unwrap()
}

fn context(run: RunId, machine: Machine) -> RunContext {
    let now = DateTime::<Utc>::UNIX_EPOCH;
    RunContext {
        run,
        tags: Vec::new(),
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
        task: "waits".into(),
        queue: QueueId::new(),
        queue_name: "task/waits".into(),
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

fn elapsed() -> Vec<Completion> {
    vec![Completion { index: 0, resolution: Resolution::Elapsed }]
}

/// The output of a run none of whose waits is suspended.
async fn straight(bench: &Bench, component: &Arc<LoadedComponent>) -> Packet {
    let caller = Recorder::default();
    (0..100).for_each(|_| caller.answer(elapsed()));
    let mut execution = Execution::start(component, bench.setup(Machine::Micro), Arc::new(caller)).await.unwrap();
    match execution.call("waits", &Packet::empty()).await {
        Step::Returned(Ok(output)) => output,
        other => panic!("{other:?}"),
    }
}
