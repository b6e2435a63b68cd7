//! Streams: data out of a run, as it is made. Readers in backends and browsers get each chunk when it is written, may begin anywhere,
//! and go on where they were cut off; what was written stays as long as the run is kept.
//!
//! ```no_run
//! # use dormouse::streams;
//! # fn next_word() -> Option<String> { None }
//! # fn task() -> Result<(), dormouse::TaskError> {
//! let mut answer = streams::writer("answer");
//! while let Some(word) = next_word() {
//!     answer.write(&word)?; // many words travel together
//! }
//! answer.flush()?; // from here on all of them are durable
//! # Ok(()) }
//! ```
//!
//! A stream belongs to a run, has a key, and is there with its first chunk. Any number of runs and programs may write to one. If a run
//! loses its host and goes on from its last wait, it writes the same chunks again, which are then there once.

use std::time::{Duration, Instant};

use serde::{Serialize, de::DeserializeOwned};

use crate::bindings::dormouse::task::streams as host;
use crate::{HostError, time};

/// Chunks and bytes that a [`Writer`] collects at most, and for how long.
const MAX_CHUNKS: usize = 200;
const MAX_BYTES: usize = 64 * 1024;
const MAX_AGE: Duration = Duration::from_millis(50);
/// Chunks that a [`Reader`] asks for at a time, and how long it stays for the first before it asks again.
const READ_AT_ONCE: u32 = 500;
const STAY: Duration = Duration::from_secs(60);

/// Whose stream is meant.
#[derive(Clone, Debug)]
pub struct Target(host::Target);

/// The streams of the run that triggered this one, or of this run if none did.
pub fn parent() -> Target {
    Target(host::Target::Parent)
}

/// The streams of the run at the top of the tree, which may be this run.
pub fn root() -> Target {
    Target(host::Target::Root)
}

/// The streams of another run of the environment.
pub fn run(id: impl Into<String>) -> Target {
    Target(host::Target::Run(id.into()))
}

fn own() -> Target {
    Target(host::Target::ThisRun)
}

/// Appends one value to a stream of this run, and returns once it is durable. For many values there is [`writer`].
///
/// # Errors
/// What the host refuses, and values that cannot be encoded or are larger than 1 MiB.
///
/// ```no_run
/// # fn task() -> Result<(), dormouse::TaskError> {
/// dormouse::streams::append("progress", "reading the archive")?;
/// dormouse::streams::root().append("progress", "a child is reading")?;
/// # Ok(()) }
/// ```
pub fn append<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), HostError> {
    own().append(key, value)
}

/// A writer to a stream of this run.
pub fn writer(key: &str) -> Writer {
    own().writer(key)
}

impl Target {
    /// As [`append`].
    ///
    /// # Errors
    /// As [`append`].
    pub fn append<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), HostError> {
        Ok(host::append(&self.0, key, &[json(value)?])?)
    }

    /// As [`writer`].
    pub fn writer(&self, key: &str) -> Writer {
        Writer { target: self.clone(), key: key.into(), waiting: Vec::new(), bytes: 0, since: Instant::now() }
    }

    /// Reads a stream from its first chunk on, and waits for what is yet to come until the run that it belongs to is over. The run that
    /// reads stays in memory meanwhile.
    ///
    /// ```no_run
    /// # use dormouse::streams;
    /// # fn task(child: &str) -> Result<(), dormouse::TaskError> {
    /// for line in streams::run(child).read::<String>("log") {
    ///     println!("{}", line?);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Reader<T> {
        self.read_from(key, 0)
    }

    /// As [`Target::read`], from the chunk with this index on.
    pub fn read_from<T: DeserializeOwned>(&self, key: &str, index: u64) -> Reader<T> {
        let chunks = Vec::new().into_iter();
        Reader { target: self.clone(), key: key.into(), next: index, is_ended: false, chunks, of: std::marker::PhantomData }
    }
}

/// Writes values to a stream, many at a time: what was written is sent when there are 200 values or 64 KiB of them, when a write comes
/// 50 ms after the first of them, with [`Writer::flush`], and when the writer is dropped. What was not sent yet when the run waits is kept
/// in its memory.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    key: String,
    waiting: Vec<String>,
    bytes: usize,
    since: Instant,
}

impl Writer {
    /// Writes a value.
    ///
    /// # Errors
    /// As [`append`], also for values that were written before.
    pub fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), HostError> {
        let value = json(value)?;
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += value.len();
        self.waiting.push(value);
        if self.waiting.len() >= MAX_CHUNKS || self.bytes >= MAX_BYTES || self.since.elapsed() >= MAX_AGE {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends what was written, and returns once it is durable.
    ///
    /// # Errors
    /// As [`append`]; what was refused is not sent again.
    pub fn flush(&mut self) -> Result<(), HostError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        Ok(host::append(&self.target.0, &self.key, &std::mem::take(&mut self.waiting))?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever wants to know flushes.
        let _ = self.flush();
    }
}

/// The chunks of a stream, in their order; see [`Target::read`].
#[derive(Debug)]
pub struct Reader<T> {
    target: Target,
    key: String,
    next: u64,
    is_ended: bool,
    chunks: std::vec::IntoIter<host::Chunk>,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for Reader<T> {
    type Item = Result<T, HostError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(chunk) = self.chunks.next() {
                let value = serde_json::from_str(&chunk.data);
                return Some(value.map_err(|error| HostError::undecodable("a chunk of the stream", &error)));
            }
            if self.is_ended {
                return None;
            }
            match host::read(&self.target.0, &self.key, Some(self.next), READ_AT_ONCE, time::milliseconds(STAY)) {
                Ok(page) => {
                    (self.next, self.is_ended) = (page.next_index, page.ended);
                    self.chunks = page.chunks.into_iter();
                }
                Err(error) => {
                    self.is_ended = true;
                    return Some(Err(error.into()));
                }
            }
        }
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, HostError> {
    serde_json::to_string(value).map_err(|error| HostError::unencodable(&error))
}
