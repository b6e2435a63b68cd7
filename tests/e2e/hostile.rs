//! Guests that take more than their share, or what is not theirs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{eventually, guests::guest, server::Server};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lines_at_once_are_all_kept_up_to_the_limit_which_is_said() {
    let server = Server::start(&[]).await;
    server.deploy(guest("rust-chain")).await;
    let flood = |what: &str, count: u64| json!({"what": what, "count": count});
    let many = server.trigger("flood", flood("lines", 5000)).await;
    server.run_with_status(&many, "COMPLETED", SOON).await;
    let lines: Vec<String> = stdout(&server, &many).await;
    assert_eq!(lines.len(), 5000);
    assert!(lines.iter().enumerate().all(|(n, line)| *line == format!("line {n}")), "in order");

    let too_many = server.trigger("flood", flood("lines", 1_000_000)).await;
    let endless = server.trigger("flood", flood("no-newline", 2000)).await;
    let large = server.trigger("flood", flood("attributes", 2000)).await;
    for run in [&too_many, &endless, &large] {
        server.run_with_status(run, "COMPLETED", SOON).await;
        let lines = server.logs(run).await;
        assert!(lines.len() <= 10_000, "{} lines", lines.len());
        let is_told = |line: &str| line.contains("were dropped") || line.contains("at most 10000 lines");
        assert!(lines.iter().any(|(source, line)| source == "host" && is_told(line)), "{run}: {:?}", lines.last());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_that_a_run_repeats_after_a_kill_count_once() {
    let mut server = Server::start(&["--lease", "1s"]).await;
    server.deploy(guest("rust-chain")).await;
    let run = server.trigger("flood", json!({"what": "metadata", "count": 500})).await;
    for least in [50, 150] {
        eventually("some increments are made", SOON, async || {
            let run = server.run(&run).await;
            (run["metadata"]["n"].as_u64() >= Some(least)).then_some(())
        })
        .await;
        server.kill();
        server.start_again().await;
    }
    let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
    assert_eq!(ended["metadata"], json!({"n": 500}), "{ended:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_fills_the_disk_with_files_is_stopped_and_leaves_none() {
    let server = Server::start(&[]).await;
    server.deploy(guest("rust-chain")).await;
    let run = server.trigger("flood", json!({"what": "files", "count": 100_000_000})).await;
    let ended = server.run_with_status(&run, "CRASHED", SOON * 2).await;
    assert!(ended["error"].to_string().contains("files and folders"), "{ended:#}");
    eventually("the files are removed", SOON, async || {
        let left = super::files(&server.data().join("scratch"));
        left.iter().all(|file| file.extension().is_some_and(|extension| extension == "lock")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_sees_neither_the_servers_variables_nor_its_files() {
    let server = Server::start_with(&[], &[("DORMOUSE_TEST_SECRET", "secret")]).await;
    server.deploy(guest("rust-chain")).await;
    let paths = ["/etc/passwd", "../../../../etc/passwd", "/..", "../dev.json", "/proc/self/environ"];
    let run = server.trigger("peek", json!(paths)).await;
    let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
    assert_eq!(ended["output"], json!([Value::Array(vec![]), Value::Array(vec![])]), "{ended:#}");
}

async fn stdout(server: &Server, run: &str) -> Vec<String> {
    let lines = server.logs(run).await;
    lines.into_iter().filter(|(source, _)| source == "stdout").map(|(_, line)| line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_compute_without_end_keep_neither_requests_nor_other_tasks_nor_leases_waiting() {
    let server = Server::start(&["--lease", "3s"]).await;
    server.deploy(guest("rust-chain")).await;
    // Several for each core, for longer than a few leases.
    let mut spins = Vec::new();
    for _ in 0..12 {
        spins.push(server.trigger_with("spin", json!(null), json!({"maxDuration": 3600})).await);
    }
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(12) {
        let asked = Instant::now();
        server.run(&spins[0]).await;
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("the slowest answer took {slowest:?}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    let run = server.trigger("chain", json!({"n": 2, "mode": "wait", "ms": 10})).await;
    server.run_with_status(&run, "COMPLETED", SOON).await;
    for run in &spins {
        let events = server.get(&format!("/api/v1/runs/{run}/events")).await;
        let kinds: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
        assert_eq!(kinds, [json!("triggered"), json!("claimed")], "no lease is lost");
    }
}
