//! Tasks for those who drive runs from outside.

use dormouse::{ScheduleEvent, TaskError, wait};
use serde_json::Value;

/// Waits for a token that somebody else made, and returns what it was completed with.
#[dormouse::task(id = "await-token", retry(max_attempts = 1))]
pub fn await_token(id: String) -> Result<Value, TaskError> {
    Ok(wait::token::<Value>(&id)?)
}

/// Can be given schedules.
#[dormouse::task(id = "on-schedule", scheduled)]
pub fn on_schedule(event: ScheduleEvent) -> Option<String> {
    event.external_id
}

/// A task and a queue with slashes in their names.
#[dormouse::task(id = "folder/echo", queue(name = "folder/queue", concurrency = 3))]
pub fn folder_echo(payload: Value) -> Value {
    payload
}
