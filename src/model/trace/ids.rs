//! The ids of traces and spans, as W3C Trace Context has them. All but those of guests' spans follow from rows that are there anyway, so
//! nothing has to be written for them, and everybody who asks gets the same.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::model::id::RunId;

/// 16 bytes, written as 32 hexadecimal digits: the id of the run that the trace begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(RunId);

impl TraceId {
    /// The trace that begins with this run.
    pub const fn of(first: RunId) -> TraceId {
        TraceId(first)
    }

    /// As it is sent.
    pub fn bytes(self) -> [u8; 16] {
        *self.0.uuid().as_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.uuid().simple().fmt(f)
    }
}

/// 8 bytes that are not all zero, written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(u64);

impl SpanId {
    /// The one with this number. None for 0, which W3C forbids.
    pub const fn of(number: u64) -> Option<SpanId> {
        if number == 0 { None } else { Some(SpanId(number)) }
    }

    /// Of a run: the random part of its id.
    pub fn run(run: RunId) -> SpanId {
        SpanId(run.uuid().as_u128() as u64)
    }

    /// Of an attempt, the same after every restore.
    pub fn attempt(run: RunId, number: u32) -> SpanId {
        SpanId(Self::run(run).0.wrapping_add(u64::from(number)).max(1))
    }

    /// Of the wait that the run's entry of this number tells of.
    pub fn wait(run: RunId, seq: i64) -> SpanId {
        Self::hashed("wait", run, &[seq as u64])
    }

    /// Of the span that a guest begins as the `ordinal`-th since its checkpoint. A run that lost its host makes the same calls again, and
    /// gets the same ids for them.
    pub fn guest(run: RunId, attempt: u32, checkpoint: u64, ordinal: u64) -> SpanId {
        Self::hashed("span", run, &[u64::from(attempt), checkpoint, ordinal])
    }

    /// As a number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// As it is sent.
    pub const fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    fn hashed(what: &str, run: RunId, parts: &[u64]) -> SpanId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(what.as_bytes()).update(run.uuid().as_bytes());
        parts.iter().for_each(|part| {
            hasher.update(&part.to_be_bytes());
        });
        let mut first = [0; 8];
        hasher.finalize_xof().fill(&mut first);
        SpanId(u64::from_be_bytes(first).max(1))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is not that of a span's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not 16 hexadecimal digits")]
pub struct Malformed;

impl FromStr for SpanId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<SpanId, Malformed> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.and_then(SpanId::of).ok_or(Malformed)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The header `traceparent` with which what a guest calls becomes part of its trace, below this span. Source: W3C Trace Context.
pub fn traceparent(trace: TraceId, span: SpanId) -> String {
    format!("00-{trace}-{span}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spans_id_is_16_digits_that_are_not_all_zero() {
        let id = SpanId::of(0xff).unwrap();
        assert_eq!((id.to_string().as_str(), id.to_string().parse()), ("00000000000000ff", Ok(id)));
        for text in ["", "ff", "0000000000000000", "+0000000000000ff", "00000000000000fg", "000000000000000ff"] {
            assert_eq!(text.parse::<SpanId>(), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn spans_of_a_run_have_ids_of_their_own_that_do_not_change() {
        let run = RunId::new();
        let ids = [
            SpanId::run(run),
            SpanId::attempt(run, 1),
            SpanId::attempt(run, 2),
            SpanId::wait(run, 3),
            SpanId::guest(run, 1, 0, 0),
            SpanId::guest(run, 1, 0, 1),
            SpanId::guest(run, 1, 1, 0),
            SpanId::guest(run, 2, 0, 0),
        ];
        let different: std::collections::HashSet<SpanId> = ids.into_iter().collect();
        assert_eq!((different.len(), SpanId::wait(run, 3)), (ids.len(), ids[3]));
    }
}
