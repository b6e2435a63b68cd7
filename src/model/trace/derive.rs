//! From rows to spans. Rows may have gone already, or not have come yet: whatever is there makes a tree.

mod waits;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{
    Above, Entry, Event, Line, MAX_GUEST_LEVELS, MAX_SPANS, Measured, Member, Outcome, Parts, Span, SpanId, SpanKind, Trace,
    TraceId, Triggered,
};
use crate::model::{
    attempt::Attempt,
    error::{ErrorCode, RunError},
    id::{RunId, WaitpointId},
    run::RunStatus,
    waitpoint::WaitpointKind,
};

/// See [`Trace::of`].
pub(super) fn trace(parts: Parts) -> Option<Trace> {
    let Parts { members, attempts, entries, waitpoints, measured, lines, triggered, mut is_cut, at } = parts;
    let id = TraceId::of(members.first()?.trace);
    let mut attempts = by_run(attempts, |(run, _)| *run);
    let mut entries = by_run(entries, |entry| entry.run);
    let mut measured = by_run(measured, |span| span.run);
    let mut lines = by_run(lines, |line| line.run);
    let mut triggered = by_run(triggered, |child| child.parent);
    let mut spans = Vec::new();
    for member in members {
        let of_run = OfRun {
            attempts: attempts.remove(&member.id).unwrap_or_default().into_iter().map(|(_, attempt)| attempt).collect(),
            entries: entries.remove(&member.id).unwrap_or_default(),
            measured: measured.remove(&member.id).unwrap_or_default(),
            lines: lines.remove(&member.id).unwrap_or_default(),
            triggered: triggered.remove(&member.id).unwrap_or_default(),
            member,
        };
        spans.extend(of_run.spans(&waitpoints));
        if spans.len() > MAX_SPANS {
            spans.truncate(MAX_SPANS);
            is_cut = true;
            break;
        }
    }
    Some(Trace { id, spans, is_cut, at })
}

fn by_run<T>(rows: Vec<T>, run: impl Fn(&T) -> RunId) -> HashMap<RunId, Vec<T>> {
    let mut grouped: HashMap<RunId, Vec<T>> = HashMap::new();
    for row in rows {
        grouped.entry(run(&row)).or_default().push(row);
    }
    grouped
}

/// What is known of one run.
struct OfRun {
    member: Member,
    attempts: Vec<Attempt>,
    entries: Vec<Entry>,
    measured: Vec<Measured>,
    lines: Vec<Line>,
    triggered: Vec<Triggered>,
}

impl OfRun {
    fn spans(mut self, waitpoints: &HashMap<WaitpointId, WaitpointKind>) -> Vec<Span> {
        if let Some((number, started_at)) = self.member.under_way {
            let under_way = Attempt { number, started_at, finished_at: None, error: None, cpu_ms: None, machine: None };
            self.attempts.push(under_way);
        }
        self.attempts.sort_by_key(|attempt| attempt.number);
        let mut spans = vec![run_span(&self.member, std::mem::take(&mut self.triggered))];
        spans.extend(self.attempts.iter().map(|attempt| attempt_span(&self.member, attempt, &spans[0])).collect::<Vec<_>>());
        spans.extend(waits::of(&self, waitpoints));
        self.measure(&mut spans);
        self.write(&mut spans);
        for span in &mut spans {
            span.events.sort_by_key(|event| event.at);
        }
        spans
    }

