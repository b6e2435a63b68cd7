//! `dormouse schedules …`: tasks that are started by the clock.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    client::{Client, segment},
    output::{self, BOLD, DIM, PLAIN},
    pages::Page,
};

/// Commands of `dormouse schedules`.
#[derive(Debug, Subcommand)]
pub(super) enum Schedules {
    /// Show the newest schedules
    List(Page),
    /// Show one schedule
    Get(One),
    /// Make a schedule, or change the one with this key
    Create(Create),
    /// Change a schedule; what is left out stays as it is
    Update(Update),
    /// Delete a schedule; its runs stay
    Delete(One),
    /// Let a schedule fire again, from now on
    Activate(One),
    /// Keep a schedule from firing
    Deactivate(One),
}

/// Arguments of commands about one schedule.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The schedule, sched_…
    schedule: String,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `schedules create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// A scheduled task of the current deployment
    task: String,
    /// Minute, hour, day of month, month and day of week, in quotes: '0 9 * * 1-5'
    cron: String,
    /// The same key gets the same schedule
    #[arg(long, value_name = "KEY")]
    key: String,
    #[command(flatten)]
    more: More,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `schedules update`.
#[derive(Debug, Args)]
pub(super) struct Update {
    /// The schedule, sched_…
    schedule: String,
    /// Another scheduled task
    #[arg(long)]
    task: Option<String>,
    /// Other times
    #[arg(long)]
    cron: Option<String>,
    #[command(flatten)]
    more: More,
    #[command(flatten)]
    client: super::Client,
}

/// What may be left out of a schedule.
#[derive(Debug, Args)]
struct More {
    /// On whose clocks, such as Europe/Berlin; UTC unless said otherwise
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Your own name for what it is about; runs are told
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// Spread it over 30m, 2h, or 50% of the time to the next
    #[arg(long, value_name = "WINDOW")]
    window: Option<String>,
}

impl Schedules {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Schedules::List(page) => page.print("/api/v1/schedules", show_all).await,
            Schedules::Get(one) => one.get().await,
            Schedules::Create(create) => create.run().await,
            Schedules::Update(update) => update.run().await,
            Schedules::Delete(one) => one.delete().await,
            Schedules::Activate(one) => one.set("activate").await,
            Schedules::Deactivate(one) => one.set("deactivate").await,
        }
    }
}

impl One {
    async fn get(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        show(&client.get(&path(&self.schedule), &[]).await?, self.client.json);
        Ok(())
    }

    async fn delete(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let answer: Value = client.delete(&path(&self.schedule)).await?;
        if self.client.json {
            output::json(&answer);
        } else {
            anstream::println!("deleted");
        }
        Ok(())
    }

    async fn set(self, verb: &str) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        show(&client.post(&format!("{}/{verb}", path(&self.schedule)), &json!({})).await?, self.client.json);
        Ok(())
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let mut body = Map::new();
        for (name, text) in [("task", self.task), ("cron", self.cron), ("deduplicationKey", self.key)] {
            body.insert(name.into(), json!(text));
        }
        self.more.put_into(&mut body);
        show(&client.post("/api/v1/schedules", &body).await?, self.client.json);
        Ok(())
    }
}

impl Update {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let before: Value = client.get(&path(&self.schedule), &[]).await?;
        // The server replaces everything, so what stays is sent again.
        let mut body = Map::new();
        for name in ["task", "timezone", "externalId", "window"] {
            body.extend(before.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        body.insert("cron".into(), before["generator"]["expression"].clone());
        for (name, text) in [("task", self.task), ("cron", self.cron)] {
            body.extend(text.map(|text| (name.to_owned(), json!(text))));
        }
        self.more.put_into(&mut body);
        show(&client.put(&path(&self.schedule), &body).await?, self.client.json);
        Ok(())
    }
}

impl More {
    fn put_into(self, body: &mut Map<String, Value>) {
        for (name, text) in [("timezone", self.timezone), ("externalId", self.external_id), ("window", self.window)] {
            body.extend(text.map(|text| (name.to_owned(), json!(text))));
        }
    }
}

fn path(schedule: &str) -> String {
    format!("/api/v1/schedules/{}", segment(schedule))
}

fn show(schedule: &Value, as_json: bool) {
    if as_json {
        output::json(schedule);
        return;
    }
    let text = |name: &str| schedule[name].as_str().unwrap_or_default().to_owned();
    anstream::println!("{BOLD}{}{PLAIN}", text("id"));
    let generator = &schedule["generator"];
    let words = |name: &str| generator[name].as_str().unwrap_or_default();
    let cron = format!("{} ({})", words("expression"), words("description"));
    let declared = if schedule["type"] == "DECLARATIVE" { "by the task" } else { "" };
    for (label, text) in [
        ("task", text("task")),
        ("cron", cron),
        ("zone", text("timezone")),
        ("window", text("window")),
        ("next run", next_run(schedule)),
        ("key", text("deduplicationKey")),
        ("external id", text("externalId")),
        ("declared", declared.to_owned()),
    ] {
        if !text.is_empty() {
            anstream::println!("  {DIM}{label:<11}{PLAIN} {text}");
        }
    }
}

fn show_all(schedules: &[Value]) {
    let mut table = output::table(&["SCHEDULE", "TASK", "CRON", "ZONE", "NEXT RUN", "KEY"]);
    for schedule in schedules {
        let text = |name: &str| schedule[name].as_str().unwrap_or_default().to_owned();
        let cron = schedule["generator"]["expression"].as_str().unwrap_or_default().to_owned();
        let key = schedule["deduplicationKey"].as_str().unwrap_or("(declared)").to_owned();
        table.add_row([text("id"), text("task"), cron, text("timezone"), next_run(schedule), key]);
    }
    anstream::println!("{table}");
}

/// When it really fires next, in the user's zone.
fn next_run(schedule: &Value) -> String {
    match schedule["nextRunEffectiveAt"].as_str() {
        Some(time) => output::day_and_time(time),
        None if schedule["active"] == true => "never".into(),
        None => "not active".into(),
    }
}
