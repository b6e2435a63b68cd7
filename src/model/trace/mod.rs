//! What a run did, and when, as a tree of spans: the run, its attempts, their waits, the runs they waited for, and what guests measured
//! themselves. Nearly all of it follows from rows that are written anyway, so it is derived when somebody asks ([`Trace::of`]).
//!
//! A trace begins with a run that nobody waits for. A run that its parent waits for is part of the parent's trace, below the attempt
//! that triggered it; any other begins a trace of its own, which is linked. Source: facts P2.

mod derive;
mod ids;
mod note;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

pub use ids::{Malformed, SpanId, TraceId, traceparent};
pub use note::{CheckpointNote, Note, Timing, WaitKind, WaitNote};

use super::{
    attempt::Attempt,
    error::RunError,
    event::EventKind,
    id::{BatchId, RunId, WaitpointId},
    log::LogRecord,
    machine::Machine,
    run::RunStatus,
    waitpoint::WaitpointKind,
};

/// Most spans of an answer; what is beyond is left out, and the answer says so.
pub const MAX_SPANS: usize = 10_000;
/// Most runs of an answer.
pub const MAX_RUNS: usize = 1000;
/// Most runs below one another in an answer.
pub const MAX_RUN_LEVELS: u32 = 20;
/// Most spans of a guest below one another; deeper ones are shown beside those. A JSON text of all these levels can still be read by
/// readers that take 128.
const MAX_GUEST_LEVELS: usize = 16;

/// A trace, or the part of it that begins with one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Whose spans these are.
    pub id: TraceId,
    /// The run's own span first; every other one after its parent.
    pub spans: Vec<Span>,
    /// Some were left out.
    pub is_cut: bool,
    /// When this was so.
    pub at: DateTime<Utc>,
}

/// Something that took its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Within its trace.
    pub id: SpanId,
    /// What it is a part of. Of the first span of a part of a trace it is not there.
    pub parent: Option<SpanId>,
    /// Whose it is.
    pub run: RunId,
    /// What it is.
    pub kind: SpanKind,
    /// The attempt that it belongs to.
    pub attempt: Option<u32>,
    /// In a few words.
    pub name: String,
    /// When it began.
    pub begin: DateTime<Utc>,
    /// When it was over; none: it goes on.
    pub end: Option<DateTime<Utc>>,
    /// How it ended.
    pub outcome: Outcome,
    /// What else there is to know.
    pub properties: Map<String, Value>,
    /// What happened meanwhile, in order.
    pub events: Vec<Event>,
    /// Of a run that begins a trace: where its trigger is.
    pub link: Option<(TraceId, SpanId)>,
    /// Of runs and attempts: which runs they triggered.
    pub triggered: Vec<Triggered>,
}

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// A run, from its trigger to its end.
    Run,
    /// An attempt.
    Attempt,
    /// A wait that the run was suspended for.
    Wait,
    /// What a guest measured.
    Guest,
}

impl SpanKind {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Attempt => "attempt",
            Self::Wait => "wait",
            Self::Guest => "span",
        }
    }
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well, or not at all yet.
    Ok,
    /// With this message.
    Error(String),
    /// Somebody wanted it to end.
    Cancelled,
}

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// `log`, `exception` or `trigger`.
    pub name: &'static str,
    /// What there is to know of it.
    pub properties: Map<String, Value>,
}

/// A run that was triggered by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggered {
    /// By whom.
    pub parent: RunId,
    /// Which.
    pub run: RunId,
    /// Whose trace it is part of.
    pub trace: TraceId,
    /// Its task.
    pub task: String,
    /// Where it is.
    pub status: RunStatus,
    /// When it was triggered.
    pub created_at: DateTime<Utc>,
}

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

impl Trace {
    /// The trace that these rows tell of. None: there is no run.
    pub fn of(parts: Parts) -> Option<Trace> {
        derive::trace(parts)
    }

    /// The span with this id.
    pub fn span(&self, id: SpanId) -> Option<&Span> {
        self.spans.iter().find(|span| span.id == id)
    }
}

impl Span {
    /// How long it took; up to `now` if it goes on.
    pub fn duration(&self, now: DateTime<Utc>) -> chrono::TimeDelta {
        (self.end.unwrap_or(now) - self.begin).max(chrono::TimeDelta::zero())
    }
}
