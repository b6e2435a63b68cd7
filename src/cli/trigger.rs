//! `dormouse trigger`: start a run, and with `--follow` watch it to its end.

use std::{io::Read, process::ExitCode};

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{client, output, runs, usage};

/// Arguments of `dormouse trigger`.
#[derive(Debug, Args)]
pub(super) struct Trigger {
    /// The task's id
    task: String,
    /// The payload: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE")]
    payload: Option<String>,
    /// Watch the run to its end: status changes, logs, output. Fails if the run does
    #[arg(long)]
    follow: bool,
    /// Start it later: 90s, 1h30m, or a time such as 2026-01-01T09:00:00Z
    #[arg(long, value_name = "DURATION|TIME")]
    delay: Option<String>,
    /// Triggers with the same key become one run, which starts once there was none for --debounce-delay
    #[arg(long, value_name = "KEY", requires = "debounce_delay")]
    debounce_key: Option<String>,
    /// How long there must be no further trigger: 5s, 10m
    #[arg(long, value_name = "DURATION", requires = "debounce_key")]
    debounce_delay: Option<String>,
    /// Which trigger's payload counts: that of the first (leading) or the last (trailing)
    #[arg(long, value_name = "MODE", requires = "debounce_key")]
    debounce_mode: Option<String>,
    /// How long it is put off at most, counted from the first trigger
    #[arg(long, value_name = "DURATION", requires = "debounce_key")]
    debounce_max_delay: Option<String>,
    /// Give it up if it has not started by then: 10m, or seconds
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// A tag; up to ten of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Metadata to begin with: a JSON object or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    metadata: Option<String>,
    /// The same key gets the same run
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How long the key counts: 60s, 5m, 2h, 30d
    #[arg(long, value_name = "DURATION", requires = "idempotency_key")]
    idempotency_key_ttl: Option<String>,
    /// The queue; else the task's own
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// A pool of its own within the queue
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// Attempts at most, 1 to 250
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// CPU seconds per attempt at most
    #[arg(long, value_name = "SECONDS")]
    max_duration: Option<f64>,
    /// Machine preset, such as micro, small-1x, large-2x
    #[arg(long, value_name = "PRESET")]
    machine: Option<String>,
    /// Seconds by which it jumps the queue
    #[arg(long, value_name = "SECONDS")]
    priority: Option<f64>,
    /// Run on this version instead of the current one
    #[arg(long = "version-lock", value_name = "VERSION")]
    version: Option<String>,
    /// Run on the deployment with this --external-id; the run waits for it, an hour at most
    #[arg(long, value_name = "ID", conflicts_with = "version")]
    external_deployment: Option<String>,
    /// Mark it as a test
    #[arg(long)]
    test: bool,
    #[command(flatten)]
    client: super::Client,
}

impl Trigger {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = client::Client::of(&self.client.access)?;
        let path = format!("/api/v1/tasks/{}/trigger", client::segment(&self.task));
        let triggered: Value = client.post(&path, &self.body()?).await?;
        let run = triggered["id"].as_str().context("the server did not say which run it is")?;
        if self.follow {
            return runs::follow(&client, run, self.client.json).await;
        }
        if self.client.json {
            output::json(&triggered);
        } else {
            anstream::println!("{run}");
            if triggered["isCached"] == true {
                anstream::eprintln!("{}an earlier trigger with the same key made it{}", output::DIM, output::PLAIN);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn debounce(&self) -> Option<Value> {
        let parts = [
            ("key", &self.debounce_key),
            ("delay", &self.debounce_delay),
            ("mode", &self.debounce_mode),
            ("maxDelay", &self.debounce_max_delay),
        ];
        let parts = parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        self.debounce_key.as_ref().map(|_| Value::Object(parts.collect()))
    }

    fn body(&self) -> anyhow::Result<Value> {
        let mut body = Map::new();
        if let Some(payload) = &self.payload {
            body.insert("payload".into(), read_json("payload", payload)?);
        }
        let mut options = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                options.insert(name.into(), value);
            }
        };
        set("delay", self.delay.clone().map(Value::from));
        set("debounce", self.debounce());
        set("externalDeploymentId", self.external_deployment.clone().map(Value::from));
        // Seconds are a number, everything else a duration.
        set("ttl", self.ttl.as_ref().map(|ttl| ttl.parse::<u64>().map_or_else(|_| json!(ttl), |seconds| json!(seconds))));
        set("tags", (!self.tags.is_empty()).then(|| json!(self.tags)));
        set("metadata", self.metadata.as_ref().map(|text| read_json("metadata", text)).transpose()?);
        set("idempotencyKey", self.idempotency_key.clone().map(Value::from));
        set("idempotencyKeyTTL", self.idempotency_key_ttl.clone().map(Value::from));
        set("queue", self.queue.as_ref().map(|name| json!({ "name": name })));
        set("concurrencyKey", self.concurrency_key.clone().map(Value::from));
        set("maxAttempts", self.max_attempts.map(Value::from));
        set("maxDuration", self.max_duration.map(Value::from));
        set("machine", self.machine.clone().map(Value::from));
        set("priority", self.priority.map(Value::from));
        set("lockToVersion", self.version.clone().map(Value::from));
        set("test", self.test.then_some(Value::Bool(true)));
        body.insert("options".into(), options.into());
        Ok(body.into())
    }
}

/// The JSON that an argument holds or names.
pub(super) fn read_json(what: &str, argument: &str) -> anyhow::Result<Value> {
    let text = match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| usage(format!("could not read {path}: {error}")))?,
        None if argument == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("could not read standard input")?;
            text
        }
        None => argument.to_owned(),
    };
    serde_json::from_str(&text)
        .map_err(|error| usage(format!("the {what} is not JSON ({error}); a text needs quotes: '\"text\"'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_from_the_argument_or_a_file_and_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        std::fs::write(&path, "[1]").unwrap();
        assert_eq!(read_json("payload", r#"{"a":1}"#).unwrap(), json!({"a": 1}));
        assert_eq!(read_json("payload", &format!("@{}", path.display())).unwrap(), json!([1]));
        assert!(read_json("payload", "hello").unwrap_err().is::<super::super::Usage>());
        assert!(read_json("payload", "@/no/such/file").unwrap_err().to_string().contains("/no/such/file"));
    }
}
