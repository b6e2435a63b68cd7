//! Between Rust's times and the milliseconds of the WIT package.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rounded up: a wait is never shorter than asked for.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    let whole = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(whole).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch, rounded up; everything before it is the epoch itself.
pub(crate) fn timestamp(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

/// The instant that many milliseconds after the Unix epoch; one too far away for the clock is the epoch.
pub(crate) fn instant(timestamp_ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(timestamp_ms)).unwrap_or(UNIX_EPOCH)
}

/// The instant that a text such as `2026-01-15T09:00:00.000Z` names, from 1970 on.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let is_fraction = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !(is_date && hour < 24 && minute < 60 && second <= 60 && is_fraction) {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    let nanoseconds: u64 = format!("{fraction:0<9}").parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?;
    let numbers: Vec<u64> = text.split(separator).map(number).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Days from the first of January 1970 to this date.
fn days(year: u64, month: u64, day: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_days = |years: u64| years / 4 - years / 100 + years / 400;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leap_day = u64::from(is_leap && month > 2);
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969) + BEFORE[month as usize - 1] + leap_day + day - 1
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn instants_are_read_as_they_are_written() {
        let seconds = |text: &str| super::parse(text).map(|at| at.duration_since(UNIX_EPOCH).unwrap().as_secs_f64());
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(seconds("2000-02-29T12:00:00.500Z"), Some(951_825_600.5));
        assert_eq!(seconds("2026-01-15T09:00:00.000Z"), Some(1_768_467_600.0));
        assert_eq!(seconds("2100-03-01T00:00:00Z"), Some(4_107_542_400.0), "no leap year");
        for wrong in
            ["", "2026-01-15", "2026-01-15T09:00:00", "2026-13-15T09:00:00Z", "2026-01-15T24:00:00Z", "+026-01-15T09:00:00Z"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_rounded_up() {
        assert_eq!(super::milliseconds(Duration::from_micros(1_001)), 2);
        assert_eq!(super::milliseconds(Duration::from_millis(5)), 5);
        assert_eq!(super::milliseconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn instants_survive_the_way_there_and_back() {
        let at = UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
        assert_eq!(super::instant(super::timestamp(at)), at);
        assert_eq!(super::timestamp(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
