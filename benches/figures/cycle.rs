//! What a suspension costs: bytes of the snapshot, and the time from a resumed wait to the next one's snapshot.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dormouse::{
    blobs::{Area, Blobs},
    model::payload::Packet,
    runtime::{Execution, LoadedComponent, Part, RunSetup, Runtime, Snapshot, Step},
};
use serde_json::{Value, json};

use crate::{
    guests::{self, Folder, Suspending, elapsed},
    report::{Report, process_cpu},
};

const WARM_UP: usize = 100;
const CYCLES: usize = 2_000;
/// Cycles that sync files.
const STORED_CYCLES: usize = 300;

/// A task that waits more often than is measured.
pub struct Waiting {
    /// Guest.
    pub guest: &'static str,
    /// Task.
    pub task: &'static str,
    /// Milliseconds that a cycle may take, half of the time.
    cycle_ms: Option<f64>,
    /// KiB that a snapshot may take in store.
    stored_kib: Option<f64>,
}

/// A loop around a wait, and chains of waits in all kinds of stacks.
pub const WAITING: [Waiting; 6] = [
    Waiting { guest: "bench", task: "bench-loop", cycle_ms: Some(0.15), stored_kib: Some(16.0) },
    Waiting { guest: "rust-chain", task: "chain", cycle_ms: Some(0.15), stored_kib: Some(16.0) },
    Waiting { guest: "c-chain", task: "chain", cycle_ms: None, stored_kib: None },
    Waiting { guest: "js-chain", task: "chain", cycle_ms: Some(0.6), stored_kib: Some(128.0) },
    Waiting { guest: "python-chain", task: "chain", cycle_ms: Some(2.0), stored_kib: Some(384.0) },
    Waiting { guest: "go-chain", task: "chain", cycle_ms: None, stored_kib: None },
];

impl Waiting {
    /// What the task is called with.
    pub fn payload(&self) -> Value {
        json!({ "k": null, "n": WARM_UP + CYCLES + 10, "ms": 60_000, "mode": "wait" })
    }
}

/// One run of a waiting task, moved from instance to instance.
pub struct Chain {
    component: Arc<LoadedComponent>,
    setup: RunSetup,
    /// What the next cycle begins with.
    pub snapshot: Snapshot,
    _runtime: Runtime,
    /// Holds the scratch folder.
    _folder: Folder,
}

/// The parts of one cycle.
pub struct Parts {
    pub restore: Duration,
    pub resume: Duration,
    pub capture: Duration,
    pub drop: Duration,
    pub whole: Duration,
}

impl Chain {
    /// Runs the task up to its first wait.
    pub async fn begin(waiting: &Waiting) -> anyhow::Result<Chain> {
        let folder = Folder::new()?;
        let (runtime, component) = guests::load(waiting.guest, Part::Whole, &folder).await?;
        let setup = guests::setup(&folder)?;
        let mut execution = Execution::start(&component, setup.clone(), Arc::new(Suspending)).await?;
        first_wait(&mut execution, waiting).await?;
        let snapshot = execution.capture().await?;
        Ok(Chain { component, setup, snapshot, _runtime: runtime, _folder: folder })
    }

    /// From the snapshot to the next one, in a fresh instance.
    pub async fn cycle(&mut self) -> anyhow::Result<Parts> {
        let begun = Instant::now();
        let setup = self.setup.clone();
        let mut execution = Execution::restore(&self.component, &self.snapshot.bytes, setup, Arc::new(Suspending)).await?;
        let restored = Instant::now();
        let step = execution.resume(elapsed()).await;
        let resumed = Instant::now();
        expect_wait(step)?;
        self.snapshot = execution.capture().await?;
        let captured = Instant::now();
        drop(execution);
        let dropped = Instant::now();
        Ok(Parts {
            restore: restored - begun,
            resume: resumed - restored,
            capture: captured - resumed,
            drop: dropped - captured,
            whole: dropped - begun,
        })
    }
}

