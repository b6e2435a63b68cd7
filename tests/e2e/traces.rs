//! Traces of real runs, as people and collectors see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::support::{eventually, guests::guest, server::Server};

const WITHIN: Duration = Duration::from_secs(60);
/// Every wait suspends the run.
const COLD: [&str; 4] = ["--grace", "0ms", "--lease", "1s"];

/// Names of the spans below one, each with those below it.
fn shape(node: &Value) -> Value {
    let children = node["children"].as_array().unwrap();
    json!([node["data"]["message"], children.iter().map(shape).collect::<Vec<_>>()])
}

async fn trace(server: &Server, run: &str) -> Value {
    server.get(&format!("/api/v1/runs/{run}/trace")).await["trace"].take()
}

/// The ids in a `traceparent`: of the trace, and of the span.
fn ids(traceparent: &Value) -> (String, String) {
    let parts: Vec<&str> = traceparent.as_str().unwrap().split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "00", "01"), "{traceparent}");
    (parts[1].to_owned(), parts[2].to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guests_spans_are_seen_while_they_go_on_and_survive_the_kill_of_the_server() {
    let mut server = Server::start(&COLD).await;
    server.deploy(guest("rust-chain")).await;
    let run = server.trigger("measure", json!({"ms": 4000})).await;
    server.run_with_status(&run, "WAITING", WITHIN).await;
    let waiting = trace(&server, &run).await;
    let expected = json!(["measure", [["Attempt 1", [["outer", [["inner", []]]], ["wait until", []]]]]]);
    assert_eq!(shape(&waiting["rootSpan"]), expected);
    let outer = &waiting["rootSpan"]["children"][0]["children"][0]["data"];
    assert_eq!((&outer["isPartial"], &outer["properties"]), (&json!(true), &json!({"ms": 4000})));
    server.kill();
    server.start_again().await;
    let ended = server.run_with_status(&run, "COMPLETED", WITHIN).await;
    let passed_on = &ended["output"];

    let trace = trace(&server, &run).await;
    let attempt = &trace["rootSpan"]["children"][0];
    assert_eq!(shape(attempt), json!(["Attempt 1", [["outer", [["inner", []]]], ["wait until", []], ["open", []]]]));
    let [outer, wait, open] = &attempt["children"].as_array().unwrap()[..] else { panic!("{attempt:#}") };
    let inner = &outer["children"][0];
    for (name, span) in [("attempt", attempt), ("outer", outer), ("inner", inner)] {
        let id = |value: &Value| value.as_str().unwrap().to_owned();
        assert_eq!(ids(&passed_on[name]), (id(&trace["traceId"]), id(&span["id"])), "{name}");
        assert_eq!(span["data"]["isPartial"], false, "{name}");
    }
    assert_eq!((&outer["data"]["properties"], &inner["data"]["isError"]), (&json!({"ms": 4000, "rows": 7}), &json!(true)));
    assert_eq!(open["data"]["isPartial"], false, "it ended with its attempt");
    assert_eq!(outer["data"]["events"][0]["properties"]["message"], "in the outer span");
    assert_eq!(attempt["data"]["events"][0]["properties"]["message"], "beside it");
    let slept = wait["data"]["duration"].as_f64().unwrap() / 1e9;
    assert!((3.0..30.0).contains(&slept), "{wait:#}");
    let checkpoint = &wait["data"]["properties"]["checkpoint"];
    for known in ["storedBytes", "rawBytes", "takenMs", "restoredMs"] {
        assert!(checkpoint[known].as_f64().is_some_and(|number| number > 0.0), "{known}: {checkpoint}");
    }
    let detail = server.get(&format!("/api/v1/runs/{run}/spans/{}", inner["id"].as_str().unwrap())).await;
    assert_eq!(detail["properties"]["error"], "nothing came of it");

    let printed = server.command(&["runs", "trace", &run], "").await.ok();
    let names: Vec<&str> =
        printed.lines().filter_map(|line| line.trim_start_matches([' ', '│', '├', '└', '─']).split("  ").next()).collect();
    assert_eq!(names, ["measure", "Attempt 1", "outer", "inner", "wait until", "open"], "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_that_are_waited_for_are_in_the_trace_and_the_others_are_linked() {
    let server = Server::start(&COLD).await;
    server.deploy(guest("rust-chain")).await;
    let members = json!([{"name": "mother", "ms": 100, "members": [{"name": "child", "ms": 100}]}]);
    let run = server.trigger("family", json!({"how": "each", "members": members})).await;
    server.run_with_status(&run, "COMPLETED", WITHIN).await;
    let whole = trace(&server, &run).await;
    let attempt = &whole["rootSpan"]["children"][0];
    let mother = attempt["children"].as_array().unwrap().iter().find(|node| node["data"]["message"] == "member").unwrap();
    let below = shape(mother).to_string();
    assert_eq!((below.matches(r#""member""#).count(), below.matches("wait for run").count()), (2, 1), "{below}");
    assert_eq!(shape(attempt).to_string().matches("wait for run").count(), 2, "{attempt:#}");

    let run = server.trigger("family", json!({"how": "forget", "members": [{"name": "a"}, {"name": "b"}]})).await;
    server.run_with_status(&run, "COMPLETED", WITHIN).await;
    let whole = trace(&server, &run).await;
    let attempt = &whole["rootSpan"]["children"][0];
    assert!(!shape(attempt).to_string().contains("member"), "{attempt:#}");
    let detail = server.get(&format!("/api/v1/runs/{run}/spans/{}", attempt["id"].as_str().unwrap())).await;
    assert_eq!(detail["triggeredRuns"][0]["taskIdentifier"], "member");
}

/// A collector that takes traces, or does not.
struct Collector {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Answers 503.
    is_down: bool,
    /// Requests that were refused so.
    refused: usize,
    /// All spans that were taken.
    spans: Vec<Span>,
    /// What requests said of themselves.
    heads: Vec<String>,
    resources: BTreeSet<String>,
}

impl Collector {
    async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Collector { address: listener.local_addr().unwrap().to_string(), state: Arc::default() };
        let state = collector.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, state.clone()));
            }
        });
        collector
    }

    fn set_down(&self, is_down: bool) {
        self.state.lock().unwrap().is_down = is_down;
    }

    /// By trace and id, how often each was sent, and the span.
    fn spans(&self) -> BTreeMap<(String, String), (usize, Span)> {
        let mut spans = BTreeMap::new();
        for span in &self.state.lock().unwrap().spans {
            let entry = spans.entry((hex::encode(&span.trace_id), hex::encode(&span.span_id))).or_insert((0, span.clone()));
            entry.0 += 1;
        }
        spans
    }
}

