//! Tags and metadata by HTTP.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;

#[sqlx::test(migrations = "src/store/migrations")]
async fn tags_are_added_up_to_ten(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let run = api.trigger("hello", r#"{"options":{"tags":["a"]}}"#).await;
    let path = format!("/api/v1/runs/{run}/tags");
    let add = async |tags: Value| api.post(&path, &json!({ "tags": tags }).to_string()).await;
    assert_eq!(add(json!("b")).await.ok(), json!({"message": "Added 1 tag"}));
    assert_eq!(add(json!(["b", "c", "d"])).await.ok(), json!({"message": "Added 2 tags"}));
    assert_eq!(add(json!("a")).await.ok(), json!({"message": "No new tags to add"}));
    let many: Vec<String> = (0..7).map(|n| n.to_string()).collect();
    assert_eq!(add(json!(many)).await.refusal(), (422, "tags: there are at most 10 tags, this would make 11"));
    assert_eq!(add(json!([""])).await.issue().0, "tags");
    assert_eq!(add(json!(["x".repeat(129)])).await.issue().0, "tags");
    assert_eq!(api.post(&path, "{}").await.status, 400);
    let shown = api.get(&format!("/api/v3/runs/{run}")).await.ok();
    assert_eq!(shown["tags"], json!(["a", "b", "c", "d"]));
    assert_eq!(api.stranger().await.post(&path, r#"{"tags":"x"}"#).await.refusal(), (404, "Run not found"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn metadata_is_replaced_and_changed_by_operations(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let parent = api.trigger("hello", "{}").await;
    let run = api.trigger("hello", &json!({"options": {"metadata": {"n": 1}, "parentRunId": parent}}).to_string()).await;
    let path = format!("/api/v1/runs/{run}/metadata");
    let put = async |body: Value| api.with(api.key.expose_secret(), "PUT", &path, &body.to_string()).await;
    assert_eq!(api.get(&path).await.ok(), json!({"metadata": {"n": 1}}));
    assert_eq!(put(json!({"metadata": {"a": 1}})).await.ok(), json!({"metadata": {"a": 1}}));
    let operations = json!([
        {"type": "set", "key": "$.b.c", "value": 1}, {"type": "increment", "key": "a", "value": 2},
        {"type": "append", "key": "list", "value": "x"}, {"type": "delete", "key": "nothing"},
    ]);
    let parents = json!([{"type": "increment", "key": "done", "value": 1}]);
    let changed = put(json!({"operations": operations, "parentOperations": parents, "rootOperations": parents})).await.ok();
    assert_eq!(changed["metadata"]["b"], json!({"c": 1}));
    assert_eq!((&changed["metadata"]["a"], &changed["metadata"]["list"]), (&json!(3), &json!(["x"])));
    let of_parent = api.get(&format!("/api/v1/runs/{parent}/metadata")).await.ok();
    assert_eq!(of_parent, json!({"metadata": {"done": 2}}), "the parent is the root");

    for (body, status) in [
        (json!({"metadata": 5}), 400),
        (json!({"operations": [{"type": "explode", "key": "a"}]}), 400),
        (json!({"operations": [{"type": "set", "key": "a"}]}), 400),
        (json!({"operations": [{"type": "set", "key": "__proto__", "value": 1}]}), 422),
        (json!({"metadata": {"a": "x".repeat(262_144)}}), 413),
        (json!({"metadata": {"a": "x".repeat(2 << 20)}}), 413),
    ] {
        let refused = put(body.clone()).await;
        assert_eq!(refused.status, status, "{}", refused.body);
    }
    assert_eq!(api.get(&path).await.ok(), changed, "what was refused changed nothing");
    assert_eq!(api.get("/api/v1/runs/run_0/metadata").await.refusal(), (404, "Run not found"));
    assert_eq!(api.stranger().await.get(&path).await.status, 404);
    api.post(&format!("/api/v2/runs/{run}/cancel"), "").await.ok();
    assert_eq!(put(json!({"metadata": {}})).await.refusal(), (422, "Cannot update metadata for a completed run"));
    api.get(&path).await.ok();
}
