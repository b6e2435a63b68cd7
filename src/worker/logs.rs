//! A run's log lines on their way to the database.
//!
//! Guests must not wait for the database to print, and must not fill our memory either: lines are buffered, written in
//! batches a few times a second, and before a suspension and the end of an attempt. Past the bound the newest are dropped,
//! and one line says how many.

use std::sync::Mutex;

use crate::{
    engine,
    model::{
        attempt::Lease,
        log::{Level, LogRecord, Source},
    },
    store::Store,
};

/// Lines that may wait to be written.
const MAX_BUFFERED: usize = 10_000;
/// Bytes of text that may wait to be written.
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
    records: Vec<LogRecord>,
    bytes: usize,
    dropped: u64,
}

impl LogBuffer {
    /// Takes a line; never waits.
    pub fn push(&self, record: LogRecord) {
        let mut waiting = self.waiting.lock().expect("no code panics while it holds this lock");
        if waiting.records.len() >= MAX_BUFFERED || waiting.bytes + record.message.len() > MAX_BUFFERED_BYTES {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += record.message.len();
        waiting.records.push(record);
    }

    /// Takes a line of the host about the run.
    pub fn host(&self, level: Level, message: impl Into<String>) {
        self.push(LogRecord {
            at: chrono::Utc::now(),
            level,
            source: Source::Host,
            message: message.into(),
            attributes: serde_json::Value::Null,
        });
    }

    /// Writes what waits. Lines that cannot be written are put back, as far as there is room.
    ///
    /// # Errors
    /// The database refused or is away.
    pub async fn write(&self, store: &Store, lease: &Lease) -> Result<(), engine::Error> {
        let _order = self.writing.lock().await;
        let records = self.take();
        if records.is_empty() {
            return Ok(());
        }
        match engine::log::append(store, lease, records.clone()).await {
            Ok(_kept) => Ok(()),
            Err(error) => {
                self.put_back(records);
                Err(error)
            }
        }
    }

    fn take(&self) -> Vec<LogRecord> {
        let waiting = std::mem::take(&mut *self.waiting.lock().expect("no code panics while it holds this lock"));
        let mut records = waiting.records;
        if waiting.dropped > 0 {
            let message = format!("{} log lines were dropped: the run writes faster than they can be stored", waiting.dropped);
            records.push(LogRecord {
                at: chrono::Utc::now(),
                level: Level::Warn,
                source: Source::Host,
                message,
                attributes: serde_json::Value::Null,
            });
        }
        records
    }

    fn put_back(&self, records: Vec<LogRecord>) {
        let mut waiting = self.waiting.lock().expect("no code panics while it holds this lock");
        let newer = std::mem::replace(&mut waiting.records, records);
        let room = MAX_BUFFERED.saturating_sub(waiting.records.len());
        waiting.dropped += newer.len().saturating_sub(room) as u64;
        waiting.records.extend(newer.into_iter().take(room));
        waiting.bytes = waiting.records.iter().map(|record| record.message.len()).sum();
    }
}
