//! Batches, as the clients make and fill them.

use axum::body::Body;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::{Answer, TestApi};
use crate::{
    auth::Claims,
    model::{
        attempt::{Outcome, RetryDecision},
        error::RunError,
        id::BatchId,
        payload::Packet,
    },
};

impl TestApi {
    async fn batch(&self, body: &str) -> Answer {
        self.post("/api/v3/batches", body).await
    }

    /// A batch to be filled.
    async fn empty_batch(&self, count: usize) -> String {
        let answer = self.batch(&format!(r#"{{"runCount":{count}}}"#)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    async fn send(&self, key: &str, batch: &str, body: impl Into<Body>) -> Answer {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
        self.raw("POST", &format!("/api/v3/batches/{batch}/items"), &headers, body).await
    }

    /// Items with the secret key.
    async fn items(&self, batch: &str, lines: &[&str]) -> Answer {
        self.send(self.key.expose_secret(), batch, lines.join("\n")).await
    }

    async fn shown(&self, batch: &str) -> Value {
        self.get(&format!("/api/v2/batches/{batch}")).await.ok()
    }
}

fn line(index: usize, rest: &str) -> String {
    format!(r#"{{"index":{index},"task":"hello"{rest}}}"#)
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_batch_is_made_filled_run_and_read_in_its_order(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let created = api.batch(r#"{"runCount":3,"taskIdentifiers":["hello"],"idempotencyKey":"bk"}"#).await;
    assert_eq!(created.status, 202);
    let token = created.headers["x-trigger-jwt"].to_str().unwrap().to_owned();
    let claims: Value = serde_json::from_str(created.headers["x-trigger-jwt-claims"].to_str().unwrap()).unwrap();
    assert_eq!(claims, json!({"sub": api.environment.id, "pub": true}));
    let id = created.body["id"].as_str().unwrap().to_owned();
    assert_eq!(created.body, json!({"id": id, "runCount": 3, "isCached": false, "idempotencyKey": "bk"}));
    assert_eq!(Claims::verify(&token, &api.key).unwrap().scopes, [format!("read:batch:{id}")]);
    let pending = api.shown(&id).await;
    assert_eq!(
        (&pending["status"], &pending["runs"], &pending["processing"]),
        (&json!("PENDING"), &json!([]), &json!({"errors": []}))
    );

    // Cut anywhere, without a length, the last line without an end.
    let lines = [
        line(2, r#","payload":"c","options":{"payloadType":"text/plain"}"#),
        line(0, r#","payload":{"n":1.50},"options":{"tags":"t"}"#),
        line(1, ""),
    ];
    let text = lines.join("\n").into_bytes();
    let chunks = text.chunks(7).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let filled = api.send(api.key.expose_secret(), &id, body).await.ok();
    assert_eq!(filled, json!({"id": id, "itemsAccepted": 3, "itemsDeduplicated": 0, "sealed": true}));

    let batch = api.with(&token, "GET", &format!("/api/v2/batches/{id}"), "").await.ok();
    assert_eq!((&batch["status"], &batch["runCount"], &batch["idempotencyKey"]), (&json!("PROCESSING"), &json!(3), &json!("bk")));
    assert!(batch["createdAt"].is_string() && batch["updatedAt"].is_string() && batch["processing"]["completedAt"].is_string());
    let runs: Vec<&str> = batch["runs"].as_array().unwrap().iter().map(|run| run.as_str().unwrap()).collect();
    let results = async || api.get(&format!("/api/v1/batches/{id}/results")).await.ok();
    assert_eq!(results().await, json!({"id": id, "items": []}), "nothing is final");
    let run = api.get(&format!("/api/v3/runs/{}", runs[0])).await.ok();
    assert_eq!((&run["payload"], &run["tags"], &run["batchId"]), (&json!({"n": 1.5}), &json!(["t"]), &json!(id)));
    assert_eq!(run["triggerFunction"], "batchTrigger");
    api.with(&token, "GET", &format!("/api/v3/runs/{}", runs[1]), "").await.ok();

    for _ in 0..3 {
        let claimed = api.claim().await;
        let outcome = match claimed.lease.run.to_string() {
            id if id == runs[1] => Outcome::Failed { error: RunError::Text { raw: "no".into() }, retry: RetryDecision::Abort },
            _ => Outcome::Completed(claimed.payload.clone()),
        };
        api.finish(&claimed, outcome).await;
    }
    let items = results().await["items"].clone();
    assert_eq!(
        items,
        json!([
            {"ok": true, "id": runs[0], "taskIdentifier": "hello", "output": "{\"n\":1.50}", "outputType": "application/json"},
            {"ok": false, "id": runs[1], "taskIdentifier": "hello", "error": {"type": "STRING_ERROR", "raw": "no"}},
            {"ok": true, "id": runs[2], "taskIdentifier": "hello", "output": "c", "outputType": "text/plain"},
        ])
    );
    assert_eq!(api.shown(&id).await["status"], "COMPLETED", "a run that failed is no failure of the batch");
    assert_eq!(api.get(&format!("/api/v1/runs/{}/result", runs[0])).await.ok(), items[0]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_has_a_result_once_it_is_final(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let id = api.trigger("hello", "{}").await;
    let path = format!("/api/v1/runs/{id}/result");
    let open = api.get(&path).await;
    assert_eq!(open.refusal(), (404, "The run is not finished"));
    assert_eq!(open.headers["x-should-retry"], "false");
    api.post(&format!("/api/v2/runs/{id}/cancel"), "").await.ok();
    let result = api.get(&path).await.ok();
    assert_eq!((&result["ok"], &result["error"]["code"]), (&json!(false), &json!("TASK_RUN_CANCELLED")));
    assert_eq!(api.stranger().await.get(&path).await.refusal(), (404, "Run not found"));
    assert_eq!(api.with(&api.token(&["read:runs"]), "GET", &path, "").await.status, 401, "for the secret key only");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_stream_that_broke_off_is_sent_again_as_a_whole(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let id = api.empty_batch(3).await;
    let lines: Vec<String> = (0..3).map(|index| line(index, "")).collect();
    let some = api.items(&id, &[&lines[0], "", &lines[1]]).await.ok();
    assert_eq!(
        some,
        json!({"id": id, "itemsAccepted": 2, "itemsDeduplicated": 0, "sealed": false, "enqueuedCount": 2, "expectedCount": 3})
    );
    let broken = futures_util::stream::iter([Ok(lines[2].clone()[..5].to_owned()), Err(std::io::Error::other("gone"))]);
    let answer = api.send(api.key.expose_secret(), &id, Body::from_stream(broken)).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(api.shown(&id).await["status"], "PENDING");
    let all: Vec<&str> = lines.iter().map(String::as_str).collect();
    for accepted in [1, 0] {
        let filled = api.items(&id, &all).await.ok();
        let expected = json!({"id": id, "itemsAccepted": accepted, "itemsDeduplicated": 3 - accepted, "sealed": true});
        assert_eq!(filled, expected);
    }
    assert_eq!(api.shown(&id).await["runs"].as_array().unwrap().len(), 3);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn items_that_cannot_be_triggered_are_failed_runs_in_their_places(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.empty_batch(6).await;
    let large = format!(r#","payload":"{}""#, "x".repeat(3 * 1024 * 1024));
    let lines = [
        line(0, ""),
        line(1, r#","options":{"delay":"soon","machine":"huge"}"#),
        line(2, r#","options":{"lockToVersion":"20200101.1"}"#),
        line(3, &large),
        line(4, r#","options":{"debounce":{"key":"k","delay":"tomorrow"}}"#),
        line(5, r#","options":[1]"#),
    ];
    let filled = api.items(&id, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await.ok();
    assert_eq!((&filled["itemsAccepted"], &filled["sealed"]), (&json!(6), &json!(true)));
    let claimed = api.claim().await;
    api.finish(&claimed, Outcome::Completed(Packet::empty())).await;
    let batch = api.shown(&id).await;
    assert_eq!((&batch["status"], batch["runs"].as_array().unwrap().len()), (&json!("PARTIAL_FAILED"), 6));
    let errors = batch["processing"]["errors"].as_array().unwrap();
    let told: Vec<(u64, &str)> =
        errors.iter().map(|error| (error["index"].as_u64().unwrap(), error["error"].as_str().unwrap())).collect();
    for ((index, text), (expected, says)) in told.iter().zip([
        (1, "options.delay: write a duration"),
        (2, "lockToVersion: there is no such version"),
        (4, "options.debounce.delay: write a duration"),
        (5, "must be an object"),
    ]) {
        assert!(*index == expected && text.starts_with(says), "{index}: {text}");
    }
    assert_eq!(told.len(), 4, "one that is too large is what becomes of those: {told:?}");
    assert_eq!(errors[0]["taskIdentifier"], "hello");
    assert_eq!(errors[0]["errorCode"], "BATCH_ITEM_COULD_NOT_TRIGGER");
    let items = api.get(&format!("/api/v1/batches/{id}/results")).await.ok()["items"].clone();
    let codes: Vec<&Value> = items.as_array().unwrap().iter().map(|item| &item["error"]["code"]).collect();
    let could_not = json!("BATCH_ITEM_COULD_NOT_TRIGGER");
    assert_eq!(codes, [&Value::Null, &could_not, &could_not, &json!("PAYLOAD_TOO_LARGE"), &could_not, &could_not]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_stream_that_is_no_list_of_items_is_refused_with_the_line(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let id = api.empty_batch(2).await;
    for (text, status, says) in [
        ("{\"index\":0", 400, "line 1 is not JSON"),
        ("hello", 400, "line 1 is not JSON"),
        ("{\"index\":0,\"task\":\"a\"}\n{\"index\":1,", 400, "line 2 is not JSON"),
        ("[1]", 422, "line 1: "),
        ("{\"task\":\"a\"}", 422, "missing field `index`"),
        ("{\"index\":-1,\"task\":\"a\"}", 422, "invalid value: integer `-1`"),
        ("{\"index\":0}", 422, "missing field `task`"),
        ("{\"index\":0,\"task\":\"\"}", 422, "1 to 128 characters"),
        ("{\"index\":0,\"task\":\"a\\u0000\"}", 422, "none of them NUL"),
        ("{\"index\":2,\"task\":\"a\"}", 422, "index 2 is no place of this batch, which has 2"),
    ] {
        let answer = api.send(api.key.expose_secret(), &id, text).await;
        let told = match status {
            400 => answer.issue().1,
            _ => answer.refusal().1.to_owned(),
        };
        assert!(answer.status == status && told.contains(says), "{text}: {} {}", answer.status, answer.body);
    }
    let large = format!(r#"{{"payload":"{}","index":0,"task":"a"}}"#, "x".repeat(3 * 1024 * 1024));
    let answer = api.items(&id, &[&large]).await;
    assert!(answer.status == 422 && answer.refusal().1.contains("write index and task first"), "{}", answer.body);
    let many = vec!["{\"index\":0,\"task\":\"a\"}"; 1001];
    assert_eq!(api.items(&id, &many).await.refusal(), (422, "one request has at most 1000 items"));
    let bearer = format!("Bearer {}", api.key.expose_secret());
    let json = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = api.raw("POST", &format!("/api/v3/batches/{id}/items"), &json, "").await;
    assert_eq!(answer.refusal(), (415, "Unsupported content type; send application/x-ndjson"));
    for absent in [BatchId::new().to_string(), "batch_1".into(), "nonsense".into()] {
        assert_eq!(api.items(&absent, &[]).await.refusal(), (404, "Batch not found"));
        assert_eq!(api.get(&format!("/api/v2/batches/{absent}")).await.refusal(), (404, "Batch not found"));
        assert_eq!(api.get(&format!("/api/v1/batches/{absent}/results")).await.refusal(), (404, "Batch not found"));
    }
    assert_eq!(api.stranger().await.items(&id, &[]).await.status, 404);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_batch_that_cannot_be_made_is_refused_with_what_would_be_right(pool: PgPool) {
    let api = TestApi::new(pool).await;
    for (body, path, says) in [
        ("{}", "runCount", "from 1 to 1000"),
        (r#"{"runCount":0}"#, "runCount", "from 1 to 1000"),
        (r#"{"runCount":1001}"#, "runCount", "from 1 to 1000"),
        (r#"{"runCount":1.5}"#, "runCount", "whole number"),
        (r#"{"runCount":"1"}"#, "runCount", "expected f64"),
        (r#"{"runCount":1,"parentRunId":"x"}"#, "parentRunId", "run_"),
        (r#"{"runCount":1,"idempotencyKey":""}"#, "idempotencyKey", "1 to 2048"),
        (
            r#"{"runCount":1,"idempotencyKey":"k","idempotencyKeyOptions":{"key":"k","scope":"x"}}"#,
            "idempotencyKeyOptions.scope",
            "global",
        ),
        (r#"{"runCount":1,"taskIdentifiers":"a"}"#, "taskIdentifiers", "sequence"),
        (r#"{"runCount":1,"resumeParentOnCompletion":true}"#, "resumeParentOnCompletion", "parentRunId"),
    ] {
        let answer = api.batch(body).await;
        assert_eq!(answer.refusal(), (400, "Invalid request body"), "{body}: {}", answer.body);
        let (found, message) = answer.issue();
        assert!(found == path && message.contains(says), "{body}: {found}: {message}");
    }
    let orphan = format!(r#"{{"runCount":1,"parentRunId":"{}"}}"#, crate::model::id::RunId::new());
    assert_eq!(api.batch(&orphan).await.refusal(), (422, "parentRunId: there is no such run"));
    let large = format!(r#"{{"runCount":1,"idempotencyKey":"{}"}}"#, "k".repeat(131_072));
    assert_eq!(api.batch(&large).await.status, 413);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_key_or_request_makes_one_batch_which_is_cached_once_it_is_filled(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let keyed = r#"{"runCount":1,"idempotencyKey":"0badc0de","idempotencyKeyOptions":{"key":["order","17"],"scope":"global"}}"#;
    let first = api.batch(keyed).await.body;
    let id = first["id"].as_str().unwrap();
    assert_eq!(api.batch(keyed).await.body, first, "it is not filled: whoever asks shall fill it");
    api.items(id, &[&line(0, "")]).await.ok();
    let cached = api.batch(keyed).await.body;
    assert_eq!((&cached["id"], &cached["isCached"]), (&json!(id), &json!(true)));
    assert_eq!(api.shown(id).await["idempotencyKey"], "order-17");

    let bearer = format!("Bearer {}", api.key.expose_secret());
    let headers = [("authorization", bearer.as_str()), ("x-trigger-request-idempotency-key", "6f1c")];
    let first = api.raw("POST", "/api/v3/batches", &headers, r#"{"runCount":2}"#).await.body;
    let second = api.raw("POST", "/api/v3/batches", &headers, r#"{"runCount":2}"#).await.body;
    assert_eq!(first, second);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn public_tokens_make_and_fill_the_batches_that_their_scopes_allow(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let create = async |scope: &str, body: &str| api.with(&api.token(&[scope]), "POST", "/api/v3/batches", body).await;
    let both = r#"{"runCount":2,"taskIdentifiers":["hello","other"]}"#;
    let unnamed = r#"{"runCount":2}"#;
    for (scope, body, status) in [
        ("batchTrigger:tasks", both, 202),
        ("batchTrigger:tasks", unnamed, 202),
        ("batchTrigger:batch", unnamed, 202),
        ("batchTrigger:tasks:hello", both, 403),
        ("batchTrigger:tasks:hello", unnamed, 403),
        ("batchTrigger:tasks:hello", r#"{"runCount":2,"taskIdentifiers":["hello"]}"#, 202),
        ("trigger:tasks:hello", both, 403),
        ("admin", both, 202),
    ] {
        assert_eq!(create(scope, body).await.status, status, "{scope} {body}");
    }
    let id = api.empty_batch(2).await;
    let (own, foreign) = (line(0, ""), line(1, "").replace("hello", "other"));
    let fill = async |scope: &str, line: &str| api.send(&api.token(&[scope]), &id, line.to_owned()).await.status.as_u16();
    assert_eq!(fill("batchTrigger:tasks:hello", &own).await, 200);
    assert_eq!(fill("batchTrigger:tasks:hello", &foreign).await, 403);
    assert_eq!(fill("write:batch:batch_other", &own).await, 403);
    assert_eq!(fill(&format!("write:batch:{id}"), &foreign).await, 200);
    let path = format!("/api/v2/batches/{id}");
    for (scope, status) in [
        (format!("read:batch:{id}"), 200),
        ("read:runs".into(), 200),
        ("read:batch:batch_other".into(), 403),
        ("read:tasks".into(), 403),
    ] {
        assert_eq!(api.with(&api.token(&[&scope]), "GET", &path, "").await.status, status, "{scope}");
    }
    let bearer = format!("Bearer {}", api.token(&["batchTrigger:tasks"]));
    let headers = [("authorization", bearer.as_str()), ("x-trigger-client", "browser")];
    let made = api.raw("POST", "/api/v3/batches", &headers, unnamed).await;
    let token = made.headers["x-trigger-jwt"].to_str().unwrap();
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(Claims::verify(token, &api.key).unwrap().scopes, [format!("read:batch:{id}"), format!("write:batch:{id}")]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_token_for_one_use_makes_and_fills_one_batch(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let scopes = vec!["batchTrigger:tasks:hello".into()];
    let claims = Claims::new(api.environment.id, scopes, chrono::Utc::now(), chrono::TimeDelta::hours(1));
    let token = Claims { one_time_use: true, ..claims }.sign(&api.key);
    let body = r#"{"runCount":1,"taskIdentifiers":["hello"]}"#;
    let first = api.with(&token, "POST", "/api/v3/batches", body).await.body;
    let second = api.with(&token, "POST", "/api/v3/batches", body).await.body;
    assert_eq!(first["id"], second["id"]);
    let other = api.empty_batch(1).await;
    assert_eq!(api.send(&token, &other, line(0, "")).await.status, 422);
    api.send(&token, first["id"].as_str().unwrap(), line(0, "")).await.ok();
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_older_client_triggers_a_batch_in_one_request(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let body = r#"{"items":[{"task":"hello","payload":{"n":1}},{"task":"hello","options":{"ttl":-1}}]}"#;
    let answer = api.post("/api/v2/tasks/batch", body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(answer.body, json!({"id": id, "runCount": 2}));
    assert!(answer.headers.contains_key("x-trigger-jwt"));
    let claimed = api.claim().await;
    assert_eq!(claimed.payload, Packet { data: r#"{"n":1}"#.into(), content_type: "application/json".into() });
    api.finish(&claimed, Outcome::Completed(Packet::empty())).await;
    assert_eq!(api.shown(id).await["status"], "PARTIAL_FAILED");
    for (items, path) in [
        ("[]".to_owned(), "items"),
        (format!("[{}]", vec![r#"{"task":"a"}"#; 501].join(",")), "items"),
        (r#"[{"task":"hello"},{"task":""}]"#.into(), "items.1.task"),
        (r#"[{"payload":1}]"#.into(), "items[0]"),
    ] {
        let answer = api.post("/api/v2/tasks/batch", &format!(r#"{{"items":{items}}}"#)).await;
        assert_eq!((answer.refusal(), answer.issue().0.as_str()), ((400, "Invalid request body"), path), "{}", answer.body);
    }
    let token = api.token(&["batchTrigger:tasks:hello"]);
    api.with(&token, "POST", "/api/v2/tasks/batch", r#"{"items":[{"task":"hello"}]}"#).await;
    let both = r#"{"items":[{"task":"hello"},{"task":"other"}]}"#;
    assert_eq!(api.with(&token, "POST", "/api/v2/tasks/batch", both).await.status, 403);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_thousand_items_are_taken_and_their_results_are_sent_in_order(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.empty_batch(1000).await;
    let lines: Vec<String> = (0..1000).map(|index| line(index, &format!(r#","payload":{index}"#))).collect();
    let filled = api.items(&id, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await.ok();
    assert_eq!((&filled["itemsAccepted"], &filled["sealed"]), (&json!(1000), &json!(true)));
    let runs = api.shown(&id).await["runs"].clone();
    sqlx::query("update runs set status = 'COMPLETED', finished_at = now(), output = payload, output_type = payload_type")
        .execute(api.store.pool())
        .await
        .unwrap();
    let items = api.get(&format!("/api/v1/batches/{id}/results")).await.ok()["items"].clone();
    let items = items.as_array().unwrap();
    assert_eq!((runs.as_array().unwrap().len(), items.len()), (1000, 1000));
    for (index, item) in items.iter().enumerate() {
        assert_eq!((&item["id"], &item["output"]), (&runs[index], &json!(index.to_string())));
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_a_run_means_to_wait_for_runs_on_its_version_also_if_it_is_triggered_from_outside(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let version = async |query: &str| api.deploy(b"ok:hello", query).await.body["version"].as_str().unwrap().to_owned();
    let first = version("").await;
    let parent = api.trigger("hello", "{}").await;
    assert_eq!(api.claim().await.lease.run.to_string(), parent);
    let second = version("?externalId=second").await;
    assert_ne!(first, second);

    let options = |awaited: bool| format!(r#"{{"options":{{"parentRunId":"{parent}","resumeParentOnCompletion":{awaited}}}}}"#);
    let shown = async |run: &str| api.get(&format!("/api/v3/runs/{run}")).await.ok();
    let awaited = shown(&api.trigger("hello", &options(true)).await).await;
    assert_eq!((&awaited["triggerFunction"], &awaited["version"]), (&json!("triggerAndWait"), &json!(first)));
    assert_eq!(awaited["relatedRuns"]["parent"]["id"], json!(parent));
    let free = shown(&api.trigger("hello", &options(false)).await).await;
    assert_eq!(
        (&free["triggerFunction"], free.get("version")),
        (&json!("trigger"), None),
        "the one that is current when it starts"
    );

    let body =
        format!(r#"{{"parentRunId":"{parent}","resumeParentOnCompletion":true,"items":[{{"task":"hello"}},{{"task":"new"}}]}}"#);
    let made = api.post("/api/v2/tasks/batch", &body).await;
    assert_eq!(made.status, 202, "{}", made.body);
    let batch = api.shown(made.body["id"].as_str().unwrap()).await;
    let run = shown(batch["runs"][0].as_str().unwrap()).await;
    assert_eq!((&run["triggerFunction"], &run["version"]), (&json!("batchTriggerAndWait"), &json!(first)));
    assert_eq!(batch["processing"]["errors"][0]["index"], 1, "that version has no such task: {batch}");
}
