//! Streams of a run: what it says while it goes on, and what is said to it. Source: facts H, I.

use chrono::{DateTime, Utc};

use serde::{Deserialize, Serialize};

use super::{id::RunId, payload::Packet};

/// Longest key of a stream, in characters.
pub const MAX_KEY_CHARS: usize = 256;
/// Most streams of a run in one direction.
pub const MAX_STREAMS: u32 = 1000;
/// Most bytes of all chunks of a stream. Source: facts H4.
pub const MAX_STREAM_BYTES: u64 = 300 << 20;
/// Largest chunk, in bytes of its JSON text. Source: facts H5.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Largest value that may be sent to a run, in bytes. Source: facts I1.
pub const MAX_INPUT_BYTES: usize = 1 << 20;
/// Most chunks of one append.
pub const MAX_CHUNKS: usize = 10_000;
/// Most bytes of the chunks of one append.
pub const MAX_APPEND_BYTES: usize = 4 << 20;

/// Which way a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The run says it.
    Out,
    /// It is said to the run.
    In,
}

impl Direction {
    /// The text that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Out => "OUT",
            Direction::In => "IN",
        }
    }
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamId {
    /// Whose it is.
    pub run: RunId,
    /// Which way it goes.
    pub direction: Direction,
    /// Its name; 1 to 256 characters.
    pub key: String,
}

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its place, from 0 without gaps.
    pub index: u64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// JSON text; of a value that was sent to the run, its data.
    pub data: String,
    /// Of a value that was sent to the run.
    pub content_type: Option<String>,
}

/// Whose stream a run means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamTarget {
    /// Its own.
    This,
    /// Its parent's; its own if it has none.
    Parent,
    /// Its root's; its own if it is the root.
    Root,
    /// That of another run of the environment.
    Run(RunId),
}

/// Some chunks of a stream, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPage {
    /// May be empty.
    pub chunks: Vec<Chunk>,
    /// The index of what comes next.
    pub next: u64,
    /// The run is over, and there is nothing more.
    pub is_ended: bool,
}

/// Place in one of a run's own input streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputCursor {
    /// The stream.
    pub stream: String,
    /// The index of the last value that was seen; none: none was.
    pub after: Option<u64>,
}

/// A value that was sent to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputValue {
    /// The stream.
    pub stream: String,
    /// Its place.
    pub index: u64,
    /// What was sent.
    pub value: Packet,
}
