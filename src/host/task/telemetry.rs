//! `dormouse:task/telemetry`: log lines and spans. None of it can fail: what does not fit is cut.

use serde_json::{Map, Value};

use super::{convert::cut, wit::telemetry};
use crate::{
    host::HostState,
    model::{
        log::{Level, LogRecord, Source},
        trace::{SpanBegin, SpanEnd, SpanId},
    },
    wall_clock,
};

/// Most attributes of a line. Source: facts P4.
const MAX_ATTRIBUTES: usize = 1024;
/// Longest message and longest text among the attributes, in characters. Source: facts P4.
const MAX_VALUE_CHARS: usize = 131_072;
/// Longest text of attributes that is read, in bytes: a list of small numbers takes thirty times as much when it is.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// Longest name of a span or an attribute, in characters.
const MAX_NAME_CHARS: usize = 256;

impl telemetry::Host for HostState {
    async fn log(
        &mut self,
        level: telemetry::Level,
        message: String,
        attributes: String,
        parent: Option<telemetry::SpanId>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            telemetry::Level::Debug => Level::Debug,
            telemetry::Level::Log => Level::Log,
            telemetry::Level::Info => Level::Info,
            telemetry::Level::Warn => Level::Warn,
            telemetry::Level::Error => Level::Error,
        };
        let Ok(run) = self.acting() else { return Ok(()) };
        let attributes = attributes_of(&attributes);
        run.caller.log(LogRecord {
            at: wall_clock::now(),
            level,
            source: Source::Logger,
            message: cut(&message, MAX_VALUE_CHARS),
            attributes: if attributes.is_empty() { Value::Null } else { Value::Object(attributes) },
            span: parent.and_then(SpanId::of),
        });
        Ok(())
    }

    async fn start_span(
        &mut self,
        name: String,
        attributes: String,
        parent: Option<telemetry::SpanId>,
    ) -> wasmtime::Result<telemetry::SpanId> {
        // Nobody sees the spans of an instance that is asked what its bundle declares.
        let Ok(run) = self.acting() else { return Ok(1) };
        let (attributes, parent) = (attributes_of(&attributes), parent.and_then(SpanId::of));
        let begun = SpanBegin { at: wall_clock::now(), name: cut(&name, MAX_NAME_CHARS), attributes, parent };
        Ok(run.caller.begin_span(begun).number())
    }

    async fn end_span(&mut self, span: telemetry::SpanId, attributes: String, error: Option<String>) -> wasmtime::Result<()> {
        if let (Ok(run), Some(id)) = (self.acting(), SpanId::of(span)) {
            let error = error.map(|error| cut(&error, MAX_VALUE_CHARS));
            run.caller.end_span(SpanEnd { id, at: wall_clock::now(), attributes: attributes_of(&attributes), error });
        }
        Ok(())
    }
}

/// An object within the limits. A text that is no object is kept as one attribute.
fn attributes_of(text: &str) -> Map<String, Value> {
    let given = match (text.len() <= MAX_TEXT_BYTES).then(|| serde_json::from_str(text)) {
        Some(Ok(Value::Object(given))) => given,
        _ if text.trim().is_empty() => Map::new(),
        _ => Map::from_iter([("attributes".to_owned(), Value::String(cut(text, MAX_VALUE_CHARS)))]),
    };
    let mut room = MAX_ATTRIBUTES;
    cut_object(given, &mut room)
}

/// Keeps as many attributes as there is room for, nested ones counted too.
fn cut_object(object: Map<String, Value>, room: &mut usize) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in object {
        if *room == 0 {
            break;
        }
        *room -= 1;
        kept.insert(cut(&name, MAX_NAME_CHARS), cut_value(value, room));
    }
    kept
}

fn cut_value(value: Value, room: &mut usize) -> Value {
    match value {
        Value::String(text) => Value::String(cut(&text, MAX_VALUE_CHARS)),
        Value::Array(list) => Value::Array(list.into_iter().map(|one| cut_value(one, room)).collect()),
        Value::Object(object) => Value::Object(cut_object(object, room)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn attributes_are_cut_to_what_a_line_may_have() {
        assert_eq!(attributes_of(" "), Map::new());
        assert_eq!(Value::Object(attributes_of("nonsense")), json!({"attributes": "nonsense"}));
        assert_eq!(Value::Object(attributes_of(r#"{"a\u0000": "x\u0000y", "n": [1]}"#)), json!({"a": "xy", "n": [1]}));
        let many: Map<String, Value> = (0..2000).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(attributes_of(&Value::Object(many).to_string()).len(), 1024);
        let long = json!({"text": "é".repeat(200_000)}).to_string();
        let too_long = format!("[{}]", "1,".repeat(MAX_TEXT_BYTES));
        assert!(attributes_of(&too_long)["attributes"].is_string());
        assert_eq!(attributes_of(&long)["text"].as_str().unwrap().chars().count(), 131_072);
    }
}
