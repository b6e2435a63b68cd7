//! Feeds of runs, as the clients ask for them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::{Answer, TestApi};
use crate::{
    auth::{Claims, Realtime},
    model::{
        attempt::{Outcome, RetryDecision},
        error::{ErrorCode, RunError},
        payload::Packet,
    },
};

/// Longer than any change takes to arrive.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);
const ELECTRIC: (&str, &str) = ("x-trigger-electric-version", "1.0.0-beta.1");

/// A client's place in a feed.
#[derive(Debug, Clone)]
struct Place {
    path: String,
    handle: String,
    offset: String,
}

impl Place {
    fn query(&self, more: &str) -> String {
        let sign = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{sign}cursor=&handle={}&log=full&offset={}{more}", self.path, self.handle, self.offset)
    }

    fn next(&self, answer: &Answer) -> Place {
        Place { path: self.path.clone(), handle: header(answer, "electric-handle"), offset: header(answer, "electric-offset") }
    }
}

fn header(answer: &Answer, name: &str) -> String {
    answer.headers.get(name).unwrap_or_else(|| panic!("{name} in {:?}", answer.headers)).to_str().unwrap().to_owned()
}

async fn ask(api: &TestApi, path: &str) -> Answer {
    let bearer = api.bearer();
    api.raw("GET", path, &[("authorization", &bearer), ELECTRIC], "").await
}

