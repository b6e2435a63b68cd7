//! Uploading bundles.

use axum::body::Body;
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::PgPool;

use super::support::TestApi;

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_bundle_becomes_a_version_that_is_current_and_listed(pool: PgPool) {
    let api = TestApi::new(pool).await;
    assert_eq!(api.get("/api/v1/deployments/current").await.refusal(), (404, "Deployment not found"));
    let first = api.deploy(b"ok:hello", "?externalId=abc").await;
    assert_eq!(first.status, 201);
    assert_eq!(first.body["status"], "DEPLOYED");
    assert_eq!(first.body["tasks"], json!([{"id": "hello", "description": "says hello"}]));
    assert_eq!(first.body["warnings"], json!(["a warning"]));
    let second = api.deploy(b"ok:other", "?promote=false").await;
    assert_eq!(second.body["isCurrent"], false);

    let current = api.get("/api/v1/deployments/current").await.ok();
    assert_eq!((&current["id"], &current["externalId"]), (&first.body["id"], &json!("abc")));
    assert_eq!((&current["runtime"], &current["runtimeVersion"]), (&json!("rust"), &json!("0.1.0")));
    let page = api.get("/api/v1/deployments?page%5Bsize%5D=1").await.ok();
    assert_eq!(page["data"][0]["id"], second.body["id"]);
    let next = page["pagination"]["next"].as_str().unwrap();
    let page = api.get(&format!("/api/v1/deployments?page%5Bsize%5D=1&page%5Bafter%5D={next}")).await.ok();
    assert_eq!(page["data"][0]["id"], first.body["id"]);
    assert!(page["pagination"].get("next").is_none(), "{page}");
    assert_eq!(api.get("/api/v1/deployments?status=FAILED").await.ok()["data"], json!([]));
    assert_eq!(api.get("/api/v1/whoami").await.ok()["currentVersion"], first.body["version"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn versions_are_promoted_and_rolled_back_and_listed_by_time(pool: PgPool) {
    let api = TestApi::new(pool).await;
    assert_eq!(api.post("/api/v1/deployments/rollback", "").await.refusal(), (404, "Deployment not found"));
    let first = api.deploy(b"ok:hello", "").await.body;
    let second = api.deploy(b"ok:other", "?promote=false").await.body;
    let promoted = api.post(&format!("/api/v1/deployments/{}/promote", second["version"].as_str().unwrap()), "").await.ok();
    assert_eq!((&promoted["id"], &promoted["isCurrent"]), (&second["id"], &json!(true)));
    assert_eq!(api.get("/api/v1/deployments/current").await.ok()["id"], second["id"]);
    let stale = api.post("/api/v1/deployments/rollback", &json!({ "from": first["version"] }).to_string()).await;
    assert_eq!(stale.status, 422);
    let rolled = api.post("/api/v1/deployments/rollback", &json!({ "from": second["version"] }).to_string()).await.ok();
    assert_eq!(rolled["id"], first["id"]);
    assert_eq!(api.post("/api/v1/deployments/rollback", "").await.status, 422);
    assert_eq!(api.post("/api/v1/deployments/20200101.1/promote", "").await.refusal(), (404, "Deployment not found"));
    assert_eq!(api.post("/api/v1/deployments/a%00b/promote", "").await.status, 404);

    let listed = async |query: &str| api.get(&format!("/api/v1/deployments?{query}")).await;
    assert_eq!(listed("period=1d").await.ok()["data"].as_array().unwrap().len(), 2);
    assert_eq!(listed("to=2020-01-01").await.ok()["data"], json!([]));
    assert_eq!(listed("from=1577836800000").await.ok()["data"].as_array().unwrap().len(), 2);
    assert_eq!(listed("period=soon").await.issue().0, "period");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_bundle_that_cannot_be_deployed_is_refused_with_every_reason(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let answer = api.deploy(b"nonsense", "").await;
    assert_eq!(answer.refusal(), (422, "The bundle cannot be deployed"));
    assert_eq!(
        answer.body["reasons"],
        json!([{"module": "m", "reason": "not a component"}, {"module": "m", "reason": "no tasks"}])
    );
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_upload_over_the_limit_or_of_another_type_is_refused(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let bearer = format!("Bearer {}", api.key.expose_secret());
    let wasm = [("authorization", bearer.as_str()), ("content-type", "application/wasm")];
    // Two hundred megabytes in chunks, whose length nobody announced.
    let chunk = bytes::Bytes::from(vec![0; 1 << 20]);
    let chunks = futures_util::stream::iter((0..200).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let answer = api.raw("POST", "/api/v1/deployments", &wasm, Body::from_stream(chunks)).await;
    assert_eq!(answer.refusal(), (413, "The bundle is larger than 1048576 bytes"));
    let announced = [wasm[0], wasm[1], ("content-length", "99999999999")];
    assert_eq!(api.raw("POST", "/api/v1/deployments", &announced, "").await.status, 413);

    let json = [wasm[0], ("content-type", "application/json")];
    assert_eq!(api.raw("POST", "/api/v1/deployments", &json, "ok:hello").await.status, 415);
    assert_eq!(api.deploy(b"ok:hello", "?promote=maybe").await.issue().0, "promote");
    let long = format!("?externalId={}", "x".repeat(129));
    assert_eq!(api.deploy(b"ok:hello", &long).await.issue(), ("externalId".into(), "at most 128 characters".into()));
}
