//! Every option of a trigger with what it must not be: of another type, out of its range, too long, or with a NUL that Postgres does
//! not store. Each is refused with its name and its rule, and leaves nothing behind.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;

/// An option, what is wrong with it, and what the refusal says: where it is, and what would be right.
type Case = (&'static str, Value, &'static str, &'static str);

fn long(letters: usize) -> String {
    "x".repeat(letters)
}

fn of_another_type() -> Vec<Case> {
    vec![
        ("payloadType", json!(5), "options.payloadType", "expected a string"),
        ("queue", json!("q"), "options.queue", "expected struct"),
        ("queue", json!({"name": 5}), "options.queue.name", "expected a string"),
        ("queue", json!({}), "options.queue", "missing field `name`"),
        ("concurrencyKey", json!(["a"]), "options.concurrencyKey", "a string or a number"),
        ("delay", json!(5), "options.delay", "expected a string"),
        ("ttl", json!(true), "options.ttl", "a string or a number"),
        ("tags", json!({"a": 1}), "options.tags", "a string or a list of strings"),
        ("tags", json!([1]), "options.tags", "a string or a list of strings"),
        ("metadata", json!([]), "options.metadata", "must be an object"),
        ("metadata", json!("{}"), "options.metadata", "must be an object"),
        ("idempotencyKey", json!(5), "options.idempotencyKey", "expected a string"),
        ("idempotencyKeyTTL", json!(60), "options.idempotencyKeyTTL", "expected a string"),
        ("idempotencyKeyOptions", json!("k"), "options.idempotencyKeyOptions", "expected struct"),
        ("idempotencyKeyOptions", json!({"key": 5}), "options.idempotencyKeyOptions.key", "a string or a list of strings"),
        ("idempotencyKeyOptions", json!({"key": "k", "scope": 5}), "options.idempotencyKeyOptions.scope", "expected a string"),
        ("maxAttempts", json!("3"), "options.maxAttempts", "expected f64"),
        ("maxDuration", json!("5m"), "options.maxDuration", "expected f64"),
        ("machine", json!({"preset": "micro"}), "options.machine", "expected a string"),
        ("priority", json!("high"), "options.priority", "expected f64"),
        ("test", json!("yes"), "options.test", "expected a boolean"),
        ("lockToVersion", json!(20_261_120.1), "options.lockToVersion", "expected a string"),
        ("externalDeploymentId", json!(5), "options.externalDeploymentId", "expected a string"),
        ("parentRunId", json!(5), "options.parentRunId", "expected a string"),
        ("debounce", json!("1m"), "options.debounce", "expected struct"),
        ("debounce", json!({"key": "k"}), "options.debounce", "missing field `delay`"),
        ("debounce", json!({"key": 5, "delay": "1m"}), "options.debounce.key", "expected a string"),
        ("debounce", json!({"key": "k", "delay": 60}), "options.debounce.delay", "expected a string"),
        ("debounce", json!({"key": "k", "delay": "1m", "maxDelay": 60}), "options.debounce.maxDelay", "expected a string"),
        ("debounce", json!({"key": "k", "delay": "1m", "mode": 1}), "options.debounce.mode", "expected a string"),
        ("concurrency", json!("limit"), "options.concurrency", "expected a sequence"),
        ("gates", json!({}), "options.gates", "expected a sequence"),
        ("resumeParentOnCompletion", json!("yes"), "options.resumeParentOnCompletion", "expected a boolean"),
    ]
}

fn out_of_range() -> Vec<Case> {
    vec![
        ("payloadType", json!(""), "options.payloadType", "1 to 128 characters"),
        ("payloadType", json!("application/store"), "options.payloadType", "not available"),
        ("payloadType", json!("text/plain"), "payload", "must be a string"),
        ("queue", json!({"name": ""}), "options.queue.name", "1 to 128 of A-Z"),
        ("queue", json!({"name": "a b"}), "options.queue.name", "1 to 128 of A-Z"),
        ("concurrencyKey", json!(""), "options.concurrencyKey", "1 to 128 characters"),
        ("delay", json!("soon"), "options.delay", "write a duration"),
        ("delay", json!("-5m"), "options.delay", "write a duration"),
        ("delay", json!("9999999999999w"), "options.delay", "write a duration"),
        ("ttl", json!(-1), "options.ttl", "whole number of seconds"),
        ("ttl", json!(1.5), "options.ttl", "whole number of seconds"),
        ("ttl", json!(1e300), "options.ttl", "whole number of seconds"),
        ("ttl", json!("soon"), "options.ttl", "write a duration"),
        ("tags", json!(""), "options.tags", "1 to 128 characters"),
        ("tags", json!((0..11).map(|n| n.to_string()).collect::<Vec<_>>()), "options.tags", "at most 10"),
        ("idempotencyKey", json!(""), "options.idempotencyKey", "1 to 2048 characters"),
        ("idempotencyKeyTTL", json!("1h30m"), "options.idempotencyKeyTTL", "one unit"),
        ("idempotencyKeyTTL", json!("0s"), "options.idempotencyKeyTTL", "one unit"),
        (
            "idempotencyKeyOptions",
            json!({"key": "k", "scope": "all"}),
            "options.idempotencyKeyOptions.scope",
            "run, attempt or global",
        ),
        ("maxAttempts", json!(0), "options.maxAttempts", "1 to 250"),
        ("maxAttempts", json!(251), "options.maxAttempts", "1 to 250"),
        ("maxAttempts", json!(1.5), "options.maxAttempts", "1 to 250"),
        ("maxDuration", json!(-1), "options.maxDuration", "0 or more"),
        ("maxDuration", json!(1e300), "options.maxDuration", "number of seconds"),
        ("machine", json!("huge"), "options.machine", "micro, small-1x"),
        ("priority", json!(1e300), "options.priority", "number of seconds"),
        ("lockToVersion", json!(""), "options.lockToVersion", "1 to 128 characters"),
        ("lockToVersion", json!("20200101.1"), "lockToVersion", "there is no such version"),
        ("externalDeploymentId", json!(""), "options.externalDeploymentId", "1 to 128 characters"),
        ("parentRunId", json!("run_1"), "options.parentRunId", "run_"),
        ("parentRunId", json!(crate::model::id::RunId::new()), "parentRunId", "there is no such run"),
        ("debounce", json!({"key": "", "delay": "1m"}), "options.debounce.key", "1 to 512 characters"),
        ("debounce", json!({"key": "k", "delay": "0s"}), "debounce.delay", "at least 1s"),
        ("debounce", json!({"key": "k", "delay": "2030-01-01"}), "debounce.delay", "not a date"),
        ("debounce", json!({"key": "k", "delay": "1m", "maxDelay": "1m"}), "debounce.maxDelay", "longer than the delay"),
        ("debounce", json!({"key": "k", "delay": "1m", "mode": "both"}), "options.debounce.mode", "leading or trailing"),
        ("concurrency", json!(["limit"]), "concurrency", "no deployment declares"),
        ("concurrency", json!(["a", "b", "c"]), "concurrency", "at most 2"),
        ("concurrency", json!([""]), "options.concurrency", "1 to 128"),
        ("gates", json!([{"queue": "q"}]), "options.gates", "not available"),
        ("resumeParentOnCompletion", json!(true), "options.resumeParentOnCompletion", "parentRunId"),
    ]
}

fn too_long() -> Vec<Case> {
    vec![
        ("payloadType", json!(long(129)), "options.payloadType", "1 to 128 characters"),
        ("queue", json!({"name": long(129)}), "options.queue.name", "1 to 128 of A-Z"),
        ("concurrencyKey", json!(long(129)), "options.concurrencyKey", "1 to 128 characters"),
        ("delay", json!("1s".repeat(51)), "options.delay", "write a duration"),
        ("ttl", json!("1s".repeat(51)), "options.ttl", "write a duration"),
        ("tags", json!([long(129)]), "options.tags", "1 to 128 characters"),
        ("metadata", json!({"a": long(256 * 1024)}), "options.metadata", "larger than 262144 bytes"),
        ("idempotencyKey", json!(long(2049)), "options.idempotencyKey", "1 to 2048 characters"),
        ("idempotencyKeyTTL", json!(format!("{}s", "9".repeat(100))), "options.idempotencyKeyTTL", "one unit"),
        ("idempotencyKeyOptions", json!({"key": long(2049)}), "options.idempotencyKeyOptions.key", "1 to 2048 characters"),
        ("machine", json!(long(4096)), "options.machine", "micro, small-1x"),
        ("lockToVersion", json!(long(129)), "options.lockToVersion", "1 to 128 characters"),
        ("externalDeploymentId", json!(long(129)), "options.externalDeploymentId", "1 to 128 characters"),
        ("parentRunId", json!(long(4096)), "options.parentRunId", "run_"),
        ("debounce", json!({"key": long(513), "delay": "1m"}), "options.debounce.key", "1 to 512 characters"),
    ]
}

fn with_nul() -> Vec<Case> {
    vec![
        ("payloadType", json!("a\0b"), "options.payloadType", "NUL"),
        ("concurrencyKey", json!("a\0b"), "options.concurrencyKey", "NUL"),
        ("tags", json!(["a\0b"]), "options.tags", "NUL"),
        ("idempotencyKey", json!("a\0b"), "options.idempotencyKey", "NUL"),
        ("idempotencyKeyOptions", json!({"key": "a\0b"}), "options.idempotencyKeyOptions.key", "NUL"),
        ("lockToVersion", json!("a\0b"), "options.lockToVersion", "NUL"),
        ("externalDeploymentId", json!("a\0b"), "options.externalDeploymentId", "NUL"),
        ("debounce", json!({"key": "a\0b", "delay": "1m"}), "options.debounce.key", "NUL"),
    ]
}

/// Sends a trigger with this option beside others that are good, and returns what is wrong with the answer.
async fn complaint(api: &TestApi, (option, value, field, rule): &Case) -> Option<String> {
    let mut options = json!({"queue": {"name": "fresh"}, "idempotencyKey": "fresh", "tags": ["fresh"]});
    options[*option] = value.clone();
    let body = json!({"payload": {"a": 1}, "options": options}).to_string();
    let bearer = format!("Bearer {}", secrecy::ExposeSecret::expose_secret(&api.key));
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("x-trigger-request-idempotency-key", "fresh"),
    ];
    let answer = api.raw("POST", "/api/v1/tasks/hello/trigger", &headers, body).await;
    let (path, message) = answer.issue();
    let (status, error) = answer.refusal();
    // One with issues names the field in its path, one for a rule or a size in its text. Source: facts 4.1.
    let is_named = match status {
        400 => error == "Invalid request body" && path == *field && message.contains(rule),
        413 | 422 => error.contains(field) && error.contains(rule),
        _ => false,
    };
    let shown: String = format!("{value}").chars().take(60).collect();
    (!is_named).then(|| format!("{option} = {shown}: {status} {} instead of {field}: {rule}", answer.body))
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn every_bad_option_is_refused_with_its_name_and_rule_and_leaves_nothing_behind(pool: PgPool) {
    let api = TestApi::new(pool.clone()).await;
    api.deploy(b"ok:hello", "").await;
    let rows = async || {
        let count =
            "select array[(select count(*) from runs), (select count(*) from trigger_requests), (select count(*) from queues),
            (select count(*) from run_events)]";
        sqlx::query_scalar::<_, Vec<i64>>(count).fetch_one(&pool).await.unwrap()
    };
    let before = rows().await;
    let mut complaints = Vec::new();
    for case in [of_another_type(), out_of_range(), too_long(), with_nul()].concat() {
        complaints.extend(complaint(&api, &case).await);
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(rows().await, before, "no run, no key and no queue was made");
    api.trigger("hello", r#"{"options":{"queue":{"name":"fresh"},"idempotencyKey":"fresh"}}"#).await;
    assert_ne!(rows().await, before, "the same is taken without the bad option");
}
