//! Log lines of a run.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::trace::SpanId;

/// How loud a line is. Source: facts P1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the author while looking for a fault.
    Debug,
    /// `console.log` and stdout.
    Log,
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warn,
    /// Something failed; stderr too.
    Error,
}

impl Level {
    /// Every level, quietest first.
    pub const ALL: [Level; 5] = [Self::Debug, Self::Log, Self::Info, Self::Warn, Self::Error];

    /// The level's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Log => "log",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Through the logger.
    Logger,
    /// To standard output.
    Stdout,
    /// To standard error.
    Stderr,
    /// By the host, about the run: suspended, kept warm, resumed.
    Host,
}

impl Source {
    /// Every source.
    pub const ALL: [Source; 4] = [Self::Logger, Self::Stdout, Self::Stderr, Self::Host];

    /// The source's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logger => "logger",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Host => "host",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it was written, by the host's clock.
    pub at: DateTime<Utc>,
    /// How loud.
    pub level: Level,
    /// Written how.
    pub source: Source,
    /// The text, cut at 131,072 characters. Source: facts P4.
    pub message: String,
    /// An object, or null for none.
    pub attributes: serde_json::Value,
    /// The span that it belongs to; none: its attempt's.
    #[serde(skip)]
    pub span: Option<SpanId>,
}
