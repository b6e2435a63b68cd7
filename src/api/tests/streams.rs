//! Streams of runs, as the clients read and write them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::{Answer, TestApi};
use crate::model::{attempt::Outcome, payload::Packet};

const HOLD: Duration = Duration::from_secs(20);

/// The records of an answer: index and data.
#[track_caller]
fn records(answer: &Answer) -> Vec<(u64, Value)> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        (&answer.headers["content-type"], &answer.headers["x-stream-version"]),
        (&"text/event-stream".parse().unwrap(), &"v2".parse().unwrap())
    );
    let mut records = Vec::new();
    for event in answer.body.as_str().unwrap_or_default().split("\n\n").filter(|event| !event.is_empty()) {
        let (kind, data) = event.split_once('\n').unwrap();
        assert_eq!(kind, "event: batch");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        for record in data["records"].as_array().unwrap() {
            assert!(record["timestamp"].as_i64().unwrap() > 1_700_000_000_000);
            let body: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
            assert_eq!(body["id"], record["seq_num"].to_string());
            records.push((record["seq_num"].as_u64().unwrap(), body["data"].clone()));
        }
    }
    records
}

async fn read(api: &TestApi, path: &str, more: &[(&str, &str)]) -> Vec<(u64, Value)> {
    let bearer = api.bearer();
    let headers = [&[("authorization", bearer.as_str()), ("accept", "text/event-stream")], more].concat();
    records(&api.raw("GET", path, &headers, "").await)
}

async fn append(api: &TestApi, run: &str, body: &str, more: &[(&str, &str)]) -> Answer {
    let bearer = api.bearer();
    let headers = [&[("authorization", bearer.as_str())], more].concat();
    api.raw("POST", &format!("/realtime/v1/streams/{run}/self/log/append"), &headers, body.to_owned()).await
}

async fn finish(api: &TestApi) {
    let claimed = api.claim().await;
    api.finish(&claimed, Outcome::Completed(Packet::empty())).await;
}

