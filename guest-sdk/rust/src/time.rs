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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

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
