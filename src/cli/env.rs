//! `dormouse env …`: the environment variables of tasks.

use std::{io::Read, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    client::{Client, segment},
    dotenv,
    output::{self, DIM, PLAIN},
    usage,
};

/// Commands of `dormouse env`.
#[derive(Debug, Subcommand)]
pub(super) enum Env {
    /// Show all variables, without the values of secrets
    List(List),
    /// Print a variable's value
    Get(Get),
    /// Set variables, all of them or none; running tasks see them when their next attempt begins or their wait ends
    Set(Set),
    /// Delete variables
    Unset(Unset),
    /// Set the variables of a .env file, all of them or none
    Import(Import),
}

/// Arguments of `env list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `env get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The variable
    name: String,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `env set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// A variable and its value; of one without a value, it is read from standard input
    #[arg(required = true, value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Never show their values again
    #[arg(long)]
    secret: bool,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `env unset`.
#[derive(Debug, Args)]
pub(super) struct Unset {
    /// The variables
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    client: super::Client,
}

/// Arguments of `env import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file; - for standard input
    file: PathBuf,
    /// Set anew what is set already; otherwise nothing is set if there is one
    #[arg(long = "override")]
    replace: bool,
    /// Never show their values again
    #[arg(long)]
    secret: bool,
    #[command(flatten)]
    client: super::Client,
}

impl Env {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Env::List(list) => list.run().await,
            Env::Get(get) => get.run().await,
            Env::Set(set) => set.run().await,
            Env::Unset(unset) => unset.run().await,
            Env::Import(import) => import.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let variables: Value = client.get(&path(&client).await?, &[]).await?;
        if self.client.json {
            output::json(&variables);
            return Ok(());
        }
        let mut table = output::table(&["NAME", "VALUE", "SECRET"]);
        for variable in variables.as_array().into_iter().flatten() {
            let text = |name: &str| variable[name].as_str().unwrap_or_default().to_owned();
            let secret = if variable["isSecret"] == json!(true) { "yes" } else { "" };
            table.add_row([text("name"), text("value"), secret.to_owned()]);
        }
        anstream::println!("{table}");
        Ok(())
    }
}

impl Get {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let variable: Value = client.get(&format!("{}/{}", path(&client).await?, segment(&self.name)), &[]).await?;
        if self.client.json {
            output::json(&variable);
            return Ok(());
        }
        // A program that reads this must not take what stands in place of the value for the value.
        anyhow::ensure!(variable["isSecret"] != json!(true), "{} is a secret: its value is not shown", self.name);
        anstream::println!("{}", variable["value"].as_str().unwrap_or_default());
        Ok(())
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<()> {
        let nameless = self.variables.iter().filter(|variable| !variable.contains('=')).count();
        if nameless > 1 {
            return Err(usage("only one variable's value can be read from standard input; write NAME=VALUE for the others"));
        }
        let mut values = Map::new();
        for variable in &self.variables {
            let (name, value) = match variable.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (variable.as_str(), from_standard_input()?.trim_end_matches(['\r', '\n']).to_owned()),
            };
            values.insert(name.to_owned(), json!(value));
        }
        set_all(&self.client, values, true, self.secret).await
    }
}

impl Unset {
    async fn run(self) -> anyhow::Result<()> {
        let client = Client::of(&self.client.access)?;
        let path = path(&client).await?;
        for name in &self.names {
            let answer: Value = client.delete(&format!("{path}/{}", segment(name))).await.with_context(|| name.clone())?;
            if self.client.json {
                output::json_line(&answer);
            } else {
                anstream::println!("unset {name}");
            }
        }
        Ok(())
    }
}

impl Import {
    async fn run(self) -> anyhow::Result<()> {
        let shown = self.file.display();
        let text = if self.file.as_os_str() == "-" {
            from_standard_input()?
        } else {
            std::fs::read_to_string(&self.file).map_err(|error| usage(format!("could not read {shown}: {error}")))?
        };
        let variables = dotenv::parse(&text).map_err(|error| usage(format!("{shown}, {error}")))?;
        if variables.is_empty() {
            return Err(usage(format!("there are no variables in {shown}")));
        }
        let values = variables.into_iter().map(|(name, value)| (name, json!(value))).collect();
        set_all(&self.client, values, self.replace, self.secret).await
    }
}

async fn set_all(arguments: &super::Client, values: Map<String, Value>, replace: bool, secret: bool) -> anyhow::Result<()> {
    let client = Client::of(&arguments.access)?;
    let count = values.len();
    let mut body = json!({ "variables": values, "override": replace });
    if secret {
        body["isSecret"] = json!(true);
    }
    let answer: Value = client.post(&format!("{}/import", path(&client).await?), &body).await?;
    if arguments.json {
        output::json(&answer);
    } else {
        let noun = if count == 1 { "variable" } else { "variables" };
        anstream::println!("set {count} {noun} {DIM}(tasks see them when their next attempt begins or their wait ends){PLAIN}");
    }
    Ok(())
}

/// Where the variables of the key's environment are.
async fn path(client: &Client) -> anyhow::Result<String> {
    let whoami: Value = client.whoami_of_key().await?;
    let text = |value: &Value| value.as_str().map(segment).context("the server does not say what the key is of");
    Ok(format!("/api/v1/projects/{}/envvars/{}", text(&whoami["project"]["ref"])?, text(&whoami["environment"]["slug"])?))
}

fn from_standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("could not read standard input")?;
    Ok(text)
}
