//! The HTTP client of the commands.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::ExposeSecret;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::access::{Access, Server};

/// Talks to one server with one key.
pub(super) struct Client {
    http: reqwest::Client,
    server: Server,
}

/// What a server that refuses answered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) message: String,
    pub(super) body: Value,
}

impl Client {
    /// A client of the server that flags, variables or `dev.json` name.
    pub(super) fn of(access: &Access) -> anyhow::Result<Client> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("dormouse/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("could not set up HTTP")?;
        Ok(Client { http, server: access.find()? })
    }

    /// The server it talks to.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// GET.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        self.send(self.request(Method::GET, path).query(query).timeout(Duration::from_secs(30))).await
    }

    /// What `whoami` answers, whatever branch is meant: that may be yet to be made.
    pub(super) async fn whoami_of_key<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        self.send(self.request_of_key(Method::GET, "/api/v1/whoami").timeout(Duration::from_secs(30))).await
    }

    /// POST of a JSON body.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.send(self.request(Method::POST, path).json(body).timeout(Duration::from_secs(30))).await
    }

    /// PUT of a JSON body.
    pub(super) async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.send(self.request(Method::PUT, path).json(body).timeout(Duration::from_secs(30))).await
    }

    /// DELETE.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.send(self.request(Method::DELETE, path).timeout(Duration::from_secs(30))).await
    }

    /// POST of a bundle. Compiling it takes the server a while, so this waits long.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        body: reqwest::Body,
        length: u64,
    ) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path).query(query).header("content-type", "application/wasm");
        self.send(request.header("content-length", length).body(body).timeout(Duration::from_secs(900))).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.request_of_key(method, path);
        match &self.server.branch {
            Some(branch) => request.header("x-trigger-branch", branch),
            None => request,
        }
    }

    fn request_of_key(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.server.url);
        // The current version of the API; older clients get older names of some statuses.
        let request = self.http.request(method, url).header("x-trigger-api-version", "2025-07-16");
        request.bearer_auth(self.server.key.expose_secret())
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let url = &self.server.url;
        let response = request.send().await.map_err(|error| {
            let hint = if error.is_connect() { " (is it running? `dormouse dev` starts one)" } else { "" };
            anyhow::Error::new(error.without_url()).context(format!("the server at {url} does not answer{hint}"))
        })?;
        let status = response.status();
        let bytes = response.bytes().await.with_context(|| format!("the server at {url} broke off its answer"))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).with_context(|| format!("the server at {url} answered something unknown"));
        }
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Err(Refused { status, message: message(status, &body), body }.into())
    }
}

fn message(status: StatusCode, body: &Value) -> String {
    let error = &body["error"];
    let text = error.as_str().or_else(|| error["message"].as_str()).unwrap_or_else(|| status.canonical_reason().unwrap_or("?"));
    let mut message = format!("{text} ({})", status.as_u16());
    for detail in body["details"].as_array().into_iter().flatten() {
        let path: Vec<&str> = detail["path"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        message.push_str(&format!("\n  {}: {}", path.join("."), detail["message"].as_str().unwrap_or_default()));
    }
    if status == StatusCode::UNAUTHORIZED {
        message.push_str("; `dormouse whoami` shows which server and key are used");
    }
    message
}

/// Percent-encodes one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_is_one_segment_whatever_is_in_it() {
        assert_eq!(segment("send-email"), "send-email");
        assert_eq!(segment("mail/send é"), "mail%2Fsend%20%C3%A9");
    }

    #[test]
    fn every_reason_of_a_refusal_is_shown() {
        let body = serde_json::json!({
            "error": "Invalid request body",
            "details": [{"path": ["options", "tags"], "message": "at most 10"}, {"path": ["payload"], "message": "too long"}]
        });
        assert_eq!(
            message(StatusCode::BAD_REQUEST, &body),
            "Invalid request body (400)\n  options.tags: at most 10\n  payload: too long"
        );
        assert_eq!(message(StatusCode::BAD_GATEWAY, &Value::Null), "Bad Gateway (502)");
    }
}
