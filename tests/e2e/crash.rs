//! Killing the server, and the database under it, while runs are in every state.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::support::{guests::guest, server::Server};

/// Waits of one run; every other one is a `std::thread::sleep`.
const WAITS: u32 = 6;
/// Runs in flight.
const RUNS: usize = 50;
/// Kills.
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_twenty_times_at_random_moments_loses_no_run_and_ends_none_twice() {
    let mut server = Server::start(&["--grace", "0ms", "--lease", "1s"]).await;
    server.deploy(guest("rust-chain")).await;
    let expected = straight(&server).await;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    let mut random = StdRng::seed_from_u64(seed);
    println!("SEED={seed}");
    let mut runs = Vec::new();
    let begun = Instant::now();
    for round in 0..ROUNDS {
        // A new run takes the place of each that has ended, so that fifty are in flight at every kill.
        let live = count_live(&server, &runs).await;
        runs.extend(trigger(&server, RUNS - live).await);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        server.kill();
        let down = Instant::now();
        server.start_again().await;
        println!("round {round}: {} runs so far, healthy again after {:?}", runs.len(), down.elapsed());
    }
    check_all(&server, &runs, &expected, Duration::from_secs(120)).await;
    println!("{} runs, {ROUNDS} kills, {:?}", runs.len(), begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_restarted_under_the_server_loses_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap();
    let postgres = dormouse::postgres::PrivatePostgres::start(&data).await.unwrap();
    let url = postgres.database_url().to_owned();
    let server = Server::start_with(&["--grace", "0ms", "--lease", "1s"], &[("DATABASE_URL", &url)]).await;
    server.deploy(guest("rust-chain")).await;
    let expected = straight(&server).await;
    let runs = trigger(&server, RUNS).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    postgres.stop().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let postgres = dormouse::postgres::PrivatePostgres::start(&data).await.unwrap();
    assert_eq!(postgres.database_url(), url, "the cluster must be found where it was");
    check_all(&server, &runs, &expected, Duration::from_secs(120)).await;
    drop(server);
    postgres.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_where_another_was_killed_goes_on_with_its_runs_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = dormouse::postgres::PrivatePostgres::start(&folder.path().canonicalize().unwrap()).await.unwrap();
    // A lease that would outlast the test.
    let mut server = Server::start_with(&["--lease", "10m"], &[("DATABASE_URL", postgres.database_url())]).await;
    server.deploy(guest("rust-chain")).await;
    let run = server.trigger("spin", json!(null)).await;
    server.run_with_status(&run, "EXECUTING", Duration::from_secs(30)).await;
    server.kill();
    server.start_again().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let events = server.get(&format!("/api/v1/runs/{run}/events")).await;
        if events["events"].as_array().unwrap().iter().any(|event| event["kind"] == json!("lease-lost")) {
            break;
        }
        assert!(Instant::now() < deadline, "{events:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(server);
    postgres.stop().await;
}

/// What the task returns if nothing happens to it.
async fn straight(server: &Server) -> Value {
    let run = server.trigger("chain", json!({"n": WAITS, "mode": "mixed", "ms": 0})).await;
    server.run_with_status(&run, "COMPLETED", Duration::from_secs(60)).await["output"].clone()
}

async fn trigger(server: &Server, count: usize) -> Vec<String> {
    join_all((0..count).map(|_| server.trigger("chain", json!({"n": WAITS, "mode": "mixed", "ms": 300})))).await
}

async fn count_live(server: &Server, runs: &[String]) -> usize {
    // Older ones have ended long ago.
    let newest = runs.iter().rev().take(RUNS * 2);
    let live = join_all(newest.map(|run| async { server.run(run).await["isCompleted"] != json!(true) })).await;
    live.into_iter().filter(|live| *live).count()
}

/// Every run ends as it would have without the kills, in one attempt, and its history ends once.
async fn check_all(server: &Server, runs: &[String], expected: &Value, within: Duration) {
    let deadline = Instant::now() + within;
    let mut statuses: BTreeMap<String, usize> = BTreeMap::new();
    for run in runs {
        let ended = server.finished(run, deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))).await;
        *statuses.entry(ended["status"].as_str().unwrap().to_owned()).or_default() += 1;
        assert_eq!(ended["status"], json!("COMPLETED"), "{ended:#}");
        assert_eq!(&ended["output"], expected, "{run}");
        assert_eq!(ended["attemptCount"], json!(1), "a crash of the host costs no attempt: {ended:#}");
        let ends = ends_in_history(server, run).await;
        assert_eq!(ends, 1, "{run} ended {ends} times");
    }
    println!("{statuses:?}");
}

async fn ends_in_history(server: &Server, run: &str) -> usize {
    let events = server.get(&format!("/api/v1/runs/{run}/events")).await;
    let events = events["events"].as_array().unwrap();
    assert!(!events.is_empty(), "{run} has no history");
    events.iter().filter(|event| event["status"] == json!("COMPLETED")).count()
}
