//! Cron expressions: when something is due, in a zone.
//!
//! The `cron` library is asked only about a timeline without zones, in two steps: which days, then which times of a day. Its own
//! rules are not those of cron as people know it (it counts weekdays from one, takes six fields, and wants day of month *and*
//! day of week), so every field is read here and handed over as plain numbers and names.
//!
//! When clocks change, an expression that fires in every hour goes by real time: what does not exist is passed over, what comes
//! twice fires twice. Any other means the wall clock: a time that does not exist fires at the first moment that does, once however
//! many of its times are skipped, and one that comes twice fires the first time.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::{
    describe,
    field::{DAY, Field, HOUR, MINUTE, MONTH, WEEKDAY, WEEKDAYS},
};

/// Longest expression, in characters.
pub const MAX_CRON_CHARS: usize = 512;
/// More than any clock is ever put back, the two hours of Antarctica/Troll included.
const LONGEST_FOLD: TimeDelta = TimeDelta::hours(3);
/// More minutes than any clock is ever put forward: a whole day, where the date line was moved.
const LONGEST_GAP_MINUTES: i64 = 25 * 60;

/// A cron expression of five fields: minute, hour, day of month, month, day of week.
#[derive(Clone)]
pub struct CronExpr {
    text: String,
    fields: Fields,
    /// The times of a day.
    times: ::cron::Schedule,
    /// A day that any of these has is one.
    days: Vec<DayRule>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) day: Field,
    pub(super) month: Field,
    pub(super) weekday: Field,
}

#[derive(Debug, Clone)]
struct DayRule {
    /// Midnights.
    days: ::cron::Schedule,
    only: Only,
}

/// Which of a rule's days count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Every,
    LastOfMonth,
    InLastWeekOfMonth,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than [`MAX_CRON_CHARS`].
    #[error("an expression has at most {MAX_CRON_CHARS} characters")]
    TooLong,
    /// Six fields: the first would be seconds.
    #[error("expressions with seconds are not allowed; leave out the first of the six fields")]
    Seconds,
    /// `@daily` and the like.
    #[error("shorthands such as @daily are not allowed; write five fields, such as 0 0 * * *")]
    Shorthand,
    /// Another number of fields.
    #[error("{0} fields instead of five; write minute, hour, day of month, month and day of week, such as 0 9 * * 1-5")]
    FieldCount(usize),
    /// A field breaks a rule.
    #[error("{field}: {rule}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong, and what would be right.
        rule: String,
    },
    /// The 31st of February.
    #[error("it would never fire: none of its months has such a day")]
    Never,
}

impl FromStr for CronExpr {
    type Err = CronError;

    fn from_str(text: &str) -> Result<CronExpr, CronError> {
        CronExpr::parse(text)
    }
}

impl CronExpr {
    /// Reads an expression, and makes sure that it fires at all. White space around and between fields does not count.
    /// Source: facts J1.
    ///
    /// # Errors
    /// See [`CronError`].
    pub fn parse(text: &str) -> Result<CronExpr, CronError> {
        if text.chars().count() > MAX_CRON_CHARS {
            return Err(CronError::TooLong);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = words[..] else {
            return Err(match words[..] {
                [word, ..] if word.starts_with('@') => CronError::Shorthand,
                [_, _, _, _, _, _] => CronError::Seconds,
                _ => CronError::FieldCount(words.len()),
            });
        };
        let fields = Fields {
            minute: MINUTE.read(minute)?,
            hour: HOUR.read(hour)?,
            day: DAY.read(day)?,
            month: MONTH.read(month)?,
            weekday: WEEKDAY.read(weekday)?,
        };
        let times = schedule(&format!("0 {} {} * * *", numbers(fields.minute), numbers(fields.hour)));
        let expression = CronExpr { text: words.join(" "), times, days: day_rules(&fields), fields };
        expression.next_day(NaiveDate::default()).ok_or(CronError::Never)?;
        Ok(expression)
    }

    /// As it was written, with single spaces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it means, for people: `At 09:00, Monday through Friday`. Source: facts J10.
    pub fn description(&self) -> String {
        describe::sentence(&self.fields)
    }

    /// The first time after `after` that it fires on the clocks of `zone`; none after the year 2100.
    pub fn next_after(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let every_hour = self.fields.hour.is_any;
        let mut local = after.with_timezone(&zone).naive_local();
        // In the second pass of an hour that comes twice, times that lie before are still to come.
        if every_hour && clock_changes(zone, after) {
            local -= LONGEST_FOLD;
        }
        let mut nearest: Option<DateTime<Utc>> = None;
        loop {
            let Some(candidate) = self.next_local(local) else { return nearest };
            let (first, second) = instants(zone, candidate, every_hour);
            let later = |at: &DateTime<Utc>| *at > after;
            nearest = [nearest, first.filter(later), second.filter(later)].into_iter().flatten().min();
            // From here on first instants are no earlier than this one, and so are second ones.
            if first.is_some_and(|first| first > after) {
                return nearest;
            }
            local = candidate;
        }
    }

    /// The first time on a timeline without zones that is later than this one.
    fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let today = after.date();
        let day = self.next_day(today)?;
        if day == today
            && let Some(time) = next(&self.times, after).filter(|time| time.date() == today)
        {
            return Some(time);
        }
        let day = if day == today { self.next_day(today.succ_opt()?)? } else { day };
        next(&self.times, just_before(day))
    }

