//! Who is let in.

use axum::http::StatusCode;
use chrono::{TimeDelta, Utc};
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::PgPool;

use super::support::TestApi;
use crate::{
    api::description,
    auth::{self, Claims},
    model::environment::EnvironmentKind,
};

/// Every route and method, with something in place of its parameters.
fn routes() -> Vec<(String, String, bool)> {
    let api = serde_json::to_value(description()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let open = operation["security"] == json!([{}]);
            let path = path
                .replace("{hash}", "00")
                .replace("{key}", "k")
                .replace("{queue}", "queue_0")
                .replace("{keyId}", "apikey_0")
                .replace("{name}", "NAME")
                .replace("{projectRef}", "proj_test")
                .replace("{slug}", "dev")
                .replace("{version}", "20200101.1")
                .replace("{taskId}", "hello")
                .replace("{scheduleId}", "sched_0")
                .replace("{tokenId}", "waitpoint_0")
                .replace("{batchId}", "batch_0")
                .replace("{runId}", "run_0")
                .replace("{streamKey}", "log")
                .replace("{target}", "self");
            routes.push((method.to_uppercase(), path, open));
        }
    }
    assert!(routes.len() >= 72, "{routes:?}");
    assert!(routes.iter().all(|(_, path, _)| !path.contains('{')), "{routes:?}");
    routes
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn no_route_answers_without_a_key_or_with_a_wrong_one(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let wrong = auth::new_secret_key(EnvironmentKind::Development);
    for (method, path, open) in routes() {
        if open {
            continue;
        }
        let json = ("content-type", "application/json");
        let none = api.raw(&method, &path, &[json], "{}").await;
        if method == "HEAD" {
            // There is nothing but the status.
            assert_eq!(none.status, StatusCode::UNAUTHORIZED, "{path}");
            continue;
        }
        assert_eq!(none.refusal(), (401, "Invalid or Missing API key"), "{method} {path}");
        for key in [wrong.expose_secret(), "nonsense", "a.b.c"] {
            let answer = api.with(key, &method, &path, "{}").await;
            assert_eq!(answer.refusal(), (401, "Invalid API key"), "{method} {path} {key}");
        }
        let basic = api.raw(&method, &path, &[("authorization", "Basic abc"), json], "{}").await;
        assert_eq!(basic.status, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_public_token_without_the_right_scope_opens_nothing(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    let token = api.token(&["read:nothing"]);
    for (method, path, open) in routes() {
        if open {
            continue;
        }
        let answer = api.with(&token, &method, &path.replace("run_0", &run), "{}").await;
        assert!([401, 403].contains(&answer.status.as_u16()), "{method} {path} {}", answer.status);
        if answer.status == 403 {
            let body = json!({"error": "Unauthorized", "code": "unauthorized", "param": "access_token", "type": "authorization"});
            assert_eq!(answer.body, body);
        }
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_public_token_opens_what_its_scopes_say_in_its_own_environment(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let run = api.trigger("hello", r#"{"options":{"tags":["user:1"]}}"#).await;
    let path = format!("/api/v3/runs/{run}");
    for scope in
        [format!("read:runs:{run}"), "read:tasks:hello".into(), "read:tags:user:1".into(), "read:runs".into(), "admin".into()]
    {
        api.with(&api.token(&[&scope]), "GET", &path, "").await.ok();
    }
    for scope in ["read:runs:run_other", "read:tasks:other", "read:tags:user", "write:runs"] {
        assert_eq!(api.with(&api.token(&[scope]), "GET", &path, "").await.status, 403, "{scope}");
    }
    api.with(&api.token(&["trigger:tasks:hello"]), "POST", "/api/v1/tasks/hello/trigger", "{}").await.ok();
    assert_eq!(api.with(&api.token(&["trigger:tasks:hello"]), "POST", "/api/v1/tasks/other/trigger", "{}").await.status, 403);
    assert_eq!(api.with(&api.token(&["read:tasks:hello"]), "GET", "/api/v1/runs", "").await.status, 403);
    api.with(&api.token(&["read:tasks:hello"]), "GET", "/api/v1/runs?filter%5BtaskIdentifier%5D=hello", "").await.ok();
    assert_eq!(api.with(&api.token(&["write:runs"]), "POST", "/api/v1/auth/jwt/claims", "").await.status, 401);

    let stranger = api.stranger().await;
    assert_eq!(stranger.get(&path).await.refusal(), (404, "Run not found"));
    assert_eq!(api.with(&stranger.token(&["read:runs"]), "GET", &path, "").await.status, 404);
    let forged = Claims::new(api.environment.id, vec!["admin".into()], Utc::now(), TimeDelta::hours(1)).sign(&stranger.key);
    assert_eq!(api.with(&forged, "GET", &path, "").await.refusal(), (401, "Public access token is invalid"));
    let old = Claims::new(api.environment.id, vec!["admin".into()], Utc::now(), TimeDelta::seconds(-1)).sign(&api.key);
    assert_eq!(api.with(&old, "GET", &path, "").await.refusal(), (401, "Public access token has expired"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_token_for_one_use_makes_one_run(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let mut claims = Claims::new(api.environment.id, vec!["trigger:tasks:hello".into()], Utc::now(), TimeDelta::hours(1));
    claims.one_time_use = true;
    let token = claims.sign(&api.key);
    let first = api.with(&token, "POST", "/api/v1/tasks/hello/trigger", r#"{"payload":1}"#).await.ok();
    let second = api.with(&token, "POST", "/api/v1/tasks/hello/trigger", r#"{"payload":2}"#).await.ok();
    assert_eq!(first["id"], second["id"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_browser_may_use_the_api_but_not_a_callback_address(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let preflight = [
        ("origin", "https://page.test"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-trigger-client"),
    ];
    let answer = api.raw("OPTIONS", "/api/v1/tasks/hello/trigger", &preflight, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let allowed = answer.headers["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("x-trigger-client") && allowed.contains("traceparent"), "{allowed}");
    let bearer = format!("Bearer {}", api.key.expose_secret());
    let headers = [("origin", "https://page.test"), ("authorization", bearer.as_str())];
    let answer = api.raw("POST", "/api/v1/tasks/hello/trigger", &headers, "").await;
    assert_eq!(answer.headers["access-control-expose-headers"], "x-trigger-jwt,x-trigger-jwt-claims");
    let callback = api.raw("OPTIONS", "/api/v1/waitpoints/tokens/waitpoint_0/callback/00", &preflight, "").await;
    assert!(!callback.headers.contains_key("access-control-allow-origin"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_open_routes_answer_and_unknown_ones_are_refused_in_the_same_shape(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let health = api.raw("GET", "/healthcheck", &[], "").await;
    assert!(health.headers.contains_key("x-request-id"));
    assert_eq!(health.ok()["status"], "ok");
    api.raw("GET", "/api/v1/openapi.json", &[], "").await.ok();
    let unknown = api.get("/api/v1/nothing").await;
    assert_eq!(unknown.refusal(), (404, "Not found"));
    assert_eq!(unknown.headers["x-should-retry"], "false");
    assert_eq!(api.raw("DELETE", "/healthcheck", &[], "").await.refusal(), (405, "Method not allowed"));
    let claims = api.post("/api/v1/auth/jwt/claims", "").await.ok();
    assert_eq!(claims, json!({"sub": api.environment.id, "pub": true}));
    let whoami = api.get("/api/v1/whoami").await.ok();
    assert_eq!(whoami["project"]["ref"], "proj_test");
    assert_eq!(whoami["environment"], json!({"id": api.environment.id, "slug": "dev"}));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn without_a_database_the_server_says_that_it_cannot_work(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.store.pool().close().await;
    let answer = api.raw("GET", "/healthcheck", &[], "").await;
    assert_eq!(answer.refusal(), (503, "The database is not available; try again"));
    assert_eq!(answer.headers["x-should-retry"], "true");
    assert_eq!(api.get("/api/v1/runs").await.status, 503);
}
