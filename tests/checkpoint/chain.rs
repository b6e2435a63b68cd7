//! A run in as many processes as it has waits, next to the same run in one.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use dormouse::{
    model::payload::Packet,
    runtime::{Execution, LoadedComponent, PrepareError, Step},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    caller::{Platform, Waits, elapsed, transcript},
    prepared::Prepared,
    step::{self, Report},
};

/// Milliseconds of each wait. Long enough for the guest to get from reading the clock to its wait on a busy machine: a wait
/// whose time has come before it begins suspends nothing.
const SUSPENDED_MS: u32 = 100;
/// One sleep in so many may be late.
const LATE: u32 = 50;
/// The same for the straight run, which really sleeps.
const STRAIGHT_MS: u32 = 1;
/// A process takes a fraction of a second; this one hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A guest whose component is compiled.
pub struct Guest {
    name: &'static str,
    folder: TempDir,
    cache: PathBuf,
    component: Arc<LoadedComponent>,
    whole: Arc<LoadedComponent>,
    /// Keeps the clock of `component` ticking.
    _runtime: dormouse::runtime::Runtime,
}

impl Guest {
    pub async fn prepare(name: &'static str) -> Guest {
        Guest::try_prepare(name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    /// # Errors
    /// If the component is refused.
    pub async fn try_prepare(name: &'static str) -> Result<Guest, PrepareError> {
        let folder = tempfile::Builder::new().prefix("dormouse-chain-").tempdir().unwrap();
        let Prepared { kept, beginning, whole, runtime } = Prepared::new(name, &folder.path().join("blobs")).await?;
        Ok(Guest { name, folder, cache: kept.cache, component: beginning, whole, _runtime: runtime })
    }
}

/// A run with many waits.
pub struct Chain<'g> {
    pub guest: &'g Guest,
    pub mode: &'static str,
    pub waits: u32,
}

/// All that can be seen of a run.
struct Seen {
    output: Value,
    /// Standard output, standard error and the log, in the order they were written in.
    transcript: Vec<Value>,
}

impl Seen {
    fn assert_is(&self, straight: &Seen, name: &str, waits: u32) {
        for (number, (expected, actual)) in straight.transcript.iter().zip(&self.transcript).enumerate() {
            assert_eq!(actual, expected, "{name}: line {number} of the transcript");
        }
        assert_eq!(self.transcript.len(), straight.transcript.len(), "{name}: lines of the transcript");
        assert_eq!(self.output, straight.output, "{name}");
        assert_eq!(self.output["waits"], waits, "{name}");
    }
}

impl Chain<'_> {
    pub async fn lives_through_a_process_for_each_wait(self) {
        let name = format!("{} {}", self.guest.name, self.mode);
        let begun = Instant::now();
        let straight = self.straight().await;
        let (chained, reports) = self.in_processes().await;
        chained.assert_is(&straight, &name, self.waits);
        let pids: HashSet<u32> = reports.iter().map(|report| report.pid).chain([std::process::id()]).collect();
        assert_eq!(pids.len(), reports.len() + 1, "{name}: every step was a process of its own");
        let suspensions = reports.iter().filter(|report| report.is_suspended).count() as u32;
        // Of the language's own sleeps a few may be over before they begin, on a machine that has other things to do.
        let late = if self.mode == "wait" { 0 } else { self.waits / LATE };
        assert!((self.waits - late..=self.waits).contains(&suspensions), "{name}: {suspensions} waits were suspended");
        let (lines, seconds) = (straight.transcript.len(), begun.elapsed().as_secs_f32());
        println!("{name}: {suspensions} suspensions, {} processes, {lines} lines, {seconds:.1} s", reports.len());
    }

    /// The same without the processes: many more waits, each in a fresh instance.
    pub async fn lives_through_its_waits(self) {
        let (name, begun) = (self.guest.name, Instant::now());
        let straight = self.straight().await;
        let chained = self.in_instances().await;
        chained.assert_is(&straight, name, self.waits);
        let (lines, seconds) = (straight.transcript.len(), begun.elapsed().as_secs_f32());
        println!("{name}: {} suspensions, {lines} lines, {seconds:.1} s", self.waits);
    }

