//! How many runs execute at a time, as tasks declare it and operators change it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{guests::guest, server::Server};

const SOON: Duration = Duration::from_secs(60);

/// Triggers each task so often, and says how many of all these runs executed at the same time.
async fn most_at_a_time(server: &Server, tasks: &[&str], often: usize) -> usize {
    let mut runs = Vec::new();
    for _ in 0..often {
        for task in tasks {
            runs.push(server.trigger(task, Value::Null).await);
        }
    }
    let mut spans = Vec::new();
    for run in &runs {
        let ended = server.run_with_status(run, "COMPLETED", SOON).await;
        spans.push((ended["output"][0].as_u64().unwrap(), ended["output"][1].as_u64().unwrap()));
    }
    spans.iter().map(|(begun, _)| spans.iter().filter(|(other, end)| other <= begun && begun < end).count()).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_runs_execute_than_their_limits_allow_and_operators_may_change_these() {
    // A wait that may be over before this stays in memory, and keeps its place.
    let server = Server::start(&["--grace", "5s"]).await;
    server.deploy(guest("rust-chain")).await;
    let command = async |arguments: &[&str]| server.command(arguments, "").await;
    assert_eq!(most_at_a_time(&server, &["single"], 4).await, 1);
    assert_eq!(most_at_a_time(&server, &["shared", "other-shared"], 4).await, 2);
    let listed = command(&["limits", "list"]).await.ok();
    assert!(listed.contains("task/single") && listed.contains("two"), "{listed}");

    assert!(command(&["limits", "set", "two", "--total", "1"]).await.ok().contains("2 / none"));
    assert_eq!(most_at_a_time(&server, &["shared", "other-shared"], 2).await, 1);
    command(&["limits", "reset", "two"]).await.ok();
    let shown: Value = serde_json::from_str(&command(&["limits", "get", "two", "--json"]).await.ok()).unwrap();
    assert_eq!((&shown["total"]["current"], &shown["running"], &shown["queued"]), (&json!(2), &json!(0), &json!(0)));

    assert!(command(&["limits", "pause", "task/single"]).await.ok().contains("paused"));
    let held = server.trigger("single", Value::Null).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.run(&held).await["status"], "QUEUED");
    command(&["limits", "resume", "task/single"]).await.ok();
    server.run_with_status(&held, "COMPLETED", SOON).await;

    assert!(command(&["limits", "environment", "--limit", "1"]).await.ok().contains('1'));
    assert_eq!(most_at_a_time(&server, &["single", "shared"], 2).await, 1);
    assert!(command(&["limits", "environment", "--no-limit", "--pause"]).await.ok().contains("paused"));
    let held = server.trigger("echo", json!(1)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.run(&held).await["status"], "QUEUED");
    command(&["limits", "environment", "--resume"]).await.ok();
    server.run_with_status(&held, "COMPLETED", SOON).await;
    assert_eq!(command(&["limits", "get", "nothing"]).await.code, Some(1));
    assert_eq!(command(&["limits", "set", "two"]).await.code, Some(2), "it needs a bound");
}
