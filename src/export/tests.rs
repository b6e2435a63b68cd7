//! Who exports, what comes next, and what is sent.

use std::sync::{Arc, Mutex};

use chrono::{TimeDelta, Utc};
use opentelemetry_proto::tonic::common::v1::any_value;
use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::*;
use crate::{
    clock::ManualClock,
    engine,
    model::{
        environment::{ApiKeyKind, EnvironmentKind, NewApiKey, NewProject},
        payload::Packet,
        run::RunStatus,
        trace::{Above, Member, Parts, SpanId, TraceId},
        trigger::NewRun,
    },
};

/// A run that ended so long ago.
async fn ended(pool: &PgPool, ago: &str) -> Uuid {
    let id = RunId::new().uuid();
    let text = format!(
        "insert into runs (id, environment_id, task, status, payload, payload_type, root_id, queue_id, finished_at)
         values ('{id}', '{id}', 'hello', 'COMPLETED', '', 'application/json', '{id}', '{id}', clock_now() - interval '{ago}')"
    );
    sqlx::query(sqlx::AssertSqlSafe(text)).execute(pool).await.unwrap();
    id
}

async fn take(store: &Store, holder: Uuid) -> Option<Place> {
    trace_exports::take(&mut store.read().await.unwrap(), holder, HOLD_FOR).await.unwrap()
}

