//! What users and guests do wrong, each through the door it comes in by, and the answer that tells them what to do.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::snapshots::{TOO_LARGE_FOR_A_ROW, ballast};
use crate::support::{eventually, guests::guest, server::Server};

const SOON: Duration = Duration::from_secs(60);

/// Uploads bytes as a bundle: status and body.
async fn upload(server: &Server, bytes: Vec<u8>) -> (u16, Value) {
    let request = server.request(Method::POST, "/api/v1/deployments").header("content-type", "application/wasm");
    answer(request.body(bytes)).await
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_cannot_be_run_is_refused_with_every_reason() {
    let server = Server::start(&[]).await;
    let (status, body) = upload(&server, b"not a component".to_vec()).await;
    assert_eq!(status, 422, "{body}");
    assert!(body["error"].as_str().unwrap().contains("component"), "{body}");

    let (status, body) = upload(&server, wat::parse_str("(module)").unwrap()).await;
    assert_eq!(status, 422, "a core module: {body}");

    let (status, body) = upload(&server, wat::parse_str("(component)").unwrap()).await;
    assert_eq!(status, 422, "{body}");
    assert!(body["reasons"][0]["reason"].as_str().unwrap().contains("dormouse:task/tasks"), "{body}");

    let refused = r#"(component
        (core module $memory (memory (export "m") 1 1 shared) (func $grow (export "f") (drop (memory.atomic.notify (i32.const 0) (i32.const 1)))))
        (core instance (instantiate $memory)))"#;
    let (status, body) = upload(&server, wat::parse_str(refused).unwrap()).await;
    assert_eq!(status, 422, "{body}");
    assert!(body.to_string().contains("shared") || body.to_string().contains("atomic"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_200_megabytes_is_refused_before_it_is_read() {
    let server = Server::start(&[]).await;
    let begun = Instant::now();
    let (status, body) = upload(&server, vec![0; 200 << 20]).await;
    assert_eq!(status, 413, "{body}");
    assert!(body["error"].as_str().unwrap().contains("bytes"), "names the limit: {body}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_break_a_rule_are_told_which() {
    let server = Server::start(&[]).await;
    server.deploy(guest("rust-chain")).await;
    let trigger = |task: &str| server.request(Method::POST, &format!("/api/v1/tasks/{task}/trigger"));

    let (status, body) = answer(trigger("echo").body("{not json").header("content-type", "application/json")).await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(body["error"], json!("Invalid request body"), "{body}");

    let (status, body) = answer(trigger("echo").json(&json!({"payload": "x".repeat(3 * 1024 * 1024 + 1)}))).await;
    assert_eq!(status, 413, "{body}");

    let url = format!("{}/api/v1/tasks/echo/trigger", server.url);
    let http = reqwest::Client::new();
    for request in [http.post(&url), http.post(&url).bearer_auth("tr_dev_wrong"), http.post(&url).bearer_auth("nonsense")] {
        let (status, body) = answer(request.json(&json!({}))).await;
        assert_eq!(status, 401, "{body}");
        assert!(body["error"].as_str().unwrap().contains("API key"), "{body}");
    }

    let (status, body) = answer(server.request(Method::GET, "/api/v3/runs/run_nothing")).await;
    assert_eq!(status, 404, "{body}");

    // A task that is not deployed yet is no error: the run waits for it. Source: facts 7.1.
    let run = server.trigger("nobody-has-this", json!({})).await;
    assert_eq!(server.run(&run).await["status"], json!("PENDING_VERSION"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_misbehave_end_with_the_reason_and_disturb_nobody() {
    let server = Server::start(&["--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let bystander = server.trigger("chain", json!({"n": 40, "mode": "mixed", "ms": 50})).await;

    let spin = server.trigger_with("spin", json!(null), json!({"maxDuration": 5})).await;
    let expectations = [
        (server.trigger("trap", json!(null)).await, "CRASHED", "abort"),
        (server.trigger("panic", json!(null)).await, "CRASHED", ""),
        (server.trigger("exit", json!({"code": 3})).await, "CRASHED", "3"),
        (server.trigger("alloc", json!({})).await, "CRASHED", "memory"),
        (server.trigger("big-output", json!({"bytes": 11 << 20})).await, "FAILED", "output"),
        (spin, "TIMED_OUT", ""),
    ];
    for (run, status, words) in expectations {
        let ended = server.run_with_status(&run, status, SOON).await;
        let error = ended["error"].to_string().to_lowercase();
        assert!(error.contains(words), "{words}: {ended:#}");
    }
    server.run_with_status(&bystander, "COMPLETED", SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_attempt_is_tried_again_as_the_task_or_its_error_says() {
    let server = Server::start(&[]).await;
    server.deploy(guest("rust-chain")).await;
    let second = server.trigger("fail", json!({"decision": "policy", "succeeds_at": 2})).await;
    let all = server.trigger("fail", json!({"decision": "policy"})).await;
    let once = server.trigger("fail", json!({"decision": "abort"})).await;
    let later = server.trigger("fail", json!({"decision": "after", "ms": 300, "succeeds_at": 2})).await;

    let run = server.run_with_status(&second, "COMPLETED", SOON).await;
    assert_eq!((&run["output"], &run["attemptCount"]), (&json!(2), &json!(2)), "{run:#}");
    let run = server.run_with_status(&all, "FAILED", SOON).await;
    assert_eq!(run["attemptCount"], json!(3), "{run:#}");
    assert!(run["error"]["message"].as_str().unwrap().contains("attempt 3"), "{run:#}");
    let run = server.run_with_status(&once, "FAILED", SOON).await;
    assert_eq!(run["attemptCount"], json!(1), "{run:#}");
    server.run_with_status(&later, "COMPLETED", SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_ends_its_run_with_a_clear_error() {
    let server = Server::start(&["--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let run = server.trigger("chain", json!({"n": 1, "mode": "wait", "ms": 4000, "ballast": ballast(TOO_LARGE_FOR_A_ROW)})).await;
    server.run_with_status(&run, "WAITING", SOON).await;
    let blobs = super::files(&server.data().join("blobs/checkpoints"));
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    let mut bytes = std::fs::read(&blobs[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blobs[0], bytes).unwrap();
    let ended = server.run_with_status(&run, "SYSTEM_FAILURE", SOON).await;
    let error = ended["error"].to_string();
    assert!(error.contains("checkpoint 1") && error.contains("damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_folder_that_takes_no_checkpoint_keeps_the_run_alive_and_says_so() {
    // For ever, unlike a full disk: nothing can be made in a folder that is a file.
    let server = Server::start(&["--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let checkpoints = server.data().join("blobs/checkpoints");
    let _ = std::fs::remove_dir_all(&checkpoints);
    std::fs::write(&checkpoints, b"in the way of every snapshot").unwrap();
    let run = server.trigger("chain", json!({"n": 2, "mode": "wait", "ms": 1500, "ballast": ballast(TOO_LARGE_FOR_A_ROW)})).await;
    eventually("the log says why the run is kept in memory", SOON, async || {
        let lines = server.logs(&run).await;
        lines.iter().any(|(source, line)| source == "host" && line.contains("could not be stored")).then_some(())
    })
    .await;
    assert_eq!(server.run(&run).await["status"], json!("EXECUTING"));
    let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
    assert_eq!(ended["output"]["waits"], json!(2), "{ended:#}");
}
