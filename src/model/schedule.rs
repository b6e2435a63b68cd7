//! Schedules: tasks that are started by the clock. Source: facts J.

mod cron;
mod describe;
mod field;
#[cfg(test)]
mod tests;
mod timing;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

pub use self::{
    cron::{CronError, CronExpr, MAX_CRON_CHARS},
    timing::{BadTiming, Due, LATE_AT_MOST, Occurrence, Timing, Window},
};
use super::{
    id::{EnvironmentId, ScheduleId},
    payload::{Packet, SUPER_JSON},
};

/// Most schedules of a project, in all its environments together.
pub const MAX_SCHEDULES: usize = 10_000;
/// Longest deduplication key and external id, in characters.
pub const MAX_SCHEDULE_KEY_CHARS: usize = 512;
/// Coming times that a run is told. Source: facts J3.
pub const UPCOMING: usize = 10;

/// Where a schedule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleKind {
    /// A task declares it: deployments make, change and delete it.
    Declarative,
    /// Made, changed and deleted through the API.
    Imperative,
}

impl ScheduleKind {
    /// The text of the HTTP API, which is also the one stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Declarative => "DECLARATIVE",
            Self::Imperative => "IMPERATIVE",
        }
    }

    /// The kind with this text.
    pub fn parse(text: &str) -> Option<ScheduleKind> {
        [Self::Declarative, Self::Imperative].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Where it comes from.
    pub kind: ScheduleKind,
    /// Where its runs are.
    pub environment: EnvironmentId,
    /// The task it starts.
    pub task: String,
    /// The same key gets the same schedule, within a project; none for a declarative one. Source: facts J4.
    pub deduplication_key: Option<String>,
    /// The user's own name for what it is about; runs are told.
    pub external_id: Option<String>,
    /// When it fires.
    pub timing: Timing,
    /// It fires at all.
    pub is_active: bool,
    /// What comes next; none while it is not active, and at the end of the calendar.
    pub next: Option<Occurrence>,
    /// The time, as the expression has it, for which it fired last.
    pub last_run_at: Option<DateTime<Utc>>,
}

/// What a schedule shall be that is made or changed through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSchedule {
    /// A scheduled task of the current deployment. Source: facts J11.
    pub task: String,
    /// When it fires.
    pub timing: Timing,
    /// 1 to [`MAX_SCHEDULE_KEY_CHARS`].
    pub external_id: Option<String>,
}

impl Schedule {
    /// What a run is told that is started for the time `at`. Dates are dates to clients that know superjson. Source: facts J3.
    pub fn event(&self, at: DateTime<Utc>) -> Packet {
        let mut event = Map::new();
        event.insert("scheduleId".into(), json!(self.id));
        event.insert("type".into(), json!(self.kind.as_str()));
        event.insert("timestamp".into(), date(at));
        event.extend(self.last_run_at.map(|last| ("lastTimestamp".into(), date(last))));
        event.insert("timezone".into(), json!(self.timing.zone.name()));
        event.extend(self.external_id.as_ref().map(|id| ("externalId".into(), json!(id))));
        let upcoming: Vec<Value> = self.timing.upcoming(at).take(UPCOMING).map(date).collect();
        let places = (0..upcoming.len()).map(|place| format!("upcoming.{place}"));
        let last = self.last_run_at.map(|_| "lastTimestamp".to_owned());
        let dates: Map<String, Value> =
            ["timestamp".to_owned()].into_iter().chain(last).chain(places).map(|path| (path, json!(["Date"]))).collect();
        event.insert("upcoming".into(), Value::Array(upcoming));
        let data = json!({ "json": event, "meta": { "values": dates } }).to_string().into_bytes();
        Packet { data, content_type: SUPER_JSON.into() }
    }
}

/// The names of all zones, UTC first. Source: facts J2.
pub fn zone_names() -> impl Iterator<Item = &'static str> {
    let others = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).filter(|name| *name != "UTC");
    std::iter::once("UTC").chain(others)
}

fn date(at: DateTime<Utc>) -> Value {
    json!(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}
