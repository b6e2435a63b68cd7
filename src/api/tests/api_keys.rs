//! Keys by HTTP: additional ones, rotation, and the tokens that are signed with them.

use chrono::{TimeDelta, Utc};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;
use crate::{auth::Claims, clock::ManualClock, model::environment::EnvironmentKind};

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_additional_key_opens_everything_but_the_keys_until_it_expires(pool: PgPool) {
    let api = TestApi::new(pool.clone()).await;
    let made = api.post("/api/v1/api-keys", r#"{"name":"ci","expiresAt":"1h"}"#).await;
    assert_eq!((made.status.as_u16(), &made.body["kind"]), (201, &json!("ADDITIONAL")));
    let key = made.body["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("tr_dev_sk_") && key.len() == "tr_dev_sk_".len() + 24, "{key}");
    assert!(key.ends_with(made.body["hint"].as_str().unwrap()));
    let run = api.with(&key, "POST", "/api/v1/tasks/hello/trigger", "{}").await;
    assert!(run.headers.contains_key("x-trigger-jwt"));
    let run = run.ok()["id"].as_str().unwrap().to_owned();
    api.with(&key, "GET", &format!("/api/v3/runs/{run}"), "").await.ok();
    api.with(&key, "GET", "/api/v1/projects/proj_test/envvars/dev", "").await.ok();
    let listed = api.with(&key, "GET", "/api/v1/api-keys", "").await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(&key), "{listed}");
    let id = made.body["id"].as_str().unwrap();
    for (method, path) in [
        ("POST", "/api/v1/api-keys".to_owned()),
        ("POST", "/api/v1/api-keys/rotate".to_owned()),
        ("DELETE", format!("/api/v1/api-keys/{id}")),
    ] {
        let refused = api.with(&key, method, &path, r#"{"name":"x"}"#).await;
        assert_eq!(refused.refusal().0, 403, "{method} {path}");
        assert!(refused.refusal().1.contains("root key"), "{}", refused.body);
    }
    ManualClock::default().advance(&pool, std::time::Duration::from_secs(3601)).await.unwrap();
    let api = api.elsewhere();
    assert_eq!(api.with(&key, "GET", "/api/v1/whoami", "").await.refusal(), (401, "Invalid API key"));

    for (body, field) in
        [(json!({"name": "x", "expiresAt": "soon"}), "expiresAt"), (json!({}), "name"), (json!({"name": 5}), "name")]
    {
        let refused = api.post("/api/v1/api-keys", &body.to_string()).await;
        assert!(refused.status == 400 && refused.body.to_string().contains(field), "{body}: {}", refused.body);
    }
    let refused = api.post("/api/v1/api-keys", r#"{"name":"x","expiresAt":"2020-01-01"}"#).await;
    assert_eq!(refused.refusal(), (422, "expiresAt: a key ends in the future, or never"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_revoked_key_is_over_at_once(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let made = api.post("/api/v1/api-keys", r#"{"name":"ci"}"#).await.body;
    assert!(made.get("expiresAt").is_none(), "{made}");
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let path = format!("/api/v1/api-keys/{id}");
    let root = api.key.expose_secret();
    assert_eq!(api.stranger().await.with(root, "DELETE", &path.replace("apikey_", "apikey_x"), "").await.status, 404);
    assert_eq!(api.with(root, "DELETE", &path, "").await.ok(), json!({ "id": id }));
    assert_eq!(api.with(key, "GET", "/api/v1/whoami", "").await.status, 401);
    assert_eq!(api.with(root, "DELETE", &path, "").await.refusal(), (404, "Key not found"));
    let keys = api.get("/api/v1/api-keys").await.ok();
    assert_eq!(keys["data"].as_array().unwrap().len(), 1);
    let root_id = keys["data"][0]["id"].as_str().unwrap();
    assert_eq!(api.with(root, "DELETE", &format!("/api/v1/api-keys/{root_id}"), "").await.status, 422);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_rotated_key_and_what_it_signed_are_good_until_the_grace_is_over(pool: PgPool) {
    let api = TestApi::new(pool.clone()).await;
    let run = format!("/api/v3/runs/{}", api.trigger("hello", "{}").await);
    let callback = api.post("/api/v1/waitpoints/tokens", "{}").await.ok()["url"].as_str().unwrap().to_owned();
    let callback = callback.strip_prefix("http://api.test").unwrap();
    let old = Claims::new(api.environment.id, vec!["read:runs".into()], Utc::now(), TimeDelta::days(20)).sign(&api.key);
    let rotated = api.post("/api/v1/api-keys/rotate", r#"{"gracePeriod":"1h"}"#).await;
    assert_eq!(rotated.status, 201);
    let new = rotated.body["key"].as_str().unwrap().to_owned();
    assert!(new.starts_with("tr_dev_") && rotated.body["earlierUntil"].is_string(), "{}", rotated.body);

    for key in [api.key.expose_secret(), &new, &old] {
        api.with(key, "GET", &run, "").await.ok();
    }
    let minted = api.with(api.key.expose_secret(), "POST", "/api/v1/tasks/hello/trigger", "{}").await;
    let minted = minted.headers["x-trigger-jwt"].to_str().unwrap();
    assert!(Claims::verify(minted, &new.clone().into()).is_ok(), "the new key signs, whoever asks");
    let own =
        Claims::new(api.environment.id, vec!["read:runs".into()], Utc::now(), TimeDelta::days(20)).sign(&new.clone().into());
    api.raw("POST", callback, &[("content-length", "2")], "{}").await.ok();

    ManualClock::default().advance(&pool, std::time::Duration::from_secs(3601)).await.unwrap();
    let api = api.elsewhere();
    assert_eq!(api.with(api.key.expose_secret(), "GET", &run, "").await.refusal(), (401, "Invalid API key"));
    assert_eq!(api.with(&old, "GET", &run, "").await.refusal(), (401, "Public access token is invalid"));
    assert_eq!(api.raw("POST", callback, &[("content-length", "2")], "{}").await.status, 401);
    api.with(&new, "GET", &run, "").await.ok();
    api.with(&own, "GET", &run, "").await.ok();

    for (grace, status) in [("soon", 400), ("31d", 422)] {
        let body = json!({ "gracePeriod": grace }).to_string();
        let refused = api.with(&new, "POST", "/api/v1/api-keys/rotate", &body).await;
        assert!(refused.status == status && refused.body.to_string().contains("gracePeriod"), "{}", refused.body);
    }
    let last = api.with(&new, "POST", "/api/v1/api-keys/rotate", r#"{"gracePeriod":"0s"}"#).await;
    assert_eq!(api.with(&new, "GET", &run, "").await.status, 401, "without a grace it is over at once");
    api.with(last.body["key"].as_str().unwrap(), "GET", &run, "").await.ok();
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn whoever_cannot_sign_has_tokens_signed(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let made = api.post("/api/v1/api-keys", r#"{"name":"ci","expiresAt":"2h"}"#).await.body;
    let key = made["key"].as_str().unwrap();
    let sign = async |body: Value| api.with(key, "POST", "/api/v1/auth/public-tokens", &body.to_string()).await;
    let claims = |answer: Value| Claims::verify(answer["token"].as_str().unwrap(), &api.key).unwrap();
    let now = Utc::now().timestamp();
    let plain = claims(sign(json!({"scopes": ["read:runs"]})).await.ok());
    assert_eq!((plain.scopes, plain.one_time_use), (vec!["read:runs".to_owned()], false));
    assert!((plain.exp - now - 900).abs() <= 5, "15 minutes");
    let all = json!({"scopes": ["trigger:tasks:a"], "expirationTime": "1 hour", "oneTimeUse": true, "realtime": {"skipColumns": ["payload"]}});
    let all = claims(sign(all).await.ok());
    assert!((all.exp - now - 3600).abs() <= 5 && all.one_time_use);
    assert_eq!(all.realtime.unwrap().skip_columns, ["payload"]);
    let at = claims(sign(json!({"scopes": ["read:runs"], "expirationTime": now + 600})).await.ok());
    assert_eq!(at.exp, now + 600);
    let capped = claims(sign(json!({"scopes": ["read:runs"], "expirationTime": "20d"})).await.ok());
    assert!((capped.exp - now - 7200).abs() <= 5, "no longer than the key that asked for it");
    let token = sign(json!({"scopes": ["read:runs"]})).await.ok()["token"].as_str().unwrap().to_owned();
    api.with(&token, "GET", "/api/v1/runs", "").await.ok();
    assert_eq!(api.with(&token, "POST", "/api/v1/auth/public-tokens", r#"{"scopes":["admin"]}"#).await.status, 401);

    for (body, field) in [
        (json!({}), "scopes"),
        (json!({"scopes": []}), "scopes"),
        (json!({"scopes": [":runs"]}), "scopes"),
        (json!({"scopes": vec!["read:runs"; 101]}), "scopes"),
        (json!({"scopes": ["read:runs"], "expirationTime": "31d"}), "expirationTime"),
        (json!({"scopes": ["read:runs"], "expirationTime": now - 1}), "expirationTime"),
        (json!({"scopes": ["read:runs"], "expirationTime": "later"}), "expirationTime"),
    ] {
        let refused = sign(body.clone()).await;
        assert_eq!((refused.status.as_u16(), refused.issue().0.as_str()), (400, field), "{body}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_keys_of_a_branch_are_those_of_the_preview_environment(pool: PgPool) {
    let api = TestApi::new(pool).await.of_environment(EnvironmentKind::Preview).await;
    let body = r#"{"name":"A","value":"1"}"#;
    let variables = "/api/v1/projects/proj_test/envvars/preview";
    api.of_branch("a", "POST", variables, body).await.ok();
    let made = api.of_branch("a", "POST", "/api/v1/api-keys", r#"{"name":"ci"}"#).await;
    let key = made.body["key"].as_str().unwrap();
    assert!(key.starts_with("tr_preview_sk_"));
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("x-trigger-branch", "a")];
    assert_eq!(api.raw("GET", variables, &headers, "").await.ok()[0]["name"], "A");
    assert_eq!(api.with(key, "GET", variables, "").await.ok(), json!([]), "without a branch it is the preview environment");
    let signed = api.raw("POST", "/api/v1/auth/public-tokens", &headers, r#"{"scopes":["read:runs"]}"#).await.ok();
    let branch = api.of_branch("a", "GET", "/api/v1/whoami", "").await.ok()["environment"]["id"].clone();
    assert_eq!(Claims::verify(signed["token"].as_str().unwrap(), &api.key).unwrap().sub, branch.as_str().unwrap());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_new_root_key_is_good_at_once_on_a_server_that_has_just_seen_the_one_before(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let other = api.elsewhere();
    let run = format!("/api/v3/runs/{}", api.trigger("hello", "{}").await);
    other.with(&other.token(&["read:runs"]), "GET", &run, "").await.ok();
    other.get(&run).await.ok();
    let rotated = api.post("/api/v1/api-keys/rotate", r#"{"gracePeriod":"0s"}"#).await.body;
    let new = rotated["key"].as_str().unwrap();
    let claims = Claims::new(api.environment.id, vec!["read:runs".into()], Utc::now(), TimeDelta::hours(1));
    other.with(&claims.sign(&new.into()), "GET", &run, "").await.ok();
    let made = other.with(new, "POST", "/api/v1/tasks/hello/trigger", "{}").await;
    let token = made.headers["x-trigger-jwt"].to_str().unwrap().to_owned();
    api.with(&token, "GET", &format!("/api/v3/runs/{}", made.ok()["id"].as_str().unwrap()), "").await.ok();
}
