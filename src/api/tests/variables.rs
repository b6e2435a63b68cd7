//! Environment variables by HTTP.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::support::TestApi;
use crate::model::environment::EnvironmentKind;

const PATH: &str = "/api/v1/projects/proj_test/envvars/dev";

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_variable_is_set_shown_changed_and_deleted(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let send = async |method: &str, path: &str, body: Value| {
        api.with(api.key.expose_secret(), method, &format!("{PATH}{path}"), &body.to_string()).await
    };
    let done = json!({"success": true});
    assert_eq!(send("POST", "", json!({"name": "A", "value": "1"})).await.ok(), done);
    assert_eq!(send("POST", "", json!({"name": "S", "value": "shh", "isSecret": true})).await.ok(), done);
    let plain = json!({"name": "A", "value": "1", "isSecret": false});
    let secret = json!({"name": "S", "value": "<redacted>", "isSecret": true});
    assert_eq!(api.get(PATH).await.ok(), json!([plain, secret]));
    assert_eq!(api.get(&format!("{PATH}/A")).await.ok(), plain);
    assert_eq!(api.get(&format!("{PATH}/S")).await.ok(), secret);

    assert_eq!(send("PUT", "/S", json!({"value": "other"})).await.ok(), done);
    assert_eq!(send("POST", "", json!({"name": "S", "value": "third"})).await.ok(), done);
    assert_eq!(api.get(&format!("{PATH}/S")).await.ok(), secret, "a secret stays one");
    api.deploy(b"ok:hello", "").await;
    api.trigger("hello", "{}").await;
    let seen = api.claim().await.variables;
    assert_eq!(seen, [("A".to_owned(), "1".to_owned()), ("S".to_owned(), "third".to_owned())]);

    assert_eq!(send("DELETE", "/S", json!({})).await.ok(), done);
    for (method, path) in [("GET", "/S"), ("PUT", "/S"), ("DELETE", "/S"), ("GET", "/a%00b"), ("DELETE", "/a%00b")] {
        let answer = send(method, path, json!({"value": "x"})).await;
        assert_eq!(answer.refusal(), (404, "Environment variable not found"), "{method} {path}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_import_sets_everything_or_says_what_stands_in_its_way(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let import = async |body: Value| api.post(&format!("{PATH}/import"), &body.to_string()).await;
    import(json!({"variables": {"A": "1", "B": "2"}, "isSecret": false, "source": {"type": "user"}})).await.ok();
    let taken = import(json!({"variables": {"B": "3", "A": "3", "C": "3"}})).await;
    assert_eq!(taken.status, 400);
    let errors = json!([{"key": "A", "error": "is set already"}, {"key": "B", "error": "is set already"}]);
    assert_eq!(taken.body["variableErrors"], errors);
    assert_eq!(api.get(PATH).await.ok().as_array().unwrap().len(), 2, "nothing was set");
    import(json!({"variables": {"B": "3", "C": "3"}, "override": true, "secrets": {"C": true}})).await.ok();
    let all = api.get(PATH).await.ok();
    let values: Vec<&str> = all.as_array().unwrap().iter().map(|variable| variable["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["1", "3", "<redacted>"]);

    assert_eq!(import(json!({"variables": {}})).await.issue().0, "variables");
    assert_eq!(import(json!({"variables": {"A": 5}})).await.issue().0, "variables.A");
    assert_eq!(import(json!({})).await.status, 400);
    let many: serde_json::Map<String, Value> = (0..1001).map(|n| (format!("V{n}"), json!(""))).collect();
    assert_eq!(import(json!({"variables": many})).await.issue().0, "variables");
    let refused = import(json!({"variables": {"A-B": "1"}})).await;
    assert_eq!((refused.refusal().0, refused.issue().0.as_str()), (400, "name"));
    assert!(refused.issue().1.contains("A-B"), "{}", refused.body);
    let bearer = format!("Bearer {}", api.key.expose_secret());
    let headers = [("authorization", bearer.as_str()), ("content-type", "multipart/form-data; boundary=x")];
    assert_eq!(api.raw("POST", &format!("{PATH}/import"), &headers, "--x").await.status, 415);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_key_reaches_the_variables_of_its_own_environment_only(pool: PgPool) {
    let api = TestApi::new(pool).await;
    let body = r#"{"name":"A","value":"1"}"#;
    let staging = api.of_environment(EnvironmentKind::Staging).await;
    for slug in ["stg", "staging"] {
        staging.post(&format!("/api/v1/projects/proj_test/envvars/{slug}"), body).await.ok();
    }
    assert_eq!(api.get(PATH).await.ok(), json!([]));
    for slug in ["prod", "stg", "x"] {
        let refused = api.post(&format!("/api/v1/projects/proj_test/envvars/{slug}"), body).await;
        assert_eq!((refused.refusal(), refused.issue().0.as_str()), ((400, "Params Error"), "slug"));
    }
    let stranger = api.stranger().await;
    assert_eq!(stranger.get(PATH).await.refusal(), (404, "Project not found"));
    let token = api.token(&["admin"]);
    assert_eq!(api.with(&token, "GET", PATH, "").await.status, 401, "tokens of browsers read no variables");
    let long = json!({"name": "A", "value": "x".repeat(65537)}).to_string();
    assert_eq!(api.post(PATH, &long).await.refusal(), (413, "value is larger than 65536 bytes"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_branch_has_variables_deployments_and_runs_of_its_own(pool: PgPool) {
    let development = TestApi::new(pool).await;
    let api = development.of_environment(EnvironmentKind::Preview).await;
    let path = "/api/v1/projects/proj_test/envvars/preview";
    let unknown = api.of_branch("fix/a", "GET", path, "").await;
    assert_eq!(unknown.refusal(), (404, "There is no branch fix/a; deploy to it first"));
    api.post(path, r#"{"name":"BOTH","value":"parent"}"#).await.ok();
    let import = json!({"variables": {"BOTH": "branch", "OWN": "1"}, "parentVariables": {"PARENT": "1"}}).to_string();
    api.of_branch("refs/heads/fix/a", "POST", &format!("{path}/import"), &import).await.ok();
    let names = |list: Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(|each| (text(&each["name"]), text(&each["value"]))).collect()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let seen = names(api.of_branch("fix/a", "GET", path, "").await.ok());
    assert_eq!(seen, [pair("BOTH", "branch"), pair("OWN", "1"), pair("PARENT", "1")]);
    assert_eq!(names(api.get(path).await.ok()), [pair("BOTH", "parent"), pair("PARENT", "1")]);

    let whoami = api.of_branch("fix/a", "GET", "/api/v1/whoami", "").await.ok();
    assert_eq!((&whoami["environment"]["slug"], &whoami["environment"]["branch"]), (&json!("preview"), &json!("fix/a")));
    let run = api.of_branch("fix/a", "POST", "/api/v1/tasks/hello/trigger", "{}").await;
    let token = run.headers["x-trigger-jwt"].to_str().unwrap().to_owned();
    let run = format!("/api/v3/runs/{}", run.ok()["id"].as_str().unwrap());
    assert_eq!(api.get(&run).await.status, 404, "its runs are not those of its parent");
    api.of_branch("fix/a", "GET", &run, "").await.ok();
    api.with(&token, "GET", &run, "").await.ok();
    let claims = api.of_branch("fix/a", "POST", "/api/v1/auth/jwt/claims", "").await.ok();
    assert_eq!(claims["sub"], whoami["environment"]["id"]);

    for wrong in ["a b", "..", "a:b"] {
        let refused = api.of_branch(wrong, "GET", path, "").await;
        assert_eq!((refused.refusal(), refused.issue().0.as_str()), ((400, "Headers Error"), "x-trigger-branch"), "{wrong}");
    }
    // Clients send it with every key, as a build service tells them to.
    let other = development.of_branch("fix/a", "GET", "/api/v1/whoami", "").await.ok();
    assert_eq!(other["environment"], json!({"id": development.environment.id, "slug": "dev"}));
    development.of_branch("a b", "GET", "/api/v1/whoami", "").await.ok();
}
