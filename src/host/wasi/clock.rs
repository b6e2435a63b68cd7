//! The guest's clocks. The wall clock shows the time of the database, on whatever machine. The monotonic one never runs backwards, not even over a restore on another machine, and it counts the time
//! that the run was suspended, so that a deadline taken before a suspension means the same instant after it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use crate::wall_clock;

/// Nanoseconds since the attempt began.
#[derive(Debug, Clone)]
pub struct GuestClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    offset: AtomicU64,
}

/// A clock reading with the wall-clock time it was taken at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedClock {
    nanoseconds: u64,
    at: DateTime<Utc>,
}

impl GuestClock {
    /// A clock that stands at zero.
    pub fn start() -> GuestClock {
        GuestClock(Arc::new(Inner { started: Instant::now(), offset: AtomicU64::new(0) }))
    }

    /// Nanoseconds on the clock.
    pub fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.0.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.offset.load(Ordering::Relaxed).saturating_add(elapsed)
    }

    /// The wall-clock time at which this clock will show `deadline`; the present if it is past. Deadlines further away than
    /// the calendar reaches are cut to its end.
    pub fn wall_time_of(&self, deadline: u64) -> DateTime<Utc> {
        let away = TimeDelta::from_std(Duration::from_nanos(deadline.saturating_sub(self.now()))).unwrap_or(TimeDelta::MAX);
        wall_clock::now().checked_add_signed(away).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// What to keep of it.
    pub fn save(&self) -> SavedClock {
        SavedClock { nanoseconds: self.now(), at: wall_clock::now() }
    }

    /// Goes on from a saved reading plus the time that has passed since; a time that was set back counts as none.
    pub fn go_on(&self, saved: &SavedClock) {
        let away = (wall_clock::now() - saved.at).to_std().unwrap_or_default();
        let reading = saved.nanoseconds.saturating_add(u64::try_from(away.as_nanos()).unwrap_or(u64::MAX));
        let elapsed = u64::try_from(self.0.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.offset.store(reading.saturating_sub(elapsed), Ordering::Relaxed);
    }
}

impl HostMonotonicClock for GuestClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        GuestClock::now(self)
    }
}

/// The guest's wall clock.
#[derive(Debug, Clone, Copy)]
pub struct GuestWallClock;

impl HostWallClock for GuestWallClock {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        (wall_clock::now() - DateTime::UNIX_EPOCH).to_std().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_clock_counts_the_time_asleep_and_never_runs_backwards() {
        let hour = 3_600_000_000_000;
        let (before, after) = (GuestClock::start(), GuestClock::start());
        let mut saved = before.save();
        saved.at -= TimeDelta::hours(1);
        after.go_on(&saved);
        assert!((hour..hour + 1_000_000_000).contains(&after.now()));
        saved = after.save();
        saved.at += TimeDelta::hours(5);
        after.go_on(&saved);
        assert!(after.now() >= saved.nanoseconds);
    }

    #[test]
    fn a_deadline_beyond_the_calendar_is_cut_to_its_end() {
        assert!(GuestClock::start().wall_time_of(u64::MAX) > Utc::now() + TimeDelta::days(365 * 500));
        // Other tests may set the time of the process a little.
        assert!(GuestClock::start().wall_time_of(0) <= wall_clock::now() + TimeDelta::seconds(1));
    }
}
