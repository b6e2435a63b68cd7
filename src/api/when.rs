//! Durations and times as requests write them. Source: facts A1, A4, A7.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};

/// Longest text of a duration, in characters.
const MAX_CHARS: usize = 100;

/// How a duration is written, for messages.
pub(super) const DURATION_HINT: &str = "write a duration such as 30s, 10m or 1h30m (units w d h m s)";
/// How a duration or time is written, for messages.
pub(super) const MOMENT_HINT: &str =
    "write a duration such as 30s, 10m or 1h30m (units w d h m s), or a time such as 2026-01-01T09:00:00Z";

/// Milliseconds of `1h52m18s`: numbers with the units w, d, h or hr, m, s.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > MAX_CHARS {
        return None;
    }
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let unit_chars = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_chars);
        let seconds = match unit {
            "w" => 604_800,
            "d" => 86_400,
            "h" | "hr" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(seconds * 1000)?)?;
        rest = after;
    }
    Some(total)
}

/// The moment that a duration from `now`, or a date or time in the forms of ISO 8601 and HTTP, names.
pub(super) fn moment(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if let Some(ms) = duration_ms(text) {
        return now.checked_add_signed(TimeDelta::try_milliseconds(i64::try_from(ms).ok()?)?);
    }
    let with_zone = || DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc2822(text)).ok();
    let local =
        || ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"].iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    with_zone().map(|time| time.with_timezone(&Utc)).or_else(|| local().or_else(day).map(|time| time.and_utc()))
}

/// Milliseconds of an idempotency key's time: one number with the unit s, m, h or d.
pub(super) fn key_ttl_ms(text: &str) -> Option<u64> {
    let one_unit = text.chars().filter(|c| !c.is_ascii_digit()).count() == 1 && text.ends_with(['s', 'm', 'h', 'd']);
    duration_ms(text).filter(|_| one_unit)
}

/// A duration as requests write it: `1h30m`.
pub(super) fn duration_text(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String = parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect();
    if text.is_empty() { "0s".into() } else { text }
}

/// A time as responses write it: milliseconds, UTC, `Z`.
pub(super) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_clients_write_them() {
        for (text, ms) in [
            ("1s", Some(1000)),
            ("1h52m18s", Some(6_738_000)),
            ("2hr", Some(7_200_000)),
            ("1w2d", Some(777_600_000)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("h", None),
            ("1.5h", None),
            ("-1h", None),
            ("1 h", None),
            ("1y", None),
            ("99999999999999999999w", None),
            ("9999999999999999999w", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
        assert_eq!(duration_ms(&"1s".repeat(51)), None);
    }

    #[test]
    fn a_moment_is_a_duration_from_now_or_a_date() {
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let text = |text: &str| moment(text, now).map(rfc3339);
        assert_eq!(text("90s").as_deref(), Some("2026-01-01T00:01:30.000Z"));
        assert_eq!(text("2026-02-03T04:05:06.789Z").as_deref(), Some("2026-02-03T04:05:06.789Z"));
        assert_eq!(text("2026-02-03T04:05:06+02:00").as_deref(), Some("2026-02-03T02:05:06.000Z"));
        assert_eq!(text("2026-02-03").as_deref(), Some("2026-02-03T00:00:00.000Z"));
        assert_eq!(text("Tue, 03 Feb 2026 04:05:06 GMT").as_deref(), Some("2026-02-03T04:05:06.000Z"));
        for wrong in ["", "tomorrow", "2026-13-01", "1e9", "9999999999999w"] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_keys_time_has_one_unit() {
        assert_eq!(key_ttl_ms("60s"), Some(60_000));
        assert_eq!(key_ttl_ms("30d"), Some(2_592_000_000));
        for wrong in ["1h30m", "1w", "5", "s", ""] {
            assert_eq!(key_ttl_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for ms in [0, 1000, 60_000, 5_400_000, 90_061_000] {
            assert_eq!(duration_ms(&duration_text(ms)), Some(ms));
        }
    }
}