async fn next(store: &Store, place: Place, max: i64) -> Vec<Uuid> {
    trace_exports::after(store, place, max).await.unwrap().into_iter().map(|(run, _)| run.uuid()).collect()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn one_process_exports_until_it_is_not_heard_of_and_another_goes_on_from_there(pool: PgPool) {
    let (store, clock) = (Store::over(pool.clone()), ManualClock::default());
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let begin = take(&store, one).await.expect("it is the first");
    assert_eq!((take(&store, other).await, take(&store, one).await), (None, Some(begin)));
    let further = Place { at: begin.at + TimeDelta::seconds(5), id: Uuid::now_v7() };
    let sent = Sent { runs: 2, spans: 5, refused: 1 };
    let reach = async |holder| trace_exports::reach(&mut store.read().await.unwrap(), holder, further, sent).await.unwrap();
    assert!(reach(one).await && !reach(other).await);
    clock.advance(&pool, HOLD_FOR * 2).await.unwrap();
    assert_eq!((take(&store, other).await, take(&store, one).await), (Some(further), None));
    trace_exports::let_go(&mut store.read().await.unwrap(), other).await.unwrap();
    assert_eq!(take(&store, one).await, Some(further));
    assert_eq!(trace_exports::sent(&store).await.unwrap(), Some(sent));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_come_in_the_order_of_their_ends_each_once(pool: PgPool) {
    let store = Store::over(pool.clone());
    let runs = [ended(&pool, "30s").await, ended(&pool, "10s").await, ended(&pool, "20s").await];
    ended(&pool, "0s").await;
    let begin = Place { at: Utc::now() - TimeDelta::days(1), id: Uuid::max() };
    assert_eq!(next(&store, begin, 10).await, [runs[0], runs[2], runs[1]], "one that ended just now may have company yet");
    assert_eq!(next(&store, begin, 2).await, [runs[0], runs[2]]);
    let (_, second) = trace_exports::after(&store, begin, 2).await.unwrap()[1];
    assert_eq!(next(&store, second, 10).await, [runs[1]]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_whose_end_is_not_committed_yet_is_not_passed_by(pool: PgPool) {
    let store = Store::over(pool.clone());
    let begin = Place { at: Utc::now() - TimeDelta::days(1), id: Uuid::max() };
    let mut late = pool.begin().await.unwrap();
    sqlx::query("select txid_current(), pg_sleep(0.2)").execute(&mut *late).await.unwrap();
    // It ended after the other one began to, and is seen first.
    let early = ended(&pool, "0s").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(next(&store, begin, 10).await, [] as [Uuid; 0]);
    late.commit().await.unwrap();
    assert_eq!(next(&store, begin, 10).await, [early]);
}

/// A collector on a free port, and what it has taken: names of spans. It says 400 to what `refuses` those it is sent, whole.
async fn collector(refuses: impl Fn(&[String]) -> bool + Send + 'static) -> (config::Export, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = taken.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap_or(0) > 0 {}
                let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()) else {
                    break;
                };
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
                let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                let names: Vec<String> = scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect();
                let status = if refuses(&names) { "400 Bad Request" } else { "200 OK" };
                if status == "200 OK" {
                    seen.lock().unwrap().extend(names);
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (config::Export { endpoint, headers: Vec::new() }, taken)
}

/// Ends runs of these tasks, after the export has begun.
async fn cancelled(pool: &PgPool, store: &Store, exporter: &mut Exporter, tasks: &[&str]) {
    assert_eq!(exporter.tick().await.unwrap(), Looked::Idle);
    let project = NewProject { project_ref: "proj_test".into(), name: "Test".into() };
    let key = NewApiKey { name: "root".into(), secret: "tr_dev_x".into(), kind: ApiKeyKind::Root, expires_at: None };
    let environment = engine::project::ensure(store, project, EnvironmentKind::Development, key).await.unwrap().id;
    let clock = ManualClock::default();
    for task in tasks {
        clock.advance(pool, Duration::from_secs(1)).await.unwrap();
        let new = NewRun::of(*task, Packet::json(&serde_json::Value::Null));
        let run = engine::trigger::trigger(store, environment, new).await.unwrap().id;
        engine::cancel::cancel(store, environment, run).await.unwrap();
    }
    clock.advance(pool, Duration::from_secs(60)).await.unwrap();
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_the_collector_does_not_like_is_left_out_alone(pool: PgPool) {
    let store = Store::over(pool.clone());
    let (config, taken) = collector(|names| names.iter().any(|name| name == "poison")).await;
    let mut exporter = Exporter::of(&config, &store).unwrap().unwrap();
    cancelled(&pool, &store, &mut exporter, &["a", "b", "poison", "c", "d", "e"]).await;
    let mut looks = 0;
    while exporter.tick().await.unwrap() != Looked::Idle {
        looks += 1;
        assert!(looks < 20, "it comes to an end");
    }
    assert_eq!(*taken.lock().unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(trace_exports::sent(&store).await.unwrap(), Some(Sent { runs: 6, spans: 6, refused: 1 }));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn whoever_takes_nothing_at_all_makes_nothing_be_left_out(pool: PgPool) {
    let store = Store::over(pool.clone());
    let (config, _) = collector(|_| true).await;
    let mut exporter = Exporter::of(&config, &store).unwrap().unwrap();
    cancelled(&pool, &store, &mut exporter, &["a", "b"]).await;
    let mut pauses = Vec::new();
    for _ in 0..4 {
        if let Looked::Failed { again_in } = exporter.tick().await.unwrap() {
            pauses.push(again_in);
        }
    }
    assert!(pauses.len() >= 2 && pauses[1] > pauses[0], "{pauses:?}");
    assert_eq!(trace_exports::sent(&store).await.unwrap(), Some(Sent::default()));
    let (config, taken) = collector(|_| false).await;
    exporter.url = Exporter::of(&config, &store).unwrap().unwrap().url;
    while exporter.tick().await.unwrap() != Looked::Idle {}
    assert_eq!(*taken.lock().unwrap(), ["a", "b"]);
}

#[test]
fn spans_are_sent_with_the_ids_that_guests_pass_on() {
    let (run, parent, at) = (RunId::new(), RunId::new(), Utc::now());
    let member = Member {
        id: run,
        trace: run,
        above: Some(Above { run: parent, trace: parent, attempt: Some(2) }),
        environment: "prod".into(),
        task: "hello".into(),
        status: RunStatus::Completed,
        version: None,
        queue: "task/hello".into(),
        machine: None,
        batch: None,
        tags: vec!["a".into()],
        created_at: at,
        started_at: Some(at),
        finished_at: Some(at + TimeDelta::milliseconds(5)),
        error: None,
        cpu_ms: 3,
        under_way: None,
    };
    let trace = Trace::of(Parts { members: vec![member], at, ..Parts::default() }).unwrap();
    let mut request = ExportTraceServiceRequest::default();
    assert!(encode::add(&mut request, "prod", &trace) > 50);
    encode::add(&mut request, "prod", &trace);
    encode::add(&mut request, "dev", &trace);
    let counts: Vec<usize> = request.resource_spans.iter().map(|resource| resource.scope_spans[0].spans.len()).collect();
    assert_eq!(counts, [2, 1], "those of an environment are together");
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(
        (hex::encode(&span.trace_id), hex::encode(&span.span_id)),
        (TraceId::of(run).to_string(), SpanId::run(run).to_string())
    );
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 5_000_000);
    assert_eq!((span.parent_span_id.len(), hex::encode(&span.links[0].span_id)), (0, SpanId::attempt(parent, 2).to_string()));
    let attribute = |name: &str| span.attributes.iter().find(|pair| pair.key == name)?.value.clone()?.value;
    assert_eq!(attribute("dormouse.run.id"), Some(any_value::Value::StringValue(run.to_string())));
    assert_eq!(attribute("cpuMs"), Some(any_value::Value::IntValue(3)));
}

#[test]
fn an_address_gets_the_path_of_otlp_unless_it_has_it() {
    let text = |endpoint: &str| address(endpoint).map(|url| url.to_string()).map_err(|error| error.to_string());
    assert_eq!(text("http://collector:4318").unwrap(), "http://collector:4318/v1/traces");
    assert_eq!(text(" https://host/otlp/ ").unwrap(), "https://host/otlp/v1/traces");
    assert_eq!(text("https://host/x/v1/traces?key=1").unwrap(), "https://host/x/v1/traces?key=1");
    for wrong in ["collector:4318", "ftp://host", "", "http://"] {
        assert!(text(wrong).is_err(), "{wrong}");
    }
}