/// The first answer, and where it goes on.
async fn begin(api: &TestApi, path: &str) -> (Value, Place) {
    let sign = if path.contains('?') { '&' } else { '?' };
    let answer = ask(api, &format!("{path}{sign}log=full&offset=-1")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    for name in ["electric-schema", "electric-handle", "electric-offset"] {
        assert!(answer.headers.contains_key(name), "{name}");
    }
    let place = Place { path: path.into(), handle: String::new(), offset: String::new() }.next(&answer);
    (answer.body, place)
}

async fn live(api: &TestApi, place: &Place) -> (Value, Place) {
    let answer = ask(api, &place.query("&live=true")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.headers.contains_key("electric-cursor"));
    let next = place.next(&answer);
    (answer.body, next)
}

/// The rows of an answer; all that is there has been told.
#[track_caller]
fn rows(body: &Value) -> Vec<Value> {
    let mut messages = body.as_array().unwrap().clone();
    let last = messages.pop().unwrap();
    assert_eq!(last, json!({"headers": {"control": "up-to-date"}}), "{body}");
    messages
}

fn statuses(body: &Value) -> Vec<String> {
    rows(body).iter().map(|row| row["value"]["status"].as_str().unwrap().to_owned()).collect()
}

fn ids(body: &Value) -> BTreeSet<String> {
    rows(body).iter().map(|row| row["value"]["friendlyId"].as_str().unwrap().to_owned()).collect()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_subscriber_sees_each_change_of_its_run_until_the_end(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, LONG, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", r#"{"payload":{"a":1},"options":{"tags":["x","y,\"z"]}}"#).await;
    let (body, place) = begin(&api, &format!("/realtime/v1/runs/{run}")).await;
    let row = &rows(&body)[0];
    assert_eq!(row["headers"]["operation"], "insert");
    let value = &row["value"];
    assert_eq!((&value["friendlyId"], &value["status"]), (&json!(run), &json!("PENDING")));
    assert_eq!((&value["payload"], &value["payloadType"]), (&json!(r#"{"a":1}"#), &json!("application/json")));
    assert_eq!(value["runTags"], r#"{"x","y,\"z"}"#);
    assert_eq!((&value["completedAt"], &value["error"], &value["output"]), (&Value::Null, &Value::Null, &Value::Null));
    let created = value["createdAt"].as_str().unwrap();
    assert!(created.len() == 23 && !created.ends_with('Z'), "{created}");

    let (claimed, (body, place)) = tokio::join!(api.claim(), live(&api, &place));
    assert_eq!(statuses(&body), ["EXECUTING"]);
    let path = format!("/api/v1/runs/{run}/metadata");
    let change = r#"{"operations":[{"type":"set","key":"progress","value":0.5}]}"#;
    let ((body, place), _) = tokio::join!(live(&api, &place), api.put(&path, change));
    assert_eq!(rows(&body)[0]["value"]["metadata"], r#"{"progress":0.5}"#);
    let tagging = format!("/api/v1/runs/{run}/tags");
    let ((body, place), _) = tokio::join!(live(&api, &place), api.post(&tagging, r#"{"tags":"late"}"#));
    assert_eq!(rows(&body)[0]["value"]["runTags"], r#"{"x","y,\"z","late"}"#);
    let done = Outcome::Completed(Packet::json(&json!({"sum": 3})));
    let ((body, place), ()) = tokio::join!(live(&api, &place), api.finish(&claimed, done));
    let value = &rows(&body)[0]["value"];
    assert_eq!((&value["status"], &value["output"]), (&json!("COMPLETED_SUCCESSFULLY"), &json!(r#"{"sum":3}"#)));
    assert!(value["completedAt"].is_string() && value["usageDurationMs"] == "7");
    let again = ask(&api, &place.query("")).await;
    assert!(rows(&again.body).is_empty(), "nothing happened since");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_error_is_shown_as_the_clients_schema_has_it(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, SHORT, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    let claimed = api.claim().await;
    let error = RunError::internal(ErrorCode::TaskProcessOomKilled, "too large");
    api.finish(&claimed, Outcome::Failed { error, retry: RetryDecision::Abort }).await;
    let (body, _) = begin(&api, &format!("/realtime/v1/runs/{run}")).await;
    let value = &rows(&body)[0]["value"];
    assert_eq!(value["status"], "CRASHED");
    let error: Value = serde_json::from_str(value["error"].as_str().unwrap()).unwrap();
    assert_eq!(error, json!({"type": "INTERNAL_ERROR", "code": "TASK_PROCESS_OOM_KILLED", "message": "too large"}));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_request_is_held_while_nothing_happens_and_then_told_so(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, Duration::from_millis(300), 100).await;
    let run = api.trigger("hello", "{}").await;
    for path in [format!("/realtime/v1/runs/{run}"), "/realtime/v1/runs?tags=a".into()] {
        let (_, place) = begin(&api, &path).await;
        let begun = Instant::now();
        let (body, next) = live(&api, &place).await;
        assert!(rows(&body).is_empty() && begun.elapsed() > Duration::from_millis(250), "{body} {:?}", begun.elapsed());
        assert_eq!((next.offset, next.handle), (place.offset, place.handle));
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_feed_of_tags_has_the_runs_with_all_of_them_and_hears_of_new_ones(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, LONG, 100).await;
    api.deploy(b"ok:hello", "").await;
    let tagged = async |tags: &str| api.trigger("hello", &format!(r#"{{"options":{{"tags":{tags}}}}}"#)).await;
    let both = tagged(r#"["a","b","c"]"#).await;
    tagged(r#"["a"]"#).await;
    let (body, place) = begin(&api, "/realtime/v1/runs?tags=b,a").await;
    assert_eq!(ids(&body), BTreeSet::from([both.clone()]));

    let ((body, place), new) = tokio::join!(live(&api, &place), async {
        tagged(r#"["b"]"#).await;
        tagged(r#"["b","a"]"#).await
    });
    assert_eq!((ids(&body), statuses(&body)), (BTreeSet::from([new.clone()]), vec!["PENDING".to_owned()]));
    assert_eq!(rows(&body)[0]["headers"]["operation"], "insert");
    let (claimed, (body, place)) = tokio::join!(api.claim(), live(&api, &place));
    assert_eq!((ids(&body), statuses(&body)), (BTreeSet::from([both.clone()]), vec!["EXECUTING".to_owned()]));
    // Several changes while the client is away are one answer, each run in its newest form.
    api.finish(&claimed, Outcome::Completed(Packet::empty())).await;
    api.post(&format!("/api/v2/runs/{new}/cancel"), "").await.ok();
    let seen = heard(&api, place, |seen| seen.len() >= 2).await;
    assert_eq!(seen, [(both, "COMPLETED_SUCCESSFULLY".to_owned()), (new, "CANCELED".to_owned())]);
}

/// What comes until it is enough.
async fn heard(api: &TestApi, mut place: Place, enough: impl Fn(&[(String, String)]) -> bool) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    while !enough(&seen) {
        let (body, next) = live(api, &place).await;
        let of = |row: &Value, column: &str| row["value"][column].as_str().unwrap().to_owned();
        seen.extend(rows(&body).iter().map(|row| (of(row, "friendlyId"), of(row, "status"))));
        place = next;
    }
    seen
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_feed_of_a_batch_has_its_runs_and_nothing_else(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, LONG, 100).await;
    api.deploy(b"ok:hello", "").await;
    let items: Vec<Value> = (0..60).map(|number| json!({"task": "hello", "payload": number})).collect();
    let made = api.post("/api/v2/tasks/batch", &json!({"items": items}).to_string()).await;
    assert_eq!(made.status, 202, "{}", made.body);
    let batch = made.body["id"].as_str().unwrap();
    api.trigger("hello", "{}").await;
    let (body, place) = begin(&api, &format!("/realtime/v1/batches/{batch}")).await;
    let shown: Vec<&str> = body.as_array().unwrap().iter().filter_map(|message| message["value"]["payload"].as_str()).collect();
    let numbers: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    assert_eq!(shown, numbers, "in the order of the batch, in which a page then shows them");
    let first = api.claim().await.lease.run.to_string();
    assert_eq!(heard(&api, place, |seen| !seen.is_empty()).await, [(first, "EXECUTING".to_owned())]);
    assert_eq!(ask(&api, "/realtime/v1/batches/batch_0").await.refusal(), (404, "Batch not found"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_large_snapshot_comes_in_parts_and_all_of_it(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, LONG, 100).await;
    let payload = "x".repeat(400_000);
    let mut made = BTreeSet::new();
    for _ in 0..60 {
        made.insert(api.trigger("hello", &format!(r#"{{"payload":"{payload}","options":{{"tags":"big"}}}}"#)).await);
    }
    let path = "/realtime/v1/runs?tags=big";
    let mut answer = ask(&api, &format!("{path}&offset=-1")).await;
    let mut place = Place { path: path.into(), handle: String::new(), offset: String::new() };
    let (mut seen, mut parts) = (BTreeSet::new(), 0);
    loop {
        parts += 1;
        assert_eq!(answer.status, 200);
        let messages = answer.body.as_array().unwrap();
        let names = messages.iter().filter_map(|message| message["value"]["friendlyId"].as_str());
        seen.extend(names.map(String::from));
        place = place.next(&answer);
        if messages.iter().any(|message| message["headers"]["control"] == "up-to-date") {
            assert!(answer.headers.contains_key("electric-up-to-date"));
            break;
        }
        assert!(!answer.headers.contains_key("electric-up-to-date"));
        answer = ask(&api, &place.query("")).await;
    }
    assert_eq!((seen, parts), (made, 3));
    // Too large to be kept in memory, and told nevertheless.
    api.deploy(b"ok:hello", "").await;
    let claimed = api.claim().await;
    let seen = heard(&api, place, |seen| seen.iter().any(|(_, status)| status == "EXECUTING")).await;
    assert!(seen.contains(&(claimed.lease.run.to_string(), "EXECUTING".to_owned())));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_place_that_is_not_known_is_sent_back_to_the_beginning(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, SHORT, 100).await;
    let run = api.trigger("hello", r#"{"options":{"tags":["a","b"]}}"#).await;
    let (single, several) = (format!("/realtime/v1/runs/{run}"), "/realtime/v1/runs?tags=a".to_owned());
    for path in [&single, &several] {
        let (_, good) = begin(&api, path).await;
        assert_eq!(ask(&api, &good.query("&live=true")).await.status, 200);
        for (handle, offset) in [
            (good.handle.as_str(), "nonsense"),
            (&good.handle, "99999_0"),
            ("", &good.offset),
            ("of-another-feed-0", &good.offset),
        ] {
            let place = Place { handle: handle.into(), offset: offset.into(), ..good.clone() };
            let answer = ask(&api, &place.query("&live=true")).await;
            assert_eq!(answer.status, 409, "{path} {handle} {offset}");
            assert_eq!(answer.body, json!([{"headers": {"control": "must-refetch"}}]));
            assert_eq!(answer.headers["content-type"], "application/json");
            let new = header(&answer, "electric-handle");
            assert!(!new.is_empty() && new != good.handle);
        }
    }
    // A handle is good for its own selection only.
    let (_, place) = begin(&api, &several).await;
    let other = Place { path: "/realtime/v1/runs?tags=b".into(), ..place };
    assert_eq!(ask(&api, &other.query("&live=true")).await.status, 409);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn one_run_is_followed_across_servers_and_several_begin_anew(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, LONG, 100).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", r#"{"options":{"tags":"a"}}"#).await;
    let (_, single) = begin(&api, &format!("/realtime/v1/runs/{run}")).await;
    let (_, several) = begin(&api, "/realtime/v1/runs?tags=a").await;
    let (other, _stop_too) = api.live_elsewhere(LONG);
    let (claimed, (body, single)) = tokio::join!(api.claim(), live(&other, &single));
    assert_eq!(statuses(&body), ["EXECUTING"]);
    assert_eq!(ask(&other, &several.query("&live=true")).await.status, 409);
    // What the other server has told, this one has not heard of: it looks before it doubts.
    api.finish(&claimed, Outcome::Completed(Packet::empty())).await;
    let (body, single) = live(&other, &single).await;
    assert_eq!(statuses(&body), ["COMPLETED_SUCCESSFULLY"]);
    assert_eq!(ask(&api, &single.query("")).await.status, 200);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_nobody_was_notified_of_is_found_nevertheless(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, LONG * 3, 100).await;
    let run = api.trigger("hello", r#"{"options":{"tags":"a"}}"#).await;
    let (_, single) = begin(&api, &format!("/realtime/v1/runs/{run}")).await;
    let (_, several) = begin(&api, "/realtime/v1/runs?tags=a").await;
    let change = "update runs set status = 'WAITING', event_seq = event_seq + 1, updated_at = clock_now()";
    sqlx::query(change).execute(api.store.pool()).await.unwrap();
    let ((one, _), (many, _)) = tokio::join!(live(&api, &single), live(&api, &several));
    assert_eq!((statuses(&one), statuses(&many)), (vec!["WAITING_TO_RESUME".into()], vec!["WAITING_TO_RESUME".into()]));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn no_more_subscribers_wait_than_the_server_takes(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, LONG, 2).await;
    let run = api.trigger("hello", "{}").await;
    let (_, place) = begin(&api, &format!("/realtime/v1/runs/{run}")).await;
    let ends = async {
        let deadline = Instant::now() + LONG;
        loop {
            // Two of them wait sooner or later, and nobody else may then.
            let third = tokio::time::timeout(SHORT, ask(&api, &place.query("&live=true"))).await;
            if let Ok(answer) = third {
                assert_eq!(answer.refusal(), (429, "Too many concurrent requests"));
                break;
            }
            assert!(Instant::now() < deadline);
        }
        begin(&api, &place.path).await;
        api.post(&format!("/api/v2/runs/{run}/cancel"), "").await.ok();
    };
    let ((one, _), (other, _), ()) = tokio::join!(live(&api, &place), live(&api, &place), ends);
    assert_eq!((statuses(&one), statuses(&other)), (vec!["CANCELED".into()], vec!["CANCELED".into()]));
    tokio::time::timeout(SHORT * 2, ask(&api, &place.query(""))).await.unwrap();
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_public_token_follows_what_its_scopes_say(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, SHORT, 100).await;
    let run = api.trigger("hello", r#"{"options":{"tags":["a:1","b"]}}"#).await;
    let made = api.post("/api/v2/tasks/batch", r#"{"items":[{"task":"hello","payload":"1"}]}"#).await;
    let batch = made.body["id"].as_str().unwrap().to_owned();
    let (one, tags, of_batch) =
        (format!("/realtime/v1/runs/{run}"), "/realtime/v1/runs?tags=a:1,b", format!("/realtime/v1/batches/{batch}"));
    let status = async |scope: &str, path: &str| api.with(&api.token(&[scope]), "GET", path, "").await.status.as_u16();
    for (scope, allowed) in [
        (format!("read:runs:{run}"), [200, 403, 403]),
        ("read:runs:run_other".into(), [403, 403, 403]),
        ("read:runs".into(), [200, 200, 200]),
        ("read:tasks:hello".into(), [200, 403, 403]),
        ("read:tags:a:1".into(), [200, 200, 403]),
        ("read:tags:c".into(), [403, 403, 403]),
        ("read:tags".into(), [200, 200, 403]),
        (format!("read:batch:{batch}"), [403, 403, 200]),
        ("write:runs".into(), [403, 403, 403]),
    ] {
        let got = [status(&scope, &one).await, status(&scope, tags).await, status(&scope, &of_batch).await];
        assert_eq!(got, allowed, "{scope}");
    }
    let stranger = api.stranger().await;
    assert_eq!(stranger.get(&one).await.refusal(), (404, "Run not found"));
    assert_eq!(stranger.get(&of_batch).await.refusal(), (404, "Batch not found"));
    assert_eq!(stranger.get(tags).await.ok(), json!([{"headers": {"control": "up-to-date"}}]));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn columns_are_left_out_as_the_token_or_the_request_says(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, SHORT, 100).await;
    let run = api.trigger("hello", r#"{"payload":"secret"}"#).await;
    let path = format!("/realtime/v1/runs/{run}?skipColumns=payload,metadata,status");
    let columns = |answer: &Answer| {
        let row = rows(&answer.body)[0]["value"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let schema: Value = serde_json::from_str(&header(answer, "electric-schema")).unwrap();
        assert_eq!(row, schema.as_object().unwrap().keys().cloned().collect());
        row
    };
    let asked = columns(&ask(&api, &path).await);
    assert!(!asked.contains("payload") && !asked.contains("metadata") && asked.contains("status") && asked.contains("output"));
    let mut claims = Claims::new(api.environment.id, vec!["read:runs".into()], Utc::now(), TimeDelta::hours(1));
    claims.realtime = Some(Realtime { skip_columns: vec!["output".into()] });
    let bearer = format!("Bearer {}", claims.sign(&api.key));
    let told = columns(&api.raw("GET", &path, &[("authorization", &bearer), ELECTRIC], "").await);
    assert!(told.contains("payload") && !told.contains("output"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn clients_of_old_and_browsers_find_the_headers_that_they_know(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, SHORT, 100).await;
    let run = api.trigger("hello", "{}").await;
    let (path, bearer) = (format!("/realtime/v1/runs/{run}"), api.bearer());
    let old = api.raw("GET", &path, &[("authorization", &bearer), ("origin", "https://page.test")], "").await;
    assert!(old.headers.contains_key("electric-shape-id") && old.headers.contains_key("electric-chunk-last-offset"));
    assert_eq!(header(&old, "access-control-expose-headers"), "*");
    assert_eq!(header(&old, "cache-control"), "no-store");
    let place =
        format!("{path}?offset={}&shape_id={}", header(&old, "electric-chunk-last-offset"), header(&old, "electric-shape-id"));
    assert_eq!(api.raw("GET", &place, &[("authorization", &bearer)], "").await.status, 200);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_cannot_be_followed_is_refused(pool: PgPool) {
    let (api, _stop) = TestApi::live(pool, SHORT, 100).await;
    assert_eq!(api.get("/realtime/v1/runs/run_0").await.refusal(), (404, "Run not found"));
    let unknown = crate::model::id::RunId::new();
    assert_eq!(api.get(&format!("/realtime/v1/runs/{unknown}")).await.refusal(), (404, "Run not found"));
    let eleven = (0..11).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    for tags in ["", "?tags=", &format!("?tags={eleven}"), &format!("?tags={}", "x".repeat(129)), "?tags=a%00b"] {
        let answer = api.get(&format!("/realtime/v1/runs{tags}")).await;
        assert_eq!((answer.status.as_u16(), answer.issue().0.as_str()), (400, "tags"), "{tags}");
    }
    assert_eq!(api.get("/realtime/v1/runs?tags=a&createdAt=soon").await.issue().0, "createdAt");
}
