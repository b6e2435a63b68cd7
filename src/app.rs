//! The composition root.

use secrecy::SecretString;

use crate::config::Config;

/// What is known once the server answers.
#[derive(Debug)]
pub struct Ready {
    /// How clients on this machine reach it.
    pub api_url: String,
    /// Secret key of the first environment.
    pub secret_key: SecretString,
    /// Reference of the first project.
    pub project_ref: String,
    /// Lines the user should see.
    pub notices: Vec<String>,
}

/// Runs a server until it is told to stop. `announce` is called once, when it answers.
pub async fn run(_config: Config, _announce: impl FnOnce(&Ready) -> anyhow::Result<()>) -> anyhow::Result<()> {
    anyhow::bail!("not wired yet")
}
