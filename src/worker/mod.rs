//! Joins engine and runtime: takes permits, leases runs, executes them, reports what came of it.
//!
//! The order is always permit first, then row: a run that is leased is being loaded, never waiting for a free place. Each
//! leased run is one task of a tracker that [`Worker::run`] awaits, with a token that is cancelled when its lease is lost or
//! the run was cancelled. One loop renews all leases of the process in one statement.

mod caller;
mod guests;
mod leases;
mod logs;
mod pages;
pub mod rewritings;
mod run_one;
pub mod scratch;
mod streams;

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{error, info, warn};

use crate::{
    blobs::Blobs,
    config,
    engine::{
        claim::{self, Claim, Rest, Terms},
        finish,
        intake::{Room, Workplace},
        suspend::{self, Suspended},
    },
    group::Group,
    host::Egress,
    model::{id::WorkerId, price::Prices},
    runtime::Runtime,
    store::{Store, checkpoints::Suspension, endings::Completed, lanes::Turn, listen::Signals},
};
use guests::Guests;
use leases::Leases;
use rewritings::Rewritings;

/// How long to wait before asking for runs again when nothing says that there are any: the net under lost notifications.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// The same when limits hold runs back. The end of a run of this process is heard of at once; this is for those elsewhere.
const HELD_POLL: Duration = Duration::from_millis(200);
/// The same when another claim was deciding about runs that this one could have had.
const CONTENDED_POLL: Duration = Duration::from_millis(5);
/// How long to wait before asking again after the database failed.
const AFTER_ERROR: Duration = Duration::from_millis(250);
/// How long runs in progress may go on to their next wait when the process is told to end.
const DRAIN_FOR: Duration = Duration::from_secs(3);
/// How long a wait stays in memory where every place is taken: about as long as it takes to suspend the run and to bring it back.
const CROWDED_GRACE: Duration = Duration::from_millis(5);
/// Transactions that complete runs beside each other. With a second one, each has half as many runs, which cost a third more.
const COMPLETING_AT_ONCE: usize = 1;
/// Transactions that suspend runs beside each other.
const SUSPENDING_AT_ONCE: usize = 1;
/// Runs claimed by one statement.
const CLAIM_BATCH: usize = 32;

/// What every run of this process is executed with.
pub struct Context {
    /// Rows.
    pub store: Store,
    /// Components and snapshots.
    pub blobs: Blobs,
    /// Compiled components and live instances.
    pub runtime: Arc<Runtime>,
    /// Components as new runs use them.
    pub rewritings: Arc<Rewritings>,
    /// Where runs that returned are completed together; false: not so, and it has to be done by itself.
    pub completions: Group<Completed, bool>,
    /// Where runs that wait for a moment are suspended together; none: not so, and it has to be done by itself.
    pub suspensions: Group<Suspension, Option<Suspended>>,
    /// News of waitpoints and runs.
    pub signals: Signals,
    /// Grace, lease and concurrency.
    pub config: config::Worker,
    /// One permit for each run that may be in memory.
    pub permits: Arc<Semaphore>,
    /// What runs send their HTTP requests with.
    pub egress: Egress,
    /// Where scratch directories are made.
    pub scratch: scratch::Home,
    /// The address at which users reach the API, for callback URLs.
    pub public_url: String,
    /// What runs cost, for those that ask.
    pub prices: Prices,
}

/// A permit for each run that may be in memory.
pub fn permits(config: &config::Worker) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(config.concurrency.max(1) as usize))
}

impl Context {
    /// How long a wait may stay in memory. Where every place is taken that is not long: others may want this one.
    fn grace(&self) -> Duration {
        if self.permits.available_permits() > 0 { self.config.grace } else { self.config.grace.min(CROWDED_GRACE) }
    }
}

/// Completes runs together with others that return at the same time.
pub fn completions(store: &Store) -> Group<Completed, bool> {
    let store = store.clone();
    Group::new(finish::MOST_TOGETHER, COMPLETING_AT_ONCE, move |completed: Vec<Completed>| {
        let store = store.clone();
        async move {
            let runs: Vec<_> = completed.iter().map(|completed| completed.lease.run).collect();
            let over = finish::complete_together(&store, completed).await.unwrap_or_else(|error| {
                warn!(error = &error as &dyn std::error::Error, runs = runs.len(), "runs could not be completed together");
                HashSet::new()
            });
            runs.iter().map(|run| over.contains(run)).collect()
        }
    })
}

/// Suspends runs together with others that begin to wait at the same time.
pub fn suspensions(store: &Store) -> Group<Suspension, Option<Suspended>> {
    let store = store.clone();
    Group::new(suspend::MOST_TOGETHER, SUSPENDING_AT_ONCE, move |asked: Vec<Suspension>| {
        let store = store.clone();
        async move {
            let runs: Vec<_> = asked.iter().map(|asked| asked.lease.run).collect();
            let mut suspended = suspend::suspend_together(&store, asked).await.unwrap_or_else(|error| {
                warn!(error = &error as &dyn std::error::Error, runs = runs.len(), "runs could not be suspended together");
                HashMap::new()
            });
            runs.iter().map(|run| suspended.remove(run)).collect()
        }
    })
}

