//! What a run did, and when, as a tree of spans: the run, its attempts, their waits, the runs they waited for, and what guests measured
//! themselves. Nearly all of it follows from rows that are written anyway, so it is derived when somebody asks ([`Trace::of`]).
//!
//! A trace begins with a run that nobody waits for. A run that its parent waits for is part of the parent's trace, below the attempt
//! that triggered it; any other begins a trace of its own, which is linked. Source: facts P2.

mod derive;
mod ids;
mod note;
mod parts;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

pub use ids::{Malformed, SpanId, TraceId, traceparent};
pub use note::{CheckpointNote, Note, Timing, WaitKind, WaitNote};
pub use parts::{Above, Entry, Line, Measured, Member, Parts, Record, SpanBegin, SpanEnd};

use super::{id::RunId, run::RunStatus};

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
