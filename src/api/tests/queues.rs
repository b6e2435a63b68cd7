//! Queues by HTTP.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;

#[sqlx::test(migrations = "src/store/migrations")]
async fn queues_are_listed_in_pages_with_what_is_in_them(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    for (task, queue) in [("hello", None), ("hello", None), ("hello", Some("a/b"))] {
        let options = queue.map_or(json!({}), |name| json!({"queue": {"name": name}}));
        api.trigger(task, &json!({ "options": options }).to_string()).await;
    }
    api.claim().await;
    let page = api.get("/api/v1/queues").await.ok();
    assert_eq!(page["pagination"], json!({"currentPage": 1, "totalPages": 1, "count": 2}));
    let own = &page["data"][1];
    let nothing = json!({"current": null, "base": null, "override": null, "overriddenAt": null, "overriddenBy": null});
    let expected = json!({"id": own["id"], "name": "hello", "type": "task", "running": 1, "queued": 1, "paused": false,
        "concurrencyLimit": null, "concurrency": nothing});
    assert_eq!(*own, expected);
    assert_eq!((&page["data"][0]["name"], &page["data"][0]["type"]), (&json!("a/b"), &json!("custom")));
    let second = api.get("/api/v1/queues?page=2&perPage=1").await.ok();
    assert_eq!((&second["data"][0]["name"], &second["pagination"]["totalPages"]), (&json!("hello"), &json!(2)));
    assert_eq!(api.get("/api/v1/queues?page=9").await.ok()["data"], json!([]));
    for query in ["page=0", "perPage=101", "page=x"] {
        assert_eq!(api.get(&format!("/api/v1/queues?{query}")).await.refusal(), (400, "Query Error"));
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_queue_is_found_by_its_id_its_task_or_its_name_however_that_is_encoded(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.trigger("mail%2Fsend", r#"{"options":{"queue":{"name":"a/b"}}}"#).await;
    api.trigger("mail%2Fsend", "{}").await;
    let id = api.get("/api/v1/queues/a%252Fb?type=custom").await.ok()["id"].as_str().unwrap().to_owned();
    for (path, name) in [
        (id.as_str(), "a/b"),
        ("a%2Fb?type=custom", "a/b"),
        ("mail%252Fsend?type=task", "mail/send"),
        ("task%252Fmail%252Fsend?type=custom", "mail/send"),
    ] {
        assert_eq!(api.get(&format!("/api/v1/queues/{path}")).await.ok()["name"], name, "{path}");
    }
    for path in ["a%252Fb", "queue_0", "other?type=custom", "other?type=task"] {
        assert_eq!(api.get(&format!("/api/v1/queues/{path}")).await.refusal(), (404, "queue-not-found"), "{path}");
    }
    assert_eq!(api.get(&format!("/api/v1/queues/{id}?type=other")).await.issue().0, "type");
    assert_eq!(api.stranger().await.get(&format!("/api/v1/queues/{id}")).await.status, 404);

    let path = "/api/v1/queues/a%252Fb?type=custom";
    for scope in ["read:queues", "read:queues:a/b", "admin"] {
        api.with(&api.token(&[scope]), "GET", path, "").await.ok();
    }
    for scope in ["read:runs", "read:queues:other", "write:queues"] {
        assert_eq!(api.with(&api.token(&[scope]), "GET", path, "").await.status, 403, "{scope}");
    }
    assert_eq!(api.with(&api.token(&["read:runs"]), "GET", "/api/v1/queues/nothing", "").await.status, 403);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_queue_is_paused_resumed_limited_and_reset(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    api.trigger("hello", "{}").await;
    let send = async |what: &str, mut body: Value| {
        body["type"] = json!("task");
        api.post(&format!("/api/v1/queues/hello/{what}"), &body.to_string()).await
    };
    assert_eq!(send("pause", json!({"action": "pause"})).await.ok()["paused"], true);
    assert_eq!(send("pause", json!({"action": "resume"})).await.ok()["paused"], false);
    let limited = send("concurrency/override", json!({"concurrencyLimit": 0})).await.ok();
    assert_eq!((&limited["concurrencyLimit"], &limited["concurrency"]["override"]), (&json!(0), &json!(0)));
    assert!(limited["concurrency"]["overriddenAt"].is_string(), "{limited}");
    api.deploy(b"ok:hello", "").await;
    let after = api.get("/api/v1/queues/hello?type=task").await.ok();
    assert_eq!(after["concurrencyLimit"], 0, "it stays over a deployment");
    let reset = send("concurrency/reset", json!({})).await.ok();
    assert_eq!((&reset["concurrencyLimit"], &reset["concurrency"]["overriddenAt"]), (&json!(null), &json!(null)));
    // By its id, as a client that is given nothing but a text takes it.
    let id = reset["id"].as_str().unwrap();
    api.post(&format!("/api/v1/queues/{id}/concurrency/override"), r#"{"concurrencyLimit":100000}"#).await.ok();

    for (what, body, status) in [
        ("pause", json!({}), 400),
        ("pause", json!({"action": "stop"}), 400),
        ("concurrency/override", json!({}), 400),
        ("concurrency/override", json!({"concurrencyLimit": -1}), 400),
        ("concurrency/override", json!({"concurrencyLimit": 1.5}), 400),
        ("concurrency/override", json!({"concurrencyLimit": 100_001}), 422),
    ] {
        let refused = send(what, body.clone()).await;
        assert_eq!(refused.status, status, "{what} {body}: {}", refused.body);
    }
    let unknown = api.post("/api/v1/queues/nothing/pause", r#"{"type":"custom","action":"pause"}"#).await;
    assert_eq!(unknown.refusal(), (404, "queue-not-found"));
}
