//! Rates: how often an environment may ask, and what whoever asks too often is told.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use sqlx::PgPool;

use super::support::{Answer, TestApi};
use crate::config::{Limits, Rate, TokenRate};

/// A header as a number.
fn number(answer: &Answer, name: &str) -> i64 {
    answer.headers.get(name).unwrap_or_else(|| panic!("{name} is there")).to_str().unwrap().parse().unwrap()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn whoever_asks_too_often_is_told_when_to_come_again(pool: PgPool) {
    let limits = Limits { api_rate: Some(Rate { burst: 3, per_second: 0.01 }), ..Limits::default() };
    let api = TestApi::limited(pool.clone(), limits).await;
    for left in [2, 1, 0] {
        let answer = api.get("/api/v1/runs").await;
        assert_eq!((number(&answer, "x-ratelimit-limit"), number(&answer, "x-ratelimit-remaining")), (3, left));
        assert!(!answer.headers.contains_key("retry-after"));
        answer.ok();
    }
    let refused = api.post("/api/v1/tasks/hello/trigger", "{}").await;
    assert_eq!(refused.status, 429);
    assert!(refused.body["error"].as_str().unwrap().contains("0 of 3 requests remain"), "{}", refused.body);
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    // The client waits until this, which it reads as milliseconds. Source: facts 4.2.
    let wait_ms = number(&refused, "x-ratelimit-reset") - Utc::now().timestamp_millis();
    assert!((90_000..=100_000).contains(&wait_ms), "{wait_ms}");
    assert!((90..=100).contains(&number(&refused, "retry-after")));
    assert_eq!(sqlx::query_scalar::<_, i64>("select count(*) from runs").fetch_one(&pool).await.unwrap(), 0);

    api.post("/api/v1/auth/jwt/claims", "").await.ok();
    api.raw("GET", "/api/v1/timezones", &[], "").await.ok();
    let token = api.token(&["read:runs"]);
    assert_eq!(number(&api.with(&token, "GET", "/api/v1/runs", "").await, "x-ratelimit-limit"), 60, "a token has its own");
    assert_eq!(api.raw("GET", "/api/v1/runs", &[("authorization", "Bearer tr_dev_0123456789abcdef0123")], "").await.status, 401);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn items_of_batches_are_counted_when_the_batch_is_made(pool: PgPool) {
    let limits = Limits { batch_rate: Some(Rate { burst: 10, per_second: 0.01 }), ..Limits::default() };
    let api = TestApi::limited(pool.clone(), limits).await;
    assert_eq!(api.post("/api/v3/batches", r#"{"runCount":9}"#).await.status, 202);
    let refused = api.post("/api/v3/batches", r#"{"runCount":2}"#).await;
    assert!(refused.status == 429 && refused.body["error"].as_str().unwrap().contains("1 of 10 batch items"), "{}", refused.body);
    assert!(number(&refused, "x-ratelimit-reset") > Utc::now().timestamp_millis());
    let items = json!({"items": [{"task": "a"}, {"task": "b"}]}).to_string();
    assert_eq!(api.post("/api/v2/tasks/batch", &items).await.status, 429);
    assert_eq!(sqlx::query_scalar::<_, i64>("select count(*) from batches").fetch_one(&pool).await.unwrap(), 1);
    assert_eq!(api.post("/api/v3/batches", r#"{"runCount":1}"#).await.status, 202);
    api.post("/api/v1/tasks/hello/trigger", "{}").await.ok();
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_public_token_may_ask_less_often_than_its_environment_and_takes_nothing_from_it(pool: PgPool) {
    let window = TokenRate::Window { requests: 2, length: Duration::from_secs(60) };
    let limits = Limits { api_rate: Some(Rate { burst: 1, per_second: 0.01 }), token_rate: window, ..Limits::default() };
    let api = TestApi::limited(pool.clone(), limits).await;
    let (one, other) = (api.token(&["read:runs", "trigger:tasks"]), api.token(&["read:runs"]));
    let list = async |token: &str| api.with(token, "GET", "/api/v1/runs", "").await;
    assert_eq!((number(&list(&one).await, "x-ratelimit-remaining"), number(&list(&one).await, "x-ratelimit-remaining")), (1, 0));
    let refused = api.with(&one, "POST", "/api/v1/tasks/hello/trigger", "{}").await;
    assert!(refused.status == 429 && refused.body["error"].as_str().unwrap().contains("0 of 2 requests"), "{}", refused.body);
    assert!((1..=60).contains(&number(&refused, "retry-after")));
    assert_eq!(sqlx::query_scalar::<_, i64>("select count(*) from runs").fetch_one(&pool).await.unwrap(), 0);
    list(&other).await.ok();
    // Feeds are not counted, nor has anybody used up what the environment has.
    api.with(&one, "GET", "/realtime/v1/runs?tags=a", "").await.ok();
    api.get("/api/v1/runs").await.ok();
    assert_eq!(api.get("/api/v1/runs").await.status, 429);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_public_token_without_a_limit_of_its_own_counts_for_its_environment(pool: PgPool) {
    let limits = Limits { api_rate: Some(Rate { burst: 1, per_second: 0.01 }), token_rate: TokenRate::Off, ..Limits::default() };
    let api = TestApi::limited(pool, limits).await;
    api.with(&api.token(&["read:runs"]), "GET", "/api/v1/runs", "").await.ok();
    assert_eq!(api.get("/api/v1/runs").await.status, 429);
}
