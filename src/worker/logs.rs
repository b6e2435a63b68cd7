//! A run's log lines and spans on their way to the database.
//!
//! Guests must not wait for the database to print, and must not fill our memory either: lines are buffered, written in
//! batches a few times a second, and before a suspension and the end of an attempt. Past the bound the newest are dropped,
//! and one line says how many.

use std::sync::Mutex;

use serde_json::{Map, Value};

use crate::{
    engine::{self, log::MAX_BATCH},
    model::{
        attempt::Lease,
        log::{Level, LogRecord, Source},
        trace::Record,
    },
    store::Store,
    wall_clock,
};

/// Lines that may wait to be written.
const MAX_BUFFERED: usize = 10_000;
/// Bytes that may wait to be written.
const MAX_BUFFERED_BYTES: usize = 4 << 20;

/// The lines that wait.
#[derive(Default)]
pub struct LogBuffer {
    waiting: Mutex<Waiting>,
    /// Held while a batch is written, so that batches keep their order.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    records: Vec<Record>,
    bytes: usize,
    dropped: u64,
}

impl LogBuffer {
    /// Takes a line, or what is to be known of a span; never waits.
    pub fn push(&self, record: impl Into<Record>) {
        let record = record.into();
        let mut waiting = self.waiting.lock().expect("no code panics while it holds this lock");
        let bytes = weight(&record);
        if waiting.records.len() >= MAX_BUFFERED || waiting.bytes + bytes > MAX_BUFFERED_BYTES {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += bytes;
        waiting.records.push(record);
    }

    /// Takes a line of the host about the run.
    pub fn host(&self, level: Level, message: impl Into<String>) {
        self.push(LogRecord {
            at: wall_clock::now(),
            level,
            source: Source::Host,
            message: message.into(),
            attributes: Value::Null,
            span: None,
        });
    }

    /// Writes what waits. While the database is away lines are put back, as far as there is room; lines that it refuses are
    /// dropped, for they would hold up all that come after them.
    ///
    /// # Errors
    /// The database refused or is away.
    pub async fn write(&self, store: &Store, lease: &Lease) -> Result<(), engine::Error> {
        let _order = self.writing.lock().await;
        let mut records = self.take();
        while !records.is_empty() {
            let mut rest = records.split_off(records.len().min(MAX_BATCH));
            if let Err(error) = engine::log::append(store, lease, records.clone()).await {
                if matches!(error, engine::Error::Unavailable(_)) {
                    records.append(&mut rest);
                    self.put_back(records);
                } else {
                    self.drop_and_count(records.len());
                    self.put_back(rest);
                }
                return Err(error);
            }
            records = rest;
        }
        Ok(())
    }

    fn drop_and_count(&self, lines: usize) {
        self.waiting.lock().expect("no code panics while it holds this lock").dropped += lines as u64;
    }

    fn take(&self) -> Vec<Record> {
        let waiting = std::mem::take(&mut *self.waiting.lock().expect("no code panics while it holds this lock"));
        let mut records = waiting.records;
        if waiting.dropped > 0 {
            let dropped = waiting.dropped;
            let message = format!("{dropped} log lines were dropped, and spans: they could not be stored as fast as they came");
            let (at, attributes) = (wall_clock::now(), Value::Null);
            records.push(Record::Line(LogRecord {
                at,
                level: Level::Warn,
                source: Source::Host,
                message,
                attributes,
                span: None,
            }));
        }
        records
    }

    fn put_back(&self, records: Vec<Record>) {
        let mut waiting = self.waiting.lock().expect("no code panics while it holds this lock");
        let newer = std::mem::replace(&mut waiting.records, records);
        let room = MAX_BUFFERED.saturating_sub(waiting.records.len());
        waiting.dropped += newer.len().saturating_sub(room) as u64;
        waiting.records.extend(newer.into_iter().take(room));
        waiting.bytes = waiting.records.iter().map(weight).sum();
    }
}

/// Bytes that a line or span takes, about.
fn weight(record: &Record) -> usize {
    fn of(value: &Value) -> usize {
        let inside = match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(of).sum(),
            Value::Object(object) => object.iter().map(|(name, value)| name.len() + of(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        };
        size_of::<Value>() + inside
    }
    let of_all = |attributes: &Map<String, Value>| attributes.iter().map(|(name, value)| name.len() + of(value)).sum::<usize>();
    match record {
        Record::Line(line) => line.message.len() + of(&line.attributes),
        Record::Begin(_, begun) => begun.name.len() + of_all(&begun.attributes) + size_of::<Record>(),
        Record::End(ended) => ended.error.as_ref().map_or(0, String::len) + of_all(&ended.attributes) + size_of::<Record>(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(message: &str, attributes: Value) -> LogRecord {
        LogRecord {
            at: chrono::Utc::now(),
            level: Level::Log,
            source: Source::Logger,
            message: message.into(),
            attributes,
            span: None,
        }
    }

    #[test]
    fn attributes_count_towards_what_may_wait() {
        let buffer = LogBuffer::default();
        let attributes = json!({"list": vec![1; 10_000], "text": "x".repeat(100_000)});
        for _ in 0..1000 {
            buffer.push(line("hello", attributes.clone()));
        }
        let taken = buffer.take();
        assert!((5..20).contains(&taken.len()), "{} lines waited", taken.len());
        let Some(Record::Line(last)) = taken.last() else { panic!("a line says so") };
        assert!(last.message.contains("log lines were dropped"));
    }

    #[test]
    fn what_is_put_back_comes_before_what_came_meanwhile() {
        let buffer = LogBuffer::default();
        buffer.push(line("one", Value::Null));
        let taken = buffer.take();
        buffer.push(line("two", Value::Null));
        buffer.put_back(taken);
        let messages: Vec<String> = buffer
            .take()
            .into_iter()
            .map(|record| match record {
                Record::Line(line) => line.message,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(messages, ["one", "two"]);
    }
}
