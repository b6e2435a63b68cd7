//! How an attempt goes to sleep: its snapshot is stored, its run suspended, its lease given up. Part of [`run_one`](super).

use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::{Attempt, Fault, Packs, REPORT_AGAIN};
use crate::{
    blobs::Area,
    engine::{
        self, lease,
        suspend::{self, Suspended},
    },
    model::{
        checkpoint::{Checkpoint, MAX_IN_ROW, Stored},
        error::{ErrorCode, RunError},
        log::Level,
        trace::Timing,
        waitpoint::{Completion, WaitRequest},
    },
    runtime::{Execution, RunFault},
    store::checkpoints::Suspension,
    worker::scratch::{PackError, Packed},
};

/// Shortest and longest pause before a checkpoint that could not be stored is tried again while the run stays in memory.
const STORE_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a snapshot that no row names yet may be used: the sweep deletes such blobs when they are a day old.
const SNAPSHOT_LASTS: Duration = Duration::from_secs(60 * 60);
/// What became of an instance that wanted to sleep.
pub(super) enum Sleep {
    /// Its checkpoint holds it now.
    Asleep,
    /// It stayed in memory until its wait was over.
    Over(Vec<Completion>),
}

/// A snapshot that is where it lasts, but for its row.
#[derive(Clone)]
struct StoredSnapshot {
    since: Instant,
    checkpoint: Checkpoint,
    /// How long that took.
    taken: Duration,
}

enum NotSuspended {
    /// No snapshot of this run can be had.
    Ends(RunError),
    /// The disk is full, the store or the database away.
    NotStored(anyhow::Error),
    /// The transaction failed in a way that leaves open whether it was made.
    Unknown(anyhow::Error),
}

impl Attempt {
    /// Stores the instance's snapshot and gives up the lease; if that cannot be done, keeps the instance, tries again now and
    /// then, and returns what the wait comes to.
    pub(super) async fn put_to_sleep(&self, execution: &mut Execution, wait: &WaitRequest) -> Result<Sleep, Fault> {
        let (mut stored, mut told, mut in_doubt) = (None, false, false);
        let mut pause = STORE_AGAIN.0;
        loop {
            let error = match self.suspend(execution, wait, &mut stored).await {
                Ok(()) => return Ok(Sleep::Asleep),
                Err(NotSuspended::Ends(error)) => return Err(Fault::Ends(error)),
                Err(NotSuspended::NotStored(error)) => error,
                Err(NotSuspended::Unknown(error)) => {
                    in_doubt = true;
                    error
                }
            };
            if !std::mem::replace(&mut told, true) {
                warn!(error = format!("{error:#}"), "kept in memory: the checkpoint could not be stored");
                self.logs.host(
                    Level::Warn,
                    format!("Kept in memory while it waits, because its checkpoint could not be stored: {error:#}"),
                );
            }
            match tokio::time::timeout(pause, self.caller.wait_in_memory(wait)).await {
                Ok(Ok(_)) if in_doubt && !self.is_still_ours().await => return Ok(Sleep::Asleep),
                Ok(Ok(completions)) => return Ok(Sleep::Over(completions)),
                Ok(Err(_)) => tokio::time::sleep(pause).await,
                Err(_elapsed) => {}
            }
            pause = (pause * 2).min(STORE_AGAIN.1);
        }
    }

