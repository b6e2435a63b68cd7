//! Environment variables, before a wait and after it.

use std::{env, time::Duration};

use dormouse::{WaitError, wait};
use serde::{Deserialize, Serialize};
use wasip2::cli::environment::get_environment;

#[derive(Deserialize)]
pub struct Asked {
    /// Which variable.
    name: String,
    /// Milliseconds to wait.
    ms: u64,
}

#[derive(Serialize)]
pub struct Seen {
    /// Before the wait.
    before: Option<String>,
    /// After it, by the standard library, which read all of them the first time and keeps them in its memory.
    kept: Option<String>,
    /// After it, from the host.
    after: Option<String>,
}

/// Waits once, with a look at a variable on either side.
#[dormouse::task(id = "variables")]
pub fn variables(asked: Asked) -> Result<Seen, WaitError> {
    let before = env::var(&asked.name).ok();
    wait::duration(Duration::from_millis(asked.ms))?;
    let after = get_environment().into_iter().find(|(name, _)| *name == asked.name).map(|(_, value)| value);
    Ok(Seen { before, kept: env::var(&asked.name).ok(), after })
}
