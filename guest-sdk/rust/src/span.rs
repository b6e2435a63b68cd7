//! Parts of a run that are measured: spans in the run's trace.
//!
//! ```no_run
//! use dormouse::span::Span;
//!
//! # fn charge(_: &str) -> Result<u32, String> { Ok(1) }
//! let span = Span::begin_with("charge", serde_json::json!({"provider": "acme"}));
//! // A server that is called with this header adds what it does to the run's trace.
//! match charge(&span.traceparent()) {
//!     Ok(cents) => span.end_with(serde_json::json!({"cents": cents})),
//!     Err(error) => span.fail(&error),
//! }
//! ```
//!
//! A span is seen as unfinished while it goes on, over waits too. It ends when it is dropped; one that is never dropped ends with its
//! attempt.

use serde::Serialize;

use crate::{bindings::dormouse::task::telemetry, context};

/// A part of the run that goes on.
#[derive(Debug)]
#[must_use = "a span that is dropped has ended"]
pub struct Span {
    id: u64,
    is_open: bool,
}

impl Span {
    /// Begins a span below the attempt.
    pub fn begin(name: &str) -> Span {
        Span::start(name, String::new(), None)
    }

    /// The same with attributes: anything whose JSON is an object.
    pub fn begin_with(name: &str, attributes: impl Serialize) -> Span {
        Span::start(name, json(attributes), None)
    }

    /// Begins a span below this one.
    pub fn child(&self, name: &str) -> Span {
        Span::start(name, String::new(), Some(self.id))
    }

    /// The same with attributes: anything whose JSON is an object.
    pub fn child_with(&self, name: &str, attributes: impl Serialize) -> Span {
        Span::start(name, json(attributes), Some(self.id))
    }

    /// Writes a line that belongs to this span; the macros of [`log`](crate::log) write to the attempt's.
    pub fn log(&self, message: &str) {
        if cfg!(target_family = "wasm") {
            telemetry::log(telemetry::Level::Info, message, "", Some(self.id));
        } else {
            eprintln!("{message}");
        }
    }

    /// W3C `traceparent` of this span, to pass on with the task's own HTTP calls.
    pub fn traceparent(&self) -> String {
        let attempt = context::current().traceparent;
        let trace = attempt.split('-').nth(1).unwrap_or_default();
        format!("00-{trace}-{:016x}-01", self.id)
    }

    /// Ends it.
    pub fn end(self) {}

    /// Ends it, adding attributes.
    pub fn end_with(mut self, attributes: impl Serialize) {
        self.close(&json(attributes), None);
    }

    /// Ends it, for this went wrong in it.
    pub fn fail(mut self, message: &str) {
        self.close("", Some(message));
    }

    fn start(name: &str, attributes: String, parent: Option<u64>) -> Span {
        let id = if cfg!(target_family = "wasm") { telemetry::start_span(name, &attributes, parent) } else { 1 };
        Span { id, is_open: true }
    }

    fn close(&mut self, attributes: &str, error: Option<&str>) {
        if std::mem::replace(&mut self.is_open, false) && cfg!(target_family = "wasm") {
            telemetry::end_span(self.id, attributes, error);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.close("", None);
    }
}

/// What cannot be written is left out: a measurement is no reason to fail.
fn json(attributes: impl Serialize) -> String {
    serde_json::to_string(&attributes).unwrap_or_default()
}
