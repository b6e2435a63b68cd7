//! CPU time of one attempt: measured exactly, limited, and held to the share of a core that its machine has.
//!
//! A guest runs on whichever thread polls its future, so the thread's CPU clock is read before and after each poll and
//! nothing else is counted: waits cost nothing. The engine's epoch makes a guest yield every [`TICK`], and at
//! each yield the limit is looked at; so it is exceeded by one tick at most.
//!
//! [`TICK`]: super::engine::TICK

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime::UpdateDeadline;

/// The span over which a machine's share of a core is kept.
const WINDOW: Duration = Duration::from_millis(100);

/// What ends a guest at its limit: the error of the epoch callback, found again in the error of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the CPU time limit of {limit:?} was reached")]
pub struct Exhausted {
    /// The limit.
    pub limit: Duration,
}

/// CPU time used by one attempt. Shared: the guest itself may ask for it while it runs.
#[derive(Debug)]
pub struct Meter {
    /// Nanoseconds of slices that are over.
    used: AtomicU64,
    /// The thread's clock at the start of the slice that is running, in nanoseconds; 0: none is.
    slice: AtomicU64,
    limit: Option<Duration>,
}

impl Meter {
    /// A meter that stands at `used` and may go up to `limit`.
    pub fn new(used: Duration, limit: Option<Duration>) -> Arc<Meter> {
        Arc::new(Meter { used: AtomicU64::new(nanoseconds(used)), slice: AtomicU64::new(0), limit })
    }

    /// CPU time used so far. From within the guest's own thread this includes the slice that is running.
    pub fn used(&self) -> Duration {
        let running = match self.slice.load(Relaxed) {
            0 => 0,
            start => thread_time().saturating_sub(start),
        };
        Duration::from_nanos(self.used.load(Relaxed) + running)
    }

    /// What the guest does at each tick: yield, or end.
    ///
    /// # Errors
    /// [`Exhausted`] when the limit is reached.
    pub fn tick(&self) -> wasmtime::Result<UpdateDeadline> {
        match self.limit {
            Some(limit) if self.used() >= limit => Err(Exhausted { limit }.into()),
            _ => Ok(UpdateDeadline::Yield(1)),
        }
    }

    /// Runs `work`, counting its time, and no more of it at a time than `throttle` allows.
    pub async fn measure<F: Future>(&self, throttle: &mut Throttle, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            ready!(throttle.poll_pause(context));
            let slice = Slice::begin(self);
            let polled = work.as_mut().poll(context);
            throttle.spend(slice.end());
            if polled.is_pending() {
                // Registers the waker for the end of the pause; if there is none, `work` has registered its own.
                let _ = throttle.poll_pause(context);
            }
            polled
        })
        .await
    }
}

/// One poll. Ends also when the poll panics.
struct Slice<'a>(&'a Meter);

impl Slice<'_> {
    fn begin(meter: &Meter) -> Slice<'_> {
        meter.slice.store(thread_time().max(1), Relaxed);
        Slice(meter)
    }

    /// Its CPU time.
    fn end(self) -> Duration {
        Duration::from_nanos(thread_time().saturating_sub(self.0.slice.load(Relaxed)))
    }
}

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        let spent = thread_time().saturating_sub(self.0.slice.swap(0, Relaxed));
        self.0.used.fetch_add(spent, Relaxed);
    }
}

/// CPU time of this thread, in nanoseconds.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Holds a guest to its share of a core: in each window it runs for its share, then pauses to the window's end. What it
/// ran over is taken from the next windows.
#[derive(Debug)]
pub struct Throttle {
    /// CPU time for each window; none: no throttle.
    budget: Option<Duration>,
    window_end: Instant,
    spent: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Throttle {
    /// For a machine of `cpu` vCPU. A component has one thread, so a whole core and more is no limit. Source: facts A23.
    pub fn new(cpu: f64) -> Throttle {
        let budget = (cpu < 1.0).then(|| WINDOW.mul_f64(cpu));
        Throttle { budget, window_end: Instant::now() + WINDOW, spent: Duration::ZERO, pause: None }
    }

    fn spend(&mut self, time: Duration) {
        let Some(budget) = self.budget else { return };
        self.pass_windows(budget);
        self.spent += time;
        if self.spent >= budget {
            let windows_over = (self.spent.as_nanos() / budget.as_nanos() - 1) as u32;
            self.pause = Some(Box::pin(sleep_until(self.window_end + WINDOW * windows_over)));
        }
    }

    /// Moves the window to where now is, paying for what was overrun with those that passed.
    fn pass_windows(&mut self, budget: Duration) {
        let now = Instant::now();
        if now >= self.window_end {
            let passed = (now - self.window_end).as_nanos() / WINDOW.as_nanos() + 1;
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            self.spent = self.spent.saturating_sub(budget.saturating_mul(passed));
            self.window_end += WINDOW * passed;
        }
    }

    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses about `time` of CPU, yielding every millisecond.
    async fn work(time: Duration) {
        let mut done = Duration::ZERO;
        while done < time {
            let start = thread_time();
            while thread_time() - start < 1_000_000 {}
            done += Duration::from_millis(1);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_is_counted_and_waits_are_not() {
        let meter = Meter::new(Duration::from_secs(1), None);
        let mut throttle = Throttle::new(1.0);
        let task = async {
            work(Duration::from_millis(20)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(meter.used() >= Duration::from_millis(1020));
        };
        meter.measure(&mut throttle, task).await;
        let used = meter.used();
        assert!((1020..1045).contains(&used.as_millis()), "{used:?}");
    }

    #[tokio::test]
    async fn the_tick_ends_what_has_reached_its_limit() {
        let limit = Duration::from_millis(5);
        let meter = Meter::new(Duration::ZERO, Some(limit));
        assert!(matches!(meter.tick(), Ok(UpdateDeadline::Yield(1))));
        meter.measure(&mut Throttle::new(1.0), work(limit)).await;
        let error = meter.tick().err().expect("the limit is reached");
        assert_eq!(error.downcast::<Exhausted>().unwrap(), Exhausted { limit });
    }

    #[tokio::test]
    async fn a_quarter_of_a_core_takes_four_times_as_long() {
        let meter = Meter::new(Duration::ZERO, None);
        let start = Instant::now();
        meter.measure(&mut Throttle::new(0.25), work(Duration::from_millis(100))).await;
        let took = start.elapsed();
        // Four windows' worth, of which the last need not be waited for.
        assert!(took >= Duration::from_millis(300), "{took:?}");
    }
}
