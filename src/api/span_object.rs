//! Traces and spans as the API shows them. Source: facts 7.3, P5.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Error, when::rfc3339};
use crate::model::{
    id::RunId,
    run::RunStatus,
    trace::{Event, Outcome, Span, SpanId, SpanKind, Trace, TraceId},
};

/// What the clients call the level of spans that are no log lines.
const LEVEL: &str = "TRACE";

/// A trace in the form that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum TraceAnswer {
    /// Without `page[size]`.
    Tree(Box<TraceTree>),
    /// With it.
    Page(TracePage),
}

/// A trace as a tree, or the part of it that begins with a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TraceTree {
    trace: Tree,
}

/// The tree.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tree {
    /// 32 hexadecimal digits.
    #[schema(value_type = String)]
    trace_id: TraceId,
    root_span: Node,
    /// There are more spans than are shown.
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
}

/// A span with what is below it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Node {
    /// 16 hexadecimal digits.
    #[schema(value_type = String)]
    id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    parent_id: Option<SpanId>,
    #[schema(value_type = String)]
    run_id: RunId,
    data: SpanData,
    #[schema(no_recursion)]
    children: Vec<Node>,
}

/// What there is to know of a span.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SpanData {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_slug: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<SpanEvent>,
    start_time: String,
    /// In nanoseconds; of a span that goes on, up to now.
    duration: i64,
    is_error: bool,
    is_partial: bool,
    is_cancelled: bool,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_preset: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Option<Object>)]
    properties: Map<String, Value>,
}

/// Something that happened within a span.
#[derive(Debug, Serialize, ToSchema)]
struct SpanEvent {
    /// `log`, `exception` or `trigger`.
    name: &'static str,
    time: String,
    #[schema(value_type = Object)]
    properties: Map<String, Value>,
}

/// Spans of a trace, page by page, in the order in which they began.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TracePage {
    data: Vec<FlatSpan>,
    /// Of this page: which attempts failed.
    attempt_failures: Vec<AttemptFailure>,
    pagination: TracePagination,
}

/// A span without what is below it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FlatSpan {
    #[schema(value_type = String)]
    id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    parent_id: Option<SpanId>,
    #[schema(value_type = String)]
    run_id: RunId,
    message: String,
    start_time: String,
    /// In nanoseconds; of a span that goes on, up to now.
    duration: i64,
    is_error: bool,
    is_partial: bool,
    is_cancelled: bool,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_number: Option<u32>,
}

/// An attempt that failed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AttemptFailure {
    /// The attempt's span.
    #[schema(value_type = String)]
    span_id: SpanId,
    attempt_number: u32,
    #[schema(value_type = String)]
    run_id: RunId,
}

/// Where the spans go on.
#[derive(Debug, Serialize, ToSchema)]
struct TracePagination {
    /// To be sent as `page[after]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// There are more spans than all pages show.
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
}

/// A span with all there is to know.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpanDetail {
    #[schema(value_type = String)]
    span_id: SpanId,
    #[schema(value_type = Option<String>)]
    parent_id: Option<SpanId>,
    #[schema(value_type = String)]
    run_id: RunId,
    message: String,
    is_error: bool,
    is_partial: bool,
    is_cancelled: bool,
    level: &'static str,
    start_time: String,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Option<Object>)]
    properties: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<SpanEvent>,
    /// `run`, `attempt`, `wait` or `span`.
    entity_type: &'static str,
    /// The runs that were triggered in it, the first 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    triggered_runs: Vec<TriggeredRun>,
}

/// A run that was triggered in a span.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TriggeredRun {
    #[schema(value_type = String)]
    run_id: RunId,
    task_identifier: String,
    #[schema(value_type = String)]
    status: RunStatus,
    created_at: String,
}

impl TracePage {
    /// The page with these spans.
    pub(super) fn of(shown: &[&Span], next: Option<String>, trace: &Trace) -> TracePage {
        TracePage {
            data: shown.iter().map(|span| FlatSpan::of(span, trace.at)).collect(),
            attempt_failures: shown.iter().filter_map(|span| AttemptFailure::of(span)).collect(),
            pagination: TracePagination { next, truncated: trace.is_cut },
        }
    }
}

impl AttemptFailure {
    fn of(span: &Span) -> Option<AttemptFailure> {
        let failed = span.kind == SpanKind::Attempt && matches!(span.outcome, Outcome::Error(_));
        let attempt_number = span.attempt.filter(|_| failed)?;
        Some(AttemptFailure { span_id: span.id, attempt_number, run_id: span.run })
    }
}