    async fn in_instances(&self) -> Seen {
        let folder = self.guest.folder.path().join("instances");
        let setup = step::setup(&folder, Duration::ZERO);
        let platform = Arc::new(Platform::new(Waits::Suspended, &folder.join("log")));
        let mut execution = Execution::start(&self.guest.whole, setup.clone(), platform.clone()).await.unwrap();
        let payload = Packet { data: self.payload(SUSPENDED_MS).into_bytes(), content_type: "application/json".into() };
        let mut step = execution.call("chain", &payload).await;
        let mut packs = HashSet::new();
        while let Step::Suspended(request) = step {
            let snapshot = execution.capture().await.unwrap();
            let named: HashSet<String> = snapshot.packs.into_iter().collect();
            for digest in packs.difference(&named) {
                std::fs::remove_file(self.guest.folder.path().join("blobs/pages").join(&digest[..2]).join(digest)).unwrap();
            }
            packs = named;
            execution = Execution::restore(&self.guest.whole, &snapshot.bytes, setup.clone(), platform.clone()).await.unwrap();
            step = execution.resume(elapsed(&request)).await;
        }
        assert_eq!(platform.asked(), self.waits, "{}: every wait was suspended", self.guest.name);
        match step {
            Step::Returned(Ok(output)) => {
                Seen { output: serde_json::from_slice(&output.data).unwrap(), transcript: transcript(&folder.join("log")) }
            }
            other => panic!("{}: {other:?}", self.guest.name),
        }
    }

    fn payload(&self, ms: u32) -> String {
        json!({"n": self.waits, "mode": self.mode, "ms": ms}).to_string()
    }

    /// The run in one go: waits are over at once, sleeps are slept.
    async fn straight(&self) -> Seen {
        let folder = self.guest.folder.path().join(format!("{}-straight", self.mode));
        let setup = step::setup(&folder, Duration::MAX);
        let platform = Arc::new(Platform::new(Waits::Straight, &folder.join("log")));
        let mut execution = Execution::start(&self.guest.component, setup, platform).await.unwrap();
        let payload = Packet { data: self.payload(STRAIGHT_MS).into_bytes(), content_type: "application/json".into() };
        let output = match execution.call("chain", &payload).await {
            Step::Returned(Ok(output)) => serde_json::from_slice(&output.data).unwrap(),
            other => panic!("{other:?}"),
        };
        Seen { output, transcript: transcript(&folder.join("log")) }
    }

    async fn in_processes(&self) -> (Seen, Vec<Report>) {
        let folder = self.guest.folder.path().join(self.mode);
        std::fs::create_dir_all(&folder).unwrap();
        let output = folder.join("output");
        let mut pids = vec![];
        while !output.exists() {
            assert!(pids.len() <= self.waits as usize, "there are more suspensions than waits");
            pids.push(self.process(&folder).await);
        }
        let steps = std::fs::read_to_string(folder.join("steps")).unwrap();
        let reports: Vec<Report> = steps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(reports.iter().map(|report| report.pid).collect::<Vec<_>>(), pids, "each process reports once, in order");
        let output = serde_json::from_slice(&std::fs::read(output).unwrap()).unwrap();
        (Seen { output, transcript: transcript(&folder.join("log")) }, reports)
    }

    /// One process, to its end; its pid.
    async fn process(&self, folder: &Path) -> u32 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["checkpoint::step_of_a_chain", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(step::FOLDER, folder).env(step::CACHE, &self.guest.cache);
        command
            .env(step::COMPONENT, json!(self.guest.component.rewriting()).to_string())
            .env(step::PAYLOAD, self.payload(SUSPENDED_MS));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let pid = child.id().expect("it was not waited for yet");
        let ended = tokio::time::timeout(HANGS, child.wait_with_output()).await.expect("the process ends").unwrap();
        let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{} {}, process {pid}: {said}", self.guest.name, self.mode);
        pid
    }
}