fn numbered(values: &[Value]) -> Vec<(u64, Value)> {
    (0..).zip(values.iter().cloned()).collect()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_stream_is_read_from_any_index_and_ends_with_its_run(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    for body in [r#"{"a":1}"#, "\"text\"", "no json", "2"] {
        assert_eq!(append(&api, &run, body, &[]).await.ok(), json!({"ok": true}));
    }
    let shown = api.get(&format!("/realtime/v1/runs/{run}")).await.ok();
    assert_eq!(shown[0]["value"]["realtimeStreams"], r#"{"log"}"#);
    finish(&api).await;
    let path = format!("/realtime/v1/streams/{run}/log");
    let all = numbered(&[json!({"a": 1}), json!("text"), json!("no json"), json!(2)]);
    assert_eq!(read(&api, &path, &[]).await, all);
    assert_eq!(read(&api, &path, &[("last-event-id", "1")]).await, all[2..]);
    assert_eq!(read(&api, &path, &[("last-event-id", "3")]).await, []);
    assert_eq!(read(&api, &path, &[("last-event-id", "99")]).await, []);
    assert_eq!(read(&api, &path, &[("x-trigger-stream-start", "latest")]).await, []);
    assert_eq!(append(&api, &run, "1", &[]).await.refusal(), (400, "Cannot write to a stream of a completed run"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_reader_that_was_there_before_the_writer_gets_everything_in_order(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 100).await;
    let (other, _stop_too) = api.live_elsewhere(HOLD);
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    let path = format!("/realtime/v1/streams/{run}/log");
    let write = async {
        for number in 0..200 {
            append(&api, &run, &number.to_string(), &[]).await.ok();
        }
        finish(&api).await;
    };
    let (here, there, latest, ()) = tokio::join!(
        read(&api, &path, &[]),
        read(&other, &path, &[]),
        read(&api, &path, &[("x-trigger-stream-start", "latest")]),
        write
    );
    let all = numbered(&(0..200).map(|number| json!(number)).collect::<Vec<_>>());
    assert_eq!((&here, &there), (&all, &all));
    assert_eq!(latest, all[all.len() - latest.len()..]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_large_stream_is_read_whole_while_it_grows(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    let text = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..30 {
        append(&api, &run, &text, &[]).await.ok();
    }
    let path = format!("/realtime/v1/streams/{run}/log");
    let write = async {
        for _ in 0..30 {
            append(&api, &run, &text, &[]).await.ok();
        }
        finish(&api).await;
    };
    let (all, ()) = tokio::join!(read(&api, &path, &[]), write);
    assert_eq!(all.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    assert!(all.iter().all(|(_, data)| data.as_str().unwrap().len() == 100_000));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_stream_that_nobody_has_written_to_is_waited_for_as_long_as_asked(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 100).await;
    let run = api.trigger("hello", "{}").await;
    let begun = Instant::now();
    assert_eq!(read(&api, &format!("/realtime/v1/streams/{run}/nothing"), &[("timeout-seconds", "1")]).await, []);
    assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let bearer = api.bearer();
    for header in ["last-event-id", "timeout-seconds"] {
        let headers = [("authorization", bearer.as_str()), (header, "soon")];
        let answer = api.raw("GET", &format!("/realtime/v1/streams/{run}/log"), &headers, "").await;
        assert_eq!((answer.status.as_u16(), answer.issue().0.as_str()), (400, header));
    }
    assert_eq!(api.get("/realtime/v1/streams/run_0/log").await.refusal(), (404, "Run not found"));
    assert_eq!(api.stranger().await.get(&format!("/realtime/v1/streams/{run}/log")).await.refusal(), (404, "Run not found"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_chunk_that_is_sent_again_under_its_name_is_there_once(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    for (body, part) in [("1", "a"), ("2", "b"), ("1", "a"), ("2", "b")] {
        append(&api, &run, body, &[("x-part-id", part)]).await.ok();
    }
    assert_eq!(append(&api, &run, "1", &[("x-part-id", "a b")]).await.status, 422);
    assert_eq!(append(&api, &run, &"1".repeat(600_000), &[]).await.status, 413);
    finish(&api).await;
    let all = read(&api, &format!("/realtime/v1/streams/{run}/log"), &[]).await;
    assert_eq!(all, numbered(&[json!(1), json!(2)]));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_writer_of_lines_goes_on_where_it_was_cut_off(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    let (path, bearer) = (format!("/realtime/v1/streams/{run}/self/log"), api.bearer());
    let ask = async |method: &str, more: &[(&str, &str)], body: String| {
        let headers = [&[("authorization", bearer.as_str()), ("x-client-id", "w-1")], more].concat();
        api.raw(method, &path, &headers, body).await
    };
    let made = ask("PUT", &[], String::new()).await;
    assert_eq!((made.status.as_u16(), made.body), (202, json!({"version": "v1"})));
    let last = async || ask("HEAD", &[], String::new()).await.headers["x-last-chunk-index"].to_str().unwrap().to_owned();
    assert_eq!(last().await, "-1");
    let lines = |from: u32, to: u32| (from..to).map(|number| format!("{{\"n\":{number}}}\n")).collect::<String>();
    ask("POST", &[], lines(0, 1500)).await.ok();
    assert_eq!(last().await, "1499");
    // It is not sure of the last ones, and sends them again.
    ask("POST", &[("x-resume-from-chunk", "1400")], lines(1400, 2500) + "\"the end\"").await.ok();
    assert_eq!(last().await, "2500");
    assert_eq!(ask("POST", &[("x-resume-from-chunk", "x")], String::new()).await.issue().0, "x-resume-from-chunk");
    let elsewhere = api.with(&bearer[7..], "POST", &format!("/realtime/v1/streams/{run}/else/log"), "1").await;
    assert_eq!(elsewhere.issue().0, "target");
    finish(&api).await;
    let all = read(&api, &format!("/realtime/v1/streams/{run}/log"), &[]).await;
    assert_eq!(all.len(), 2501);
    assert!(all[..2500].iter().zip(0..).all(|((index, data), number)| *index == number && data["n"] == number));
    assert_eq!(ask("PUT", &[], String::new()).await.status, 400);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn values_are_sent_to_a_run_by_whoever_may(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    let path = format!("/realtime/v1/streams/{run}/input/chat");
    assert_eq!(api.post(&path, r#"{"data":{"b":1,"a":2}}"#).await.ok(), json!({"ok": true}));
    api.with(&api.token(&[&format!("write:inputStreams:{run}")]), "POST", &path, r#"{"data":null}"#).await.ok();
    for scope in ["write:inputStreams:run_other", "read:runs", "write:runs"] {
        assert_eq!(api.with(&api.token(&[scope]), "POST", &path, r#"{"data":1}"#).await.status, 403, "{scope}");
    }
    let again =
        [("authorization", &*api.bearer()), ("x-trigger-request-idempotency-key", "k"), ("content-type", "application/json")];
    for _ in 0..2 {
        api.raw("POST", &path, &again, r#"{"data":"once"}"#).await.ok();
    }
    assert_eq!(api.post(&path, "{}").await.issue().0, "data");
    assert_eq!(api.post(&path, &format!(r#"{{"data":"{}"}}"#, "x".repeat(1 << 20))).await.status, 413);
    assert_eq!(api.post("/realtime/v1/streams/run_0/input/chat", r#"{"data":1}"#).await.refusal(), (404, "Run not found"));
    finish(&api).await;
    assert_eq!(api.post(&path, r#"{"data":1}"#).await.refusal(), (400, "Cannot write to a stream of a completed run"));
    let values = numbered(&[json!(r#"{"b":1,"a":2}"#), json!("null"), json!("\"once\"")]);
    assert_eq!(read(&api, &path, &[]).await, values);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_public_token_reads_streams_of_what_it_may_read_and_writes_none(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", r#"{"options":{"tags":"a"}}"#).await;
    finish(&api).await;
    for path in [format!("/realtime/v1/streams/{run}/log"), format!("/realtime/v1/streams/{run}/input/log")] {
        for scope in [format!("read:runs:{run}"), "read:tags:a".into(), "read:tasks:hello".into()] {
            assert_eq!(api.with(&api.token(&[&scope]), "GET", &path, "").await.status, 200, "{scope}");
        }
        for scope in ["read:runs:run_other", "write:inputStreams"] {
            assert_eq!(api.with(&api.token(&[scope]), "GET", &path, "").await.status, 403, "{scope}");
        }
    }
    let write = format!("/realtime/v1/streams/{run}/self/log/append");
    assert_eq!(api.with(&api.token(&["admin"]), "POST", &write, "1").await.status, 401);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn no_more_readers_wait_than_the_server_takes(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, HOLD, 1).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    let path = format!("/realtime/v1/streams/{run}/log");
    let refused = async {
        loop {
            let answer = api.raw("GET", &path, &[("authorization", &api.bearer()), ("timeout-seconds", "1")], "").await;
            if answer.status == 429 {
                break;
            }
        }
        finish(&api).await;
    };
    let ((), ()) = tokio::join!(refused, async {
        while api.raw("GET", &path, &[("authorization", &api.bearer())], "").await.status == 429 {}
    });
}
