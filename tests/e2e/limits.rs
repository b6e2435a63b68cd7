//! How many runs execute at a time, as tasks declare it and operators change it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{eventually, guests::guest, server::Server};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_gives_its_place_up_at_once_where_every_place_is_taken() {
    // By themselves, waits of less than this stay in memory.
    let server = Server::start(&["--concurrency", "1", "--grace", "90s"]).await;
    server.deploy(guest("rust-chain")).await;
    let waiting = server.trigger("member", json!({"name": "waiting", "ms": 5000})).await;
    eventually("it begins", SOON, async || (server.run(&waiting).await["status"] != "QUEUED").then_some(())).await;
    let other = server.trigger("echo", json!(1)).await;
    server.run_with_status(&other, "COMPLETED", SOON).await;
    assert_ne!(server.run(&waiting).await["status"], "COMPLETED", "it still waits");
    server.run_with_status(&waiting, "COMPLETED", SOON).await;
    let events = server.get(&format!("/api/v1/runs/{waiting}/events")).await;
    assert!(events["events"].as_array().unwrap().iter().any(|event| event["kind"] == "suspended"), "{events}");
}

/// Status and message.
async fn post(server: &Server, path: &str, body: Value) -> (u16, String) {
    let answer = server.request(Method::POST, path).json(&body).send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_full_refuses_what_would_come_into_line_until_runs_have_begun() {
    let server = Server::start(&["--max-queued-dev", "3"]).await;
    server.deploy(guest("rust-chain")).await;
    server.command(&["queues", "pause", "task/echo"], "").await.ok();
    let trigger =
        async |options: Value| post(&server, "/api/v1/tasks/echo/trigger", json!({"payload": 1, "options": options})).await;
    let first = json!({"idempotencyKey": "first"});
    assert_eq!(trigger(first.clone()).await.0, 200);
    assert_eq!(trigger(json!({})).await.0, 200);
    let items = |count| json!({"items": vec![json!({"task": "echo", "payload": 1}); count]});
    let (status, error) = post(&server, "/api/v2/tasks/batch", items(2)).await;
    assert_eq!(status, 422, "{error}");
    assert_eq!(post(&server, "/api/v2/tasks/batch", items(1)).await.0, 202);
    for answer in
        [trigger(json!({})).await, trigger(json!({"delay": "1h"})).await, post(&server, "/api/v2/tasks/batch", items(1)).await]
    {
        assert_eq!(answer.0, 422, "{}", answer.1);
        for words in ["task/echo", "takes 3 runs", "--max-queued"] {
            assert!(answer.1.contains(words), "{}", answer.1);
        }
    }
    assert_eq!(trigger(first).await.0, 200, "the run is there");
    assert_eq!(server.get("/api/v1/runs").await["data"].as_array().unwrap().len(), 3);

    server.command(&["queues", "resume", "task/echo"], "").await.ok();
    eventually("there is room again", SOON, async || (trigger(json!({})).await.0 == 200).then_some(())).await;
    eventually("all of them end", SOON, async || {
        let open = server.get("/api/v1/runs?filter%5Bstatus%5D=QUEUED%2CDEQUEUED%2CEXECUTING").await;
        open["data"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    assert_eq!(server.get("/api/v1/runs").await["data"].as_array().unwrap().len(), 4);
}
