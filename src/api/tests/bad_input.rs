//! What is refused, and that the refusal says where and why.

use serde_json::json;
use sqlx::PgPool;

use super::support::TestApi;

#[sqlx::test(migrations = "src/store/migrations")]
async fn every_bad_option_is_named_with_what_would_be_right(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let long = "x".repeat(2049);
    for (options, path, says) in [
        (r#""delay":"soon""#.to_owned(), "options.delay", "write a duration"),
        (r#""delay":5"#.into(), "options.delay", "expected a string"),
        (r#""ttl":-1"#.into(), "options.ttl", "whole number"),
        (r#""ttl":1.5"#.into(), "options.ttl", "whole number"),
        (r#""ttl":"soon""#.into(), "options.ttl", "write a duration"),
        (r#""tags":5"#.into(), "options.tags", "a string or a list"),
        (r#""tags":[""]"#.into(), "options.tags", "1 to 128"),
        (format!(r#""tags":"{}""#, "x".repeat(129)), "options.tags", "1 to 128"),
        (r#""metadata":[]"#.into(), "options.metadata", "object"),
        (r#""queue":"q""#.into(), "options.queue", "expected struct"),
        (r#""queue":{"name":"a b"}"#.into(), "options.queue.name", "A-Z a-z 0-9"),
        (format!(r#""idempotencyKey":"{long}""#), "options.idempotencyKey", "1 to 2048"),
        (r#""idempotencyKey":"k","idempotencyKeyTTL":"1h30m""#.into(), "options.idempotencyKeyTTL", "one unit"),
        (
            r#""idempotencyKey":"k","idempotencyKeyOptions":{"key":"k","scope":"x"}"#.into(),
            "options.idempotencyKeyOptions.scope",
            "global",
        ),
        (r#""maxAttempts":0"#.into(), "options.maxAttempts", "1 to 250"),
        (r#""maxAttempts":251"#.into(), "options.maxAttempts", "1 to 250"),
        (r#""maxDuration":-5"#.into(), "options.maxDuration", "0 or more"),
        (r#""machine":"huge""#.into(), "options.machine", "small-1x"),
        (r#""priority":"x""#.into(), "options.priority", "expected f64"),
        (r#""parentRunId":"run_1""#.into(), "options.parentRunId", "run_"),
        (r#""payloadType":"application/store""#.into(), "payload", "must be a string"),
        (r#""payloadType":"text/plain""#.into(), "payload", "must be a string"),
    ] {
        let body = format!(r#"{{"payload":{{}},"options":{{{options}}}}}"#);
        let answer = api.post("/api/v1/tasks/hello/trigger", &body).await;
        assert_eq!(answer.refusal(), (400, "Invalid request body"), "{options}: {}", answer.body);
        let (found, message) = answer.issue();
        assert!(found == path && message.contains(says), "{options}: {found}: {message}");
    }
    let two = api.post("/api/v1/tasks/hello/trigger", r#"{"options":{"delay":"x","machine":"y"}}"#).await;
    assert_eq!(two.body["details"].as_array().unwrap().len(), 2, "everything is said at once");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_not_json_is_refused_with_its_place(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let token = api.post("/api/v1/waitpoints/tokens", "").await.ok();
    let complete = format!("/api/v1/waitpoints/tokens/{}/complete", token["id"].as_str().unwrap());
    for path in ["/api/v1/tasks/hello/trigger", "/api/v1/waitpoints/tokens", &complete] {
        for body in [r#"{"payload":"#, "hello", "[1]", "{\"payload\":\"\u{0}\"}"] {
            let answer = api.post(path, body).await;
            assert_eq!(answer.refusal(), (400, "Invalid request body"), "{path} {body}");
        }
        let bytes = api.with("x", "POST", path, "").await;
        assert_eq!(bytes.status, 401);
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_payload_over_the_limit_is_413_and_one_at_it_is_taken(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let body = |length: usize| format!(r#"{{"payload":"{}"}}"#, "x".repeat(length - r#"{"payload":""}"#.len()));
    let limit = 3 * 1024 * 1024;
    let over = api.post("/api/v1/tasks/hello/trigger", &body(limit + 1)).await;
    assert_eq!(over.refusal(), (413, "The request body is larger than 3145728 bytes"));
    api.post("/api/v1/tasks/hello/trigger", &body(limit)).await.ok();
    let metadata = format!(r#"{{"options":{{"metadata":{{"a":"{}"}}}}}}"#, "x".repeat(256 * 1024));
    assert_eq!(
        api.post("/api/v1/tasks/hello/trigger", &metadata).await.refusal(),
        (413, "options.metadata is larger than 262144 bytes")
    );
    let create = format!(r#"{{"tags":["{}"]}}"#, "x".repeat(10 * 1024));
    assert_eq!(api.post("/api/v1/waitpoints/tokens", &create).await.status, 413);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_rule_that_is_broken_is_422(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let tags: Vec<String> = (0..11).map(|n| format!("\"t{n}\"")).collect();
    let many = format!(r#"{{"options":{{"tags":[{}]}}}}"#, tags.join(","));
    assert_eq!(
        api.post("/api/v1/tasks/hello/trigger", &many).await.refusal(),
        (422, "options.tags: at most 10 tags; these are 11")
    );
    let version = api.post("/api/v1/tasks/hello/trigger", r#"{"options":{"lockToVersion":"20260101.9"}}"#).await;
    assert_eq!(version.status, 422, "{}", version.body);
    let gates = api.post("/api/v1/tasks/hello/trigger", r#"{"options":{"gates":[{"queue":"q"}]}}"#).await;
    assert_eq!(gates.refusal(), (422, "options.gates is not available in this version; leave it out"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_not_there_is_404_at_once_and_a_task_that_is_not_there_yet_waits(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let absent = crate::model::id::RunId::new();
    for id in [absent.to_string(), "run_1".into(), "nonsense".into(), "%00".into()] {
        for (method, path) in [
            ("GET", "/api/v3/runs/ID"),
            ("POST", "/api/v2/runs/ID/cancel"),
            ("GET", "/api/v1/runs/ID/logs"),
            ("GET", "/api/v1/runs/ID/events"),
        ] {
            let answer = api.with(secrecy::ExposeSecret::expose_secret(&api.key), method, &path.replace("ID", &id), "").await;
            assert_eq!(answer.refusal(), (404, "Run not found"), "{method} {path} {id}");
            assert_eq!(answer.headers["x-should-retry"], "false");
        }
    }
    assert_eq!(api.post("/api/v1/waitpoints/tokens/waitpoint_1/complete", "").await.refusal(), (404, "Waitpoint not found"));
    let id = api.trigger("not-there-yet", "{}").await;
    assert_eq!(api.get(&format!("/api/v3/runs/{id}")).await.ok()["status"], "PENDING_VERSION");
}

/// A text of so many letters that take four bytes each and do not repeat themselves, so that nothing can be made shorter.
fn wide(letters: usize) -> String {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from_u32(0x2_0000 + (state % 0xA000) as u32).expect("an ideograph")
    };
    (0..letters).map(letter).collect()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn keys_names_and_tags_may_be_as_long_as_they_may_in_every_script(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy("ok:cron/wide".as_bytes(), "").await;
    let (key, task) = (wide(2048), wide(128));
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let trigger = format!("/api/v1/tasks/{}/trigger", encode(&task));
    let tags: Vec<String> = (0..10).map(|n| wide(127) + &n.to_string()).collect();
    let options = json!({"idempotencyKey": key, "tags": tags, "concurrencyKey": wide(128), "externalDeploymentId": wide(128)});
    let body = json!({"options": options}).to_string();
    let (first, again) = (api.post(&trigger, &body).await.ok(), api.post(&trigger, &body).await.ok());
    assert_eq!((&first["id"], &again["isCached"]), (&again["id"], &json!(true)));
    let run = api.get(&format!("/api/v3/runs/{}", first["id"].as_str().unwrap())).await.ok();
    assert_eq!((&run["idempotencyKey"], &run["tags"]), (&json!(key), &json!(tags)), "as the user wrote them");
    let reset = format!("/api/v1/idempotencyKeys/{}/reset", encode(&key));
    api.post(&reset, &json!({"taskIdentifier": task}).to_string()).await.ok();
    assert_eq!(api.post(&trigger, &body).await.ok()["isCached"], json!(false));

    let debounced = json!({"options": {"debounce": {"key": wide(512), "delay": "1m"}}}).to_string();
    let (first, again) = (api.post(&trigger, &debounced).await.ok(), api.post(&trigger, &debounced).await.ok());
    assert_eq!(first["id"], again["id"]);

    let token = json!({"idempotencyKey": wide(2000)}).to_string();
    let (first, again) =
        (api.post("/api/v1/waitpoints/tokens", &token).await.ok(), api.post("/api/v1/waitpoints/tokens", &token).await.ok());
    assert_eq!((&first["id"], &again["isCached"]), (&again["id"], &json!(true)));
    let listed = api.get(&format!("/api/v1/waitpoints/tokens?filter%5BidempotencyKey%5D={}", encode(&wide(2000)))).await.ok();
    assert_eq!(listed["data"][0]["id"], first["id"]);

    let batch = json!({"runCount": 1, "idempotencyKey": wide(2048)}).to_string();
    let ids = [api.post("/api/v3/batches", &batch).await, api.post("/api/v3/batches", &batch).await].map(|answer| {
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["id"].clone()
    });
    assert_eq!(ids[0], ids[1]);

    let schedule = json!({"task": "cron/wide", "cron": "0 9 * * *", "deduplicationKey": wide(512), "externalId": wide(128)});
    api.post("/api/v1/schedules", &schedule.to_string()).await.ok();
}
