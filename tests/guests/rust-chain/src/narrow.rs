//! Tasks of which only so many may execute at a time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When it began and ended, in milliseconds since 1970.
type Span = (u64, u64);

/// One at a time.
#[dormouse::task(id = "single", concurrency(total = 1))]
pub fn single(_: ()) -> Span {
    stay()
}

/// Two at a time, of this and [`other_shared`].
#[dormouse::task(id = "shared", limits(limit(name = "two", total = 2)))]
pub fn shared(_: ()) -> Span {
    stay()
}

/// See [`shared`].
#[dormouse::task(id = "other-shared", limits(limit(name = "two")))]
pub fn other_shared(_: ()) -> Span {
    stay()
}

/// Stays in memory: a wait so short is none that a snapshot is taken for.
fn stay() -> Span {
    let begun = now();
    std::thread::sleep(Duration::from_millis(300));
    (begun, now())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
