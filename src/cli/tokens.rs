//! `dormouse tokens …`: what runs wait for until somebody says so.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    client::{Client, segment},
    output::{self, DIM, PLAIN},
    trigger::read_json,
};

/// Commands of `dormouse tokens`.
#[derive(Debug, Subcommand)]
pub(super) enum Tokens {
    /// Make a token
    Create(Create),
    /// Complete a token: the runs that wait for it go on
    Complete(Complete),
}

/// Arguments of `tokens create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// When it times out: 10m, 1d, or a time; never if left out
    #[arg(long, value_name = "DURATION|TIME")]
    timeout: Option<String>,
    /// A tag; up to ten of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The same key gets the same token
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `tokens complete`.
#[derive(Debug, Args)]
pub(super) struct Complete {
    /// The token, waitpoint_…
    token: String,
    /// What the waiting runs get: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE")]
    data: Option<String>,
    #[command(flatten)]
    client: super::Client,
}

impl Tokens {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Tokens::Create(create) => create.run().await,
            Tokens::Complete(complete) => complete.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let mut body = Map::new();
        body.extend(self.timeout.map(|timeout| ("timeout".to_owned(), json!(timeout))));
        body.extend(self.idempotency_key.map(|key| ("idempotencyKey".to_owned(), json!(key))));
        if !self.tags.is_empty() {
            body.insert("tags".into(), json!(self.tags));
        }
        let token: Value = client.post("/api/v1/waitpoints/tokens", &body).await?;
        if self.client.json {
            output::json(&token);
        } else {
            anstream::println!("{}", token["id"].as_str().unwrap_or_default());
            anstream::println!(
                "{DIM}a POST to this address completes it too:{PLAIN} {}",
                token["url"].as_str().unwrap_or_default()
            );
        }
        Ok(())
    }
}

impl Complete {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let mut body = Map::new();
        if let Some(data) = &self.data {
            body.insert("data".into(), read_json("data", data)?);
        }
        let answer: Value = client.post(&format!("/api/v1/waitpoints/tokens/{}/complete", segment(&self.token)), &body).await?;
        if self.client.json {
            output::json(&answer);
        } else {
            anstream::println!("completed");
        }
        Ok(())
    }
}