    /// The first of its days that is this one or later.
    fn next_day(&self, from: NaiveDate) -> Option<NaiveDate> {
        self.days.iter().filter_map(|rule| rule.next(from)).min()
    }
}

impl DayRule {
    fn next(&self, from: NaiveDate) -> Option<NaiveDate> {
        let mut before = just_before(from);
        loop {
            before = next(&self.days, before)?;
            let day = before.date();
            let days_left = u32::from(day.num_days_in_month()) - day.day();
            let counts = match self.only {
                Only::Every => true,
                Only::LastOfMonth => days_left == 0,
                Only::InLastWeekOfMonth => days_left < 7,
            };
            if counts {
                return Some(day);
            }
        }
    }
}

/// If both day fields choose, a day that either names is one, as Vixie's cron has it.
fn day_rules(fields: &Fields) -> Vec<DayRule> {
    let Fields { day, month, weekday, .. } = fields;
    let month = numbers(*month);
    let rule = |days: &str, weekdays: &str, only| DayRule { days: schedule(&format!("0 0 0 {days} {month} {weekdays}")), only };
    let mut rules = Vec::new();
    if day.is_any && weekday.is_any {
        rules.push(rule("*", "*", Only::Every));
    }
    if !day.is_any && !day.numbers.is_empty() {
        rules.push(rule(&numbers(*day), "*", Only::Every));
    }
    if !day.is_any && day.last_day {
        rules.push(rule("28-31", "*", Only::LastOfMonth));
    }
    if !weekday.is_any && !weekday.numbers.is_empty() {
        rules.push(rule("*", &names(weekday.numbers.numbers()), Only::Every));
    }
    if !weekday.is_any && !weekday.last_weekdays.is_empty() {
        rules.push(rule("*", &names(weekday.last_weekdays.numbers()), Only::InLastWeekOfMonth));
    }
    rules
}

/// A field as the library writes it.
fn numbers(field: Field) -> String {
    if field.is_any {
        return "*".into();
    }
    field.numbers.numbers().map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

fn names(weekdays: impl Iterator<Item = u32>) -> String {
    weekdays.map(|weekday| WEEKDAYS[weekday as usize]).collect::<Vec<_>>().join(",")
}

fn schedule(text: &str) -> ::cron::Schedule {
    text.parse().expect("numbers within their ranges, written out")
}

fn next(schedule: &::cron::Schedule, after: NaiveDateTime) -> Option<NaiveDateTime> {
    schedule.after(&after.and_utc()).next().map(|time| time.naive_utc())
}

/// The last second before the day.
fn just_before(day: NaiveDate) -> NaiveDateTime {
    day.and_time(NaiveTime::MIN) - TimeDelta::seconds(1)
}

/// Whether the zone's clocks are changed near this time.
fn clock_changes(zone: Tz, near: DateTime<Utc>) -> bool {
    let offset = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local() - at.naive_utc();
    offset(near - LONGEST_FOLD) != offset(near + LONGEST_FOLD)
}

/// When a local time is: twice where clocks are put back, if both count, and where they are put forward never or, if it must be,
/// at the first moment after the gap.
fn instants(zone: Tz, local: NaiveDateTime, by_real_time: bool) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => (Some(at.to_utc()), None),
        LocalResult::Ambiguous(first, second) => (Some(first.to_utc()), by_real_time.then(|| second.to_utc())),
        LocalResult::None if by_real_time => (None, None),
        LocalResult::None => {
            let later = (1..=LONGEST_GAP_MINUTES)
                .filter_map(|minutes| zone.from_local_datetime(&(local + TimeDelta::minutes(minutes))).earliest());
            (later.map(|at| at.to_utc()).next(), None)
        }
    }
}

impl fmt::Display for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CronExpr({:?})", self.text)
    }
}

/// Two that are written alike.
impl PartialEq for CronExpr {
    fn eq(&self, other: &CronExpr) -> bool {
        self.text == other.text
    }
}

impl Eq for CronExpr {}