async fn answer(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await.unwrap();
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("protobuf");
        let text = {
            let mut state = state.lock().unwrap();
            state.heads.push(head);
            if state.is_down {
                state.refused += 1;
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n".to_owned()
            } else {
                for resource in request.resource_spans {
                    let attributes = resource.resource.unwrap().attributes;
                    state.resources.extend(attributes.iter().map(|pair| format!("{}={:?}", pair.key, pair.value)));
                    state.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
                let length = ExportTraceServiceResponse::default().encode_to_vec().len();
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n")
            }
        };
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_that_is_over_reaches_the_collector_though_it_is_down_and_the_server_is_killed() {
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    let arguments = ["--otlp-endpoint", &endpoint, "--otlp-headers", "x-key=secret", "--grace", "0ms", "--lease", "1s"];
    let mut server = Server::start(&arguments).await;
    server.deploy(guest("rust-chain")).await;
    let measured = server.trigger("measure", json!({"ms": 300})).await;
    let ended = server.run_with_status(&measured, "COMPLETED", WITHIN).await;
    let (trace_id, inner) = ids(&ended["output"]["inner"]);
    let has = |id: &str| collector.spans().contains_key(&(trace_id.clone(), id.to_owned()));
    eventually("the first trace is there", WITHIN, async || has(&inner).then_some(())).await;

    // From here on it takes nothing, and the server is killed with what it has not been able to send.
    collector.set_down(true);
    let mut runs = Vec::new();
    for number in 0..20 {
        runs.push(server.trigger("echo", json!(number)).await);
    }
    for run in &runs {
        server.run_with_status(run, "COMPLETED", WITHIN).await;
    }
    eventually("it is refused", WITHIN, async || (collector.state.lock().unwrap().refused > 0).then_some(())).await;
    server.kill();
    collector.set_down(false);
    server.start_again().await;
    for run in runs.iter().chain([&measured]) {
        let trace = trace(&server, run).await;
        let mut expected = BTreeSet::new();
        let mut rest = vec![&trace["rootSpan"]];
        while let Some(node) = rest.pop() {
            expected.insert((trace["traceId"].as_str().unwrap().to_owned(), node["id"].as_str().unwrap().to_owned()));
            rest.extend(node["children"].as_array().unwrap());
        }
        assert!(expected.len() >= 2, "{trace:#}");
        // The process that was killed has the export until it was not heard of for half a minute.
        eventually("all of its spans are there", WITHIN * 2, async || {
            let sent = collector.spans();
            expected.iter().all(|id| sent.contains_key(id)).then_some(())
        })
        .await;
    }

    let spans = collector.spans();
    let span = |id: &str| spans[&(trace_id.clone(), id.to_owned())].1.clone();
    let inner = span(&inner);
    assert_eq!((inner.name.as_str(), inner.status.unwrap().message.as_str()), ("inner", "nothing came of it"));
    let outer = span(&hex::encode(&inner.parent_span_id));
    assert_eq!((outer.name.as_str(), outer.events[0].name.as_str()), ("outer", "log"));
    assert_eq!(hex::encode(&outer.parent_span_id), ids(&ended["output"]["attempt"]).1);
    assert!(spans.values().all(|(_, span)| span.end_time_unix_nano >= span.start_time_unix_nano));
    let state = collector.state.lock().unwrap();
    assert!(
        state.resources.iter().any(|one| one.starts_with("service.name=") && one.contains("dormouse")),
        "{:?}",
        state.resources
    );
    assert!(state.heads.iter().all(|head| head.starts_with("POST /v1/traces ") && head.to_lowercase().contains("x-key: secret")));
}
