//! Tells subscribers of this server what happens to runs: thousands of them over the one connection that listens.
//!
//! Subscribers of the same run, tags or batch share a topic. What the database says has changed is read once and handed to all
//! topics that it concerns; a run that nobody follows is not read. Rows are the truth: what was missed, because a notification was
//! lost or the database was away, is found by looking at all that is followed, from time to time and whenever there may have been a
//! gap. So a lost notification delays, and loses nothing.
//!
//! Nothing of this survives the process: a subscriber of one run goes on anywhere from the number of the change that it has seen; one
//! of several runs begins anew elsewhere.

pub mod chunks;
mod hear;
mod subscription;
mod topic;
mod topics;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    model::{
        feed::{RunRow, Selection},
        id::{BatchId, EnvironmentId, RunId},
    },
    store::{Store, StoreError, feeds, in_time, listen::Signals},
};
use chunks::Channels;
pub use subscription::Subscription;
use topic::Topic;
pub use topic::{News, Stale};
use topics::Topics;

/// A row with more bytes is not kept in memory: each subscriber reads it.
const MAX_KEPT_BYTES: usize = 64 * 1024;
/// A column of a row: its name, and its value as JSON text.
pub type Column = (&'static str, String);
/// Makes columns of a row.
pub type Render = dyn Fn(&RunRow) -> Vec<Column> + Send + Sync;

/// Where subscribers find what they follow. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    store: Store,
    render: Box<Render>,
    topics: Mutex<Topics>,
    channels: Channels,
    /// The last position that was given to a change.
    position: AtomicU64,
    held: Arc<AtomicUsize>,
    places: Arc<Semaphore>,
    max_topics: usize,
    /// Something may have been missed.
    missed: Notify,
    closing: CancellationToken,
}

/// A run as it was after one change, ready to be sent to any number of subscribers.
#[derive(Debug)]
pub struct Shown {
    /// The run.
    pub id: RunId,
    /// Whose it is.
    pub environment: EnvironmentId,
    /// The number of the change.
    pub seq: i64,
    /// Its task.
    pub task: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The batch it came with.
    pub batch: Option<BatchId>,
    /// When it was triggered.
    pub created_at: DateTime<Utc>,
    /// Its columns; none: too large to be kept, and to be read with [`Hub::whole`].
    pub columns: Option<Vec<Column>>,
}

/// More subscribers than the server is told to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Hub {
    /// A hub for at most `max` subscribers at a time. It hears nothing until it is [started](Hub::start).
    pub fn new(store: Store, max: usize, render: impl Fn(&RunRow) -> Vec<Column> + Send + Sync + 'static) -> Hub {
        let max = max.max(1);
        Hub(Arc::new(Inner {
            store,
            render: Box::new(render),
            topics: Mutex::default(),
            channels: Channels::default(),
            position: AtomicU64::new(1),
            held: Arc::default(),
            places: Arc::new(Semaphore::new(max)),
            // Some are kept for those that will be back.
            max_topics: max.saturating_mul(2),
            missed: Notify::new(),
            closing: CancellationToken::new(),
        }))
    }

    /// Hears what changes, in tasks of `tasks`. Once `intake` is cancelled subscribers are to be sent away, for the server takes no
    /// more requests; after `stop` nothing is heard any more.
    pub fn start(&self, signals: &Signals, tasks: &TaskTracker, intake: CancellationToken, stop: CancellationToken) {
        let (hub, closing) = (self.clone(), self.0.closing.clone());
        tasks.spawn(async move {
            intake.cancelled().await;
            closing.cancel();
        });
        let (streams, streams_signals, streams_stop) = (hub.clone(), signals.clone(), stop.clone());
        tasks.spawn(async move { streams_stop.run_until_cancelled(streams.hear_chunks(streams_signals)).await });
        let (looking, looking_stop) = (hub.clone(), stop.clone());
        tasks.spawn(async move { looking_stop.run_until_cancelled(looking.look()).await });
        let signals = signals.clone();
        tasks.spawn(async move { stop.run_until_cancelled(hub.hear(signals)).await });
    }

    /// Cancelled once subscribers are to be sent away.
    pub fn closing(&self) -> &CancellationToken {
        &self.0.closing
    }

    /// A place for one subscriber, free again when it is dropped.
    ///
    /// # Errors
    /// [`Full`] if there are as many as the server takes.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Full> {
        self.0.places.clone().try_acquire_owned().map_err(|_| Full)
    }

    /// The topic of a selection, which hears of every change from now on.
    ///
    /// # Errors
    /// [`Full`] if there are too many topics.
    pub fn subscribe(&self, environment: EnvironmentId, selection: &Selection) -> Result<Subscription, Full> {
        let mut topics = self.topics();
        let key = (environment, selection.clone());
        let topic = match topics.all.get(&key) {
            Some(topic) => topic.clone(),
            None => {
                if topics.all.len() >= self.0.max_topics {
                    topics.sweep(Instant::now());
                }
                if topics.all.len() >= self.0.max_topics {
                    return Err(Full);
                }
                let floor = self.0.position.load(Ordering::Relaxed);
                let topic = Arc::new(Topic::new(environment, key.1.clone(), floor, self.0.held.clone()));
                topics.insert(key, &topic);
                topic
            }
        };
        topic.enter();
        Ok(Subscription { hub: self.clone(), topic })
    }

    /// A run with all its columns, read again if need be. None: it is gone.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn whole(&self, shown: &Arc<Shown>) -> Result<Option<Arc<Shown>>, StoreError> {
        if shown.columns.is_some() {
            return Ok(Some(shown.clone()));
        }
        let read = in_time(feeds::runs(&self.0.store, &[shown.id])).await?;
        Ok(read.into_iter().next().map(|row| Arc::new(self.show(row, usize::MAX))))
    }

    /// These runs with all their columns, in the order asked for. Those that are gone are missing.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn whole_runs(&self, ids: &[RunId]) -> Result<Vec<Shown>, StoreError> {
        let mut rows: HashMap<RunId, RunRow> =
            in_time(feeds::runs(&self.0.store, ids)).await?.into_iter().map(|row| (row.id, row)).collect();
        Ok(ids.iter().filter_map(|id| rows.remove(id)).map(|row| self.show(row, usize::MAX)).collect())
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.0.topics.lock().expect("no code panics while it holds this lock")
    }

    fn show(&self, row: RunRow, most: usize) -> Shown {
        let columns = (self.0.render)(&row);
        let bytes: usize = columns.iter().map(|(_, value)| value.len()).sum();
        Shown {
            id: row.id,
            environment: row.environment,
            seq: row.seq,
            task: row.task,
            tags: row.tags,
            batch: row.batch,
            created_at: row.created_at,
            columns: (bytes <= most).then_some(columns),
        }
    }
}

impl Shown {
    /// What it takes in memory.
    fn bytes(&self) -> usize {
        let columns = self.columns.iter().flatten().map(|(_, value)| value.len()).sum::<usize>();
        let tags = self.tags.iter().map(String::len).sum::<usize>();
        columns + tags + self.task.len() + size_of::<Shown>()
    }

    #[cfg(test)]
    fn bare(id: RunId, seq: i64) -> Shown {
        let (environment, created_at) = (EnvironmentId::new(), Utc::now());
        Shown { id, environment, seq, task: "t".into(), tags: Vec::new(), batch: None, created_at, columns: None }
    }
}
