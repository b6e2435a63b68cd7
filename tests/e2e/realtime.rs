//! Subscribers, readers and senders, and a server that is killed under them.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::support::{client::Client, guests::guest, server::Server, suite::Suite};

const WITHIN: Duration = Duration::from_secs(90);
/// Every wait suspends the run.
const COLD: [&str; 4] = ["--grace", "0ms", "--lease", "2s"];

/// Where the server is now: after it was killed it comes back at another address.
pub(super) type Address = Arc<Mutex<Client>>;

fn now(address: &Address) -> Client {
    address.lock().unwrap().clone()
}

/// Reads a stream to its end, over as many connections as it takes, each from the chunk after the last one that was seen.
async fn read(address: Address, path: String) -> Vec<Value> {
    let mut chunks = Vec::new();
    loop {
        let mut request = now(&address).request(reqwest::Method::GET, &path);
        if let Some(last) = chunks.len().checked_sub(1) {
            request = request.header("last-event-id", last);
        }
        if let Ok(answer) = request.send().await
            && answer.status().is_success()
            && read_answer(answer, &mut chunks).await
        {
            return chunks;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the answer was complete.
async fn read_answer(answer: reqwest::Response, chunks: &mut Vec<Value>) -> bool {
    let (mut bytes, mut text) = (answer.bytes_stream(), String::new());
    while let Some(part) = bytes.next().await {
        let Ok(part) = part else { return false };
        text.push_str(std::str::from_utf8(&part).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            if let Some(data) = event.strip_prefix("event: batch\ndata: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                for record in data["records"].as_array().unwrap() {
                    assert_eq!(record["seq_num"], chunks.len(), "nothing is missing, and nothing there twice");
                    let body: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
                    chunks.push(body["data"].clone());
                }
            }
            text = rest.to_owned();
        }
    }
    true
}

/// Follows a run to its end as the client does, and tells of every row: its status and metadata.
async fn follow(address: Address, run: String) -> Vec<(String, Value)> {
    let (mut rows, mut place) = (Vec::new(), "offset=-1".to_owned());
    loop {
        let request = now(&address).request(reqwest::Method::GET, &format!("/realtime/v1/runs/{run}?{place}"));
        let request = request.header("x-trigger-electric-version", "1.0.0-beta.1");
        let Ok(answer) = request.send().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        if let (Some(handle), Some(offset)) = (header("electric-handle"), header("electric-offset")) {
            place = format!("handle={handle}&offset={offset}&live=true");
        }
        assert!(answer.status().is_success() || answer.status().is_server_error(), "{}", answer.status());
        let Ok(Value::Array(messages)) = answer.json::<Value>().await else { continue };
        for message in messages.iter().filter(|message| message["value"].is_object()) {
            let value = &message["value"];
            rows.push((value["status"].as_str().unwrap().to_owned(), value["metadata"].clone()));
            if value["completedAt"].is_string() {
                return rows;
            }
        }
    }
}

async fn server() -> (Server, Address) {
    let server = Server::start(&COLD).await;
    server.deploy(guest("rust-chain")).await;
    let address = Arc::new(Mutex::new((*server).clone()));
    (server, address)
}

/// What a crash and a supervisor do.
pub(super) async fn kill_and_start(server: &mut Server, address: &Address) {
    server.kill();
    server.start_again().await;
    *address.lock().unwrap() = (**server).clone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_and_a_feed_survive_kills_of_the_server_whole() {
    let (mut server, address) = server().await;
    let run = server.trigger("talk", json!({"n": 120, "per": 5, "ms": 300})).await;
    let path = format!("/realtime/v1/streams/{run}/numbers");
    let readers = [tokio::spawn(read(address.clone(), path.clone())), tokio::spawn(read(address.clone(), path.clone()))];
    let feed = tokio::spawn(follow(address.clone(), run.clone()));
    for pause in [1_500, 2_500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        kill_and_start(&mut server, &address).await;
    }
    let all: Vec<Value> = (0..120).map(Value::from).collect();
    for reader in readers {
        let chunks = tokio::time::timeout(WITHIN, reader).await.expect("the stream ends").unwrap();
        assert_eq!(chunks, all);
    }
    let rows = tokio::time::timeout(WITHIN, feed).await.expect("the feed tells of the end").unwrap();
    assert_eq!(rows.last().unwrap().0, "COMPLETED_SUCCESSFULLY");
    assert!(rows.iter().any(|(status, _)| status == "WAITING_TO_RESUME"), "{rows:?}");
    assert_eq!(server.finished(&run, WITHIN).await["attemptCount"], 1);
    // Who comes late gets all of it, too.
    assert_eq!(read(address, path).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_were_acknowledged_are_heard_once_and_in_order_though_the_server_is_killed() {
    let (mut server, address) = server().await;
    let run = server.trigger("listen", json!({"count": 30, "ms": 60_000})).await;
    let path = format!("/realtime/v1/streams/{run}/input/chat");
    for value in 0..30 {
        if value % 10 == 5 {
            kill_and_start(&mut server, &address).await;
        }
        let sent = server.post(&path, &json!({"data": {"n": value}})).await;
        assert_eq!(sent, json!({"ok": true}));
        if value % 7 == 0 {
            // Now and then the run has heard everything, and sleeps.
            server.run_with_status(&run, "WAITING", WITHIN).await;
        }
    }
    let ended = server.finished(&run, WITHIN).await;
    let all: Vec<Value> = (0..30).map(|n| json!({"n": n})).collect();
    assert_eq!((&ended["status"], &ended["output"]), (&json!("COMPLETED"), &json!(all)), "{ended:#}");
    assert_eq!(read(address, format!("/realtime/v1/streams/{run}/heard")).await, all, "what it heard it has repeated once");
}

/// A port that leads to wherever the server is now. Gone with the test's runtime.
pub(super) async fn fixed_port(address: Address) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = now(&address).url.trim_start_matches("http://").to_owned();
            tokio::spawn(async move {
                // Whoever is refused here is refused there.
                if let Ok(mut server) = TcpStream::connect(server).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_npm_client_goes_on_by_itself_when_the_server_is_killed_and_misses_nothing() {
    let (mut server, address) = server().await;
    let environment = [
        ("TRIGGER_API_URL", format!("http://127.0.0.1:{}", fixed_port(address.clone()).await)),
        ("TRIGGER_SECRET_KEY", server.key.clone()),
    ];
    let (begun, has_begun) = oneshot::channel();
    let backend = tokio::task::spawn_blocking(move || {
        let suite = Suite::of("npm-client");
        let mut node = suite.node("survive.mjs", &environment).stdout(Stdio::piped()).spawn().expect("node can be started");
        let mut lines = BufReader::new(node.stdout.take().unwrap()).lines().map(Result::unwrap);
        begun.send(lines.next()).unwrap();
        let told = lines.next();
        assert!(node.wait().unwrap().success(), "{told:?}");
        serde_json::from_str::<Value>(&told.unwrap()).unwrap()
    });
    assert_eq!(has_begun.await.unwrap().as_deref(), Some(r#"{"begun":true}"#));
    for pause in [2_000, 3_000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        kill_and_start(&mut server, &address).await;
    }
    let told = tokio::time::timeout(WITHIN, backend).await.expect("all that it follows ends").unwrap();
    assert_eq!(told["numbers"], json!((0..150).collect::<Vec<_>>()), "{told}");
    assert_eq!(told["heard"], json!((0..20).collect::<Vec<_>>()), "{told}");
    assert_eq!((&told["last"], &told["ended"], &told["sent"]), (&json!("COMPLETED"), &json!(2), &json!(20)), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_looks_takes_waits_in_vain_and_hears_what_others_say() {
    let (server, address) = server().await;
    let run = server.trigger("listen", json!({"count": 3, "ms": 1_000, "stays": true})).await;
    let path = format!("/realtime/v1/streams/{run}/input/chat");
    for value in ["a", "b"] {
        server.post(&path, &json!({"data": value})).await;
    }
    assert_eq!(server.finished(&run, WITHIN).await["output"], json!(["a", "b", "nothing"]));
    let run = server.trigger("listen", json!({"count": 1, "ms": 500})).await;
    assert_eq!(server.finished(&run, WITHIN).await["output"], json!(["nothing"]), "the wait timed out while it slept");
    let run = server.trigger("overhear", json!({"n": 40, "per": 7, "ms": 20})).await;
    let ended = server.finished(&run, WITHIN).await;
    assert_eq!(ended["output"], json!((0..40).collect::<Vec<_>>()), "{ended:#}");
    assert_eq!(read(address, format!("/realtime/v1/streams/{run}/count")).await, [json!(40)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_sends_its_readers_and_subscribers_away_at_once() {
    let (mut server, address) = server().await;
    let run = server.trigger("listen", json!({"count": 1, "ms": 60_000})).await;
    server.run_with_status(&run, "WAITING", WITHIN).await;
    let reader = tokio::spawn(read(address.clone(), format!("/realtime/v1/streams/{run}/heard")));
    let feed = tokio::spawn(follow(address.clone(), run.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = std::time::Instant::now();
    server.stop(Duration::from_secs(20)).await;
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    server.start_again().await;
    *address.lock().unwrap() = (*server).clone();
    server.post(&format!("/realtime/v1/streams/{run}/input/chat"), &json!({"data": 1})).await;
    assert_eq!(tokio::time::timeout(WITHIN, reader).await.unwrap().unwrap(), [json!(1)], "it did not take the stop for the end");
    assert_eq!(tokio::time::timeout(WITHIN, feed).await.unwrap().unwrap().last().unwrap().0, "COMPLETED_SUCCESSFULLY");
}
