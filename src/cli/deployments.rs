//! `dormouse deployments …`: versions, and which of them new runs start on.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Client, segment},
    output::{self, BOLD, PLAIN},
};

/// Commands of `dormouse deployments`.
#[derive(Debug, Subcommand)]
pub(super) enum Deployments {
    /// Show the newest deployments
    List(List),
    /// Make a version the current one
    Promote(Promote),
    /// Go back to the version that was current before
    Rollback(Rollback),
}

/// Arguments of `deployments list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only deployments within this time, such as 7d
    #[arg(long, value_name = "DURATION")]
    period: Option<String>,
    /// Deployments at most, 1 to 100
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `deployments promote`.
#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The version, YYYYMMDD.N
    version: String,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `deployments rollback`.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    client: super::Client,
}

impl Deployments {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Deployments::List(list) => list.run().await,
            Deployments::Promote(promote) => promote.run().await,
            Deployments::Rollback(rollback) => rollback.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let mut query = vec![("page[size]", self.limit.to_string())];
        query.extend(self.period.map(|period| ("period", period)));
        let page: Value = client.get("/api/v1/deployments", &query).await?;
        if self.client.json {
            output::json(&page);
            return Ok(());
        }
        let mut table = output::table(&["VERSION", "", "EXTERNAL ID", "RUNTIME", "DEPLOYED"]);
        for deployment in page["data"].as_array().into_iter().flatten() {
            let text = |name: &str| deployment[name].as_str().unwrap_or_default().to_owned();
            let current = if deployment["isCurrent"] == json!(true) { "current" } else { "" };
            let runtime = format!("{} {}", text("runtime"), text("runtimeVersion"));
            let deployed = output::day_and_time(&text("deployedAt"));
            table.add_row([text("version"), current.to_owned(), text("externalId"), runtime, deployed]);
        }
        anstream::println!("{table}");
        Ok(())
    }
}

impl Promote {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let promoted: Value = client.post(&format!("/api/v1/deployments/{}/promote", segment(&self.version)), &json!({})).await?;
        show(&self.client, &promoted);
        Ok(())
    }
}

impl Rollback {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let current: Value = client.get("/api/v1/deployments/current", &[]).await?;
        let from = current["version"].as_str().context("the server does not say which version is current")?;
        let rolled: Value = client.post("/api/v1/deployments/rollback", &json!({ "from": from })).await?;
        show(&self.client, &rolled);
        Ok(())
    }
}

fn show(arguments: &super::Client, deployment: &Value) {
    if arguments.json {
        output::json(deployment);
    } else {
        anstream::println!("{BOLD}{}{PLAIN} is current", deployment["version"].as_str().unwrap_or_default());
    }
}
