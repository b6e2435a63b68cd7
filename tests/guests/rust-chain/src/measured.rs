//! A task that measures what it does.

use std::time::Duration;

use dormouse::{TaskError, context, log, span::Span, wait};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub struct Measure {
    /// Milliseconds to wait within a span.
    ms: u64,
}

/// Measures a wait, fails within it, leaves a span open, and returns what it would pass on with calls of its own.
#[dormouse::task(id = "measure", retry(max_attempts = 1))]
pub fn measure(payload: Measure) -> Result<Value, TaskError> {
    let outer = Span::begin_with("outer", json!({"ms": payload.ms}));
    outer.log("in the outer span");
    log::info!("beside it");
    let inner = outer.child("inner");
    let passed_on =
        json!({"attempt": context::current().traceparent, "outer": outer.traceparent(), "inner": inner.traceparent()});
    wait::duration(Duration::from_millis(payload.ms))?;
    inner.fail("nothing came of it");
    outer.end_with(json!({"rows": 7}));
    std::mem::forget(Span::begin("open"));
    Ok(passed_on)
}
