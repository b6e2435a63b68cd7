//! Runs that runs start: their ends, their order, and what a kill of the server leaves of them.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::support::{eventually, guests::guest, server::Server};

const WITHIN: Duration = Duration::from_secs(60);
/// Families that are started and whose server is killed.
const ROUNDS: usize = 6;

async fn with_guest() -> Server {
    let server = Server::start(&["--grace", "0ms", "--lease", "1s"]).await;
    server.deploy(guest("rust-chain")).await;
    server
}

fn family(how: &str, members: Value) -> Value {
    json!({"how": how, "members": members})
}

/// How often the run became final.
async fn ends(server: &Server, run: &str) -> usize {
    let events = server.get(&format!("/api/v1/runs/{run}/events")).await;
    events["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "finished").count()
}

/// All runs of a task.
async fn runs_of(server: &Server, task: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/runs?page%5Bsize%5D=100&filter%5BtaskIdentifier%5D={task}")).await;
    assert!(page["pagination"]["next"].is_null(), "all of them are on one page");
    page["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_gets_its_childrens_ends_in_their_order_though_the_server_is_killed_meanwhile() {
    let mut server = with_guest().await;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let members = json!([
        {"name": "slow", "ms": 900},
        {"name": "sulky", "ms": 300, "fails": true},
        {"name": "mother", "ms": 100, "members": [{"name": "child", "ms": 200}]},
    ]);
    let mut parents = Vec::new();
    for round in 0..ROUNDS {
        let how = if round % 2 == 0 { "batch" } else { "each" };
        parents.push(server.trigger("family", family(how, members.clone())).await);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..800))).await;
        server.kill();
        server.start_again().await;
    }
    for parent in &parents {
        let ended = server.run_with_status(parent, "COMPLETED", WITHIN).await;
        assert_eq!(
            ended["output"],
            json!(["slow", "Failed, AbortTaskRunError: sulky does not want to", "mother+child"]),
            "{ended:#}"
        );
        assert_eq!((&ended["attemptCount"], ends(&server, parent).await), (&json!(1), 1));
        let children = ended["relatedRuns"]["children"].as_array().unwrap();
        assert_eq!(children.len(), 3, "no kill starts a child twice: {children:#?}");
    }
    let children = runs_of(&server, "member").await;
    assert_eq!(children.len(), 4 * ROUNDS);
    for child in &children {
        let id = child["id"].as_str().unwrap();
        assert_eq!((child["isCompleted"] == true, ends(&server, id).await), (true, 1), "{child:#}");
        assert_eq!(child["status"] == "FAILED", child["depth"] == 1 && is_sulky(&server, id).await);
    }
}

