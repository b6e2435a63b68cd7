//! What a trace is derived from, and what guests say of themselves.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Note, SpanId, Triggered};
use crate::model::{
    attempt::Attempt,
    error::RunError,
    event::EventKind,
    id::{BatchId, RunId, WaitpointId},
    log::LogRecord,
    machine::Machine,
    run::RunStatus,
    waitpoint::WaitpointKind,
};

/// What rows tell of a trace.
#[derive(Debug, Default)]
pub struct Parts {
    /// The run that is asked for, and those below it; every other one after its parent.
    pub members: Vec<Member>,
    /// Their attempts that are over.
    pub attempts: Vec<(RunId, Attempt)>,
    /// Their entries about waits, each run's in order.
    pub entries: Vec<Entry>,
    /// What waitpoints are that were waited for, as far as they are there still.
    pub waitpoints: HashMap<WaitpointId, WaitpointKind>,
    /// What guests measured.
    pub measured: Vec<Measured>,
    /// What guests wrote.
    pub lines: Vec<Line>,
    /// What they triggered.
    pub triggered: Vec<Triggered>,
    /// There is more than could be read.
    pub is_cut: bool,
    /// When this was so.
    pub at: DateTime<Utc>,
}

/// A run of a trace.
#[derive(Debug, Clone)]
pub struct Member {
    /// Which.
    pub id: RunId,
    /// The run that its trace begins with.
    pub trace: RunId,
    /// Who triggered it, if that is there still.
    pub above: Option<Above>,
    /// Its environment, as users write it: `dev`, `stg`, `preview`, `prod`.
    pub environment: String,
    /// Its task.
    pub task: String,
    /// Where it is.
    pub status: RunStatus,
    /// The version it runs on.
    pub version: Option<String>,
    /// Name of its queue.
    pub queue: String,
    /// What it runs on.
    pub machine: Option<Machine>,
    /// The batch it came with.
    pub batch: Option<BatchId>,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was triggered.
    pub created_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it failed.
    pub error: Option<RunError>,
    /// CPU milliseconds that it used.
    pub cpu_ms: u64,
    /// The attempt that goes on, and since when.
    pub under_way: Option<(u32, DateTime<Utc>)>,
}

/// Who triggered a run.
#[derive(Debug, Clone, Copy)]
pub struct Above {
    /// The run.
    pub run: RunId,
    /// The run that its trace begins with.
    pub trace: RunId,
    /// Its attempt then; none: it had none.
    pub attempt: Option<u32>,
}

/// An entry of a run's story.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose.
    pub run: RunId,
    /// Its number.
    pub seq: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// What happened.
    pub kind: EventKind,
    /// What else it tells.
    pub note: Note,
}

/// A span that a guest began.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// By which run.
    pub run: RunId,
    /// In which attempt.
    pub attempt: u32,
    /// Its id.
    pub id: SpanId,
    /// What it is part of; none: the attempt.
    pub parent: Option<SpanId>,
    /// As the guest calls it.
    pub name: String,
    /// When it began.
    pub begin: DateTime<Utc>,
    /// When the guest ended it.
    pub end: Option<DateTime<Utc>>,
    /// What the guest says of it.
    pub attributes: Map<String, Value>,
    /// What went wrong in it.
    pub error: Option<String>,
}

/// What a guest says of itself, on its way to be kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A line.
    Line(LogRecord),
    /// A span begins.
    Begin(SpanId, SpanBegin),
    /// A span is over.
    End(SpanEnd),
}

impl From<LogRecord> for Record {
    fn from(line: LogRecord) -> Record {
        Record::Line(line)
    }
}

/// A span that begins.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanBegin {
    /// When.
    pub at: DateTime<Utc>,
    /// As the guest calls it.
    pub name: String,
    /// What the guest says of it.
    pub attributes: Map<String, Value>,
    /// What it is part of; none: the attempt.
    pub parent: Option<SpanId>,
}

/// A span that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanEnd {
    /// Which.
    pub id: SpanId,
    /// When.
    pub at: DateTime<Utc>,
    /// What is added to its attributes.
    pub attributes: Map<String, Value>,
    /// What went wrong in it.
    pub error: Option<String>,
}

/// A line of a guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Of which run.
    pub run: RunId,
    /// Of which attempt.
    pub attempt: u32,
    /// What was written.
    pub record: LogRecord,
}
