//! What a run is told that a schedule started.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, de};

use crate::time;

/// The payload of a run that a schedule started.
///
/// ```no_run
/// use dormouse::{ScheduleEvent, TaskError, log};
///
/// #[dormouse::task(schedule(cron = "0 9 * * 1-5", timezone = "Europe/Berlin"))]
/// fn report(event: ScheduleEvent) -> Result<(), TaskError> {
///     let covered = event.last_timestamp.and_then(|last| event.timestamp.duration_since(last).ok());
///     log::info!("reporting", schedule = event.schedule_id, seconds = covered.unwrap_or_default().as_secs());
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Sent")]
#[non_exhaustive]
pub struct ScheduleEvent {
    /// `sched_…`
    pub schedule_id: String,
    /// Where the schedule comes from.
    pub kind: ScheduleKind,
    /// The time that the run is for. It began a little later.
    pub timestamp: SystemTime,
    /// The time that the run before it was for.
    pub last_timestamp: Option<SystemTime>,
    /// The zone on whose clocks the schedule goes, such as `Europe/Berlin`.
    pub timezone: String,
    /// The name that the schedule was given, such as a user's id.
    pub external_id: Option<String>,
    /// The times that come next.
    pub upcoming: Vec<SystemTime>,
}

/// Where a schedule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ScheduleKind {
    /// The task declares it.
    Declarative,
    /// It was made through the API.
    Imperative,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    schedule_id: String,
    #[serde(rename = "type")]
    kind: ScheduleKind,
    timestamp: Instant,
    last_timestamp: Option<Instant>,
    timezone: String,
    external_id: Option<String>,
    upcoming: Vec<Instant>,
}

struct Instant(SystemTime);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let instant = time::parse(&text).map(Instant);
        instant.ok_or_else(|| de::Error::custom(format_args!("{text:?} is no time such as 2026-01-15T09:00:00.000Z")))
    }
}

impl From<Sent> for ScheduleEvent {
    fn from(sent: Sent) -> ScheduleEvent {
        ScheduleEvent {
            schedule_id: sent.schedule_id,
            kind: sent.kind,
            timestamp: sent.timestamp.0,
            last_timestamp: sent.last_timestamp.map(|last| last.0),
            timezone: sent.timezone,
            external_id: sent.external_id,
            upcoming: sent.upcoming.into_iter().map(|at| at.0).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{ScheduleEvent, ScheduleKind};
    use crate::bindings::dormouse::task::types::Packet;
    use crate::packet::decode;

    fn read(json: &str) -> Result<ScheduleEvent, String> {
        let data = format!(r#"{{"json":{json},"meta":{{"values":{{"timestamp":["Date"]}}}}}}"#).into_bytes();
        decode(&Packet { data, content_type: "application/super+json".into() }).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_is_read_as_schedules_send_it() {
        let event = read(
            r#"{"scheduleId":"sched_1","type":"DECLARATIVE","timestamp":"1970-01-02T00:00:00.000Z","timezone":"UTC",
                "lastTimestamp":"1970-01-01T00:00:00.000Z","externalId":"user_1","upcoming":["1970-01-03T00:00:00.000Z"]}"#,
        )
        .unwrap();
        let day = Duration::from_secs(86_400);
        assert_eq!((event.kind, event.timestamp), (ScheduleKind::Declarative, UNIX_EPOCH + day));
        assert_eq!((event.last_timestamp, event.upcoming), (Some(UNIX_EPOCH), vec![UNIX_EPOCH + day * 2]));
        assert_eq!(event.external_id.as_deref(), Some("user_1"));

        let first = r#"{"scheduleId":"s","type":"IMPERATIVE","timestamp":"1970-01-02T00:00:00Z","timezone":"UTC","upcoming":[]}"#;
        let first = read(first).unwrap();
        assert_eq!((first.last_timestamp, first.external_id, first.kind), (None, None, ScheduleKind::Imperative));
        assert!(read(r#"{"scheduleId":"s","type":"IMPERATIVE","timestamp":"noon"}"#).unwrap_err().contains("no time such as"));
    }
}
