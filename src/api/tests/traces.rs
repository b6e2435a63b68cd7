//! Traces and spans.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::{Answer, TestApi};
use crate::{
    engine,
    model::{
        attempt::{Claimed, Outcome, RetryDecision},
        checkpoint::{Checkpoint, Stored},
        error::RunError,
        id::RunId,
        log::{Level, LogRecord, Source},
        payload::Packet,
        trace::{Record, SpanBegin, SpanEnd, SpanId, Timing, TraceId},
        trigger::NewRun,
        waitpoint::WaitRequest,
    },
    store::checkpoints::Suspension,
};

fn completed() -> Outcome {
    Outcome::Completed(Packet::json(&json!(1)))
}

fn failed(retry: RetryDecision) -> Outcome {
    let error =
        RunError::Exception { name: "TypeError".into(), message: "no".into(), stack_trace: "at x".into(), causes: vec![] };
    Outcome::Failed { error, retry }
}

impl TestApi {
    async fn suspend(&self, claimed: &Claimed, wait: WaitRequest) {
        let checkpoint = Checkpoint {
            sequence: 1,
            snapshot: Stored::Row(b"memory".as_slice().into()),
            stored_bytes: 1234,
            raw_bytes: 65_536,
            rewritten: None,
            files: None,
            pages: vec![],
        };
        let timing = Timing { taken_us: Some(1500), restored_us: None };
        let asked = Suspension { timing, ..Suspension::new(claimed.lease, checkpoint, wait, 3) };
        engine::suspend::suspend(&self.store, asked).await.unwrap();
    }

    /// A run that is triggered by this one.
    async fn child(&self, parent: RunId, awaited: bool) -> RunId {
        let new = NewRun { parent: Some(parent), awaited, ..NewRun::of("hello", Packet::json(&json!(null))) };
        engine::trigger::trigger(&self.store, self.environment.id, new).await.unwrap().id
    }

    async fn trace(&self, run: &str) -> Value {
        self.get(&format!("/api/v1/runs/{run}/trace")).await.ok()["trace"].take()
    }

    async fn span(&self, run: &str, span: impl std::fmt::Display) -> Answer {
        self.get(&format!("/api/v1/runs/{run}/spans/{span}")).await
    }
}

/// Names of the spans below one, each with those below it.
fn shape(node: &Value) -> Value {
    let children = node["children"].as_array().unwrap();
    json!([node["data"]["message"], children.iter().map(shape).collect::<Vec<_>>()])
}

fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_trace_shows_attempts_waits_and_the_runs_that_were_waited_for(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.trigger("hello", "{}").await;
    let claimed = api.claim().await;
    let child = api.child(claimed.lease.run, true).await;
    let apart = api.child(claimed.lease.run, false).await;
    api.suspend(&claimed, WaitRequest::Any { waitables: vec![child.into()] }).await;
    let waiting = api.trace(&id).await;
    assert_eq!(
        shape(&waiting["rootSpan"]),
        json!(["hello", [["Attempt 1", [["hello", []], ["wait for run", []]]]]]),
        "the other child is a trace of its own"
    );
    let of_child = api.claim().await;
    assert_eq!((of_child.lease.run, of_child.context.trace), (child, claimed.lease.run));
    api.finish(&of_child, completed()).await;
    // In line are the parent, which was there before, and the child that nobody waits for.
    let resumed = api.claim().await;
    assert_eq!(resumed.lease.run, claimed.lease.run);
    api.finish(&resumed, completed()).await;
    let of_apart = api.claim().await;
    assert_eq!((of_apart.lease.run, of_apart.context.trace), (apart, apart));
    api.finish(&of_apart, completed()).await;

    let trace = api.trace(&id).await;
    let root = &trace["rootSpan"];
    assert_eq!(trace["traceId"], TraceId::of(claimed.lease.run).to_string());
    assert_eq!(shape(root), json!(["hello", [["Attempt 1", [["hello", [["Attempt 1", []]]], ["wait for run", []]]]]]));
    assert_eq!((&root["id"], &root["runId"]), (&json!(SpanId::run(claimed.lease.run)), &json!(id)));
    assert_eq!((root.get("parentId"), trace.get("truncated")), (None, None));
    let data = &root["data"];
    assert_eq!(
        (&data["isError"], &data["isPartial"], &data["isCancelled"], &data["level"]),
        (&json!(false), &json!(false), &json!(false), &json!("TRACE"))
    );
    assert_eq!((&data["taskSlug"], &data["queueName"]), (&json!("hello"), &json!("task/hello")));
    assert!(data["duration"].as_i64().unwrap() > 0 && data["startTime"].is_string(), "{data}");
    let attempt = &root["children"][0];
    assert_eq!(attempt["id"], json!(SpanId::attempt(claimed.lease.run, 1)));
    let wait = &attempt["children"][1];
    let properties = &wait["data"]["properties"];
    assert_eq!(properties["wait"], json!({"kind": "any", "for": [child], "count": 1}));
    assert_eq!(properties["checkpoint"], json!({"storedBytes": 1234, "rawBytes": 65536, "takenMs": 1.5}));
    let events = attempt["data"]["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["name"], &events[0]["properties"]["runId"]), (1, &json!("trigger"), &json!(apart)));

    // A child's part begins with itself; one that is apart says where it comes from.
    let part = api.trace(&child.to_string()).await;
    assert_eq!((&part["traceId"], &part["rootSpan"]["parentId"]), (&trace["traceId"], &attempt["id"]));
    assert_eq!(shape(&part["rootSpan"]), json!(["hello", [["Attempt 1", []]]]));
    let other = api.trace(&apart.to_string()).await;
    assert_eq!((&other["traceId"], other["rootSpan"].get("parentId")), (&json!(TraceId::of(apart)), None));
    let linked = api.span(&apart.to_string(), SpanId::run(apart)).await.ok();
    assert_eq!(linked["properties"]["triggeredBy"], json!({"traceId": trace["traceId"], "spanId": attempt["id"]}));

    let shown = api.span(&id, SpanId::attempt(claimed.lease.run, 1)).await.ok();
    assert_eq!((&shown["entityType"], &shown["parentId"], &shown["runId"]), (&json!("attempt"), &root["id"], &json!(id)));
    let triggered: Vec<&Value> = shown["triggeredRuns"].as_array().unwrap().iter().map(|run| &run["runId"]).collect();
    assert_eq!(triggered, [&json!(child), &json!(apart)]);
    let of_root = api.span(&id, root["id"].as_str().unwrap()).await.ok();
    assert_eq!((&of_root["parentId"], of_root["durationMs"].is_number()), (&Value::Null, true));
    let below = api.span(&id, SpanId::attempt(child, 1)).await.ok();
    assert_eq!(below["runId"], json!(child), "a span of a run below is found, too");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_failed_and_what_goes_on_is_told_apart(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.trigger("hello", r#"{"options":{"maxAttempts":2}}"#).await;
    let first = api.claim().await;
    api.finish(&first, failed(RetryDecision::Delay(0))).await;
    let second = api.claim().await;
    let trace = api.trace(&id).await;
    let [one, two] = &trace["rootSpan"]["children"].as_array().unwrap()[..] else { panic!("{trace}") };
    assert_eq!((&one["data"]["isError"], &one["data"]["isPartial"]), (&json!(true), &json!(false)));
    let exception = json!({"exception": {"message": "no", "type": "TypeError", "stacktrace": "at x"}});
    assert_eq!(one["data"]["events"][0]["properties"], exception);
    assert_eq!((&two["data"]["isError"], &two["data"]["isPartial"]), (&json!(false), &json!(true)));
    assert_eq!(trace["rootSpan"]["data"]["isPartial"], true);

    let page = api.get(&format!("/api/v1/runs/{id}/trace?page[size]=100")).await.ok();
    let failures = json!([{"spanId": SpanId::attempt(first.lease.run, 1), "attemptNumber": 1, "runId": id}]);
    assert_eq!((&page["attemptFailures"], &page["pagination"]), (&failures, &json!({})));
    api.finish(&second, failed(RetryDecision::Abort)).await;
    let trace = api.trace(&id).await;
    assert_eq!(trace["rootSpan"]["data"]["isError"], true);

    let delayed = api.trigger("hello", r#"{"options":{"delay":"1h"}}"#).await;
    api.post(&format!("/api/v2/runs/{delayed}/cancel"), "").await.ok();
    let trace = api.trace(&delayed).await;
    let data = &trace["rootSpan"]["data"];
    assert_eq!(
        (&data["isCancelled"], &data["isPartial"], shape(&trace["rootSpan"])),
        (&json!(true), &json!(false), json!(["hello", []]))
    );
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_guests_measure_and_write_is_where_it_belongs(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.trigger("hello", r#"{"options":{"maxAttempts":1}}"#).await;
    let claimed = api.claim().await;
    let ids: Vec<SpanId> = (0..5).map(|n| SpanId::guest(claimed.lease.run, 1, 0, n)).collect();
    let begin = |place: usize, name: &str, parent: Option<SpanId>| {
        let Value::Object(attributes) = json!({ "n": place }) else { unreachable!() };
        Record::Begin(ids[place], SpanBegin { at: now(), name: name.into(), attributes, parent })
    };
    let end = |place: usize, error: Option<&str>| {
        let Value::Object(attributes) = json!({ "rows": 7 }) else { unreachable!() };
        Record::End(SpanEnd { id: ids[place], at: now(), attributes, error: error.map(Into::into) })
    };
    let line = |message: &str, span| {
        let (at, message) = (now(), message.to_owned());
        Record::Line(LogRecord { at, level: Level::Info, source: Source::Logger, message, attributes: json!({"a": 1}), span })
    };
    let begun = vec![
        begin(0, "outer", None),
        begin(1, "inner", Some(ids[0])),
        end(1, Some("lost")),
        line("in it", Some(ids[0])),
        line("beside", None),
        begin(2, "orphan", SpanId::of(77)),
        begin(3, "open", Some(ids[2])),
    ];
    let Value::Object(long) = json!({"text": "x".repeat(5000)}) else { unreachable!() };
    let long = SpanBegin { at: now(), name: "long".into(), attributes: long, parent: None };
    engine::log::append(&api.store, &claimed.lease, begun).await.unwrap();
    engine::log::append(&api.store, &claimed.lease, vec![Record::Begin(ids[4], long)]).await.unwrap();
    let trace = api.trace(&id).await;
    let attempt = &trace["rootSpan"]["children"][0];
    let expected = json!(["Attempt 1", [["outer", [["inner", []]]], ["orphan", [["open", []]]], ["long", []]]]);
    assert_eq!(shape(attempt), expected);
    assert_eq!(attempt["children"][2]["data"]["properties"], json!({"attributesLeftOut": true}));
    assert_eq!(api.span(&id, ids[4]).await.ok()["properties"]["text"].as_str().unwrap().len(), 5000);
    let outer = &attempt["children"][0];
    assert_eq!((&outer["data"]["isPartial"], &outer["data"]["properties"]), (&json!(true), &json!({"n": 0})));
    let logged = |node: &Value| node["data"]["events"][0]["properties"].clone();
    let expected = json!({"level": "info", "message": "in it", "source": "logger", "attributes": {"a": 1}});
    assert_eq!((logged(outer), &logged(attempt)["message"]), (expected, &json!("beside")));

    // Ends come in a later batch; a second one does not count, nor does one of a span that nobody began.
    let nobodys = SpanEnd { id: SpanId::of(5).unwrap(), at: now(), attributes: serde_json::Map::new(), error: None };
    engine::log::append(&api.store, &claimed.lease, vec![end(0, None), end(0, Some("late")), Record::End(nobodys)])
        .await
        .unwrap();
    api.finish(&claimed, failed(RetryDecision::Abort)).await;
    let inner = api.span(&id, ids[1]).await.ok();
    assert_eq!((&inner["isError"], &inner["properties"]), (&json!(true), &json!({"n": 1, "rows": 7, "error": "lost"})));
    assert_eq!((&inner["entityType"], &inner["parentId"]), (&json!("span"), &json!(ids[0])));
    let outer = api.span(&id, ids[0]).await.ok();
    assert_eq!((&outer["isError"], &outer["isPartial"], &outer["properties"]["rows"]), (&json!(false), &json!(false), &json!(7)));
    assert_eq!(outer["events"][0]["properties"]["message"], "in it");
    let open = api.span(&id, ids[3]).await.ok();
    assert_eq!((&open["isPartial"], &open["isError"]), (&json!(false), &json!(true)), "it ended as its attempt did");
    let lines = api.get(&format!("/api/v1/runs/{id}/logs")).await.ok();
    assert_eq!((&lines["data"][0]["spanId"], lines["data"][1].get("spanId")), (&json!(ids[0]), None));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_span_shows_its_lines_though_the_run_wrote_many_before(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.trigger("hello", "{}").await;
    let claimed = api.claim().await;
    let span = SpanId::guest(claimed.lease.run, 1, 0, 0);
    let line = |message: String, span| {
        let at = now();
        Record::Line(LogRecord { at, level: Level::Info, source: Source::Logger, message, attributes: Value::Null, span })
    };
    let begin = SpanBegin { at: now(), name: "late".into(), attributes: serde_json::Map::new(), parent: None };
    let mut records: Vec<Record> = (0..150).map(|n| line(format!("noise {n}"), None)).collect();
    records.extend([Record::Begin(span, begin), line("in it".into(), Some(span))]);
    engine::log::append(&api.store, &claimed.lease, records).await.unwrap();
    let events = |shown: &Value| shown["events"].as_array().map_or(0, Vec::len);
    let shown = api.span(&id, span).await.ok();
    assert_eq!((events(&shown), &shown["events"][0]["properties"]["message"]), (1, &json!("in it")));
    assert_eq!(events(&api.span(&id, SpanId::attempt(claimed.lease.run, 1)).await.ok()), 150);
    let tree = api.trace(&id).await;
    assert_eq!(events(&tree["rootSpan"]["children"][0]["data"]), 100, "a tree shows the first");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn pages_show_every_span_once_and_wrong_ones_are_refused(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.trigger("hello", "{}").await;
    let claimed = api.claim().await;
    for _ in 0..3 {
        api.child(claimed.lease.run, true).await;
    }
    let mut seen: Vec<String> = Vec::new();
    let mut after = String::new();
    loop {
        let page = api.get(&format!("/api/v1/runs/{id}/trace?page[size]=2{after}")).await.ok();
        let spans = page["data"].as_array().unwrap();
        assert!((1..=2).contains(&spans.len()), "{page}");
        seen.extend(spans.iter().map(|span| span["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["pagination"]["next"].as_str() else { break };
        after = format!("&page[after]={next}");
    }
    let different: std::collections::HashSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), different.len()), (5, 5), "the run, its attempt and three children");
    for (query, field) in [
        ("page[size]=0", "page[size]"),
        ("page[size]=10001", "page[size]"),
        ("page[size]=many", "page[size]"),
        ("page[after]=nonsense", "page[after]"),
        ("page[size]=1&page[after]=1-0000000000000000", "page[after]"),
    ] {
        let refused = api.get(&format!("/api/v1/runs/{id}/trace?{query}")).await;
        assert!(refused.status == 400 && refused.body.to_string().contains(field), "{query}: {}", refused.body);
    }
    for span in ["nonsense", "00000000000000ff", "0000000000000000"] {
        assert_eq!(api.span(&id, span).await.status, 404, "{span}");
    }
    assert_eq!(api.get("/api/v1/runs/run_0/trace").await.status, 404);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_token_for_a_run_reads_its_trace_and_no_other(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let (id, other) = (api.trigger("hello", "{}").await, api.trigger("hello", "{}").await);
    let token = api.token(&[&format!("read:runs:{id}")]);
    let ask = async |run: &str| api.with(&token, "GET", &format!("/api/v1/runs/{run}/trace"), "").await.status.as_u16();
    assert_eq!((ask(&id).await, ask(&other).await), (200, 403));
}
