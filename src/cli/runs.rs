//! `dormouse runs …`: look at runs.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Client, segment},
    output::{self, BOLD, DIM, PLAIN, RED},
    trigger::read_json,
};

/// Between two looks at a run that is followed; doubles while nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Commands of `dormouse runs`.
#[derive(Debug, Subcommand)]
pub(super) enum Runs {
    /// Show the newest runs
    List(List),
    /// Show one run
    Get(One),
    /// End a run
    Cancel(One),
    /// Start a run again, with the same payload, on the current version
    Replay(Replay),
    /// Let a delayed run start at another time
    Reschedule(Reschedule),
    /// Show what a run logs
    Logs(Logs),
    /// Show what a run did, and how long each part of it took
    Trace(One),
}

/// Arguments of `runs list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only these statuses, such as EXECUTING,WAITING
    #[arg(long, value_name = "STATUS,…")]
    status: Option<String>,
    /// Only runs of these tasks
    #[arg(long, value_name = "TASK,…")]
    task: Option<String>,
    /// Only runs with one of these tags
    #[arg(long, value_name = "TAG,…")]
    tag: Option<String>,
    /// Only runs created within this time, such as 1d
    #[arg(long, value_name = "DURATION")]
    period: Option<String>,
    /// Runs at most, 1 to 100
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of commands about one run.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The run, run_…
    run: String,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `runs replay`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Another payload: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE")]
    payload: Option<String>,
    /// Watch the new run to its end. Fails if the run does
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    one: One,
}

/// Arguments of `runs reschedule`.
#[derive(Debug, Args)]
pub(super) struct Reschedule {
    #[command(flatten)]
    one: One,
    /// When: 90s, 1h30m, or a time such as 2026-01-01T09:00:00Z
    #[arg(value_name = "DURATION|TIME")]
    delay: String,
}

/// Arguments of `runs logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Go on until the run has ended
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    one: One,
}

impl Runs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Runs::List(list) => list.run().await?,
            Runs::Get(one) => one.get().await?,
            Runs::Cancel(one) => one.cancel().await?,
            Runs::Replay(replay) => return replay.run().await,
            Runs::Reschedule(reschedule) => reschedule.run().await?,
            Runs::Logs(logs) => logs.run().await?,
            Runs::Trace(one) => super::traces::show(&one.client, &one.run).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Replay {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = Client::of(&self.one.client.access)?;
        let mut body = json!({});
        if let Some(payload) = &self.payload {
            body["payload"] = read_json("payload", payload)?;
        }
        let replayed: Value = client.post(&format!("/api/v1/runs/{}/replay", segment(&self.one.run)), &body).await?;
        let run = replayed["id"].as_str().context("the server did not say which run it is")?;
        if self.follow {
            return follow(&client, run, self.one.client.json).await;
        }
        if self.one.client.json {
            output::json(&replayed);
        } else {
            anstream::println!("{run}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Reschedule {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.one.client.access)?;
        let path = format!("/api/v1/runs/{}/reschedule", segment(&self.one.run));
        let run: Value = client.post(&path, &json!({ "delay": self.delay })).await?;
        if self.one.client.json {
            output::json(&run);
        } else {
            let until = output::day_and_time(run["delayedUntil"].as_str().unwrap_or_default());
            anstream::println!("delayed until {until}");
        }
        Ok(())
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let mut query = vec![("page[size]", self.limit.to_string())];
        query.extend(self.status.map(|status| ("filter[status]", status.to_uppercase())));
        query.extend(self.task.map(|task| ("filter[taskIdentifier]", task)));
        query.extend(self.tag.map(|tag| ("filter[tag]", tag)));
        query.extend(self.period.map(|period| ("filter[createdAt][period]", period)));
        let page: Value = client.get("/api/v1/runs", &query).await?;
        if self.client.json {
            output::json(&page);
            return Ok(());
        }
        let mut table = output::table(&["RUN", "STATUS", "TASK", "VERSION", "CREATED", "TOOK"]);
        for run in page["data"].as_array().into_iter().flatten() {
            let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
            let took = run["startedAt"].as_str().map(|start| output::elapsed(start, run["finishedAt"].as_str()));
            let created = output::day_and_time(&text("createdAt"));
            table.add_row([
                text("id"),
                text("status"),
                text("taskIdentifier"),
                text("version"),
                created,
                took.unwrap_or_default(),
            ]);
        }
        anstream::println!("{table}");
        Ok(())
    }
}

impl One {
    async fn get(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let run = retrieve(&client, &self.run).await?;
        if self.client.json {
            output::json(&run);
            return Ok(());
        }
        let status = run["status"].as_str().unwrap_or_default();
        anstream::println!("{BOLD}{}{PLAIN}  {}{status}{PLAIN}", self.run, output::status_colour(status));
        for (label, name) in [
            ("task", "taskIdentifier"),
            ("version", "version"),
            ("created", "createdAt"),
            ("started", "startedAt"),
            ("finished", "finishedAt"),
            ("attempts", "attemptCount"),
            ("cpu ms", "durationMs"),
            ("tags", "tags"),
            ("metadata", "metadata"),
            ("payload", "payload"),
            ("payload", "payloadPresignedUrl"),
            ("output", "output"),
            ("output", "outputPresignedUrl"),
        ] {
            let value = &run[name];
            let nothing = value.is_null() || *value == json!([]) || *value == json!({});
            if !nothing {
                let text = output::inline(value);
                let text = if name.ends_with("At") { output::day_and_time(&text) } else { text };
                anstream::println!("  {DIM}{label:<9}{PLAIN} {text}");
            }
        }
        show_error(&run);
        Ok(())
    }

    async fn cancel(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let answer: Value = client.post(&format!("/api/v2/runs/{}/cancel", segment(&self.run)), &json!({})).await?;
        let run = retrieve(&client, &self.run).await?;
        if self.client.json {
            output::json(&answer);
        } else if run["isCompleted"] == true {
            anstream::println!("{}", run["status"].as_str().unwrap_or_default());
        } else {
            anstream::println!(
                "asked to end; it is {} until its worker has ended it",
                run["status"].as_str().unwrap_or_default()
            );
        }
        Ok(())
    }
}

impl Logs {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.one.client.access)?;
        let mut log = Log::of(&self.one.run);
        let mut pause = LOOK_EVERY;
        loop {
            // In this order, the last lines of a run that has ended are not missed.
            let ended = !self.follow || retrieve(&client, &self.one.run).await?["isCompleted"] == true;
            let lines = log.new_lines(&client).await?;
            for line in &lines {
                if self.one.client.json { output::json_line(line) } else { output::log_line(line) }
            }
            if ended {
                return Ok(());
            }
            pause = next_pause(pause, !lines.is_empty());
            tokio::time::sleep(pause).await;
        }
    }
}

