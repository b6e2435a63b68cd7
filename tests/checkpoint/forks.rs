//! One snapshot, restored more than once: what a run must not share with its double. And what happens at the end of a very deep stack.

use std::{path::Path, sync::Arc, time::Duration};

use dormouse::{
    model::{payload::Packet, waitpoint::WaitRequest},
    runtime::{Execution, LoadedComponent, Runtime, Snapshot, Step},
};
use serde_json::{Value, json};

use super::{
    caller::{Platform, Waits, elapsed},
    prepared::Prepared,
    step,
};

/// Between the snapshot and the first time it goes on.
const ASLEEP: Duration = Duration::from_millis(300);
/// More calls than fit into two MiB of native stack.
const CALLS: u64 = 20_000;

struct Bench {
    folder: tempfile::TempDir,
    component: Arc<LoadedComponent>,
    _runtime: Runtime,
}

impl Bench {
    async fn new(guest: &'static str) -> Bench {
        let folder = tempfile::Builder::new().prefix("dormouse-forks-").tempdir().unwrap();
        let Prepared { whole: component, runtime, .. } = Prepared::new(guest, &folder.path().join("blobs")).await.unwrap();
        Bench { folder, component, _runtime: runtime }
    }

    fn scratch(&self) -> &Path {
        self.folder.path()
    }

    fn platform(&self) -> Arc<Platform> {
        Arc::new(Platform::new(Waits::Suspended, &self.scratch().join("log")))
    }

    async fn suspended(&self, task: &str, payload: Value) -> (Snapshot, WaitRequest) {
        let setup = step::setup(self.scratch(), Duration::ZERO);
        let mut execution = Execution::start(&self.component, setup, self.platform()).await.unwrap();
        match execution.call(task, &Packet::json(&payload)).await {
            Step::Suspended(request) => (execution.capture().await.unwrap(), request),
            other => panic!("{other:?}"),
        }
    }

    async fn goes_on(&self, (snapshot, request): &(Snapshot, WaitRequest)) -> Value {
        let setup = step::setup(self.scratch(), Duration::ZERO);
        let mut execution = Execution::restore(&self.component, &snapshot.bytes, setup, self.platform()).await.unwrap();
        match execution.resume(elapsed(request)).await {
            Step::Returned(Ok(output)) => serde_json::from_slice(&output.data).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_from_one_snapshot_share_the_past_and_neither_random_numbers_nor_time() {
    let bench = Bench::new("rust-chain").await;
    let suspended = bench.suspended("fork", json!(null)).await;
    tokio::time::sleep(ASLEEP).await;
    let one = bench.goes_on(&suspended).await;
    tokio::time::sleep(ASLEEP).await;
    let other = bench.goes_on(&suspended).await;
    assert_eq!(one["random"][0], other["random"][0], "both have the same past");
    assert_ne!(one["random"][1], other["random"][1], "{one} and {other}");
    let ms = |seen: &Value, what: &str| seen[what].as_u64().unwrap();
    let asleep = ASLEEP.as_millis() as u64;
    assert!(ms(&one, "elapsed_ms") >= asleep, "the time asleep has passed on the monotonic clock too: {one}");
    assert!(ms(&other, "elapsed_ms") >= 2 * asleep, "{other}");
    let now = chrono::Utc::now().timestamp_millis().unsigned_abs();
    assert!((now - 60_000..=now).contains(&ms(&other, "now_ms")), "the wall clock is today's: {other}, now {now}");
    assert!(ms(&one, "now_ms") + asleep <= ms(&other, "now_ms"), "{one} and {other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_below_twenty_thousand_calls_returns_to_all_of_them() {
    let bench = Bench::new("rust-chain").await;
    let expected = (1..=CALLS).fold(0_u64, |sum, left| sum.wrapping_mul(31).wrapping_add(left));
    let suspended = bench.suspended("deep", json!({ "calls": CALLS })).await;
    assert!(suspended.0.raw_bytes > 16 * CALLS, "every call is in the snapshot, of {} bytes", suspended.0.raw_bytes);
    assert_eq!(bench.goes_on(&suspended).await, json!(expected));
}

/// The host's stack has room for all that JavaScript's own limit allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recursion_without_end_in_javascript_is_an_error_that_it_can_catch() {
    let bench = Bench::new("js-chain").await;
    let setup = step::setup(bench.scratch(), Duration::ZERO);
    let mut execution = Execution::start(&bench.component, setup, bench.platform()).await.unwrap();
    let output: Value = match execution.call("depths", &Packet::json(&json!(null))).await {
        Step::Returned(Ok(output)) => serde_json::from_slice(&output.data).unwrap(),
        other => panic!("{other:?}"),
    };
    for how in ["plain", "sorting", "parsing"] {
        assert_eq!(output[how]["name"], "InternalError", "{output:#}");
        assert!(output[how]["calls"].as_u64().unwrap() > 50, "{output:#}");
    }
}
