//! Schedules.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::{Answer, TestApi};

impl TestApi {
    async fn schedule(&self, body: Value) -> Answer {
        self.post("/api/v1/schedules", &body.to_string()).await
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.with(self.key.expose_secret(), method, path, body).await
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_schedule_is_made_shown_changed_stopped_and_deleted(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:cron/report", "").await;
    let body = json!({
        "task": "cron/report", "cron": "0  9 * * 1-5", "deduplicationKey": "k", "externalId": "user_1",
        "timezone": "Europe/Berlin", "window": "60m"
    });
    let made = api.schedule(body.clone()).await.ok();
    let path = format!("/api/v1/schedules/{}", made["id"].as_str().unwrap());
    assert!(made["id"].as_str().unwrap().starts_with("sched_"));
    let (next, effective) = (made["nextRun"].as_str().unwrap(), made["nextRunEffectiveAt"].as_str().unwrap());
    assert!(next.ends_with(":00:00.000Z") && effective >= next && effective < &next.replace(":00:00.", ":59:59.")[..], "{made}");
    let expected = json!({
        "id": made["id"], "type": "IMPERATIVE", "task": "cron/report", "active": true, "deduplicationKey": "k",
        "externalId": "user_1",
        "generator": {"type": "CRON", "expression": "0 9 * * 1-5", "description": "At 09:00, Monday through Friday"},
        "timezone": "Europe/Berlin", "window": "1h", "nextRun": next, "nextRunEffectiveAt": effective,
        "environments": [{"id": api.environment.id, "type": "DEVELOPMENT"}]
    });
    assert_eq!(made, expected);
    assert_eq!(api.schedule(body).await.ok(), made, "the same key is the same schedule");
    assert_eq!(api.get(&path).await.ok(), made);

    let changed = api.ask("PUT", &path, r#"{"task":"cron/report","cron":"*/5 * * * *"}"#).await.ok();
    assert_eq!((&changed["id"], &changed["timezone"]), (&made["id"], &json!("UTC")));
    assert_eq!(changed["generator"]["description"], "Every 5 minutes");
    assert!(changed.get("externalId").is_none() && changed.get("window").is_none(), "{changed}");
    assert_eq!((&changed["deduplicationKey"], &changed["nextRun"]), (&json!("k"), &changed["nextRunEffectiveAt"]));

    let stopped = api.ask("POST", &format!("{path}/deactivate"), "").await.ok();
    assert_eq!((&stopped["active"], stopped.get("nextRun")), (&json!(false), None));
    assert_eq!(api.ask("POST", &format!("{path}/activate"), "").await.ok(), changed);
    assert_eq!(api.ask("DELETE", &path, "").await.ok(), json!({"id": made["id"]}));
    for (method, path) in [
        ("GET", path.clone()),
        ("PUT", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/activate")),
        ("POST", format!("{path}/deactivate")),
        ("GET", "/api/v1/schedules/nonsense".into()),
    ] {
        let answer = api.ask(method, &path, r#"{"task":"cron/report","cron":"* * * * *"}"#).await;
        assert_eq!(answer.refusal(), (404, "Schedule not found"), "{method} {path}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_bad_schedule_is_refused_with_the_field_and_the_fix(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:cron/report", "").await;
    let long = "x".repeat(513);
    for (field, value, says) in [
        ("deduplicationKey", json!(""), "1 to 512"),
        ("deduplicationKey", json!(long), "1 to 512"),
        ("deduplicationKey", Value::Null, "is required"),
        ("task", Value::Null, "is required"),
        ("cron", Value::Null, "is required"),
        ("cron", json!(5), "expected a string"),
        ("externalId", json!(""), "1 to 512"),
        ("timezone", json!(["UTC"]), "expected a string"),
    ] {
        let mut body = json!({"task": "cron/report", "cron": "* * * * *", "deduplicationKey": "k"});
        body[field] = value;
        let answer = api.schedule(body).await;
        assert_eq!(answer.refusal(), (400, "Invalid request body"), "{field}: {}", answer.body);
        let (found, message) = answer.issue();
        assert!(found == field && message.contains(says), "{field}: {found}: {message}");
    }
    let nothing = api.schedule(json!({})).await;
    assert_eq!(nothing.body["details"].as_array().unwrap().len(), 3, "everything is said at once: {}", nothing.body);

    for (field, value, says) in [
        ("cron", "* * * * * *", "cron: expressions with seconds are not allowed; leave out the first of the six fields"),
        ("cron", "61 * * * *", "cron: minute: \"61\" is not 0 to 59"),
        ("cron", "0 0 30 2 *", "cron: it would never fire"),
        ("cron", &"* ".repeat(300), "cron: an expression has at most 512 characters"),
        ("timezone", "Europe/Bonn", "timezone: there is no zone \"Europe/Bonn\"; write a name such as Europe/Berlin"),
        ("window", "90s", "window: \"90s\" is no window"),
        ("task", "absent", "task: the current deployment has no task \"absent\""),
    ] {
        let mut body = json!({"task": "cron/report", "cron": "* * * * *", "deduplicationKey": "k"});
        body[field] = json!(value);
        let answer = api.schedule(body).await;
        assert!(answer.status == 422 && answer.refusal().1.starts_with(says), "{field} {value}: {}", answer.body);
    }
    let large = json!({"task": "cron/report", "cron": "* * * * *", "deduplicationKey": "k", "more": "x".repeat(17_000)});
    assert_eq!(api.schedule(large).await.status, 413);
    api.deploy(b"ok:plain", "").await;
    let standard = json!({"task": "plain", "cron": "* * * * *", "deduplicationKey": "k"});
    assert_eq!(
        api.schedule(standard).await.refusal(),
        (422, "task: \"plain\" is not a scheduled task; declare it as one and deploy")
    );
    assert_eq!(api.get("/api/v1/schedules").await.ok()["data"], json!([]), "nothing is half made");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn schedules_are_listed_by_page_in_their_own_environment(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let empty = api.get("/api/v1/schedules").await.ok();
    assert_eq!(empty, json!({"data": [], "pagination": {"currentPage": 1, "totalPages": 0, "count": 0}}));
    api.deploy(b"ok:cron/report", "").await;
    for key in 0..25 {
        api.schedule(json!({"task": "cron/report", "cron": "0 9 * * *", "deduplicationKey": key.to_string()})).await.ok();
    }
    let first = api.get("/api/v1/schedules").await.ok();
    assert_eq!(first["pagination"], json!({"currentPage": 1, "totalPages": 2, "count": 25}));
    assert_eq!((first["data"].as_array().unwrap().len(), &first["data"][0]["deduplicationKey"]), (20, &json!("24")));
    let last = api.get("/api/v1/schedules?page=3&perPage=10").await.ok();
    assert_eq!(last["pagination"], json!({"currentPage": 3, "totalPages": 3, "count": 25}));
    assert_eq!((last["data"].as_array().unwrap().len(), &last["data"][4]["deduplicationKey"]), (5, &json!("0")));
    assert_eq!(api.get("/api/v1/schedules?perPage=101").await.issue().0, "perPage");
    assert_eq!(api.get("/api/v1/schedules?page=0").await.issue().0, "page");

    let stranger = api.stranger().await;
    assert_eq!(stranger.get("/api/v1/schedules").await.ok()["pagination"]["count"], 0);
    let path = format!("/api/v1/schedules/{}", first["data"][0]["id"].as_str().unwrap());
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/deactivate"))] {
        assert_eq!(stranger.ask(method, &path, "").await.refusal(), (404, "Schedule not found"));
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_declared_schedule_is_shown_and_not_changed(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:cron/daily 0 9 * * *", "").await;
    let page = api.get("/api/v1/schedules").await.ok();
    let declared = &page["data"][0];
    assert_eq!((&declared["type"], &declared["task"]), (&json!("DECLARATIVE"), &json!("cron/daily")));
    assert!(declared.get("deduplicationKey").is_none(), "{declared}");
    let path = format!("/api/v1/schedules/{}", declared["id"].as_str().unwrap());
    for (method, path) in [
        ("PUT", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/activate")),
        ("POST", format!("{path}/deactivate")),
    ] {
        let answer = api.ask(method, &path, r#"{"task":"cron/daily","cron":"* * * * *"}"#).await;
        let says = "the task \"cron/daily\" declares this schedule; change it there and deploy";
        assert_eq!(answer.refusal(), (422, says), "{method} {path}");
    }
    assert_eq!(&api.get(&path).await.ok(), declared);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_says_which_schedule_started_it_and_is_found_by_it(pool: PgPool) {
    let api = TestApi::new(pool.clone()).await;
    api.deploy(b"ok:cron/report", "").await;
    let body = json!({"task": "cron/report", "cron": "0 9 * * *", "deduplicationKey": "k", "externalId": "user_1"});
    let schedule = api.schedule(body).await.ok();
    api.trigger("cron%2Freport", "{}").await;
    sqlx::raw_sql("update schedules set due_at = now(), next_run_at = now()").execute(&pool).await.unwrap();
    crate::reconcile::schedules::tick(&api.store).await.unwrap();

    let found = api.get(&format!("/api/v1/runs?filter%5Bschedule%5D={}", schedule["id"].as_str().unwrap())).await.ok();
    assert_eq!(found["data"].as_array().unwrap().len(), 1, "{found}");
    let run = api.get(&format!("/api/v3/runs/{}", found["data"][0]["id"].as_str().unwrap())).await.ok();
    let by = json!({"id": schedule["id"], "externalId": "user_1", "deduplicationKey": "k", "generator": schedule["generator"]});
    assert_eq!(run["schedule"], by);
    assert_eq!(run["payload"]["externalId"], "user_1", "shown as plain JSON: {run}");
    assert_eq!(api.get("/api/v1/runs?filter%5Bschedule%5D=x").await.issue().0, "filter[schedule]");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn zones_are_listed_for_everybody(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let zones = api.raw("GET", "/api/v1/timezones", &[], "").await.ok();
    let zones: Vec<&str> = zones["timezones"].as_array().unwrap().iter().map(|zone| zone.as_str().unwrap()).collect();
    assert!(zones.len() > 400 && zones[0] == "UTC" && zones.contains(&"Europe/Berlin"), "{zones:?}");
    let others = api.raw("GET", "/api/v1/timezones?excludeUtc=true", &[], "").await.ok();
    let others = others["timezones"].as_array().unwrap();
    assert!(others.len() == zones.len() - 1 && !others.contains(&json!("UTC")));
    assert_eq!(api.raw("GET", "/api/v1/timezones?excludeUtc=maybe", &[], "").await.status, 400);
}
