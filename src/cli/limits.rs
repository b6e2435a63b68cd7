//! `dormouse limits …`: concurrency limits, and the environment's own.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Client, segment},
    output,
    pages::Page,
};

/// Commands of `dormouse limits`.
#[derive(Debug, Subcommand)]
pub(super) enum Limits {
    /// Show all limits
    List(Page),
    /// Show one limit
    Get(One),
    /// Let no more runs through a limit; those that execute go on
    Pause(One),
    /// Let runs through a limit again
    Resume(One),
    /// Set a limit's bounds by hand; they stay over deployments
    Set(Set),
    /// Go back to the bounds that the deployment declares
    Reset(One),
    /// Show the environment, pause it, or set how many of all its runs may execute at a time
    Environment(Environment),
}

/// Arguments of commands about one limit.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The limit's name; a task's own is task/ID
    name: String,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `limits set`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("bounds").required(true).multiple(true))]
pub(super) struct Set {
    #[command(flatten)]
    one: One,
    /// Runs at a time, of all, 0 to 100000
    #[arg(long, group = "bounds", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    total: Option<u32>,
    /// Runs at a time with one concurrency key, 0 to 100000
    #[arg(long, group = "bounds", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    per_key: Option<u32>,
}

/// Arguments of `limits environment`.
#[derive(Debug, Args)]
pub(super) struct Environment {
    /// Runs at a time, of all, 0 to 100000
    #[arg(long, conflicts_with = "no_limit", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    limit: Option<u32>,
    /// Any number of runs at a time
    #[arg(long)]
    no_limit: bool,
    /// Nothing begins any more; what executes goes on
    #[arg(long, conflicts_with = "resume")]
    pause: bool,
    /// Runs begin again
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    client: super::Client,
}

impl Limits {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Limits::List(page) => page.print("/api/v1/concurrency-limits", show).await,
            Limits::Get(one) => one.get().await,
            Limits::Pause(one) => one.change("pause", json!({ "action": "pause" })).await,
            Limits::Resume(one) => one.change("pause", json!({ "action": "resume" })).await,
            Limits::Set(Set { one, total, per_key }) => {
                let mut body = json!({});
                for (name, bound) in [("total", total), ("perKey", per_key)] {
                    if let Some(bound) = bound {
                        body[name] = json!(bound);
                    }
                }
                one.change("override", body).await
            }
            Limits::Reset(one) => one.change("reset", json!({})).await,
            Limits::Environment(environment) => environment.run().await,
        }
    }
}

impl One {
    async fn get(&self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let limit: Value = client.get(&self.path(), &[]).await?;
        self.print(&limit);
        Ok(())
    }

    async fn change(&self, what: &str, body: Value) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let limit: Value = client.post(&format!("{}/{what}", self.path()), &body).await?;
        self.print(&limit);
        Ok(())
    }

    fn path(&self) -> String {
        format!("/api/v1/concurrency-limits/{}", segment(&self.name))
    }

    fn print(&self, limit: &Value) {
        if self.client.json {
            output::json(limit);
        } else {
            show(std::slice::from_ref(limit));
        }
    }
}

impl Environment {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let mut changes = json!({});
        if self.no_limit || self.limit.is_some() {
            changes["concurrencyLimit"] = json!(self.limit);
        }
        if self.pause || self.resume {
            changes["paused"] = json!(self.pause);
        }
        let environment: Value = match changes.as_object().is_some_and(|changes| changes.is_empty()) {
            true => client.get("/api/v1/environment", &[]).await?,
            false => client.put("/api/v1/environment", &changes).await?,
        };
        if self.client.json {
            output::json(&environment);
            return Ok(());
        }
        let mut table = output::table(&["ENVIRONMENT", "RUNNING", "QUEUED", "LIMIT", ""]);
        table.add_row([
            environment["id"].as_str().unwrap_or_default().to_owned(),
            number(&environment["running"]),
            number(&environment["queued"]),
            number(&environment["concurrencyLimit"]),
            paused(&environment),
        ]);
        anstream::println!("{table}");
        Ok(())
    }
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "none".to_owned(), |number| number.to_string())
}

fn paused(value: &Value) -> String {
    if value["paused"] == json!(true) { "paused".to_owned() } else { String::new() }
}

fn show(limits: &[Value]) {
    let mut table = output::table(&["LIMIT", "RUNNING", "QUEUED", "TOTAL", "PER KEY", "DECLARED", ""]);
    for limit in limits {
        table.add_row([
            limit["name"].as_str().unwrap_or_default().to_owned(),
            number(&limit["running"]),
            number(&limit["queued"]),
            number(&limit["total"]["current"]),
            number(&limit["perKey"]["current"]),
            format!("{} / {}", number(&limit["total"]["base"]), number(&limit["perKey"]["base"])),
            paused(limit),
        ]);
    }
    anstream::println!("{table}");
}
