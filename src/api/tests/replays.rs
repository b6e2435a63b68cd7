//! Replays, other times and idempotency keys by HTTP.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_is_repeated_as_it_was_or_with_changes(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let body = json!({"payload": {"n": 1}, "options": {"tags": ["a"], "metadata": {"m": 1}, "queue": {"name": "q"}}});
    let first = api.trigger("hello", &body.to_string()).await;
    let path = format!("/api/v1/runs/{first}/replay");
    let show = async |answer: Value| api.get(&format!("/api/v3/runs/{}", answer["id"].as_str().unwrap())).await.ok();
    let same = show(api.post(&path, "").await.ok()).await;
    assert_ne!(same["id"], json!(first));
    assert_eq!((&same["payload"], &same["tags"], &same["metadata"]), (&json!({"n": 1}), &json!(["a"]), &json!({"m": 1})));

    // As the client sends it: the payload as a text.
    let changes = json!({"payload": r#"{"json":{"d":"x"},"meta":{"values":{"d":["Date"]}}}"#, "payloadType": "application/super+json",
        "tags": "b", "metadata": {}, "queue": "other", "machine": "micro", "version": "latest", "delay": "1h", "ttl": 60,
        "maxAttempts": 2, "maxDuration": 10, "priority": 1, "concurrencyKey": 7, "region": "eu"});
    let other = show(api.post(&path, &changes.to_string()).await.ok()).await;
    assert_eq!((&other["payload"], &other["tags"], &other["metadata"]), (&json!({"d": "x"}), &json!(["b"]), &json!({})));
    assert_eq!((&other["status"], &other["ttl"]), (&json!("DELAYED"), &json!("1m")));
    let plain = show(api.post(&path, r#"{"payload":[1,2]}"#).await.ok()).await;
    assert_eq!(plain["payload"], json!([1, 2]));

    let bearer = format!("Bearer {}", api.key.expose_secret());
    let headers = [("authorization", bearer.as_str()), ("x-trigger-request-idempotency-key", "6f1c")];
    let one = api.raw("POST", &path, &headers, "").await.ok();
    assert_eq!(api.raw("POST", &path, &headers, "").await.ok(), one, "the same request makes one run");

    for (body, wrong) in [
        (json!({"pay": 1}), "pay"),
        (json!({"payloadType": "application/json"}), "payloadType"),
        (json!({"payload": "x", "payloadType": "text/plain"}), "payloadType"),
        (json!({"metadata": []}), "metadata"),
        (json!({"machine": "huge"}), "machine"),
        (json!({"maxAttempts": 0}), "maxAttempts"),
        (json!({"delay": "soon"}), "delay"),
        (json!({"queue": 5}), "queue"),
    ] {
        let refused = api.post(&path, &body.to_string()).await;
        assert!(refused.status == 400 && refused.body.to_string().contains(wrong), "{body}: {}", refused.body);
    }
    assert_eq!(api.post(&path, r#"{"version":"20200101.1"}"#).await.status, 422);
    assert_eq!(api.post("/api/v1/runs/run_0/replay", "").await.refusal(), (404, "Run not found"));
    assert_eq!(api.stranger().await.post(&path, "").await.refusal(), (404, "Run not found"));
    assert_eq!(api.with(&api.token(&["admin"]), "POST", &path, "").await.status, 401);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_delayed_run_gets_another_time_and_no_other_run_does(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let run = api.trigger("hello", r#"{"options":{"delay":"1h"}}"#).await;
    let path = format!("/api/v1/runs/{run}/reschedule");
    let moved = api.post(&path, r#"{"delay":"2030-01-02T03:04:05Z"}"#).await.ok();
    assert_eq!((&moved["id"], &moved["delayedUntil"]), (&json!(run), &json!("2030-01-02T03:04:05.000Z")));
    assert_eq!(moved, api.get(&format!("/api/v3/runs/{run}")).await.ok(), "the whole run is shown");
    api.post(&path, r#"{"delay":"1h30m"}"#).await.ok();
    for body in [r#"{"delay":"soon"}"#, "{}", r#"{"delay":5}"#] {
        assert_eq!(api.post(&path, body).await.status, 400, "{body}");
    }
    let queued = api.trigger("hello", "{}").await;
    let refused = api.post(&format!("/api/v1/runs/{queued}/reschedule"), r#"{"delay":"1h"}"#).await;
    assert_eq!(refused.refusal(), (400, "Only a run that is DELAYED can be rescheduled; this one is PENDING_VERSION"));
    assert_eq!(api.post("/api/v1/runs/run_0/reschedule", r#"{"delay":"1h"}"#).await.refusal(), (404, "Run not found"));
    assert_eq!(api.stranger().await.post(&path, r#"{"delay":"1h"}"#).await.status, 404);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_key_that_is_reset_makes_a_new_run(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let keyed = r#"{"options":{"idempotencyKey":"a/b c"}}"#;
    let first = api.trigger("hello", keyed).await;
    let path = "/api/v1/idempotencyKeys/a%2Fb%20c/reset";
    let other = api.post(path, r#"{"taskIdentifier":"other"}"#).await;
    assert_eq!(other.refusal(), (404, "Idempotency key not found"));
    assert_eq!(api.trigger("hello", keyed).await, first);
    let done = api.with(&api.token(&["write:runs"]), "POST", path, r#"{"taskIdentifier":"hello"}"#).await.ok();
    assert_eq!(done, json!({"id": "a/b c"}));
    assert_ne!(api.trigger("hello", keyed).await, first);
    assert_eq!(api.with(&api.token(&["read:runs"]), "POST", path, r#"{"taskIdentifier":"hello"}"#).await.status, 403);
    assert_eq!(api.stranger().await.post(path, r#"{"taskIdentifier":"hello"}"#).await.status, 404);
    assert_eq!(api.post(path, "{}").await.status, 400);
    assert_eq!(api.post("/api/v1/idempotencyKeys/a%00/reset", r#"{"taskIdentifier":"hello"}"#).await.status, 404);
    let long = format!("/api/v1/idempotencyKeys/{}/reset", "x".repeat(2049));
    assert_eq!(api.post(&long, r#"{"taskIdentifier":"hello"}"#).await.issue().0, "key");
}
