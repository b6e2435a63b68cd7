//! Spans as OTLP has them.

use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span as OtlpSpan, Status,
        span::{Event as OtlpEvent, Link, SpanKind},
        status::StatusCode,
    },
};
use prost::Message as _;
use serde_json::{Map, Value};

use crate::model::trace::{Outcome, Span, Trace};

/// Adds the spans of a run, below the resource of its environment, and says how many bytes they have.
pub(super) fn add(request: &mut ExportTraceServiceRequest, environment: &str, trace: &Trace) -> usize {
    let spans: Vec<OtlpSpan> = trace.spans.iter().map(|span| encode(span, trace)).collect();
    let bytes = spans.iter().map(|span| span.encoded_len()).sum();
    let resource = resource(environment);
    let known = request.resource_spans.iter_mut().find(|known| known.resource.as_ref() == Some(&resource));
    match known.and_then(|known| known.scope_spans.first_mut()) {
        Some(scope) => scope.spans.extend(spans),
        None => {
            let scope = InstrumentationScope {
                name: "dormouse".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..InstrumentationScope::default()
            };
            let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
            request.resource_spans.push(ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() });
        }
    }
    bytes
}

/// Source: OpenTelemetry's semantic conventions for resources.
fn resource(environment: &str) -> Resource {
    let attributes = [
        ("service.name", "dormouse"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", environment),
    ];
    let attributes = attributes.into_iter().map(|(key, value)| pair(key, text(value))).collect();
    Resource { attributes, ..Resource::default() }
}

fn encode(span: &Span, trace: &Trace) -> OtlpSpan {
    let mut attributes =
        vec![pair("dormouse.run.id", text(&span.run.to_string())), pair("dormouse.span.kind", text(span.kind.as_str()))];
    attributes.extend(span.attempt.map(|attempt| pair("dormouse.attempt", any_value::Value::IntValue(i64::from(attempt)))));
    flatten(&mut attributes, "", &span.properties);
    let status = match &span.outcome {
        Outcome::Ok => None,
        Outcome::Error(message) => Some((StatusCode::Error, message.clone())),
        Outcome::Cancelled => Some((StatusCode::Error, "cancelled".to_owned())),
    };
    OtlpSpan {
        trace_id: trace.id.bytes().to_vec(),
        span_id: span.id.bytes().to_vec(),
        parent_span_id: span.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
        name: span.name.clone(),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: nanos(span.begin),
        end_time_unix_nano: nanos(span.end.unwrap_or(trace.at).max(span.begin)),
        attributes,
        events: span
            .events
            .iter()
            .map(|event| {
                let mut attributes = Vec::new();
                flatten(&mut attributes, "", &event.properties);
                OtlpEvent { time_unix_nano: nanos(event.at), name: event.name.into(), attributes, dropped_attributes_count: 0 }
            })
            .collect(),
        links: span
            .link
            .iter()
            .map(|(trace, span)| Link { trace_id: trace.bytes().to_vec(), span_id: span.bytes().to_vec(), ..Link::default() })
            .collect(),
        status: status.map(|(code, message)| Status { message, code: code as i32 }),
        ..OtlpSpan::default()
    }
}

/// Attributes are flat there: `{"wait": {"kind": "any"}}` is `wait.kind`.
fn flatten(into: &mut Vec<KeyValue>, prefix: &str, object: &Map<String, Value>) {
    for (name, value) in object {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Null => {}
            Value::Object(inner) => flatten(into, &key, inner),
            Value::Array(list) => {
                let values = list.iter().map(|one| AnyValue { value: Some(scalar(one)) }).collect();
                into.push(pair(&key, any_value::Value::ArrayValue(ArrayValue { values })));
            }
            value => into.push(pair(&key, scalar(value))),
        }
    }
}

/// What is no scalar is its JSON text.
fn scalar(value: &Value) -> any_value::Value {
    match value {
        Value::Bool(flag) => any_value::Value::BoolValue(*flag),
        Value::String(string) => text(string),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => any_value::Value::IntValue(integer),
            (None, Some(float)) => any_value::Value::DoubleValue(float),
            (None, None) => text(&number.to_string()),
        },
        other => text(&other.to_string()),
    }
}

fn text(text: &str) -> any_value::Value {
    any_value::Value::StringValue(text.to_owned())
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(at: DateTime<Utc>) -> u64 {
    at.timestamp_nanos_opt().map_or(0, |nanos| nanos.max(0).unsigned_abs())
}
