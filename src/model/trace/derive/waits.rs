//! The waits of a run.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{OfRun, blank};
use crate::model::{
    event::EventKind,
    id::WaitpointId,
    run::RunStatus,
    trace::{Entry, Note, Outcome, Span, SpanId, SpanKind, WaitKind, WaitNote},
    waitable::Waitable,
    waitpoint::WaitpointKind,
};

/// A wait begins with a suspension and is over once the run is in line again, or has ended.
pub(super) fn of(run: &OfRun, waitpoints: &HashMap<WaitpointId, WaitpointKind>) -> Vec<Span> {
    let mut waits: Vec<Span> = Vec::new();
    for Entry { seq, at, kind, note, .. } in &run.entries {
        // It is the first to be heard from the worker that restored the run, about the wait before.
        if let (Some(wait), Some(us)) = (waits.last_mut(), note.restored_us) {
            add(&mut wait.properties, "checkpoint", "restoredMs", json!(millis(us)));
        }
        match kind {
            EventKind::Suspended => waits.push(span(run, (*seq, *at), note, waitpoints)),
            EventKind::Claimed => {
                let Some(wait) = waits.last_mut() else { continue };
                let over = *wait.end.get_or_insert(*at);
                wait.properties.entry("inLineMs").or_insert_with(|| json!((*at - over).num_milliseconds().max(0)));
            }
            EventKind::Resumed | EventKind::AttemptFailed | EventKind::Finished => {
                let Some(wait) = waits.last_mut().filter(|wait| wait.end.is_none()) else { continue };
                wait.end = Some(*at);
                if *kind == EventKind::Finished && run.member.status == RunStatus::Canceled {
                    wait.outcome = Outcome::Cancelled;
                }
            }
            _ => {}
        }
    }
    if let (Some(wait), Some(finished)) = (waits.last_mut().filter(|wait| wait.end.is_none()), run.member.finished_at) {
        wait.end = Some(finished);
    }
    waits
}

fn span(of: &OfRun, (seq, begin): (i64, DateTime<Utc>), note: &Note, waitpoints: &HashMap<WaitpointId, WaitpointKind>) -> Span {
    let run = of.member.id;
    let attempt = of.attempt_at(begin).map(|attempt| attempt.number);
    let mut properties = Map::new();
    if let Some(wait) = &note.wait {
        properties.insert("wait".into(), json!(wait));
    }
    if let Some(checkpoint) = note.checkpoint {
        add(&mut properties, "checkpoint", "storedBytes", json!(checkpoint.stored_bytes));
        add(&mut properties, "checkpoint", "rawBytes", json!(checkpoint.raw_bytes));
        if let Some(us) = checkpoint.taken_us {
            add(&mut properties, "checkpoint", "takenMs", json!(millis(us)));
        }
    }
    Span {
        id: SpanId::wait(run, seq),
        parent: Some(attempt.map_or(SpanId::run(run), |number| SpanId::attempt(run, number))),
        kind: SpanKind::Wait,
        attempt,
        name: note.wait.as_ref().map_or_else(|| "wait".into(), |wait| wait_name(wait, waitpoints)),
        begin,
        properties,
        ..blank(run)
    }
}

fn wait_name(wait: &WaitNote, waitpoints: &HashMap<WaitpointId, WaitpointKind>) -> String {
    let of = |waitable: &Waitable| match waitable {
        Waitable::Run(_) => "run",
        Waitable::Batch(_) => "batch",
        Waitable::Waitpoint(id) => match waitpoints.get(id) {
            Some(WaitpointKind::Timer) => "timer",
            Some(WaitpointKind::Token) => "token",
            Some(WaitpointKind::Input) => "input",
            None => "waitpoint",
        },
    };
    match wait.kind {
        WaitKind::Timer => "wait until".into(),
        WaitKind::Sleep => "sleep".into(),
        WaitKind::Any => {
            let kinds: HashSet<&str> = wait.waitables.iter().map(of).collect();
            let count = wait.count.unwrap_or(wait.waitables.len());
            match (count, kinds.iter().next()) {
                (1, Some(kind)) => format!("wait for {kind}"),
                (_, Some(kind)) if kinds.len() == 1 => format!("wait for any {kind} of {count}"),
                _ => format!("wait for any of {count}"),
            }
        }
    }
}

fn add(properties: &mut Map<String, Value>, object: &str, name: &str, value: Value) {
    if let Value::Object(object) = properties.entry(object).or_insert_with(|| Value::Object(Map::new())) {
        object.insert(name.into(), value);
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
