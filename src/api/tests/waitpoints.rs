//! Tokens.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;
use crate::auth::Claims;

async fn create(api: &TestApi, body: &str) -> (String, String) {
    let made = api.post("/api/v1/waitpoints/tokens", body).await.ok();
    (made["id"].as_str().unwrap().to_owned(), made["url"].as_str().unwrap().to_owned())
}

async fn retrieve(api: &TestApi, id: &str) -> Value {
    api.get(&format!("/api/v1/waitpoints/tokens/{id}")).await.ok()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_token_is_completed_once_by_whoever_may(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let answer = api.post("/api/v1/waitpoints/tokens", r#"{"timeout":"10m","tags":["a"],"idempotencyKey":"k"}"#).await;
    let jwt = answer.headers["x-trigger-jwt"].to_str().unwrap().to_owned();
    let made = answer.ok();
    let id = made["id"].as_str().unwrap();
    assert_eq!(Claims::verify(&jwt, &api.key).unwrap().scopes, [format!("write:waitpoints:{id}")]);
    let again = api.post("/api/v1/waitpoints/tokens", r#"{"idempotencyKey":"k"}"#).await.ok();
    assert_eq!((&again["id"], &again["isCached"]), (&made["id"], &json!(true)));
    let waiting = retrieve(&api, id).await;
    assert_eq!(
        (&waiting["status"], &waiting["tags"], &waiting["idempotencyKey"]),
        (&json!("WAITING"), &json!(["a"]), &json!("k"))
    );
    assert!(waiting["timeoutAt"].is_string() && waiting.get("output").is_none(), "{waiting}");

    let path = format!("/api/v1/waitpoints/tokens/{id}/complete");
    assert_eq!(api.with(&api.token(&["write:waitpoints:waitpoint_other"]), "POST", &path, "{}").await.status, 403);
    for data in [r#"{"data":{"ok":1}}"#, r#"{"data":2}"#] {
        assert_eq!(api.with(&jwt, "POST", &path, data).await.ok(), json!({"success": true}));
    }
    let done = retrieve(&api, id).await;
    assert_eq!(done["status"], "COMPLETED");
    assert_eq!(
        (&done["output"], &done["outputType"], &done["outputIsError"]),
        (&json!("{\"ok\":1}"), &json!("application/json"), &json!(false))
    );
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_callback_address_completes_its_own_token_without_a_key(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let (id, url) = create(&api, "").await;
    let path = url.strip_prefix("http://api.test").unwrap();
    assert_eq!(api.raw("POST", path, &[], "{}").await.refusal(), (411, "Content-Length is required"));
    let wrong = format!("{}{}", &path[..path.len() - 2], if path.ends_with("00") { "01" } else { "00" });
    assert_eq!(api.raw("POST", &wrong, &[("content-length", "2")], "{}").await.status, 401);
    let (other, _) = create(&api, "").await;
    assert_eq!(api.raw("POST", &path.replace(&id, &other), &[("content-length", "2")], "{}").await.status, 401);
    assert_eq!(api.raw("POST", path, &[("content-length", "6")], "broken").await.ok(), json!({"success": true}));
    assert_eq!(retrieve(&api, &id).await["output"], "{}");

    let (id, url) = create(&api, "").await;
    let path = url.strip_prefix("http://api.test").unwrap();
    api.raw("POST", path, &[("content-length", "9")], r#"{"a":1.0}"#).await.ok();
    assert_eq!(retrieve(&api, &id).await["output"], r#"{"a":1.0}"#);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn tokens_are_listed_by_status_tags_and_key_in_their_own_environment(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let (first, _) = create(&api, r#"{"tags":["a"]}"#).await;
    let (second, _) = create(&api, r#"{"idempotencyKey":"k"}"#).await;
    api.post(&format!("/api/v1/waitpoints/tokens/{first}/complete"), "").await.ok();
    let list = async |query: &str| {
        let page = api.get(&format!("/api/v1/waitpoints/tokens?{query}")).await.ok();
        page["data"].as_array().unwrap().iter().map(|token| token["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [second.as_str(), &first]);
    assert_eq!(list("filter%5Bstatus%5D=COMPLETED").await, [first.as_str()]);
    assert_eq!(list("filter%5Btags%5D=a%2Cb").await, [first.as_str()]);
    assert_eq!(list("filter%5BidempotencyKey%5D=k").await, [second.as_str()]);
    let stranger = api.stranger().await;
    assert_eq!(stranger.get(&format!("/api/v1/waitpoints/tokens/{first}")).await.refusal(), (404, "Waitpoint not found"));
    let complete = format!("/api/v1/waitpoints/tokens/{second}/complete");
    assert_eq!(stranger.post(&complete, "{}").await.status, 404);
}
