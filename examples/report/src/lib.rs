//! Tasks that are started by the clock: one with a schedule of its own, one that is given schedules while it is deployed.

use std::time::{Duration, UNIX_EPOCH};

use dormouse::{ScheduleEvent, ScheduleKind, TaskError, log, metadata, wait};
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    /// Seconds since 1970 of the time that it is for.
    at: u64,
    /// Seconds since the report before it; none for the first.
    covers: Option<u64>,
    /// Seconds until the next.
    next_in: Option<u64>,
    is_declared: bool,
}

/// The numbers of the last day, every working day at nine.
#[dormouse::task(
    id = "daily-report",
    description = "Reports every working day at nine in Berlin",
    schedule(cron = "0 9 * * 1-5", timezone = "Europe/Berlin"),
    retry(max_attempts = 3),
    ttl = "6h"
)]
fn daily_report(event: ScheduleEvent) -> Result<Report, TaskError> {
    metadata::set("status", "collecting")?;
    wait::duration(Duration::from_secs(1))?; // whatever the numbers come from may take its time
    let seconds = |span: Duration| span.as_secs();
    let report = Report {
        at: event.timestamp.duration_since(UNIX_EPOCH).map(seconds)?,
        covers: event.last_timestamp.and_then(|last| event.timestamp.duration_since(last).ok()).map(seconds),
        next_in: event.upcoming.first().and_then(|next| next.duration_since(event.timestamp).ok()).map(seconds),
        is_declared: event.kind == ScheduleKind::Declarative,
    };
    metadata::set("status", "done")?;
    Ok(report)
}

/// A reminder for one user: each has a schedule, made through the API with the user's id as its external id.
#[dormouse::task(id = "reminder", scheduled)]
fn reminder(event: ScheduleEvent) -> Result<String, TaskError> {
    let user = event.external_id.ok_or_else(|| TaskError::abort("the schedule names no user: give it an externalId"))?;
    log::info!("reminding {user}", schedule = event.schedule_id, zone = event.timezone);
    Ok(format!("reminded {user}"))
}

dormouse::bundle!(daily_report, reminder);