    /// A small snapshot goes with its row, in the one commit. For a large one: blob first, row second; an orphaned blob is
    /// swept, a row without its blob would be a lost run. The instance does not move between two tries, so a snapshot that is
    /// `stored` serves the next one too.
    async fn suspend(
        &self,
        execution: &mut Execution,
        wait: &WaitRequest,
        stored: &mut Option<StoredSnapshot>,
    ) -> Result<(), NotSuspended> {
        let StoredSnapshot { checkpoint, taken, .. } = match stored {
            Some(stored) if stored.since.elapsed() < SNAPSHOT_LASTS => stored.clone(),
            _ => {
                let since = Instant::now();
                let checkpoint = self.store_snapshot(execution).await?;
                stored.insert(StoredSnapshot { since, checkpoint, taken: since.elapsed() }).clone()
            }
        };
        match self.logs.write(&self.context.store, &self.claimed.lease).await {
            Ok(()) => {}
            Err(engine::Error::LostLease) => return Ok(()),
            Err(error @ engine::Error::Unavailable(_)) => return Err(NotSuspended::NotStored(error.into())),
            Err(error) => warn!(error = &error as &dyn std::error::Error, "log lines were refused; suspending without them"),
        }
        let needed = Packs::of(&checkpoint);
        let (size_bytes, used_cpu_ms) = (checkpoint.stored_bytes, execution.used_cpu().as_millis() as u64);
        let timing = Timing { taken_us: Some(taken.as_micros() as u64), restored_us: self.restored_us.get().copied() };
        let asked = Suspension { timing, ..Suspension::new(self.claimed.lease, checkpoint, wait.clone(), used_cpu_ms) };
        match self.suspend_with_others_or_alone(asked).await {
            Ok(suspended) => {
                debug!(size_bytes, requeued = suspended.requeued, "suspended");
                self.forget_checkpoint(suspended.replaced).await;
                self.forget_packs(&needed).await;
                Ok(())
            }
            // Somebody else has the run or has ended it, or an earlier try was made though its answer was lost.
            Err(engine::Error::LostLease | engine::Error::Conflict(_)) => Ok(()),
            Err(error @ (engine::Error::Unavailable(_) | engine::Error::Internal(_))) => Err(NotSuspended::Unknown(error.into())),
            Err(error) => Err(NotSuspended::NotStored(error.into())),
        }
    }

    /// Many runs that begin to wait at the same time share a transaction.
    async fn suspend_with_others_or_alone(&self, asked: Suspension) -> Result<Suspended, engine::Error> {
        if suspend::is_for_a_moment(&asked.wait)
            && let Some(suspended) = self.context.suspensions.ask(asked.clone()).await.flatten()
        {
            return Ok(suspended);
        }
        suspend::suspend(&self.context.store, asked).await
    }

    async fn store_snapshot(&self, execution: &mut Execution) -> Result<Checkpoint, NotSuspended> {
        let snapshot = execution.capture().await.map_err(|error| match error {
            RunFault::NotStored(error) => NotSuspended::NotStored(error),
            error => {
                let message = format!("the snapshot could not be taken: {error}");
                NotSuspended::Ends(RunError::internal(ErrorCode::UnspecifiedError, message))
            }
        })?;
        let (stored_bytes, raw_bytes, pages) = (snapshot.bytes.len() as u64, snapshot.raw_bytes, snapshot.packs);
        let snapshot = match snapshot.bytes.len() {
            ..=MAX_IN_ROW => Stored::Row(snapshot.bytes.into()),
            _ => {
                let stored = self.context.blobs.put(Area::Checkpoints, snapshot.bytes.into()).await;
                Stored::Blob(stored.map_err(|error| NotSuspended::NotStored(error.into()))?)
            }
        };
        // After the snapshot: capturing flushes what the guest has written.
        let (Packed { kept: files, pack }, room) = self.scratch.pack().await.map_err(|error| match error {
            PackError::TooMuch(words) => NotSuspended::Ends(RunError::internal(ErrorCode::TaskRunCrashed, words)),
            error => NotSuspended::NotStored(error.into()),
        })?;
        if let Some(pack) = pack {
            self.context.blobs.put(Area::Files, pack).await.map_err(|error| NotSuspended::NotStored(error.into()))?;
        }
        drop(room);
        let rewritten = Some(execution.rewriting().digest.clone());
        Ok(Checkpoint { sequence: self.caller.next_checkpoint(), snapshot, stored_bytes, raw_bytes, rewritten, files, pages })
    }

    /// Whether the lease holds, asked until the database answers: a suspension whose answer was lost may have given it up,
    /// and then the run goes on from its checkpoint, not here.
    async fn is_still_ours(&self) -> bool {
        let lease = &self.claimed.lease;
        loop {
            let held = [(lease.run, lease.epoch)];
            match lease::renew(&self.context.store, lease.worker, &held, self.context.config.lease).await {
                Ok(renewed) => return renewed.lost.is_empty(),
                Err(error) => debug!(error = &error as &dyn std::error::Error, "whose the run is cannot be asked now"),
            }
            tokio::time::sleep(REPORT_AGAIN).await;
        }
    }
}
