//! `dormouse whoami`: which server and environment the commands talk to.

use clap::Args;
use serde_json::{Value, json};

use super::{client::Client, output};

/// Arguments of `dormouse whoami`.
#[derive(Debug, Args)]
pub(super) struct Whoami {
    #[command(flatten)]
    client: super::Client,
}

impl Whoami {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let mut answer: Value = client.get("/api/v1/whoami", &[]).await?;
        let server = client.server();
        if self.client.json {
            answer["apiUrl"] = json!(server.url);
            output::json(&answer);
            return Ok(());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        anstream::println!("server       {} (from {})", server.url, server.source);
        anstream::println!("project      {} ({})", text(&answer["project"]["name"]), text(&answer["project"]["ref"]));
        let branch = answer["environment"]["branch"].as_str().map(|branch| format!(", branch {branch}")).unwrap_or_default();
        anstream::println!("environment  {}{branch}", text(&answer["environment"]["slug"]));
        anstream::println!("version      {}", answer["currentVersion"].as_str().unwrap_or("nothing deployed yet"));
        Ok(())
    }
}