async fn is_sulky(server: &Server, run: &str) -> bool {
    server.run(run).await["payload"]["fails"] == true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_family_is_started_and_waited_for_in_every_way() {
    let server = with_guest().await;
    let race = family("race", json!([{"name": "tortoise", "ms": 60_000}, {"name": "hare", "ms": 50}]));
    let run = server.trigger("family", race).await;
    let ended = server.run_with_status(&run, "COMPLETED", WITHIN).await;
    assert_eq!(ended["output"], json!(["hare"]));

    let forget = family("forget", json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]));
    let run = server.trigger_with("family", forget, json!({"test": true, "tags": ["t"]})).await;
    let ended = server.run_with_status(&run, "COMPLETED", WITHIN).await;
    let [one, batch] = ended["output"].as_array().unwrap().as_slice() else { panic!("{ended:#}") };
    assert!(batch.as_str().unwrap().starts_with("batch_"));
    let child = server.run_with_status(one.as_str().unwrap(), "COMPLETED", WITHIN).await;
    assert_eq!((&child["isTest"], &child["tags"], &child["depth"]), (&json!(true), &json!([]), &json!(1)));
    assert_eq!(child["relatedRuns"]["parent"]["id"], json!(run));

    let unwrap = family("unwrap", json!([{"name": "sulky", "fails": true}]));
    let run = server.trigger("family", unwrap).await;
    let ended = server.run_with_status(&run, "FAILED", WITHIN).await;
    let error = &ended["error"];
    assert_eq!(error["name"], "SubtaskUnwrapError", "{error:#}");
    assert!(error["causes"][0]["message"].as_str().unwrap().ends_with("sulky does not want to"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_parent_takes_its_children_with_it_and_a_cancelled_child_is_an_end_like_others() {
    let server = with_guest().await;
    let patient = json!([{"name": "a", "ms": 600_000, "members": []}, {"name": "b", "ms": 600_000}]);
    let cancel = async |run: &str| server.post(&format!("/api/v2/runs/{run}/cancel"), &json!({})).await;
    let parent = server.trigger("family", family("batch", patient.clone())).await;
    let children = all_waiting(&server, &parent, 2).await;
    cancel(&parent).await;
    server.run_with_status(&parent, "CANCELED", WITHIN).await;
    for child in &children {
        server.run_with_status(child, "CANCELED", WITHIN).await;
    }
    let parent = server.trigger("family", family("batch", patient)).await;
    for child in all_waiting(&server, &parent, 2).await {
        cancel(&child).await;
    }
    let ended = server.run_with_status(&parent, "COMPLETED", WITHIN).await;
    let expected = "Canceled, TASK_RUN_CANCELLED: the run was cancelled";
    assert_eq!(ended["output"], json!([expected, expected]));
}

/// The children of a run, once they and it are suspended.
async fn all_waiting(server: &Server, parent: &str, count: usize) -> Vec<String> {
    eventually("the family waits", WITHIN, async || {
        let run = server.run(parent).await;
        let children = run["relatedRuns"]["children"].as_array()?.clone();
        let waiting = children.iter().chain([&run]).all(|run| run["status"] == "WAITING");
        let ids = children.iter().map(|child| child["id"].as_str().unwrap().to_owned()).collect();
        (waiting && children.len() == count).then_some(ids)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_server_is_killed_while_it_is_sent_or_made_runs_whole_and_once() {
    let mut server = with_guest().await;
    let count = 1000;
    let mut batches = Vec::new();
    // Without a kill first, to know how long it takes.
    let begun = std::time::Instant::now();
    let batch = create(&server, count).await;
    send_items(&server, &batch, count).await.unwrap();
    let took = begun.elapsed();
    for round in 0..4 {
        let batch = create(&server, count).await;
        // Cut off by the client's own patience, at a fifth, two fifths, … of the time.
        let cut = tokio::time::timeout(took * (round + 1) / 5, send_items(&server, &batch, count)).await;
        server.kill();
        server.start_again().await;
        let filled = send_items(&server, &batch, count).await.unwrap();
        assert_eq!(filled["sealed"], true, "{filled:#}");
        println!("round {round}: was sent before: {}, then {filled}", cut.is_ok());
        batches.push(batch);
    }
    for batch in &batches {
        let shown = eventually("the batch is complete", WITHIN, async || {
            let shown = server.get(&format!("/api/v2/batches/{batch}")).await;
            (shown["status"] == "COMPLETED").then_some(shown)
        })
        .await;
        let again = send_items(&server, batch, count).await.unwrap();
        assert_eq!((&again["itemsDeduplicated"], &again["sealed"]), (&json!(count), &json!(true)));
        let results = server.get(&format!("/api/v1/batches/{batch}/results")).await;
        let items = results["items"].as_array().unwrap();
        assert_eq!((items.len(), shown["runs"].as_array().unwrap().len()), (count, count));
        for (index, item) in items.iter().enumerate() {
            assert_eq!((&item["id"], &item["output"]), (&shown["runs"][index], &json!(format!("{{\"n\":{index}}}"))));
        }
    }
    let sample = server.get(&format!("/api/v2/batches/{}", batches[0])).await["runs"][count - 1].clone();
    assert_eq!(ends(&server, sample.as_str().unwrap()).await, 1);
}

async fn create(server: &Server, count: usize) -> String {
    let made = server.post("/api/v3/batches", &json!({"runCount": count})).await;
    made["id"].as_str().unwrap().to_owned()
}

/// A stream without a length, as the client sends it.
async fn send_items(server: &Server, batch: &str, count: usize) -> reqwest::Result<Value> {
    let line = |index| format!("{{\"index\":{index},\"task\":\"echo\",\"payload\":{{\"n\":{index}}}}}\n");
    let lines = (0..count).map(move |index| Ok::<_, std::io::Error>(line(index)));
    let request = server.request(reqwest::Method::POST, &format!("/api/v3/batches/{batch}/items"));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(lines));
    request.header("content-type", "application/x-ndjson").body(body).send().await?.error_for_status()?.json().await
}
