//! From columns to the domain's types. What is stored was written by some version of this program, so a text that this
//! version does not know is an error of its own, never a panic.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::StoreError;
use crate::model::{
    batch::Stage,
    bulk::{BulkKind, BulkStatus},
    context::EnvironmentKind,
    event::EventKind,
    id::Id,
    log::{Level, Source},
    machine::Machine,
    payload::Packet,
    run::RunStatus,
    schedule::ScheduleKind,
    waitpoint::WaitpointStatus,
};

pub(super) fn run_status(text: &str) -> Result<RunStatus, StoreError> {
    known("runs", text, RunStatus::parse(text))
}

pub(super) fn waitpoint_status(text: &str) -> Result<WaitpointStatus, StoreError> {
    known("waitpoints", text, WaitpointStatus::parse(text))
}

pub(super) fn stage(text: &str) -> Result<Stage, StoreError> {
    known("batches", text, Stage::parse(text))
}

pub(super) fn bulk_kind(text: &str) -> Result<BulkKind, StoreError> {
    known("bulk_actions", text, BulkKind::parse(text))
}

pub(super) fn bulk_status(text: &str) -> Result<BulkStatus, StoreError> {
    known("bulk_actions", text, BulkStatus::parse(text))
}

pub(super) fn event_kind(text: &str) -> Result<EventKind, StoreError> {
    known("run_events", text, EventKind::parse(text))
}

pub(super) fn environment_kind(text: &str) -> Result<EnvironmentKind, StoreError> {
    known("environments", text, EnvironmentKind::from_slug(text))
}

pub(super) fn schedule_kind(text: &str) -> Result<ScheduleKind, StoreError> {
    known("schedules", text, ScheduleKind::parse(text))
}

pub(super) fn machine(text: &str) -> Result<Machine, StoreError> {
    known("runs", text, Machine::parse(text))
}

pub(super) fn level(text: &str) -> Result<Level, StoreError> {
    known("logs", text, Level::ALL.into_iter().find(|level| level.as_str() == text))
}

pub(super) fn source(text: &str) -> Result<Source, StoreError> {
    known("logs", text, Source::ALL.into_iter().find(|source| source.as_str() == text))
}

pub(super) fn json<T: DeserializeOwned>(table: &'static str, value: Value) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::Unknown { table, what: error.to_string() })
}

/// A value as the text of a `json` column. Bound as text and cast there: the driver would send a JSON value as `jsonb`, which
/// loses the order of keys and refuses NUL escapes.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data with text keys")
}

/// A metadata object. Anything else is shown as no metadata.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

pub(super) fn packet(data: Option<Vec<u8>>, content_type: Option<String>) -> Option<Packet> {
    Some(Packet { data: data?, content_type: content_type? })
}

pub(super) fn ids<K>(uuids: Vec<Uuid>) -> Vec<Id<K>> {
    uuids.into_iter().map(Id::from_uuid).collect()
}

pub(super) fn uuids<K>(ids: &[Id<K>]) -> Vec<Uuid> {
    ids.iter().map(|id| id.uuid()).collect()
}

/// A count that a check constraint keeps from being negative.
pub(super) fn count(number: i64) -> u64 {
    number.max(0) as u64
}

fn known<T>(table: &'static str, text: &str, found: Option<T>) -> Result<T, StoreError> {
    found.ok_or_else(|| StoreError::Unknown { table, what: format!("{text:?}") })
}
