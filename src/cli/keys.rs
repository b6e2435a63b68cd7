//! `dormouse keys …`: the keys of an environment. A new key is all that is printed to standard output, for `key=$(dormouse keys …)`.

use anyhow::Context;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{
    access::DevFile,
    client::{Client, segment},
    dev,
    output::{self, DIM, PLAIN},
};

/// Commands of `dormouse keys`.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Show the keys that are good, without the keys themselves
    List(List),
    /// Make an additional key; it is printed this once
    Create(Create),
    /// Make a new root key; the present one goes on for a while
    Rotate(Rotate),
    /// Let a key open nothing any more
    Revoke(Revoke),
}

/// Arguments of `keys list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `keys create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// What it is for
    name: String,
    /// When it stops opening anything: 90d, or a time; never if left out
    #[arg(long, value_name = "DURATION|TIME")]
    expires: Option<String>,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `keys rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// How long the present key goes on, 30d at most; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "1d")]
    grace: String,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `keys revoke`.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The key's id, apikey_…
    key: String,
    #[command(flatten)]
    client: super::Client,
}

impl Keys {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Keys::List(list) => list.run().await,
            Keys::Create(create) => create.run().await,
            Keys::Rotate(rotate) => rotate.run().await,
            Keys::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let keys: Value = client.get("/api/v1/api-keys", &[]).await?;
        if self.client.json {
            output::json(&keys);
            return Ok(());
        }
        let mut table = output::table(&["KEY", "NAME", "KIND", "ENDS WITH", "CREATED", "EXPIRES"]);
        for key in keys["data"].as_array().into_iter().flatten() {
            let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
            let expires = key["expiresAt"].as_str().map_or_else(|| "never".to_owned(), output::day_and_time);
            let created = output::day_and_time(&text("createdAt"));
            table.add_row([text("id"), text("name"), text("kind").to_lowercase(), text("hint"), created, expires]);
        }
        anstream::println!("{table}");
        Ok(())
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let mut body = json!({ "name": self.name });
        if let Some(expires) = self.expires {
            body["expiresAt"] = json!(expires);
        }
        let made: Value = client.post("/api/v1/api-keys", &body).await?;
        show(&self.client, &made);
        Ok(())
    }
}

impl Rotate {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let rotated: Value = client.post("/api/v1/api-keys/rotate", &json!({ "gracePeriod": self.grace })).await?;
        show(&self.client, &rotated);
        if let Some(until) = rotated["earlierUntil"].as_str() {
            anstream::eprintln!("{DIM}the key before is good until {}{PLAIN}", output::day_and_time(until));
        }
        let new = rotated["key"].as_str().context("the server answered without a key")?;
        keep(&client, new)
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let revoked: Value = client.delete(&format!("/api/v1/api-keys/{}", segment(&self.key))).await?;
        if self.client.json {
            output::json(&revoked);
        } else {
            anstream::println!("revoked");
        }
        Ok(())
    }
}

fn show(arguments: &super::Client, made: &Value) {
    if arguments.json {
        output::json(made);
        return;
    }
    anstream::println!("{}", made["key"].as_str().unwrap_or_default());
    let expires = made["expiresAt"].as_str().map(output::day_and_time).unwrap_or_default();
    let until = if expires.is_empty() { String::new() } else { format!(", good until {expires}") };
    anstream::eprintln!("{DIM}{}{until}; it is not shown again{PLAIN}", made["id"].as_str().unwrap_or_default());
}

/// The file that `dormouse dev` wrote names the key: it follows a rotation, so that commands go on to work.
fn keep(client: &Client, new: &str) -> anyhow::Result<()> {
    let server = client.server();
    let Some(path) = &server.file else { return Ok(()) };
    let Some(mut file) = DevFile::read(path)? else { return Ok(()) };
    if file.replace_key(server.key.expose_secret(), new) {
        dev::write_private(path, &serde_json::to_vec(&file).expect("plain strings"))?;
    }
    Ok(())
}