    /// The attempt that went on at that time.
    fn attempt_at(&self, at: DateTime<Utc>) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| attempt.started_at <= at).or(self.attempts.first())
    }

    /// Adds what the guest measured. A span that is left open ends with its attempt; one whose parent is not there, or did not begin
    /// before it, is part of the attempt.
    fn measure(&mut self, spans: &mut Vec<Span>) {
        self.measured.sort_by_key(|span| (span.begin, span.id));
        let mut levels: HashMap<SpanId, (usize, Option<SpanId>)> = HashMap::new();
        for Measured { attempt, id, parent, name, begin, end, attributes, error, .. } in std::mem::take(&mut self.measured) {
            let of_attempt = SpanId::attempt(self.member.id, attempt);
            let (parent, level) = match parent.and_then(|parent| Some((parent, *levels.get(&parent)?))) {
                None => (None, 0),
                Some((_, (level, above))) if level + 1 >= MAX_GUEST_LEVELS => (above, level),
                Some((parent, (level, _))) => (Some(parent), level + 1),
            };
            levels.insert(id, (level, parent));
            let around = spans.iter().find(|span| span.id == of_attempt).or(spans.first());
            let around = around.map(|span| (span.id, span.end, span.outcome.clone()));
            let (around, over, outcome) = around.unwrap_or((of_attempt, None, Outcome::Ok));
            let outcome = match (error, end) {
                (Some(message), _) => Outcome::Error(message),
                (None, Some(_)) => Outcome::Ok,
                (None, None) => outcome,
            };
            spans.push(Span {
                id,
                parent: parent.or(Some(around)),
                kind: SpanKind::Guest,
                attempt: Some(attempt),
                name,
                begin,
                end: end.or(over.map(|over| over.max(begin))),
                outcome,
                properties: attributes,
                ..blank(self.member.id)
            });
        }
    }

    /// Puts what was written, and which runs were triggered, where it belongs.
    fn write(&mut self, spans: &mut [Span]) {
        let places: HashMap<SpanId, usize> = spans.iter().enumerate().map(|(place, span)| (span.id, place)).collect();
        for Line { run, attempt, record } in std::mem::take(&mut self.lines) {
            let of_attempt = SpanId::attempt(run, attempt);
            let place = record.span.and_then(|span| places.get(&span)).or(places.get(&of_attempt)).copied().unwrap_or_default();
            let mut properties = Map::from_iter([
                ("level".to_owned(), json!(record.level)),
                ("message".to_owned(), Value::String(record.message)),
                ("source".to_owned(), json!(record.source)),
            ]);
            if !record.attributes.is_null() {
                properties.insert("attributes".into(), record.attributes);
            }
            spans[place].events.push(Event { at: record.at, name: "log", properties });
        }
        for child in spans[0].triggered.clone() {
            let attempt = self.attempt_at(child.created_at).map(|attempt| SpanId::attempt(child.parent, attempt.number));
            let place = attempt.and_then(|attempt| places.get(&attempt)).copied().unwrap_or_default();
            if child.trace == TraceId::of(child.run) {
                let properties =
                    json!({"runId": child.run, "task": child.task, "traceId": child.trace, "spanId": SpanId::run(child.run)});
                let Value::Object(properties) = properties else { continue };
                spans[place].events.push(Event { at: child.created_at, name: "trigger", properties });
            }
            if place > 0 {
                spans[place].triggered.push(child);
            }
        }
    }
}

fn run_span(member: &Member, triggered: Vec<Triggered>) -> Span {
    let is_own = member.trace == member.id;
    let above = member.above.map(|Above { run, trace, attempt }| {
        (TraceId::of(trace), attempt.map_or(SpanId::run(run), |number| SpanId::attempt(run, number)))
    });
    let outcome = match (member.status, &member.error) {
        (RunStatus::Canceled, _) => Outcome::Cancelled,
        (status, error) if status.is_final() && status != RunStatus::Completed => {
            Outcome::Error(error.as_ref().map_or_else(|| status.as_str().to_owned(), message))
        }
        _ => Outcome::Ok,
    };
    let mut properties = Map::from_iter([
        ("status".to_owned(), json!(member.status)),
        ("task".to_owned(), json!(member.task)),
        ("queue".to_owned(), json!(member.queue)),
        ("cpuMs".to_owned(), json!(member.cpu_ms)),
    ]);
    let optional = [
        ("version", member.version.as_ref().map(|version| json!(version))),
        ("machine", member.machine.map(|machine| json!(machine.as_str()))),
        ("batchId", member.batch.map(|batch| json!(batch))),
        ("parentRunId", member.above.map(|above| json!(above.run))),
        ("tags", Some(json!(member.tags)).filter(|_| !member.tags.is_empty())),
        ("inLineMs", member.started_at.map(|started| json!((started - member.created_at).num_milliseconds().max(0)))),
    ];
    properties.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Span {
        id: SpanId::run(member.id),
        parent: above.filter(|_| !is_own).map(|(_, span)| span),
        name: member.task.clone(),
        begin: member.created_at,
        end: member.finished_at,
        events: failure(&outcome, member.error.as_ref(), member.finished_at),
        outcome,
        properties,
        link: above.filter(|_| is_own),
        triggered,
        ..blank(member.id)
    }
}

