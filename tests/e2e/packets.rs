//! Large payloads go by way of the blob store.

use std::{fs, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{guests::guest, server::Server};

const WITHIN: Duration = Duration::from_secs(60);

/// Puts a payload where the server says, and returns what to trigger with.
async fn put(server: &Server, name: &str, payload: &Value) -> Value {
    let told = server.request(Method::PUT, &format!("/api/v2/packets/{name}")).send().await.unwrap();
    let told: Value = told.json().await.unwrap();
    let upload = reqwest::Client::new().put(told["presignedUrl"].as_str().unwrap()).header("content-type", "application/json");
    let answer = upload.body(payload.to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    told["storagePath"].clone()
}

fn stored() -> Value {
    json!({"payloadType": "application/store"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_was_put_is_there_after_a_crash_and_one_that_is_lost_ends_its_run() {
    let mut server = Server::start(&[]).await;
    server.deploy(guest("rust-chain")).await;
    let payload = json!({"text": "x".repeat(5_000_000)});
    let path = put(&server, "one", &payload).await;
    server.kill();
    server.start_again().await;
    let run = server.trigger_with("echo", path, stored()).await;
    let run = server.run_with_status(&run, "COMPLETED", WITHIN).await;
    assert_eq!((&run["payload"], &run["output"]), (&Value::Null, &Value::Null), "the clients get what is so large by themselves");
    for address in ["payloadPresignedUrl", "outputPresignedUrl"] {
        let got = reqwest::get(run[address].as_str().unwrap()).await.unwrap();
        assert_eq!(got.headers()["content-type"], "application/json");
        assert_eq!(got.json::<Value>().await.unwrap(), payload, "{address}");
    }

    let path = put(&server, "two", &json!("never read")).await;
    let options = json!({"payloadType": "application/store", "delay": "1h", "maxAttempts": 1});
    let lost = server.trigger_with("echo", path, options).await;
    for blob in super::files(&server.data().join("blobs/packets")) {
        fs::remove_file(blob).unwrap();
    }
    server.post(&format!("/api/v1/runs/{lost}/reschedule"), &json!({"delay": "1970-01-01"})).await;
    let lost = server.finished(&lost, WITHIN).await;
    assert!(lost["error"].to_string().contains("TASK_INPUT_ERROR"), "{:#}", lost["error"]);
    assert!(lost["error"].to_string().contains("the payload is lost"), "{:#}", lost["error"]);
}
