//! Adds lines and spans to what a run says of itself, within bounds. Source: facts P1, P4.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{
    engine::Error,
    model::{
        attempt::Lease,
        log::{Level, LogRecord, Source},
        trace::{Record, SpanEnd},
    },
    store::{
        Store, logs,
        spans::{self, NewSpan},
    },
};

/// Most lines of a run; the last one says that there are no more.
pub const MAX_LINES: u32 = 10_000;
/// Most spans that a run may begin; a line says that later ones are not kept.
pub const MAX_SPANS: u32 = 5000;
/// Most lines and spans of one call.
pub const MAX_BATCH: usize = 1000;
/// Longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 131_072;
/// Longest attributes, in bytes of JSON text; longer ones are left out.
const MAX_ATTRIBUTE_BYTES: usize = 131_072;

/// Adds at most 1000 lines and spans to those of this lease's run, and returns how many lines were kept. The lease may have ended, as
/// long as nobody else has got the run: what a worker has left to write after the end of an attempt is welcome.
///
/// # Errors
/// [`Error::LostLease`] if somebody else has the run, or it is gone.
pub async fn append(store: &Store, lease: &Lease, records: Vec<impl Into<Record>>) -> Result<u32, Error> {
    let lease = *lease;
    let Sorted { mut lines, begun, ended } = sort(records.into_iter().take(MAX_BATCH).map(Into::into));
    store
        .tx(move |tx| {
            Box::pin(async move {
                let last = logs::last_line(tx, &lease).await?.ok_or(Error::LostLease)?;
                if !begun.is_empty() {
                    let room = MAX_SPANS.saturating_sub(spans::count(tx, lease.run, MAX_SPANS).await?) as usize;
                    if let Some(first) = begun.get(room).filter(|_| room > 0) {
                        let text = format!("a run has at most {MAX_SPANS} spans: later ones are not kept");
                        lines.push(of_host(first.begin.at, text));
                    }
                    spans::begin(tx, &lease, &begun[..begun.len().min(room)]).await?;
                }
                if !ended.is_empty() {
                    spans::end(tx, lease.run, &ended).await?;
                }
                let room = MAX_LINES.saturating_sub(last) as usize;
                let mut kept: Vec<LogRecord> = lines.iter().take(room).cloned().collect();
                if lines.len() >= room
                    && let Some(line) = kept.last_mut()
                {
                    let text = format!("a run's log has at most {MAX_LINES} lines: later ones are not kept");
                    *line = of_host(line.at, text);
                }
                if !kept.is_empty() {
                    logs::insert(tx, &lease, last, &kept).await?;
                }
                Ok(kept.len() as u32)
            })
        })
        .await
}

fn of_host(at: DateTime<Utc>, message: String) -> LogRecord {
    LogRecord { at, level: Level::Warn, source: Source::Host, message, attributes: Value::Null, span: None }
}

/// Records by what is done with them.
#[derive(Default)]
struct Sorted {
    lines: Vec<LogRecord>,
    begun: Vec<NewSpan>,
    /// Those that were begun before.
    ended: Vec<SpanEnd>,
}

/// A span that begins and ends here is written once.
fn sort(records: impl Iterator<Item = Record>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut places = HashMap::new();
    for record in records {
        match record {
            Record::Line(line) => sorted.lines.push(storable(line)),
            Record::Begin(id, mut begin) => {
                begin.attributes = fitting(begin.attributes);
                places.insert(id, sorted.begun.len());
                sorted.begun.push(NewSpan { id, begin, end: None });
            }
            Record::End(mut end) => {
                end.attributes = fitting(end.attributes);
                match places.get(&end.id) {
                    // The first end counts.
                    Some(place) => sorted.begun[*place].end.get_or_insert(end),
                    None => {
                        sorted.ended.push(end);
                        continue;
                    }
                };
            }
        }
    }
    sorted
}

fn fitting(attributes: Map<String, Value>) -> Map<String, Value> {
    let bytes = serde_json::to_string(&attributes).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_ATTRIBUTE_BYTES { Map::new() } else { attributes }
}

/// The line as it can be kept: no NUL characters, which Postgres does not store, and not too long.
fn storable(mut line: LogRecord) -> LogRecord {
    if line.message.contains('\0') || line.message.len() > MAX_MESSAGE_CHARS {
        line.message = line.message.chars().filter(|c| *c != '\0').take(MAX_MESSAGE_CHARS).collect();
    }
    if serde_json::to_string(&line.attributes).map_or(0, |text| text.len()) > MAX_ATTRIBUTE_BYTES {
        line.attributes = Value::Null;
    }
    line
}