/// One process's share of the work.
pub struct Worker {
    id: WorkerId,
    context: Arc<Context>,
    leases: Arc<Leases>,
    runs: TaskTracker,
    guests: Guests,
    /// Where its claims are in their way through the lanes.
    turn: Mutex<Turn>,
    /// A run of this worker has left its places: what limits held back may begin.
    ended: Arc<Notify>,
    stop: CancellationToken,
}

impl Worker {
    /// A worker that has leased nothing yet, and leases nothing any more after `stop`.
    ///
    /// # Errors
    /// If the system has no threads for guests.
    pub fn new(id: WorkerId, context: Context, stop: CancellationToken) -> io::Result<Worker> {
        Ok(Worker {
            id,
            leases: Arc::default(),
            runs: TaskTracker::new(),
            guests: Guests::start()?,
            turn: Mutex::default(),
            ended: Arc::default(),
            stop,
            context: Arc::new(context),
        })
    }

    /// Leases and executes runs until it shall stop, then waits for the ones in flight: each is suspended at its next wait or
    /// handed back after a few seconds, so that another worker goes on from its last checkpoint.
    pub async fn run(&self) {
        info!(worker.id = %self.id, concurrency = self.context.config.concurrency, "worker started");
        let heartbeat = CancellationToken::new();
        let renewing = tokio::spawn(self.leases.clone().renew_until(heartbeat.clone(), self.id, self.context.clone()));
        while !self.stop.is_cancelled() {
            self.tick().await;
        }
        self.runs.close();
        if tokio::time::timeout(DRAIN_FOR, self.runs.wait()).await.is_err() {
            info!(runs = self.runs.len(), "handing running runs back");
            self.leases.hand_back_all();
            self.runs.wait().await;
        }
        heartbeat.cancel();
        if let Err(panic) = renewing.await {
            error!(%panic, "the renewal of leases ended badly");
        }
    }

    /// Takes permits, claims as many runs and starts them; waits for news if there are none.
    async fn tick(&self) {
        // Interest first, then the look, then the wait: news between look and wait is not missed.
        let mut news = self.context.signals.line.clone();
        news.mark_unchanged();
        let permits = tokio::select! {
            permits = take_permits(&self.context.permits) => permits,
            () = self.stop.cancelled() => return,
        };
        let asked = permits.len();
        let claimed = match claim::claim(&self.context.store, self.terms(asked)).await {
            Ok(claimed) => claimed,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "claiming runs failed");
                return sleep_unless(&self.stop, AFTER_ERROR).await;
            }
        };
        let (got, rest) = (claimed.runs.len(), claimed.rest);
        // Whoever triggers a run here may need the permits that are left.
        self.begin(claimed, permits);
        let poll = match rest {
            _ if got == asked => return,
            Rest::Unknown => return,
            Rest::Contended => CONTENDED_POLL,
            Rest::Held => HELD_POLL,
            Rest::Nothing => IDLE_POLL,
        };
        tokio::select! {
            Ok(()) = news.changed() => {}
            () = self.ended.notified(), if rest == Rest::Held => {}
            () = tokio::time::sleep(poll) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn terms(&self, permits: usize) -> Terms {
        Terms {
            worker: self.id,
            max: permits as u32,
            lease_for: self.context.config.lease,
            rewriter: self.context.runtime.rewriter(),
            turn: self.turn.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn begin(&self, claim: Claim, permits: Vec<OwnedSemaphorePermit>) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = claim.turn;
        for (claimed, permit) in claim.runs.into_iter().zip(permits) {
            let (context, ended) = (self.context.clone(), self.ended.clone());
            let hold = self.leases.hold(claimed.lease);
            let run = async move {
                run_one::run_one(&context, claimed, &hold).await;
                drop((hold, permit));
                ended.notify_one();
            };
            self.runs.spawn_on(run, self.guests.handle());
        }
    }
}

impl Workplace for Arc<Worker> {
    fn room(&self, most: usize) -> Option<Box<dyn Room>> {
        // Before the look at `stop`: as long as there is a token, the worker waits for what is begun here.
        let token = self.runs.token();
        if self.stop.is_cancelled() {
            return None;
        }
        let permits: Vec<_> = (0..most).map_while(|_| self.context.permits.clone().try_acquire_owned().ok()).collect();
        (!permits.is_empty()).then(|| Box::new(FreeRoom { worker: self.clone(), permits, _token: token }) as Box<dyn Room>)
    }
}

struct FreeRoom {
    worker: Arc<Worker>,
    permits: Vec<OwnedSemaphorePermit>,
    _token: TaskTrackerToken,
}

impl Room for FreeRoom {
    fn terms(&self) -> Terms {
        self.worker.terms(self.permits.len())
    }

    fn begin(self: Box<Self>, claim: Claim) {
        self.worker.begin(claim, self.permits);
    }
}

/// At least one permit, and as many more as are free, up to a batch.
async fn take_permits(permits: &Arc<Semaphore>) -> Vec<OwnedSemaphorePermit> {
    let first = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
    let mut taken = vec![first];
    while taken.len() < CLAIM_BATCH
        && let Ok(permit) = permits.clone().try_acquire_owned()
    {
        taken.push(permit);
    }
    taken
}

async fn sleep_unless(stop: &CancellationToken, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
