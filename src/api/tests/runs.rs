//! Triggering, and what becomes of it.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;
use crate::{
    auth::Claims,
    engine,
    model::{
        attempt::{Outcome, RetryDecision},
        error::{ErrorCode, RunError},
        log::{Level, LogRecord, Source},
        payload::Packet,
    },
};

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_trigger_makes_a_run_and_gives_a_token_that_reads_it(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:mail/send it", "").await;
    let body = r#"{"payload":{"n":1.50},"options":{"tags":"a","metadata":{"z":1,"a":2},"ttl":"10m","test":true}}"#;
    let answer = api.post("/api/v1/tasks/mail%2Fsend%20it/trigger", body).await;
    let token = answer.headers["x-trigger-jwt"].to_str().unwrap().to_owned();
    let claims: Value = serde_json::from_str(answer.headers["x-trigger-jwt-claims"].to_str().unwrap()).unwrap();
    let made = answer.ok();
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["isCached"], false);
    assert_eq!(claims, json!({"sub": api.environment.id, "pub": true}));
    let scopes = Claims::verify(&token, &api.key).unwrap().scopes;
    assert_eq!(scopes, [format!("read:runs:{id}"), format!("write:inputStreams:{id}")]);

    let run = api.with(&token, "GET", &format!("/api/v3/runs/{id}"), "").await.ok();
    assert_eq!(run["status"], "QUEUED");
    assert_eq!(run["taskIdentifier"], "mail/send it");
    assert_eq!((&run["isQueued"], &run["isCompleted"], &run["isTest"]), (&json!(true), &json!(false), &json!(true)));
    assert_eq!(run["payload"].to_string(), r#"{"n":1.5}"#);
    assert_eq!(run["metadata"], json!({"z": 1, "a": 2}));
    assert_eq!((&run["tags"], &run["ttl"], &run["relatedRuns"]), (&json!(["a"]), &json!("10m"), &json!({})));
    for required in
        ["createdAt", "updatedAt", "costInCents", "baseCostInCents", "durationMs", "depth", "triggerFunction", "attemptCount"]
    {
        assert!(run.get(required).is_some(), "{required}");
    }
    let nulls: Vec<&String> =
        run.as_object().unwrap().iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name).collect();
    assert!(nulls.is_empty(), "clients refuse null: {nulls:?}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn every_kind_of_payload_reaches_the_task_as_it_was_sent(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    for (body, data, content_type, shown) in [
        (r#"{"payload":{"b":1,"a":1.0}}"#, r#"{"b":1,"a":1.0}"#, "application/json", json!({"b": 1, "a": 1.0})),
        (r#"{"payload":null}"#, "null", "application/json", json!(null)),
        ("", "", "application/json", json!(null)),
        (r#"{"payload":"x"}"#, r#""x""#, "application/json", json!("x")),
        (r#"{"payload":"a\nb","options":{"payloadType":"text/plain"}}"#, "a\nb", "text/plain", json!("a\nb")),
        (
            r#"{"payload":"{\"json\":{\"d\":\"x\"}}","options":{"payloadType":"application/super+json"}}"#,
            r#"{"json":{"d":"x"}}"#,
            "application/super+json",
            json!({"d": "x"}),
        ),
    ] {
        let id = api.trigger("hello", body).await;
        let claimed = api.claim().await;
        assert_eq!(claimed.payload, Packet { data: data.into(), content_type: content_type.into() }, "{body}");
        assert_eq!(api.get(&format!("/api/v3/runs/{id}")).await.ok()["payload"], shown, "{body}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_key_or_the_same_request_makes_one_run(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let keyed = r#"{"options":{"idempotencyKey":"0badc0de","idempotencyKeyOptions":{"key":["order","17"],"scope":"global"}}}"#;
    let first = api.post("/api/v1/tasks/hello/trigger", keyed).await.ok();
    let second = api.post("/api/v1/tasks/hello/trigger", keyed).await.ok();
    assert_eq!((&second["id"], &second["isCached"]), (&first["id"], &json!(true)));
    let run = api.get(&format!("/api/v3/runs/{}", first["id"].as_str().unwrap())).await.ok();
    assert_eq!(run["idempotencyKey"], "order-17");

    let bearer = format!("Bearer {}", secrecy::ExposeSecret::expose_secret(&api.key));
    let headers = [("authorization", bearer.as_str()), ("x-trigger-request-idempotency-key", "6f1c")];
    let first = api.raw("POST", "/api/v1/tasks/hello/trigger", &headers, "").await.ok();
    let second = api.raw("POST", "/api/v1/tasks/hello/trigger", &headers, "").await.ok();
    assert_eq!(first["id"], second["id"]);
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "mine"), ("idempotency-key-ttl", "60s")];
    let first = api.raw("POST", "/api/v1/tasks/hello/trigger", &headers, "").await.ok();
    let second = api.raw("POST", "/api/v1/tasks/hello/trigger", &headers, "").await.ok();
    assert_eq!(first["id"], second["id"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn triggers_with_a_debounce_key_make_one_run_and_a_wrong_one_is_refused(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let send = async |payload: u32, debounce: Value| {
        let body = json!({"payload": payload, "options": {"debounce": debounce}}).to_string();
        api.post("/api/v1/tasks/hello/trigger", &body).await
    };
    let first = send(1, json!({"key": "k", "delay": "1h"})).await.ok();
    let second = send(2, json!({"key": "k", "delay": "2h", "mode": "trailing", "maxDelay": "1d"})).await.ok();
    assert_eq!((&second["id"], &second["isCached"]), (&first["id"], &json!(false)));
    let run = api.get(&format!("/api/v3/runs/{}", first["id"].as_str().unwrap())).await.ok();
    assert_eq!((&run["status"], &run["payload"]), (&json!("DELAYED"), &json!(2)));

    for (debounce, status, text) in [
        (json!({"key": "k", "delay": "2026-01-01"}), 422, "options.debounce.delay: write a duration"),
        (json!({"key": "k", "delay": "500ms"}), 422, "options.debounce.delay: write a duration"),
        (json!({"key": "k", "delay": "0s"}), 422, "debounce.delay: the delay is at least 1s"),
        (json!({"key": "k", "delay": "5s", "maxDelay": "soon"}), 422, "options.debounce.maxDelay: write a duration"),
        (json!({"key": "k", "delay": "5s", "maxDelay": "5s"}), 422, "debounce.maxDelay: maxDelay must be longer"),
        (json!({"key": "x".repeat(513), "delay": "5s"}), 400, "1 to 512 characters"),
        (json!({"key": "k", "delay": "5s", "mode": "both"}), 400, "options"),
        (json!({"key": "k"}), 400, "delay"),
        (json!({"delay": "5s"}), 400, "key"),
    ] {
        let refused = send(3, debounce.clone()).await;
        assert!(refused.status == status && refused.body.to_string().contains(text), "{debounce}: {}", refused.body);
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_waits_for_the_deployment_that_it_is_pinned_to(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", r#"{"options":{"externalDeploymentId":"4f2c"}}"#).await;
    let status = async || api.get(&format!("/api/v3/runs/{run}")).await.ok()["status"].clone();
    assert_eq!(status().await, "PENDING_VERSION");
    let deployed = api.deploy(b"ok:hello", "?externalId=4f2c&promote=false").await.body;
    assert_eq!(status().await, "QUEUED");
    assert_eq!(api.claim().await.context.version, deployed["version"].as_str().unwrap());
    let long = json!({"options": {"externalDeploymentId": "x".repeat(129)}}).to_string();
    assert_eq!(api.post("/api/v1/tasks/hello/trigger", &long).await.issue().0, "options.externalDeploymentId");
    let both = r#"{"options":{"externalDeploymentId":"4f2c","lockToVersion":"20260101.1"}}"#;
    assert_eq!(api.post("/api/v1/tasks/hello/trigger", both).await.status, 422);
    assert_eq!(api.post("/api/v1/tasks/other/trigger", r#"{"options":{"externalDeploymentId":"4f2c"}}"#).await.status, 422);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_ends_with_its_output_or_its_error(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.trigger("hello", "{}").await;
    let claimed = api.claim().await;
    let executing = api.get(&format!("/api/v3/runs/{id}")).await.ok();
    assert_eq!((&executing["status"], &executing["attemptCount"]), (&json!("EXECUTING"), &json!(1)));
    let output = Packet { data: br#"{"json":{"ok":true}}"#.to_vec(), content_type: "application/super+json".into() };
    api.finish(&claimed, Outcome::Completed(output)).await;
    let run = api.get(&format!("/api/v3/runs/{id}")).await.ok();
    assert_eq!((&run["status"], &run["isSuccess"], &run["output"]), (&json!("COMPLETED"), &json!(true), &json!({"ok": true})));
    assert!(run["finishedAt"].is_string() && run["version"].is_string() && run["durationMs"] == 7, "{run}");

    let id = api.trigger("hello", "{}").await;
    let claimed = api.claim().await;
    let error = RunError::internal(ErrorCode::TaskRunCrashed, "unreachable");
    api.finish(&claimed, Outcome::Failed { error, retry: RetryDecision::Abort }).await;
    let run = api.get(&format!("/api/v3/runs/{id}")).await.ok();
    assert_eq!((&run["status"], &run["isFailed"]), (&json!("CRASHED"), &json!(true)));
    assert_eq!(run["error"]["message"], "trigger.dev internal error (TASK_RUN_CRASHED)");
    assert!(run.get("output").is_none());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_are_listed_newest_first_in_pages_and_by_filters(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let mut ids = Vec::new();
    for (task, body) in [("a", r#"{"options":{"tags":["x"]}}"#), ("b", r#"{"options":{"tags":["y"],"delay":"1h"}}"#), ("a", "{}")]
    {
        ids.push(api.trigger(task, body).await);
    }
    let list = async |query: &str| {
        let page = api.get(&format!("/api/v1/runs?{query}")).await.ok();
        let ids = page["data"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<String>>(), page)
    };
    let newest_first = |wanted: &[usize]| wanted.iter().map(|n| ids[*n].clone()).collect::<Vec<_>>();
    let (found, page) = list("").await;
    assert_eq!(found, newest_first(&[2, 1, 0]));
    assert_eq!(page["data"][0]["env"], json!({"id": api.environment.id, "name": "dev"}));
    assert_eq!(list("filter%5BtaskIdentifier%5D=a").await.0, newest_first(&[2, 0]));
    assert_eq!(list("filter%5Bstatus%5D=DELAYED%2CFAILED").await.0, newest_first(&[1]));
    assert_eq!(list("filter%5Btag%5D=x%2Cy").await.0, newest_first(&[1, 0]));
    assert_eq!(list("filter%5BcreatedAt%5D%5Bto%5D=1000").await.0, newest_first(&[]));
    let (found, page) = list("page%5Bsize%5D=2").await;
    assert_eq!(found, newest_first(&[2, 1]));
    let next = page["pagination"]["next"].as_str().unwrap();
    assert_eq!(list(&format!("page%5Bsize%5D=2&page%5Bafter%5D={next}")).await.0, newest_first(&[0]));
    let (last, page) = list(&format!("page%5Bsize%5D=2&page%5Bafter%5D={next}")).await;
    let before = page["pagination"]["previous"].as_str().unwrap();
    assert_eq!(last, newest_first(&[0]));
    // As the npm client goes back: with where the page began.
    assert_eq!(
        list(&format!("page%5Bsize%5D=2&page%5Bafter%5D={next}&page%5Bbefore%5D={before}")).await.0,
        newest_first(&[2, 1])
    );
    for (query, name) in [
        ("filter%5Bstatus%5D=DONE", "filter[status]"),
        ("filter%5Berror%5D=x", "filter[error]"),
        ("page%5Bsize%5D=1000", "page[size]"),
        ("page%5Bafter%5D=x", "page[after]"),
    ] {
        let answer = api.get(&format!("/api/v1/runs?{query}")).await;
        assert_eq!((answer.refusal(), answer.issue().0.as_str()), ((400, "Query Error"), name));
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_is_cancelled_once_and_again_without_harm(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let id = api.trigger("hello", "{}").await;
    for _ in 0..2 {
        assert_eq!(api.post(&format!("/api/v2/runs/{id}/cancel"), "").await.ok(), json!({ "id": id }));
    }
    let run = api.get(&format!("/api/v3/runs/{id}")).await.ok();
    assert_eq!((&run["status"], &run["isCancelled"]), (&json!("CANCELED"), &json!(true)));
    let events = api.get(&format!("/api/v1/runs/{id}/events")).await.ok();
    let kinds: Vec<&Value> = events["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds.last(), Some(&&json!("finished")), "{events}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_runs_log_is_read_page_by_page(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let id = api.trigger("hello", "{}").await;
    let claimed = api.claim().await;
    let line = |n: u32| LogRecord {
        at: chrono::Utc::now(),
        level: Level::Info,
        source: Source::Logger,
        message: format!("line {n}"),
        attributes: json!({ "n": n }),
        span: None,
    };
    engine::log::append(&api.store, &claimed.lease, (1..=3).map(line).collect()).await.unwrap();
    let path = format!("/api/v1/runs/{id}/logs");
    let page = api.get(&format!("{path}?page%5Bsize%5D=2")).await.ok();
    assert_eq!((page["data"].as_array().unwrap().len(), &page["pagination"]["next"]), (2, &json!("2")));
    let page = api.get(&format!("{path}?page%5Bafter%5D=2")).await.ok();
    assert_eq!(page["pagination"], json!({}));
    let line = &page["data"][0];
    assert_eq!((&line["message"], &line["level"], &line["attributes"]), (&json!("line 3"), &json!("info"), &json!({"n": 3})));
    assert_eq!(api.get(&format!("{path}?page%5Bafter%5D=x")).await.status, 400);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_shows_the_cpu_time_of_its_attempts_and_what_that_costs_on_their_machines(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let run = api.trigger("hello", r#"{"options":{"machine":"large-1x"}}"#).await;
    let shown = api.get(&format!("/api/v3/runs/{run}")).await.ok();
    assert_eq!((&shown["durationMs"], &shown["costInCents"], &shown["baseCostInCents"]), (&json!(0), &json!(0.0), &json!(0.0)));
    let claimed = api.claim().await;
    api.finish(&claimed, Outcome::Completed(Packet::json(&json!(1)))).await;
    let shown = api.get(&format!("/api/v3/runs/{run}")).await.ok();
    assert_eq!((&shown["durationMs"], &shown["machine"]), (&json!(7), &json!("large-1x")));
    assert_eq!(
        (&shown["costInCents"], &shown["baseCostInCents"]),
        (&json!(2.8), &json!(0.25)),
        "7 ms of 4 vCPU at 100 cents a second"
    );
    let listed = api.get("/api/v1/runs").await.ok();
    assert_eq!(listed["data"][0]["costInCents"], json!(2.8));
}