fn attempt_span(member: &Member, attempt: &Attempt, run: &Span) -> Span {
    let end = attempt.finished_at.or(member.finished_at);
    let outcome = match &attempt.error {
        Some(RunError::Internal { code: ErrorCode::TaskRunCancelled, .. }) => Outcome::Cancelled,
        Some(error) => Outcome::Error(message(error)),
        // Its own end was not kept: it ended as the run did.
        None if attempt.finished_at.is_none() && end.is_some() => run.outcome.clone(),
        None => Outcome::Ok,
    };
    let mut properties = Map::from_iter([("attempt".to_owned(), json!(attempt.number))]);
    properties.extend(attempt.cpu_ms.map(|ms| ("cpuMs".to_owned(), json!(ms))));
    properties.extend(attempt.machine.map(|machine| ("machine".to_owned(), json!(machine.as_str()))));
    Span {
        id: SpanId::attempt(member.id, attempt.number),
        parent: Some(run.id),
        kind: SpanKind::Attempt,
        attempt: Some(attempt.number),
        name: format!("Attempt {}", attempt.number),
        begin: attempt.started_at,
        end,
        events: failure(&outcome, attempt.error.as_ref(), end),
        outcome,
        properties,
        ..blank(member.id)
    }
}

/// A span of which nothing is known yet.
fn blank(run: RunId) -> Span {
    Span {
        id: SpanId::run(run),
        parent: None,
        run,
        kind: SpanKind::Run,
        attempt: None,
        name: String::new(),
        begin: DateTime::UNIX_EPOCH,
        end: None,
        outcome: Outcome::Ok,
        properties: Map::new(),
        events: Vec::new(),
        link: None,
        triggered: Vec::new(),
    }
}

/// What went wrong, as an event. Its form is that of OpenTelemetry's exceptions.
fn failure(outcome: &Outcome, error: Option<&RunError>, at: Option<DateTime<Utc>>) -> Vec<Event> {
    let (Outcome::Error(message), Some(error), Some(at)) = (outcome, error, at) else { return Vec::new() };
    let (kind, stack) = match error {
        RunError::Exception { name, stack_trace, .. } => (name.clone(), stack_trace.clone()),
        RunError::Text { .. } | RunError::Custom { .. } => (String::new(), String::new()),
        RunError::Internal { code, stack_trace, .. } => (code.text(), stack_trace.clone().unwrap_or_default()),
    };
    let mut exception = Map::from_iter([("message".to_owned(), json!(message))]);
    let known = [("type", kind), ("stacktrace", stack)].into_iter().filter(|(_, text)| !text.is_empty());
    exception.extend(known.map(|(name, text)| (name.to_owned(), Value::String(text))));
    vec![Event { at, name: "exception", properties: Map::from_iter([("exception".to_owned(), Value::Object(exception))]) }]
}

fn message(error: &RunError) -> String {
    match error {
        RunError::Exception { message, .. } => message.clone(),
        RunError::Text { raw } | RunError::Custom { raw } => raw.clone(),
        RunError::Internal { code, message, .. } => message.clone().unwrap_or_else(|| code.text()),
    }
}
