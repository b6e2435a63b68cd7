//! The API as a client has it: an address, a key, and HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::eventually;

/// Speaks to one server.
#[derive(Clone, Default)]
pub struct Client {
    /// Where the API is.
    pub url: String,
    /// The secret key of an environment.
    pub key: String,
    http: reqwest::Client,
}

impl Client {
    /// Whether the server answers and finds itself well.
    pub async fn is_healthy(&self) -> bool {
        let answer = self.http.get(format!("{}/healthcheck", self.url)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// A request with the secret key.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    /// GET, as JSON; panics unless it succeeds.
    pub async fn get(&self, path: &str) -> Value {
        read(self.request(reqwest::Method::GET, path)).await
    }

    /// POST of a JSON body, as JSON; panics unless it succeeds.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        read(self.request(reqwest::Method::POST, path).json(body)).await
    }

    /// Uploads a component; panics unless it is accepted.
    pub async fn deploy(&self, component: Vec<u8>) -> Value {
        let request = self.request(reqwest::Method::POST, "/api/v1/deployments");
        read(request.header("content-type", "application/wasm").body(component)).await
    }

    /// Triggers a task and returns the run's id.
    pub async fn trigger(&self, task: &str, payload: Value) -> String {
        self.trigger_with(task, payload, json!({})).await
    }

    /// Triggers a task with options and returns the run's id.
    pub async fn trigger_with(&self, task: &str, payload: Value, options: Value) -> String {
        let answer = self.post(&format!("/api/v1/tasks/{task}/trigger"), &json!({"payload": payload, "options": options})).await;
        answer["id"].as_str().unwrap().to_owned()
    }

    /// The run as the API shows it.
    pub async fn run(&self, id: &str) -> Value {
        self.get(&format!("/api/v3/runs/{id}")).await
    }

    /// The run once it has this status.
    pub async fn run_with_status(&self, id: &str, status: &str, within: Duration) -> Value {
        eventually(&format!("{id} is {status}"), within, async || {
            let run = self.run(id).await;
            let now = run["status"].as_str().unwrap();
            assert!(now == status || run["isCompleted"] != json!(true), "{id} ended as {now} instead of {status}: {run:#}");
            (now == status).then_some(run)
        })
        .await
    }

    /// The run once it is final.
    pub async fn finished(&self, id: &str, within: Duration) -> Value {
        eventually(&format!("{id} ends"), within, async || {
            let run = self.run(id).await;
            (run["isCompleted"] == json!(true)).then_some(run)
        })
        .await
    }

    /// All log lines of a run, as `(source, message)`.
    pub async fn logs(&self, id: &str) -> Vec<(String, String)> {
        let (mut lines, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/api/v1/runs/{id}/logs?page%5Bsize%5D=100{after}")).await;
            for line in page["data"].as_array().unwrap() {
                lines.push((line["source"].as_str().unwrap().to_owned(), line["message"].as_str().unwrap().to_owned()));
            }
            match page["pagination"]["next"].as_str() {
                Some(next) => after = format!("&page%5Bafter%5D={next}"),
                None => return lines,
            }
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (status, url) = (answer.status(), answer.url().clone());
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
}
