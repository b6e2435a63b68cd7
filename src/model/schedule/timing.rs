//! When a schedule fires: an expression, a zone, and a window to spread over. Source: facts J1, J2, J7, J8.

use std::{fmt, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::cron::CronExpr;
use crate::model::id::ScheduleId;

/// How late a schedule may fire. What is later, because no server was there, is missed and not made up for. Source: facts J7.
pub const LATE_AT_MOST: TimeDelta = TimeDelta::minutes(10);
/// Longest window.
const MAX_WINDOW: TimeDelta = TimeDelta::hours(24);
/// Most characters of a wrong text that a message repeats.
const MAX_ECHO_CHARS: usize = 64;

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The times.
    pub cron: CronExpr,
    /// On whose clocks.
    pub zone: Tz,
    /// None: exactly then.
    pub window: Option<Window>,
}

/// What is wrong with a timing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct BadTiming {
    /// `cron`, `timezone` or `window`; of what a task declares `environments`, too.
    pub field: &'static str,
    /// The rule, and what would be right.
    pub message: String,
}

/// One time that a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// As the expression has it. Runs are told this.
    pub at: DateTime<Utc>,
    /// When it really is, within the window.
    pub due_at: DateTime<Utc>,
}

/// What a look at a schedule whose time has come says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// What to fire now; none if everything that was due was missed.
    pub now: Option<Occurrence>,
    /// What comes next; none at the end of the calendar.
    pub next: Option<Occurrence>,
}

/// A window over which schedules with the same expression are spread: each fires at a time of its own within it, always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// That long, at most 24 hours, and never beyond the next occurrence.
    Minutes(u32),
    /// That share of the time to the next occurrence, at most 100.
    Percent(u32),
}

impl Timing {
    /// Reads an expression, the name of a zone (UTC if there is none) and a window such as `30m`, `2h` or `50%`.
    ///
    /// # Errors
    /// The first of them that cannot be understood.
    pub fn parse(cron: &str, zone: Option<&str>, window: Option<&str>) -> Result<Timing, BadTiming> {
        let cron = CronExpr::parse(cron).map_err(|error| BadTiming { field: "cron", message: error.to_string() })?;
        let zone = zone.unwrap_or("UTC");
        let zone = Tz::from_str(zone).map_err(|_| BadTiming {
            field: "timezone",
            message: format!("there is no zone {:?}; write a name such as Europe/Berlin, or UTC", echo(zone)),
        })?;
        let window = window.map(Window::from_str).transpose()?;
        Ok(Timing { cron, zone, window })
    }

    /// The first occurrence whose time is after this one.
    pub fn next(&self, schedule: ScheduleId, after: DateTime<Utc>) -> Option<Occurrence> {
        self.upcoming(after).next().map(|at| self.occurrence(schedule, at))
    }

    /// The times after this one, as the expression has them.
    pub fn upcoming(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let next = |at: DateTime<Utc>| self.cron.next_after(self.zone, at);
        std::iter::successors(next(after), move |at| next(*at))
    }

    /// What to do at `now` with a schedule that was to fire for `expected` next: if that and more is due, the newest is fired and
    /// what is older is missed. So is what is late by more than [`LATE_AT_MOST`].
    pub fn due(&self, schedule: ScheduleId, expected: DateTime<Utc>, now: DateTime<Utc>) -> Due {
        let horizon = now - LATE_AT_MOST;
        // What lies before this is missed, wherever in its window it is.
        let earliest = horizon - self.window.map_or(TimeDelta::zero(), |_| MAX_WINDOW);
        let first = if expected >= earliest { Some(expected) } else { self.cron.next_after(self.zone, earliest) };
        let mut due = Due { now: None, next: None };
        for at in std::iter::successors(first, |at| self.cron.next_after(self.zone, *at)) {
            let occurrence = self.occurrence(schedule, at);
            if occurrence.due_at > now {
                due.next = Some(occurrence);
                break;
            }
            due.now = (occurrence.due_at >= horizon).then_some(occurrence);
        }
        due
    }

    fn occurrence(&self, schedule: ScheduleId, at: DateTime<Utc>) -> Occurrence {
        let Some(window) = self.window else { return Occurrence { at, due_at: at } };
        let interval = self.cron.next_after(self.zone, at).map(|next| next - at);
        let length = match (window, interval) {
            (Window::Minutes(minutes), Some(interval)) => TimeDelta::minutes(i64::from(minutes)).min(interval),
            (Window::Minutes(minutes), None) => TimeDelta::minutes(i64::from(minutes)),
            (Window::Percent(percent), interval) => interval.unwrap_or_default() * percent as i32 / 100,
        };
        // The end of an id is random.
        let share = f64::from(schedule.uuid().as_u128() as u32) / (f64::from(u32::MAX) + 1.0);
        let delay = TimeDelta::seconds((length.num_seconds() as f64 * share) as i64);
        Occurrence { at, due_at: at + delay }
    }
}

impl FromStr for Window {
    type Err = BadTiming;

    fn from_str(text: &str) -> Result<Window, BadTiming> {
        let bad = || BadTiming {
            field: "window",
            message: format!("{:?} is no window; write 0m to 1440m, 0h to 24h, or 0% to 100%", echo(text)),
        };
        let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        let number: u32 = digits.parse().ok().filter(|_| is_plain).ok_or_else(bad)?;
        let window = match unit {
            "m" => Window::Minutes(number),
            "h" => Window::Minutes(number.saturating_mul(60)),
            "%" => Window::Percent(number),
            _ => return Err(bad()),
        };
        let fits = match window {
            Window::Minutes(minutes) => i64::from(minutes) <= MAX_WINDOW.num_minutes(),
            Window::Percent(percent) => percent <= 100,
        };
        if fits { Ok(window) } else { Err(bad()) }
    }
}

/// As it is read: whole hours in hours.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Minutes(minutes) if *minutes > 0 && minutes % 60 == 0 => write!(f, "{}h", minutes / 60),
            Window::Minutes(minutes) => write!(f, "{minutes}m"),
            Window::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO_CHARS).collect()
}
