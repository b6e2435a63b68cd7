//! Payloads in the blob store.

use axum::http::StatusCode;
use chrono::Utc;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::{Answer, TestApi};
use crate::{
    auth,
    model::{
        attempt::Outcome,
        payload::{Packet, StoredPacket},
    },
};

const PATH: &str = "trigger%2Fpacket_1%2Fpayload.json";

impl TestApi {
    async fn upload_address(&self, path: &str) -> Value {
        self.with(self.key.expose_secret(), "PUT", &format!("/api/v2/packets/{path}"), "").await.ok()
    }

    /// A request to an address as it was told, without a key.
    async fn at(&self, method: &str, address: &Value, headers: &[(&str, &str)], body: impl Into<axum::body::Body>) -> Answer {
        let address = address.as_str().unwrap().strip_prefix("http://api.test").unwrap();
        self.raw(method, address, headers, body).await
    }

    async fn uploaded(&self, path: &str, content_type: &str, bytes: &'static str) -> String {
        let told = self.upload_address(path).await;
        let put = self.at("PUT", &told["presignedUrl"], &[("content-type", content_type)], bytes).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.body);
        told["storagePath"].as_str().unwrap().to_owned()
    }
}

fn stored(path: &str) -> String {
    json!({"payload": path, "options": {"payloadType": "application/store"}}).to_string()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_is_triggered_with_what_was_uploaded_and_names_it_itself(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    let path = api.uploaded(PATH, "application/super+json", r#"{"json":{"a":1}}"#).await;
    assert_eq!(path, "trigger/packet_1/payload.json");
    let run = api.trigger("hello", &stored(&path)).await;
    let shown = api.get(&format!("/api/v3/runs/{run}")).await.ok();
    assert_eq!(shown["payload"], Value::Null, "clients take it from the address");
    let got = api.at("GET", &shown["payloadPresignedUrl"], &[], "").await;
    assert_eq!(got.headers["content-type"], "application/super+json");
    assert_eq!(got.headers["x-content-type-options"], "nosniff");
    assert_eq!(got.ok(), json!({"json": {"a": 1}}));

    let again = api.post(&format!("/api/v1/runs/{run}/replay"), "").await.ok();
    let claimed = api.claim().await;
    let stored = StoredPacket::of(&claimed.payload).expect("a worker finds the blob's name");
    assert_eq!((stored.bytes, stored.content_type.as_str()), (16, "application/super+json"));
    assert_eq!(claimed.lease.run.to_string(), run);
    assert_eq!(StoredPacket::of(&api.claim().await.payload), Some(stored), "so does that of {again}");

    api.finish(&claimed, Outcome::Completed(Packet::json(&json!("out")))).await;
    for (field, expected) in [("payload", json!({"json": {"a": 1}})), ("output", json!("out"))] {
        let told = api.get(&format!("/api/v1/runs/{run}/packets/{field}")).await.ok();
        assert_eq!(api.at("GET", &told["presignedUrl"], &[], "").await.ok(), expected);
    }
    assert_eq!(api.get(&format!("/api/v1/runs/{run}/packets/nothing")).await.status, 400);
    let running = again["id"].as_str().unwrap();
    assert_eq!(api.get(&format!("/api/v1/runs/{running}/packets/output")).await.status, 404);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_has_more_than_512_kib_is_shown_at_an_address(pool: PgPool) {
    let api = TestApi::new(pool).await;
    api.deploy(b"ok:hello", "").await;
    // With the quotes that JSON takes: at the bound, and one byte above it.
    for (chars, is_at_an_address) in [((512 << 10) - 2, false), ((512 << 10) - 1, true)] {
        let text = json!("x".repeat(chars));
        let run = api.trigger("hello", &json!({"payload": text}).to_string()).await;
        let claimed = api.claim().await;
        api.finish(&claimed, Outcome::Completed(Packet::json(&text))).await;
        let shown = api.get(&format!("/api/v3/runs/{run}")).await.ok();
        for (field, address) in [("payload", "payloadPresignedUrl"), ("output", "outputPresignedUrl")] {
            assert_eq!(
                (shown[field].is_null(), shown[address].is_string()),
                (is_at_an_address, is_at_an_address),
                "{field} {chars}"
            );
            if is_at_an_address {
                let got = api.at("GET", &shown[address], &[], "").await;
                assert_eq!(got.headers["content-type"], "application/json");
                assert!(got.ok() == text);
            }
        }
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_path_that_nothing_was_put_at_is_refused_and_one_item_of_a_batch_by_itself(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let refused = api.post("/api/v1/tasks/hello/trigger", &stored("a/b")).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.refusal().1.contains("nothing was put at \"a/b\""), "{}", refused.body);
    let told = api.upload_address("a%2Fb").await;
    assert_eq!(api.post("/api/v1/tasks/hello/trigger", &stored("a/b")).await.status, 422, "an address is not a payload");
    assert_eq!(api.get("/api/v1/packets/a%2Fb").await.status, 404);
    api.at("PUT", &told["presignedUrl"], &[], "x").await;
    api.get("/api/v1/packets/a%2Fb").await.ok();
    // A digest of one's own making is a path like any other.
    let forged = StoredPacket { digest: "0".repeat(64), bytes: 1, content_type: "text/plain".into() }.to_packet();
    let forged = stored(std::str::from_utf8(&forged.data).unwrap());
    assert_eq!(api.post("/api/v1/tasks/hello/trigger", &forged).await.status, 422);
    assert_eq!(api.stranger().await.post("/api/v1/tasks/hello/trigger", &stored("a/b")).await.status, 422);

    let options = json!({"payloadType": "application/store"});
    let items = json!({"items": [
        {"task": "hello", "payload": "a/b", "options": options}, {"task": "hello", "payload": "c/d", "options": options}
    ]});
    let batch = api.post("/api/v2/tasks/batch", &items.to_string()).await;
    assert_eq!(batch.status, 202, "{}", batch.body);
    let batch = api.get(&format!("/api/v2/batches/{}", batch.body["id"].as_str().unwrap())).await.ok();
    assert_eq!(batch["processing"]["errors"][0]["index"], json!(1), "{batch}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_address_is_good_for_one_thing_and_a_path_holds_one_payload(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let told = api.upload_address(PATH).await["presignedUrl"].as_str().unwrap().to_owned();
    let with = |from: &str, to: &str| json!(told.replace(from, to));
    let expires = told.split("expires=").nth(1).unwrap().split('&').next().unwrap();
    for address in [
        with("packet_1", "packet_2"),
        with(expires, "9999999999"),
        with("signature=", "signature=00"),
        with(&api.environment.id.to_string(), "env_0"),
        json!(told.split("&signature").next().unwrap()),
    ] {
        assert_eq!(api.at("PUT", &address, &[], "x").await.status, 403, "{address}");
    }
    let address = format!("/storage/v1/{}/packets/{PATH}", api.environment.id);
    for (expires, status) in [(Utc::now().timestamp() - 1, 403), (Utc::now().timestamp() + 60, 200)] {
        let signature = auth::address_signature("PUT", &address, expires, &api.key);
        let address = json!(format!("http://api.test{address}?expires={expires}&signature={signature}"));
        assert_eq!(api.at("PUT", &address, &[("content-type", "text/plain")], "x").await.status, status, "{expires}");
    }
    assert_eq!(api.at("GET", &json!(told), &[], "").await.status, 403, "an address for an upload is none for a download");
    assert_eq!(api.at("PUT", &json!(told), &[("content-type", "text/plain")], "x").await.status, 200);
    assert_eq!(api.at("PUT", &json!(told), &[("content-type", "text/plain")], "x").await.status, 200, "sent again");
    assert_eq!(api.at("PUT", &json!(told), &[("content-type", "text/plain")], "y").await.status, 422);
    let large = vec![b'x'; 10 * 1024 * 1024 + 1];
    assert_eq!(api.at("PUT", &json!(told), &[("content-type", "text/plain")], large).await.status, 413);
    let type_of_ours = api.at("PUT", &json!(told), &[("content-type", "application/store")], "x").await;
    assert_eq!(type_of_ours.status, 400);
    assert_eq!(api.with(api.key.expose_secret(), "PUT", &format!("/api/v2/packets/{}", "p".repeat(513)), "").await.status, 400);
    for (scopes, status) in [(["trigger:tasks:hello"], 200), (["read:runs"], 403)] {
        let token = api.token(&scopes);
        assert_eq!(api.with(&token, "PUT", &format!("/api/v2/packets/{PATH}"), "").await.status, status);
        api.with(&token, "GET", &format!("/api/v1/packets/{PATH}"), "").await.ok();
    }
}
