//! A server that keeps what is over for a day, two days later.

use std::time::Duration;

use dormouse::store;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{client::Client, eventually, fleet::Fleet, guests::guest};

const SOON: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Whether there is something at this path.
async fn is_there(client: &Client, path: &str) -> bool {
    let status = client.request(Method::GET, path).send().await.unwrap().status().as_u16();
    assert!(status == 200 || status == 404, "{path}: {status}");
    status == 200
}

fn run(id: &str) -> String {
    format!("/api/v3/runs/{id}")
}

fn token(token: &Value) -> String {
    format!("/api/v1/waitpoints/tokens/{}", token["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_been_over_for_longer_than_it_is_kept_is_deleted_and_nothing_that_goes_on() {
    let fleet = Fleet::new().await;
    let mut server = fleet.start("data", "all", &["--keep-runs", "1d", "--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let database = PgPool::connect(fleet.postgres.database_url()).await.unwrap();

    let over = server.trigger("chain", json!({"n": 2, "mode": "wait", "ms": 100})).await;
    let failed = server.trigger("fail", json!({"decision": "abort"})).await;
    let keyed = server.trigger_with("echo", json!(1), json!({"idempotencyKey": "k", "idempotencyKeyTTL": "30d"})).await;
    let key_is_over = server.trigger_with("echo", json!(1), json!({"idempotencyKey": "l", "idempotencyKeyTTL": "1h"})).await;
    let batch = server.post("/api/v2/tasks/batch", &json!({"items": [{"task": "echo", "payload": 1}]})).await;
    let batch = format!("/api/v2/batches/{}", batch["id"].as_str().unwrap());
    // Ten days: one of its children is over, the other goes on.
    let members = json!([{"name": "brief", "ms": 0}, {"name": "long", "ms": 864_000_000}]);
    let parent = server.trigger("family", json!({"how": "batch", "members": members})).await;
    let delayed = server.trigger_with("echo", json!(1), json!({"delay": "10d"})).await;
    let (open, complete) =
        (server.post("/api/v1/waitpoints/tokens", &json!({})).await, server.post("/api/v1/waitpoints/tokens", &json!({})).await);
    server.post(&format!("{}/complete", token(&complete)), &json!({"data": 1})).await;
    for (id, status) in [(&over, "COMPLETED"), (&failed, "FAILED"), (&keyed, "COMPLETED"), (&key_is_over, "COMPLETED")] {
        server.run_with_status(id, status, SOON).await;
    }
    eventually("the batch is done", SOON, async || (server.get(&batch).await["status"] == "COMPLETED").then_some(())).await;
    let waiting = eventually("one child is over, and the other two sleep", SOON, async || {
        let parent = server.run(&parent).await;
        let children = parent["relatedRuns"]["children"].as_array().cloned().unwrap_or_default();
        let is = |status: &str| children.iter().filter(|child| child["status"] == status).count();
        (parent["status"] == "WAITING" && is("COMPLETED") == 1 && is("WAITING") == 1).then_some(parent)
    })
    .await;
    let children: Vec<String> = waiting["relatedRuns"]["children"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| child["id"].as_str().unwrap().to_owned())
        .collect();

    let gone = [run(&over), run(&failed), run(&key_is_over), batch.clone(), token(&complete)];
    let stay = [run(&keyed), run(&parent), run(&children[0]), run(&children[1]), run(&delayed), token(&open)];
    // It looks when it starts, and then once an hour.
    server.kill();
    server.start_again().await;
    store::clock::set_ahead(&database, Duration::from_secs(3600)).await.unwrap();
    for path in gone.iter().chain(&stay) {
        assert!(is_there(&server, path).await, "{path}: it is a day too early");
    }
    server.kill();
    store::clock::set_ahead(&database, 2 * DAY).await.unwrap();
    server.start_again().await;
    for path in &gone {
        eventually(&format!("{path} is deleted"), SOON, async || (!is_there(&server, path).await).then_some(())).await;
    }
    for path in &stay {
        assert!(is_there(&server, path).await, "{path}");
    }
    let orphans = "select (select count(*) from attempts a where not exists (select from runs where id = a.run_id))
        + (select count(*) from run_events e where not exists (select from runs where id = e.run_id))
        + (select count(*) from logs l where not exists (select from runs where id = l.run_id))
        + (select count(*) from batch_items i where not exists (select from batches where id = i.batch_id))";
    let orphans: i64 = sqlx::query_scalar(orphans).fetch_one(&database).await.unwrap();
    assert_eq!(orphans, 0, "what belonged to them is gone, too");

    // What goes on does so, with what it started.
    store::clock::set_ahead(&database, 11 * DAY).await.unwrap();
    let ended = server.run_with_status(&parent, "COMPLETED", SOON).await;
    assert_eq!(ended["output"], json!(["brief", "long"]), "{ended:#}");
    server.run_with_status(&delayed, "COMPLETED", SOON).await;
    database.close().await;
    fleet.end(vec![server]).await;
}
