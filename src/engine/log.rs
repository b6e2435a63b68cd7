//! Adds lines to a run's log, within bounds. Source: facts P1, P4.

use crate::{
    engine::Error,
    model::{
        attempt::Lease,
        log::{Level, LogRecord, Source},
    },
    store::{Store, logs},
};

/// Most lines of a run; the last one says that there are no more.
pub const MAX_LINES: u32 = 10_000;
/// Most lines of one call.
pub const MAX_BATCH: usize = 1000;
/// Longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 131_072;
/// Longest attributes, in bytes of JSON text; longer ones are left out.
const MAX_ATTRIBUTE_BYTES: usize = 131_072;

/// Adds at most 1000 lines to the log of this lease's run, and returns how many were kept. The lease may have ended, as
/// long as nobody else has got the run: what a worker has left to write after the end of an attempt is welcome.
///
/// # Errors
/// [`Error::LostLease`] if somebody else has the run, or it is gone.
pub async fn append(store: &Store, lease: &Lease, lines: Vec<LogRecord>) -> Result<u32, Error> {
    let lease = *lease;
    let lines: Vec<LogRecord> = lines.into_iter().take(MAX_BATCH).map(storable).collect();
    store
        .tx(move |tx| {
            Box::pin(async move {
                let last = logs::last_line(tx, &lease).await?.ok_or(Error::LostLease)?;
                let room = MAX_LINES.saturating_sub(last) as usize;
                let mut kept: Vec<LogRecord> = lines.iter().take(room).cloned().collect();
                if lines.len() >= room
                    && let Some(line) = kept.last_mut()
                {
                    *line = LogRecord {
                        level: Level::Warn,
                        source: Source::Host,
                        message: format!("a run's log has at most {MAX_LINES} lines: later ones are not kept"),
                        attributes: serde_json::Value::Null,
                        ..line.clone()
                    };
                }
                logs::insert(tx, &lease, last, &kept).await?;
                Ok(kept.len() as u32)
            })
        })
        .await
}

/// The line as it can be kept: no NUL characters, which Postgres does not store, and not too long.
fn storable(mut line: LogRecord) -> LogRecord {
    if line.message.contains('\0') || line.message.len() > MAX_MESSAGE_CHARS {
        line.message = line.message.chars().filter(|c| *c != '\0').take(MAX_MESSAGE_CHARS).collect();
    }
    if serde_json::to_string(&line.attributes).map_or(0, |text| text.len()) > MAX_ATTRIBUTE_BYTES {
        line.attributes = serde_json::Value::Null;
    }
    line
}
