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
    config::{Limits, TokenRate},
    model::environment::EnvironmentKind,
};

/// A route and method.
#[derive(Debug)]
struct Route {
    method: String,
    /// With something in place of its parameters.
    path: String,
    /// It needs no key.
    open: bool,
    takes_tokens: bool,
    /// The parameters of its query.
    query: Vec<String>,
}

/// Every route of the description.
fn routes() -> Vec<Route> {
    let api = serde_json::to_value(description()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let open = operation["security"] == json!([{}]);
            let takes_tokens = operation["security"].as_array().unwrap().contains(&json!({"publicToken": []}));
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let query = parameters.filter(|parameter| parameter["in"] == "query");
            let query = query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
            let path = path
                .replace("{hash}", "00")
                .replace("{bulkActionId}", "bulk_0")
                .replace("{path}", "some%2Fpath")
                .replace("{field}", "payload")
                .replace("{environmentId}", "env_0")
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
                .replace("{spanId}", "00000000000000ff")
                .replace("{streamKey}", "log")
                .replace("{target}", "self");
            routes.push(Route { method: method.to_uppercase(), path, open, takes_tokens, query });
        }
    }
    assert!(routes.len() >= 83, "{routes:?}");
    assert!(routes.iter().all(|route| !route.path.contains('{')), "{routes:?}");
    routes
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn no_route_answers_without_a_key_or_with_a_wrong_one(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let wrong = auth::new_secret_key(EnvironmentKind::Development);
    for Route { method, path, open, .. } in routes() {
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
    let api = unhurried(pool).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", "{}").await;
    let token = api.token(&["read:nothing"]);
    for Route { method, path, open, takes_tokens, .. } in routes() {
        if open {
            continue;
        }
        let answer = api.with(&token, &method, &path.replace("run_0", &run), "{}").await;
        // Every token may ask where a payload is to be had whose path it knows.
        if path.starts_with("/api/v1/packets/") {
            assert_eq!(answer.status, 404);
        } else if takes_tokens {
            let body = json!({"error": "Unauthorized", "code": "unauthorized", "param": "access_token", "type": "authorization"});
            assert_eq!((answer.status.as_u16(), &answer.body), (403, &body), "{method} {path}");
        } else {
            assert_eq!(answer.status, 401, "{method} {path}");
        }
    }
}

/// A server that the sweeps may ask with one token as often as there are routes.
async fn unhurried(pool: PgPool) -> TestApi {
    TestApi::limited(pool, Limits { token_rate: TokenRate::Off, ..Limits::default() }).await
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn no_filter_takes_what_no_text_can_hold(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let mut tried = 0;
    for Route { method, path, open, query, .. } in routes() {
        for name in query {
            let answer = api.with(api.key.expose_secret(), &method, &format!("{path}?{name}=a%00b"), "").await;
            let expected = if open { answer.status.is_client_error() } else { answer.status == 400 };
            assert!(expected, "{method} {path}?{name}: {} {}", answer.status, answer.body);
            tried += 1;
        }
    }
    assert!(tried >= 40, "{tried}");
}

/// A body with which a route gets as far as to look for what its path names.
fn body_for(method: &str, path: &str) -> &'static str {
    let ends = |end: &str| path.ends_with(end);
    match method {
        "POST" if ends("/reschedule") => r#"{"delay":"1h"}"#,
        "POST" if ends("/tags") => r#"{"tags":["a"]}"#,
        "POST" if ends("/reset") && path.contains("idempotencyKeys") => r#"{"taskIdentifier":"hello"}"#,
        "POST" if ends("/pause") => r#"{"type":"id","action":"pause"}"#,
        "POST" if ends("/override") => r#"{"type":"id","concurrencyLimit":1,"total":1}"#,
        "POST" if ends("/reset") && path.contains("/queues/") => r#"{"type":"id"}"#,
        "PUT" if path.contains("/schedules/") => r#"{"task":"cron/x","cron":"0 9 * * *"}"#,
        "PUT" if ends("/metadata") => r#"{"metadata":{}}"#,
        "PUT" if path.contains("/envvars/") => r#"{"value":"x"}"#,
        "POST" if ends("/import") => r#"{"variables":{"A":"b"}}"#,
        "POST" if path.contains("/input/") => r#"{"data":1}"#,
        "POST" if path.contains("/envvars/") => r#"{"name":"A","value":"b"}"#,
        _ => "",
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_another_environments_is_not_there(pool: PgPool) {
    let api = unhurried(pool).await;
    api.deploy(b"ok:limited/x", "").await;
    let deployed = api.deploy(b"ok:cron/x", "").await.body;
    let id = |body: &serde_json::Value| body["id"].as_str().expect("an id").to_owned();
    let run = api.trigger("cron%2Fx", r#"{"options":{"delay":"1h","idempotencyKey":"k"}}"#).await;
    let batch = id(&api.post("/api/v3/batches", r#"{"runCount":1}"#).await.body);
    let token = id(&api.post("/api/v1/waitpoints/tokens", "").await.body);
    let schedule = r#"{"task":"cron/x","cron":"0 9 * * *","deduplicationKey":"d"}"#;
    let schedule = id(&api.post("/api/v1/schedules", schedule).await.body);
    let queue = id(&api.get("/api/v1/queues").await.body["data"][0]);
    let key = id(&api.post("/api/v1/api-keys", r#"{"name":"a"}"#).await.body);
    let bulk = id(&api.post("/api/v1/bulk-actions", r#"{"action":"cancel","filter":{"tag":"t"}}"#).await.body);
    let version = deployed["version"].as_str().unwrap();
    let stranger = api.stranger().await;
    let admin = stranger.token(&["admin"]);
    for Route { method, path, open, .. } in routes() {
        // A trigger names a task that need not be there, and a callback address has its own key.
        if open || path.ends_with("/trigger") {
            continue;
        }
        let mut ours = path.clone();
        for (placeholder, real) in [
            ("run_0", run.as_str()),
            ("bulk_0", &bulk),
            ("batch_0", &batch),
            ("waitpoint_0", &token),
            ("sched_0", &schedule),
            ("queue_0", &queue),
            ("apikey_0", &key),
            ("20200101.1", version),
            ("concurrency-limits/NAME", "concurrency-limits/openai"),
        ] {
            ours = ours.replace(placeholder, real);
        }
        let is_about_something = ours != path || path.contains("proj_test") || path.contains("idempotencyKeys");
        if !is_about_something {
            continue;
        }
        let body = body_for(&method, &ours);
        let kind = if ours.ends_with("/items") { "application/x-ndjson" } else { "application/json" };
        for bearer in [stranger.key.expose_secret(), &admin] {
            let bearer = format!("Bearer {bearer}");
            let answer = stranger.raw(&method, &ours, &[("authorization", &bearer), ("content-type", kind)], body).await;
            let refused_as_a_token = answer.status == 401 && bearer.ends_with(&admin);
            assert!(answer.status == 404 || refused_as_a_token, "{method} {ours}: {} {}", answer.status, answer.body);
        }
        if method == "GET" {
            // Who reads a stream stays, but not for longer than they say.
            let bearer = format!("Bearer {}", api.key.expose_secret());
            let answer = api.raw("GET", &ours, &[("authorization", &bearer), ("timeout-seconds", "1")], "").await;
            assert!(!answer.status.is_server_error(), "GET {ours}: {} {}", answer.status, answer.body);
        }
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn no_route_takes_a_body_of_any_size(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:cron/x", "").await;
    let run = api.trigger("hello", r#"{"options":{"delay":"1h"}}"#).await;
    let schedule = r#"{"task":"cron/x","cron":"0 9 * * *","deduplicationKey":"d"}"#;
    let schedule = api.post("/api/v1/schedules", schedule).await.ok();
    let token = api.post("/api/v1/waitpoints/tokens", "").await.ok();
    let described = serde_json::to_value(description()).unwrap();
    let with_bodies: Vec<(String, String)> = described["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let takes = item.as_object().unwrap().iter().filter(|(_, operation)| !operation["requestBody"].is_null());
            takes.map(|(method, _)| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    assert!(with_bodies.len() >= 20, "{with_bodies:?}");
    let large = vec![b' '; 11 << 20];
    for (method, path) in with_bodies {
        // Items are a stream without an end of its own, of which each line has a limit, and a signed address is to be had first: both
        // are tried where they are at home.
        if path.ends_with("/items") || path.starts_with("/storage/") {
            continue;
        }
        let kind = if path == "/api/v1/deployments" { "application/wasm" } else { "application/json" };
        let callback = token["url"].as_str().unwrap().rsplit('/').next().unwrap();
        let path = path
            .replace("{hash}", callback)
            .replace("{runId}", &run)
            .replace("{scheduleId}", schedule["id"].as_str().unwrap())
            .replace("{tokenId}", token["id"].as_str().unwrap())
            .replace("{projectRef}", "proj_test")
            .replace("{slug}", "dev")
            .replace("{target}", "self")
            .replace("{streamKey}", "log");
        let bearer = format!("Bearer {}", api.key.expose_secret());
        let length = large.len().to_string();
        let mut headers = vec![("authorization", bearer.as_str()), ("content-type", kind)];
        if path.contains("/callback/") {
            // It takes no body of unknown length; all others are to find out by themselves.
            headers.push(("content-length", &length));
        }
        let answer = api.raw(&method, &path, &headers, large.clone()).await;
        assert_eq!(answer.status, 413, "{method} {path}: {}", answer.body);
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
    let bearer = format!("Bearer {token}");
    let send = async |request: &str, body: &'static str| {
        let headers = [("authorization", bearer.as_str()), ("x-trigger-request-idempotency-key", request)];
        api.raw("POST", "/api/v1/tasks/hello/trigger", &headers, body).await
    };
    let other = api.with(&token, "POST", "/api/v1/tasks/other/trigger", "{}").await;
    let wrong = send("a", r#"{"options":{"lockToVersion":"20200101.1"}}"#).await;
    assert_eq!((other.status.as_u16(), wrong.status.as_u16()), (403, 422), "what is refused does not use it up");
    let first = send("b", r#"{"payload":1}"#).await.ok();
    assert_eq!(send("b", r#"{"payload":1}"#).await.ok()["id"], first["id"], "the same request");
    let used = "Cannot trigger hello with a one-time use token as it has already been used.";
    assert_eq!(send("c", r#"{"payload":1}"#).await.refusal(), (422, used));
    let unnamed = api.with(&token, "POST", "/api/v1/tasks/hello/trigger", "{}").await;
    assert_eq!(unnamed.refusal(), (422, used), "also a request without a name");
    assert_eq!(api.get("/api/v1/runs").await.ok()["data"].as_array().unwrap().len(), 1);
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
    let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap();
    for name in ["x-trigger-jwt", "x-trigger-jwt-claims", "x-should-retry", "x-ratelimit-reset", "retry-after"] {
        assert!(exposed.split(',').any(|header| header == name), "{name} in {exposed}");
    }
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
