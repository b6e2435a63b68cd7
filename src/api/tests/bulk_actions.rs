//! Bulk actions, and the filters that they share with lists of runs.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;
use crate::reconcile;

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_action_is_made_and_shown_and_its_runs_are_found_by_it(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let tagged = |tag: &str| format!(r#"{{"options":{{"tags":["{tag}"]}}}}"#);
    let (one, other) = (api.trigger("hello", &tagged("a")).await, api.trigger("hello", &tagged("b")).await);
    let comma = json!({"action": "cancel", "filter": {"tag": "b,c"}}).to_string();
    api.post("/api/v1/bulk-actions", &comma).await.ok();
    reconcile::bulk::tick(&api.store).await.unwrap();
    assert_eq!(api.get(&format!("/api/v3/runs/{other}")).await.ok()["isCancelled"], json!(false), "that is one tag");
    let body = json!({"action": "cancel", "filter": {"tag": ["a"], "period": "1d"}, "name": "tidy"}).to_string();
    let made = api.post("/api/v1/bulk-actions", &body).await.ok();
    let path = format!("/api/v1/bulk-actions/{}", made["id"].as_str().unwrap());
    let pending = api.get(&path).await.ok();
    assert_eq!((&pending["status"], &pending["counts"]), (&json!("PENDING"), &json!({"total": 1, "success": 0, "failure": 0})));
    assert_eq!(pending.get("completedAt"), None);
    reconcile::bulk::tick(&api.store).await.unwrap();
    let done = api.get(&path).await.ok();
    assert_eq!((&done["status"], &done["type"], &done["name"]), (&json!("COMPLETED"), &json!("CANCEL"), &json!("tidy")));
    assert_eq!(done["counts"], json!({"total": 1, "success": 1, "failure": 0}));
    assert!(done["completedAt"].is_string());
    let found = api.get(&format!("/api/v1/runs?filter%5BbulkAction%5D={}", made["id"].as_str().unwrap())).await.ok();
    assert_eq!(ids(&found), [one.as_str()]);
    let replay = json!({"action": "replay", "runIds": [one, other]}).to_string();
    let replay = api.post("/api/v1/bulk-actions", &replay).await.ok();
    let listed = api.get("/api/v1/bulk-actions?page%5Bsize%5D=1").await.ok();
    assert_eq!((ids(&listed), &listed["pagination"]["next"]), (vec![replay["id"].as_str().unwrap()], &replay["id"]));
    assert_eq!(api.post(&format!("{path}/abort"), "").await.ok(), made);
    assert_eq!(api.stranger().await.get(&path).await.refusal(), (404, "Bulk action not found"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_wrong_with_an_action_is_said_field_by_field(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let run = crate::model::id::RunId::new();
    for (body, field) in [
        (json!({"filter": {"tag": "a"}}), "action"),
        (json!({"action": "delete", "filter": {"tag": "a"}}), "action"),
        (json!({"action": "cancel"}), ""),
        (json!({"action": "cancel", "runIds": [run], "filter": {"tag": "a"}}), ""),
        (json!({"action": "cancel", "runIds": []}), "runIds"),
        (json!({"action": "cancel", "runIds": ["nonsense"]}), "runIds"),
        (json!({"action": "cancel", "runIds": vec![run; 5001]}), "runIds"),
        (json!({"action": "cancel", "filter": {}}), "filter"),
        (json!({"action": "cancel", "filter": {"tag": ["", " "]}}), "filter"),
        (json!({"action": "cancel", "filter": {"status": ["", ""], "queue": [], "period": " "}}), "filter"),
        (json!({"action": "cancel", "filter": {"tag": "a"}, "name": "n".repeat(256)}), "name"),
        (json!({"action": "cancel", "filter": {"status": "NONSENSE"}}), "filter[status]"),
        (json!({"action": "cancel", "filter": {"batch": "nonsense"}}), "filter[batch]"),
        (json!({"action": "cancel", "filter": {"region": "eu"}}), "filter[region]"),
    ] {
        let refused = api.post("/api/v1/bulk-actions", &body.to_string()).await;
        assert_eq!((refused.status.as_u16(), refused.issue().0.as_str()), (400, field), "{body}: {}", refused.body);
    }
    assert_eq!(ids(&api.get("/api/v1/bulk-actions").await.ok()), Vec::<&str>::new());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_are_found_by_what_they_are(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let version = api.deploy(b"ok:hello", "").await.body["version"].as_str().unwrap().to_owned();
    let run = api.trigger("hello", r#"{"options":{"test":true,"machine":"large-1x","queue":{"name":"mine"}}}"#).await;
    let plain = api.trigger("hello", "{}").await;
    let claimed = api.claim().await;
    let items = r#"{"items":[{"task":"hello"}]}"#;
    let batch = api.post("/api/v2/tasks/batch", items).await.body["id"].as_str().unwrap().to_owned();
    let batched = api.get(&format!("/api/v2/batches/{batch}")).await.ok()["runs"][0].as_str().unwrap().to_owned();
    let find = async |query: String| {
        let list = api.get(&format!("/api/v1/runs?{query}")).await.ok();
        ids(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(find("filter%5BisTest%5D=true".into()).await, [run.as_str()]);
    assert_eq!(find("filter%5BisTest%5D=false".into()).await, [batched.as_str(), plain.as_str()]);
    assert_eq!(find("filter%5Bmachine%5D=large-1x,micro".into()).await, [run.as_str()]);
    assert_eq!(
        find("filter%5Bmachine%5D=small-1x".into()).await,
        [batched.as_str(), plain.as_str()],
        "the one that is meant unless said"
    );
    assert_eq!(find("filter%5Bqueue%5D=mine".into()).await, [run.as_str()]);
    assert_eq!(find("filter%5Bqueue%5D=mine,task/hello".into()).await, [batched.as_str(), plain.as_str(), run.as_str()]);
    assert_eq!(find(format!("filter%5Bbatch%5D={batch}")).await, [batched.as_str()]);
    assert_eq!(find(format!("filter%5Bversion%5D={version}")).await, [claimed.lease.run.to_string().as_str()]);
    assert_eq!(api.get("/api/v1/runs?filter%5Bmachine%5D=huge").await.status, 400);
    assert_eq!(api.get("/api/v1/runs?filter%5Bregion%5D=eu").await.status, 400);

    let of_project = api.get("/api/v1/projects/proj_test/runs?filter%5Benv%5D=dev,prod").await.ok();
    assert_eq!(ids(&of_project).len(), 3);
    assert_eq!(ids(&api.get("/api/v1/projects/proj_test/runs?filter%5Benv%5D=prod").await.ok()), Vec::<&str>::new());
    assert_eq!(api.get("/api/v1/projects/proj_test/runs?filter%5Benv%5D=nonsense").await.status, 400);
    assert_eq!(api.get("/api/v1/projects/proj_other/runs").await.refusal(), (404, "Project not found"));
}
