//! Concurrency limits, and the environment's own, by HTTP.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;

const OWN: &str = "/api/v1/concurrency-limits/task%2Flimited%2Fa";
const SHARED: &str = "/api/v1/concurrency-limits/openai";

async fn limited(pool: PgPool) -> TestApi {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:limited/a", "").await;
    api
}

async fn send(api: &TestApi, path: &str, body: Value) -> Value {
    api.post(path, &body.to_string()).await.ok()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn limits_are_shown_with_what_is_in_them(pool: PgPool) {
    let api = limited(pool).await;
    for _ in 0..3 {
        api.trigger("limited%2Fa", r#"{"options":{"concurrencyKey":7}}"#).await;
    }
    api.claim().await;
    let page = api.get("/api/v1/concurrency-limits").await.ok();
    assert_eq!(page["pagination"], json!({"currentPage": 1, "totalPages": 1, "count": 2}));
    let bound = |declared: Value| json!({"current": declared, "base": declared, "override": null, "overriddenAt": null});
    let shared = &page["data"][0];
    let expected = json!({"id": shared["id"], "name": "openai", "perKey": bound(json!(2)), "total": bound(json!(5)),
        "running": 1, "queued": 2, "paused": false});
    assert_eq!(*shared, expected);
    assert!(shared["id"].as_str().unwrap().starts_with("climit_"));
    assert_eq!(api.get(OWN).await.ok()["name"], "task/limited/a");
    let of_key = api.get(&format!("{SHARED}?concurrencyKey=7")).await.ok();
    let bound = json!({"current": 2, "base": 2, "override": null, "expiresAt": null});
    assert_eq!(of_key, json!({"name": "openai", "concurrencyKey": "7", "perKey": bound, "running": 1, "paused": false}));
    assert_eq!(api.get("/api/v1/concurrency-limits/other").await.status, 404);
    assert_eq!(api.stranger().await.get(SHARED).await.status, 404);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_limit_is_overridden_excepted_reset_and_paused(pool: PgPool) {
    let api = limited(pool).await;
    let over = send(&api, &format!("{SHARED}/override"), json!({"total": 3})).await;
    assert_eq!(
        (&over["total"]["current"], &over["total"]["base"], &over["perKey"]["override"]),
        (&json!(3), &json!(5), &Value::Null)
    );
    assert!(over["total"]["overriddenAt"].is_string());
    let excepted = send(&api, &format!("{SHARED}/override"), json!({"concurrencyKey": 7, "perKey": 0, "ttl": "2d"})).await;
    assert_eq!((&excepted["concurrencyKey"], &excepted["perKey"]["current"]), (&json!("7"), &json!(0)));
    assert!(excepted["perKey"]["expiresAt"].is_string());
    let ended = send(&api, &format!("{SHARED}/reset"), json!({"concurrencyKey": "7"})).await;
    assert_eq!((&ended["perKey"]["current"], &ended["perKey"]["expiresAt"]), (&json!(2), &Value::Null));
    assert_eq!(send(&api, &format!("{SHARED}/reset"), json!({})).await["total"]["current"], 5);
    assert_eq!(send(&api, &format!("{SHARED}/pause"), json!({"action": "pause"})).await["paused"], true);
    assert_eq!(send(&api, &format!("{SHARED}/pause"), json!({"action": "resume"})).await["paused"], false);

    for (body, field) in [
        (json!({}), "total"),
        (json!({"total": 100_001}), "total"),
        (json!({"perKey": 100_001}), "perKey"),
        (json!({"perKey": 1, "ttl": 60}), "ttl"),
        (json!({"concurrencyKey": "k", "total": 1, "perKey": 1}), "total"),
        (json!({"concurrencyKey": "k"}), "perKey"),
        (json!({"concurrencyKey": "", "perKey": 1}), "concurrencyKey"),
        (json!({"concurrencyKey": "k", "perKey": 1, "ttl": "31d"}), "ttl"),
        (json!({"concurrencyKey": "k", "perKey": 1, "ttl": "soon"}), "ttl"),
    ] {
        let refused = api.post(&format!("{SHARED}/override"), &body.to_string()).await;
        assert!(
            refused.status == 422 && refused.body["error"].as_str().unwrap().starts_with(field),
            "{body}: {:?}",
            refused.body
        );
    }
    assert_eq!(api.post("/api/v1/concurrency-limits/other/reset", "{}").await.status, 404);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_trigger_names_limits_that_there_are(pool: PgPool) {
    let api = limited(pool).await;
    let trigger = async |names: Value| {
        let body = json!({"options": {"concurrency": names}}).to_string();
        api.post("/api/v1/tasks/limited%2Fa/trigger", &body).await
    };
    trigger(json!(["openai"])).await.ok();
    trigger(json!([])).await.ok();
    assert_eq!((&api.get(SHARED).await.ok()["queued"], &api.get(OWN).await.ok()["queued"]), (&json!(1), &json!(2)));
    for wrong in [json!(["other"]), json!(["a", "b", "c"])] {
        let refused = trigger(wrong).await;
        assert!(refused.status == 422 && refused.body["error"].as_str().unwrap().contains("concurrency"), "{:?}", refused.body);
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_environment_has_a_limit_and_is_paused(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    api.trigger("hello", "{}").await;
    let shown = api.get("/api/v1/environment").await.ok();
    let expected = json!({"id": shown["id"], "concurrencyLimit": null, "paused": false, "running": 0, "queued": 1});
    assert_eq!(shown, expected);
    let change = async |body: Value| api.with(api.key.expose_secret(), "PUT", "/api/v1/environment", &body.to_string()).await;
    let changed = change(json!({"concurrencyLimit": 3})).await.ok();
    assert_eq!((&changed["concurrencyLimit"], &changed["paused"]), (&json!(3), &json!(false)));
    assert_eq!(change(json!({"paused": true})).await.ok()["concurrencyLimit"], 3);
    let back = change(json!({"concurrencyLimit": null, "paused": false})).await.ok();
    assert_eq!((&back["concurrencyLimit"], &back["paused"]), (&Value::Null, &json!(false)));
    assert_eq!(change(json!({"concurrencyLimit": 100_001})).await.status, 422);
    assert_eq!(change(json!({"concurrencyLimit": -1})).await.status, 400);
}