/// Enters the task and lets it come to its first wait.
pub async fn first_wait(execution: &mut Execution, waiting: &Waiting) -> anyhow::Result<()> {
    expect_wait(execution.call(waiting.task, &Packet::json(&waiting.payload())).await)
}

fn expect_wait(step: Step) -> anyhow::Result<()> {
    match step {
        Step::Suspended(_) => Ok(()),
        other => anyhow::bail!("the task was to wait, but: {other:?}"),
    }
}

/// Sizes of snapshots.
pub async fn snapshot(report: &mut Report) -> anyhow::Result<()> {
    for waiting in report.asked(&WAITING, |waiting| waiting.guest) {
        let mut chain = Chain::begin(waiting).await?;
        let (mut raw, mut stored) = (vec![], vec![]);
        for _ in 0..WARM_UP {
            chain.cycle().await?;
            raw.push(chain.snapshot.raw_bytes);
            stored.push(chain.snapshot.bytes.len());
        }
        raw.sort_unstable();
        stored.sort_unstable();
        let name = waiting.guest;
        report.figure(&format!("{name}: raw, median"), raw[raw.len() / 2] as f64 / 1024.0, "KiB");
        report.figure(&format!("{name}: stored, median"), stored[stored.len() / 2] as f64 / 1024.0, "KiB");
        let (metric, largest) = (format!("{name}: stored, largest"), stored[stored.len() - 1] as f64 / 1024.0);
        match waiting.stored_kib {
            Some(target) => report.at_most(&metric, largest, "KiB", target),
            None => report.figure(&metric, largest, "KiB"),
        }
    }
    Ok(())
}

/// Times of cycles, without storage and with snapshots that are synced to disk and read back.
pub async fn cycle(report: &mut Report) -> anyhow::Result<()> {
    for waiting in report.asked(&WAITING, |waiting| waiting.guest) {
        let mut chain = Chain::begin(waiting).await?;
        for _ in 0..WARM_UP {
            chain.cycle().await?;
        }
        let (mut all, begun) = (vec![], process_cpu());
        for _ in 0..CYCLES - STORED_CYCLES {
            all.push(chain.cycle().await?);
        }
        let (name, cpu) = (waiting.guest, process_cpu() - begun);
        report.figure(&format!("{name}: CPU time of a cycle, mean"), cpu.as_secs_f64() * 1000.0 / all.len() as f64, "ms");
        let mut part = |which: &str, target: Option<f64>, of: fn(&Parts) -> Duration| {
            report.percentiles(&format!("{name}: {which}"), &mut all.iter().map(of).collect::<Vec<_>>(), target);
        };
        part("restore", None, |parts| parts.restore);
        part("resume to next wait", None, |parts| parts.resume);
        part("capture", None, |parts| parts.capture);
        part("drop", None, |parts| parts.drop);
        part("whole cycle", waiting.cycle_ms, |parts| parts.whole);

        let mut stored = stored_cycles(&mut chain).await?;
        report.percentiles(&format!("{name}: whole cycle, synced to disk"), &mut stored, None);
    }
    Ok(())
}

async fn stored_cycles(chain: &mut Chain) -> anyhow::Result<Vec<Duration>> {
    let folder = Folder::new()?;
    let blobs = Blobs::open(&folder.path().display().to_string())?;
    let mut digest = blobs.put(Area::Checkpoints, chain.snapshot.bytes.clone().into()).await?;
    let mut durations = vec![];
    for _ in 0..STORED_CYCLES {
        let begun = Instant::now();
        chain.snapshot.bytes = blobs.get(Area::Checkpoints, &digest).await?.into();
        chain.cycle().await?;
        digest = blobs.put(Area::Checkpoints, chain.snapshot.bytes.clone().into()).await?;
        durations.push(begun.elapsed());
    }
    Ok(durations)
}
