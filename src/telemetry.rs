//! What the process says of itself: one line per event, for people or as JSON.

use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::{LogFormat, Telemetry};

/// Sends `tracing` events to standard error, so that standard output stays for what was asked for. Once per process.
///
/// # Errors
/// If the filter is malformed, or logging is set up already.
pub fn init(config: &Telemetry) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("the log filter {:?} is malformed", config.log))?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            registry.with(lines.with_target(false).with_ansi(colour)).try_init()
        }
    }
    .context("set up logging")
}
