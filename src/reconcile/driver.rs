//! Runs the sweeps side by side until the process stops. Any number of processes may do so: sweeps lock the rows they
//! move and pass over those of others.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{batches, children, gc, leases, retention, schedules, timers, versions, wall_clock};
use crate::{
    blobs::Blobs,
    engine,
    store::{Store, listen::Signals},
};

/// How often the sweeps run, and what is old.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// Between two looks for lost leases, and for children of cancelled runs.
    pub leases: Duration,
    /// Between two looks for batches that somebody left.
    pub batches: Duration,
    /// Longest time between two looks for what is due, if no signal comes; none comes for what is due in more than five seconds.
    pub timers: Duration,
    /// Between two looks for runs that wait for a deployment which is there.
    pub versions: Duration,
    /// Between two questions for the time.
    pub clock: Duration,
    /// Between two collections of garbage.
    pub gc: Duration,
    /// Between two looks for orphaned blobs.
    pub blobs: Duration,
    /// Between two looks for runs, batches and waitpoints that have been over for too long.
    pub retention: Duration,
    /// How long those are kept; none: for ever.
    pub keep_runs: Option<Duration>,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            leases: Duration::from_millis(500),
            batches: Duration::from_secs(2),
            timers: Duration::from_secs(2),
            versions: Duration::from_secs(10),
            clock: Duration::from_secs(1),
            gc: Duration::from_secs(600),
            blobs: Duration::from_secs(3600),
            retention: Duration::from_secs(3600),
            keep_runs: None,
        }
    }
}

/// Shortest pause between two looks for what is due: what is due within it is moved on together.
const TIMER_PAUSE: Duration = Duration::from_millis(5);
/// Pause after a look that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Starts the sweeps as tasks of `tasks`; they end soon after `stop` is cancelled, each at the end of what it is doing.
/// `rewriter` is the version that new runs use.
pub fn start(
    store: &Store,
    blobs: &Blobs,
    signals: &Signals,
    rewriter: u32,
    intervals: Intervals,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    tasks.spawn(when_due("timers", signals.timers.clone(), intervals.timers, stop.clone(), {
        let store = store.clone();
        async move || timers::tick(&store).await
    }));
    tasks.spawn(when_due("schedules", signals.schedules.clone(), intervals.timers, stop.clone(), {
        let store = store.clone();
        async move || schedules::tick(&store).await
    }));
    tasks.spawn(every(intervals.leases, stop.clone(), {
        let store = store.clone();
        async move || match leases::tick(&store).await {
            Ok(0) => {}
            Ok(runs) => tracing::warn!(runs, "took back runs whose worker was not heard of in time"),
            Err(error) => failed("leases", &error),
        }
    }));
    tasks.spawn(every(intervals.leases, stop.clone(), {
        let store = store.clone();
        async move || {
            if let Err(error) = children::tick(&store).await {
                failed("children", &error);
            }
        }
    }));
    tasks.spawn(every(intervals.batches, stop.clone(), {
        let store = store.clone();
        async move || match batches::tick(&store).await {
            Ok(swept) if swept == batches::Swept::default() => {}
            Ok(swept) => tracing::info!(made = swept.made, aborted = swept.aborted, "took up batches that were left"),
            Err(error) => failed("batches", &error),
        }
    }));
    tasks.spawn(every(intervals.versions, stop.clone(), {
        let store = store.clone();
        async move || match versions::tick(&store).await {
            Ok(0) => {}
            Ok(deployments) => tracing::info!(deployments, "put runs into line that waited for a deployment which is there"),
            Err(error) => failed("versions", &error),
        }
    }));
    tasks.spawn(every(intervals.clock, stop.clone(), {
        let store = store.clone();
        async move || {
            if let Err(error) = wall_clock::tick(&store).await {
                failed("clock", &error);
            }
        }
    }));
    tasks.spawn(every(intervals.gc, stop.clone(), {
        let store = store.clone();
        async move || match gc::tick(&store).await {
            Ok(swept) if swept == gc::Swept::default() => {}
            Ok(swept) => tracing::info!(requests = swept.requests, logs = swept.logs, "swept away what is old"),
            Err(error) => failed("gc", &error),
        }
    }));
    if let Some(keep) = intervals.keep_runs {
        tasks.spawn(every(intervals.retention, stop.clone(), {
            let (store, stop) = (store.clone(), stop.clone());
            async move || match stop.run_until_cancelled(retention::tick(&store, keep)).await {
                None => {}
                Some(Ok(swept)) if swept == retention::Swept::default() => {}
                Some(Ok(swept)) => tracing::info!(?swept, "deleted what has been over for longer than it is kept"),
                Some(Err(error)) => failed("retention", &error),
            }
        }));
    }
    tasks.spawn(every(intervals.blobs, stop.clone(), {
        let (store, blobs) = (store.clone(), blobs.clone());
        async move || {
            // First, since what it forgets leaves blobs that no row names.
            if let Err(error) = gc::rewritings_tick(&store, rewriter).await {
                failed("rewritings", &error);
            }
            match gc::blobs_tick(&store, &blobs).await {
                Ok(0) => {}
                Ok(deleted) => tracing::info!(deleted, "deleted blobs that no row names"),
                Err(error) => {
                    tracing::error!(sweep = "blobs", error = format!("{error:#}"), "a sweep failed and will be tried again")
                }
            }
        }
    }));
}

fn failed(sweep: &'static str, error: &(dyn std::error::Error + 'static)) {
    tracing::error!(sweep, error, "a sweep failed and will be tried again");
}

/// Does it, sleeps until the next thing is due, or until a signal says that something is due earlier, and does it again.
async fn when_due(
    sweep: &'static str,
    mut signal: watch::Receiver<u64>,
    longest: Duration,
    stop: CancellationToken,
    mut tick: impl AsyncFnMut() -> Result<(u64, Option<Duration>), engine::Error>,
) {
    while !stop.is_cancelled() {
        // Seen from here on: what is signalled while we look makes us look again.
        signal.mark_unchanged();
        let pause = match tick().await {
            Ok((moved, next)) => {
                if moved > 0 {
                    tracing::debug!(sweep, moved, "moved on what was due");
                }
                next.map_or(jittered(longest), |next| next.min(longest))
            }
            Err(error) => {
                failed(sweep, &error);
                AFTER_FAILURE
            }
        };
        let signalled = async {
            tokio::time::sleep(TIMER_PAUSE).await;
            if signal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause.max(TIMER_PAUSE)) => {}
            () = signalled => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Does it at once and then again and again, at intervals that differ a little, so that many processes do not do it at the
/// same time.
async fn every(interval: Duration, stop: CancellationToken, mut tick: impl AsyncFnMut()) {
    loop {
        tick().await;
        let pause = tokio::time::sleep(jittered(interval));
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_without_a_word_is_looked_for_often_enough() {
        assert!(jittered(Intervals::default().timers) < crate::store::notify::SOON);
    }
}
