//! `dormouse queues …`: how full queues are, and their limits.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Client, segment},
    output,
    pages::Page,
};

/// Commands of `dormouse queues`.
#[derive(Debug, Subcommand)]
pub(super) enum Queues {
    /// Show all queues
    List(Page),
    /// Show one queue
    Get(One),
    /// Take no more runs from a queue; those that execute go on
    Pause(One),
    /// Take runs from a queue again
    Resume(One),
    /// Set by hand how many runs of a queue may execute at a time; it stays over deployments
    Limit(Limit),
    /// Go back to the limit that the deployment declares
    Reset(One),
}

/// Arguments of commands about one queue.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The queue's name; of a task's own queue task/ID
    queue: String,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `queues limit`.
#[derive(Debug, Args)]
pub(super) struct Limit {
    #[command(flatten)]
    one: One,
    /// 0 to 100000
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000))]
    limit: u32,
}

impl Queues {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Queues::List(page) => page.print("/api/v1/queues", show).await,
            Queues::Get(one) => one.get().await,
            Queues::Pause(one) => one.change("pause", json!({ "action": "pause" })).await,
            Queues::Resume(one) => one.change("pause", json!({ "action": "resume" })).await,
            Queues::Limit(Limit { one, limit }) => one.change("concurrency/override", json!({ "concurrencyLimit": limit })).await,
            Queues::Reset(one) => one.change("concurrency/reset", json!({})).await,
        }
    }
}

impl One {
    async fn get(&self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let queue: Value = client.get(&self.path(), &[("type", "custom".to_owned())]).await?;
        self.print(&queue);
        Ok(())
    }

    async fn change(&self, what: &str, mut body: Value) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        // Any name, a task's own with its prefix included.
        body["type"] = json!("custom");
        let queue: Value = client.post(&format!("{}/{what}", self.path()), &body).await?;
        self.print(&queue);
        Ok(())
    }

    fn path(&self) -> String {
        format!("/api/v1/queues/{}", segment(&self.queue))
    }

    fn print(&self, queue: &Value) {
        if self.client.json {
            output::json(queue);
        } else {
            show(std::slice::from_ref(queue));
        }
    }
}

fn show(queues: &[Value]) {
    let mut table = output::table(&["QUEUE", "RUNNING", "QUEUED", "LIMIT", "DECLARED", ""]);
    for queue in queues {
        let name = queue["name"].as_str().unwrap_or_default();
        let name = if queue["type"] == "task" { format!("task/{name}") } else { name.to_owned() };
        let number = |value: &Value| value.as_u64().map_or_else(|| "none".to_owned(), |number| number.to_string());
        let paused = if queue["paused"] == json!(true) { "paused" } else { "" };
        table.add_row([
            name,
            number(&queue["running"]),
            number(&queue["queued"]),
            number(&queue["concurrencyLimit"]),
            number(&queue["concurrency"]["base"]),
            paused.to_owned(),
        ]);
    }
    anstream::println!("{table}");
}