impl FlatSpan {
    fn of(span: &Span, now: DateTime<Utc>) -> FlatSpan {
        FlatSpan {
            id: span.id,
            parent_id: span.parent,
            run_id: span.run,
            message: span.name.clone(),
            start_time: precise(span.begin),
            duration: nanos(span, now),
            is_error: matches!(span.outcome, Outcome::Error(_)),
            is_partial: span.end.is_none(),
            is_cancelled: span.outcome == Outcome::Cancelled,
            level: LEVEL,
            attempt_number: span.attempt,
        }
    }
}

impl TraceTree {
    pub(super) fn of(trace: Trace) -> Result<TraceTree, Error> {
        let Trace { id, spans, is_cut, at } = trace;
        let mut nodes: Vec<Option<Node>> = Vec::with_capacity(spans.len());
        let places: HashMap<SpanId, usize> = spans.iter().enumerate().map(|(place, span)| (span.id, place)).collect();
        let parents: Vec<usize> =
            spans.iter().map(|span| span.parent.and_then(|id| places.get(&id)).copied().unwrap_or(0)).collect();
        nodes.extend(spans.into_iter().map(|span| Some(Node::of(span, at))));
        // From the last on: each comes after its parent, so what is below it is complete.
        for place in (1..nodes.len()).rev() {
            let (parent, node) = (parents[place], nodes[place].take());
            if let (true, Some(node), Some(Some(parent))) = (parent < place, node, nodes.get_mut(parent)) {
                parent.children.push(node);
            }
        }
        let root = nodes.into_iter().next().flatten().ok_or_else(|| Error::not_found("run"))?;
        Ok(TraceTree { trace: Tree { trace_id: id, root_span: root.in_order(), truncated: is_cut } })
    }
}

impl Node {
    fn of(span: Span, now: DateTime<Utc>) -> Node {
        let duration = nanos(&span, now);
        let property = |name: &str| {
            span.properties.get(name).and_then(Value::as_str).filter(|_| span.kind == SpanKind::Run).map(ToOwned::to_owned)
        };
        let data = SpanData {
            task_slug: property("task"),
            worker_version: property("version"),
            queue_name: property("queue"),
            machine_preset: property("machine"),
            message: span.name,
            events: span.events.into_iter().map(SpanEvent::of).collect(),
            start_time: precise(span.begin),
            duration,
            is_error: matches!(span.outcome, Outcome::Error(_)),
            is_partial: span.end.is_none(),
            is_cancelled: span.outcome == Outcome::Cancelled,
            level: LEVEL,
            properties: span.properties,
        };
        Node { id: span.id, parent_id: span.parent, run_id: span.run, data, children: Vec::new() }
    }

    fn in_order(mut self) -> Node {
        self.children = self.children.into_iter().map(Node::in_order).collect();
        self.children.sort_by(|one, other| (&one.data.start_time, one.id).cmp(&(&other.data.start_time, other.id)));
        self
    }
}

impl SpanEvent {
    fn of(event: Event) -> SpanEvent {
        SpanEvent { name: event.name, time: precise(event.at), properties: event.properties }
    }
}

impl SpanDetail {
    pub(super) fn of(span: Span, now: DateTime<Utc>) -> SpanDetail {
        let mut properties = span.properties;
        if let (Outcome::Error(message), SpanKind::Guest) = (&span.outcome, span.kind) {
            properties.insert("error".into(), Value::String(message.clone()));
        }
        if let Some((trace, linked)) = span.link {
            properties.insert("triggeredBy".into(), serde_json::json!({"traceId": trace, "spanId": linked}));
        }
        let duration = span.end.unwrap_or(now) - span.begin;
        SpanDetail {
            span_id: span.id,
            parent_id: span.parent,
            run_id: span.run,
            message: span.name,
            is_error: matches!(span.outcome, Outcome::Error(_)),
            is_partial: span.end.is_none(),
            is_cancelled: span.outcome == Outcome::Cancelled,
            level: LEVEL,
            start_time: precise(span.begin),
            duration_ms: duration.num_microseconds().unwrap_or(0).max(0) as f64 / 1000.0,
            properties,
            events: span.events.into_iter().map(SpanEvent::of).collect(),
            entity_type: span.kind.as_str(),
            triggered_runs: span
                .triggered
                .into_iter()
                .map(|child| TriggeredRun {
                    run_id: child.run,
                    task_identifier: child.task,
                    status: child.status,
                    created_at: rfc3339(child.created_at),
                })
                .collect(),
        }
    }
}

fn nanos(span: &Span, now: DateTime<Utc>) -> i64 {
    span.duration(now).num_nanoseconds().unwrap_or(i64::MAX)
}

/// Microseconds: spans may be shorter than a millisecond.
fn precise(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
