//! The leases this process holds, renewed together.
//!
//! A renewal that names a run lost it to another worker, or learns that it was cancelled; either way the run's task is told
//! through its token and drops the instance. A renewal that fails because the database is away leaves the runs going: when
//! their leases run out elsewhere, every write of theirs is refused by its epoch.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{AFTER_ERROR, Context, sleep_unless};
use crate::{
    engine::lease,
    model::{
        attempt::Lease,
        id::{RunId, WorkerId},
    },
};

/// Why a run's instance must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Another worker has it: write nothing.
    Lost,
    /// Its user cancelled it.
    Cancelled,
    /// This process is going down: the run goes back to the queue.
    HandBack,
}

/// All leases of one process.
#[derive(Default)]
pub struct Leases {
    held: Mutex<HashMap<RunId, (Lease, Arc<Signal>)>>,
}

/// Tells one run's task to stop.
#[derive(Default)]
pub struct Signal {
    /// It was cancelled. It may yet be taken away.
    cancelled: CancellationToken,
    taken: CancellationToken,
    /// Why it was taken away.
    reason: Mutex<Option<Stop>>,
}

impl Signal {
    fn raise(&self, reason: Stop) {
        if reason == Stop::Cancelled {
            return self.cancelled.cancel();
        }
        self.reason.lock().expect("no code panics while it holds this lock").get_or_insert(reason);
        self.taken.cancel();
    }

    fn is_raised(&self, reason: Stop) -> bool {
        if reason == Stop::Cancelled { self.cancelled.is_cancelled() } else { self.taken.is_cancelled() }
    }

    /// Returns when the run must stop, with the reason.
    pub async fn raised(&self) -> Stop {
        tokio::select! {
            biased;
            reason = self.taken_away() => reason,
            () = self.cancelled.cancelled() => Stop::Cancelled,
        }
    }

    /// Returns when the run must stop for another reason than that it was cancelled.
    pub async fn taken_away(&self) -> Stop {
        self.taken.cancelled().await;
        self.reason.lock().expect("no code panics while it holds this lock").unwrap_or(Stop::Lost)
    }
}

/// A held lease; dropping it ends its renewal.
pub struct Hold {
    leases: Arc<Leases>,
    lease: Lease,
    /// Raised when the run must stop.
    pub signal: Arc<Signal>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        // A newer lease of the same run, claimed by this very process, is not ours to forget.
        if held.get(&self.lease.run).is_some_and(|(lease, _)| lease.epoch == self.lease.epoch) {
            held.remove(&self.lease.run);
        }
    }
}

impl Leases {
    /// Renews the lease from now on until the result is dropped.
    pub fn hold(self: &Arc<Self>, lease: Lease) -> Hold {
        let signal = Arc::new(Signal::default());
        let before = self.lock().insert(lease.run, (lease, signal.clone()));
        if let Some((_, older)) = before {
            older.raise(Stop::Lost);
        }
        Hold { leases: self.clone(), lease, signal }
    }

    /// Stops every run, to be handed back.
    pub fn hand_back_all(&self) {
        for (_, signal) in self.lock().values() {
            signal.raise(Stop::HandBack);
        }
    }

    /// Renews all leases three times in the life of one, until `stop`.
    pub async fn renew_until(self: Arc<Self>, stop: CancellationToken, worker: WorkerId, context: Arc<Context>) {
        let mut beat = tokio::time::interval(context.config.lease / 3);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = stop.cancelled() => return,
            }
            // While the database is away no lease ends; when it is back, this comes before most sweeps.
            while !self.renew(worker, &context).await {
                sleep_unless(&stop, AFTER_ERROR).await;
                if stop.is_cancelled() {
                    return;
                }
            }
        }
    }

    /// False if nothing is known of the leases.
    async fn renew(&self, worker: WorkerId, context: &Context) -> bool {
        let held: HashMap<RunId, i64> = self.lock().values().map(|(lease, _)| (lease.run, lease.epoch)).collect();
        if held.is_empty() {
            return true;
        }
        let asked: Vec<(RunId, i64)> = held.iter().map(|(run, epoch)| (*run, *epoch)).collect();
        match lease::renew(&context.store, worker, &asked, context.config.lease).await {
            Ok(renewed) => {
                renewed.lost.iter().for_each(|run| self.stop(*run, held[run], Stop::Lost));
                renewed.cancel.iter().for_each(|run| self.stop(*run, held[run], Stop::Cancelled));
                true
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, runs = asked.len(), "renewing leases failed");
                false
            }
        }
    }

    /// Stops a run that is still held under the epoch that was asked about: meanwhile it may have been suspended, which
    /// gives up its lease too, and claimed again.
    fn stop(&self, run: RunId, epoch: i64, reason: Stop) {
        if let Some((lease, signal)) = self.lock().get(&run)
            && lease.epoch == epoch
            && !signal.is_raised(reason)
        {
            info!(run.id = %run, ?reason, "stopping a run");
            signal.raise(reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, (Lease, Arc<Signal>)>> {
        self.held.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn news_of_an_older_lease_does_not_stop_the_run_that_was_claimed_again() {
        let leases = Arc::new(Leases::default());
        let lease = |epoch| Lease { run: RunId::from_uuid(uuid::Uuid::from_u128(1)), worker: WorkerId::new(), epoch, attempt: 1 };
        drop(leases.hold(lease(1)));
        let newer = leases.hold(lease(2));
        leases.stop(newer.lease.run, 1, Stop::Lost);
        assert!(newer.signal.raised().now_or_never().is_none());
        leases.stop(newer.lease.run, 2, Stop::Cancelled);
        assert_eq!(newer.signal.raised().await, Stop::Cancelled);
        assert!(newer.signal.taken_away().now_or_never().is_none(), "it may go on for a while");
        leases.stop(newer.lease.run, 2, Stop::Lost);
        assert_eq!((newer.signal.taken_away().await, newer.signal.raised().await), (Stop::Lost, Stop::Lost));
    }
}