/// Shows a run's status changes and logs as they come, and how it ends. Fails if the run does.
pub(super) async fn follow(client: &Client, id: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    if !as_json {
        anstream::println!("{BOLD}{id}{PLAIN}");
    }
    let (mut log, mut shown, mut pause) = (Log::of(id), String::new(), LOOK_EVERY);
    let run = loop {
        let run = retrieve(client, id).await?;
        let lines = log.new_lines(client).await?;
        for line in &lines {
            if as_json { output::json_line(&json!({"type": "log", "log": line})) } else { output::log_line(line) }
        }
        let status = run["status"].as_str().unwrap_or_default();
        let changed = status != shown;
        if changed {
            show_status(&run, status, as_json);
            shown = status.to_owned();
        }
        if run["isCompleted"] == true {
            break run;
        }
        pause = next_pause(pause, changed || !lines.is_empty());
        tokio::time::sleep(pause).await;
    };
    if as_json {
        output::json_line(&json!({"type": "run", "run": run}));
    } else {
        show_error(&run);
        if !run["output"].is_null() {
            anstream::println!("{:#}", run["output"]);
        } else if let Some(address) = run["outputPresignedUrl"].as_str() {
            anstream::println!("{DIM}a large output, for an hour at{PLAIN} {address}");
        }
    }
    Ok(if run["isSuccess"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_status(run: &Value, status: &str, as_json: bool) {
    let at = run["updatedAt"].as_str().unwrap_or_default();
    if as_json {
        output::json_line(&json!({"type": "status", "status": status, "at": at}));
    } else {
        anstream::println!("{DIM}{}{PLAIN} {}{status}{PLAIN}", output::clock(at), output::status_colour(status));
    }
}

fn show_error(run: &Value) {
    let error = &run["error"];
    if let Some(message) = error["message"].as_str() {
        let name = error["name"].as_str().map(|name| format!("{name}: ")).unwrap_or_default();
        anstream::println!("{RED}{name}{message}{PLAIN}");
        for cause in error["causes"].as_array().into_iter().flatten().filter_map(|cause| cause["message"].as_str()) {
            anstream::println!("  {RED}{cause}{PLAIN}");
        }
        if let Some(stack) = error["stackTrace"].as_str().filter(|stack| !stack.is_empty()) {
            anstream::println!("{DIM}{stack}{PLAIN}");
        }
    }
}

async fn retrieve(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.get(&format!("/api/v3/runs/{}", segment(id)), &[]).await
}

fn next_pause(pause: Duration, something_happened: bool) -> Duration {
    if something_happened { LOOK_EVERY } else { (pause * 2).min(LOOK_AT_LEAST_EVERY) }
}

/// Reads a run's log from where it stopped last time.
struct Log {
    path: String,
    after: Option<String>,
}

impl Log {
    fn of(run: &str) -> Log {
        Log { path: format!("/api/v1/runs/{}/logs", segment(run)), after: None }
    }

    async fn new_lines(&mut self, client: &Client) -> anyhow::Result<Vec<Value>> {
        let mut lines = Vec::new();
        loop {
            let mut query = vec![("page[size]", "100".to_owned())];
            query.extend(self.after.clone().map(|after| ("page[after]", after)));
            let mut page: Value = client.get(&self.path, &query).await?;
            let data = page["data"].as_array_mut().map(std::mem::take).context("the server sent no log lines")?;
            if let Some(last) = data.last() {
                self.after = Some(output::inline(&last["id"]));
            }
            lines.extend(data);
            if page["pagination"]["next"].is_null() {
                return Ok(lines);
            }
        }
    }
}
