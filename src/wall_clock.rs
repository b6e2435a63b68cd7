//! What time it is, as this process knows it: the database's time, which it asks for every second and counts on from by itself.
//!
//! What the clock of its machine shows means nothing: machines differ, and their clocks are set. A sleep that begins on one worker and
//! ends on another, a delay that one server notes and all compare with the database's time, and what a guest is told when it asks
//! for the time must mean the same everywhere. Until the database has been asked it is the machine's time, as at the first question.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::start);

/// The time.
pub fn now() -> DateTime<Utc> {
    CLOCK.at(Instant::now())
}

/// The database, asked at `asked`, said at some moment until `answered` that it was `said`. A difference that may come from the
/// answer's way is none. Returns by how much this process was wrong.
pub fn learn(said: DateTime<Utc>, asked: Instant, answered: Instant) -> TimeDelta {
    CLOCK.learn(said, asked, answered)
}

struct Clock {
    /// The same moment by a clock that is never set, and by the machine's.
    began: (Instant, DateTime<Utc>),
    /// Microseconds by which the database's time is ahead of that.
    ahead: AtomicI64,
}

impl Clock {
    fn start() -> Clock {
        Clock { began: (Instant::now(), Utc::now()), ahead: AtomicI64::new(0) }
    }

    fn at(&self, moment: Instant) -> DateTime<Utc> {
        self.unset(moment) + TimeDelta::microseconds(self.ahead.load(Relaxed))
    }

    fn learn(&self, said: DateTime<Utc>, asked: Instant, answered: Instant) -> TimeDelta {
        let way = TimeDelta::from_std(answered.saturating_duration_since(asked)).unwrap_or(TimeDelta::MAX);
        let ahead = said - self.unset(asked) - way / 2;
        let wrong = ahead - TimeDelta::microseconds(self.ahead.load(Relaxed));
        if wrong.abs() <= way {
            return TimeDelta::zero();
        }
        self.ahead.store(ahead.num_microseconds().unwrap_or_default(), Relaxed);
        wrong
    }

    /// What it would be if the database had never been asked.
    fn unset(&self, moment: Instant) -> DateTime<Utc> {
        let (began, time) = self.began;
        let since = |from: Instant, to: Instant| TimeDelta::from_std(to.saturating_duration_since(from)).unwrap_or_default();
        time + since(began, moment) - since(moment, began)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_what_the_database_said_and_goes_on_by_itself() {
        let clock = Clock::start();
        let (began, hour, second) = (clock.began.0, TimeDelta::hours(1), Duration::from_secs(1));
        let at = |seconds: u32| clock.at(began + second * seconds) - clock.began.1;
        assert_eq!(at(10), TimeDelta::seconds(10));
        assert_eq!(clock.learn(clock.began.1 + hour, began, began), hour);
        assert_eq!((at(0), at(10)), (hour, hour + TimeDelta::seconds(10)));
        let unsure = clock.learn(clock.at(began) + TimeDelta::seconds(5), began, began + second * 20);
        assert_eq!((unsure, at(0)), (TimeDelta::zero(), hour), "the answer took longer than the difference");
        let later = began + second * 60;
        assert_eq!(clock.learn(clock.began.1 + TimeDelta::seconds(60), later, later), -hour);
        assert_eq!(at(90), TimeDelta::seconds(90));
    }

    #[test]
    fn until_the_database_is_asked_it_is_the_time_of_the_machine() {
        assert!((now() - Utc::now()).abs() < TimeDelta::seconds(1));
    }
}
