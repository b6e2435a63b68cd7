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
mod topic;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::{
    sync::{
        Notify, OwnedSemaphorePermit, Semaphore,
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
    },
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    model::{
        feed::{RunRow, Selection},
        id::{BatchId, EnvironmentId, RunId},
    },
    store::{
        Store, StoreError,
        feeds::{self, Interest},
        in_time,
        listen::Signals,
    },
};
use chunks::Channels;
use topic::Topic;
pub use topic::{News, Stale};

/// How often everything that is followed is looked at, whatever was heard: the net under lost notifications.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// The same after a look that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long a topic is kept that nobody asks for: subscribers come back as soon as they have their answer.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Runs that are read by one statement.
const READ_AT_ONCE: usize = 50;
/// Numbers of changes that are read by one statement.
const LOOK_AT_ONCE: usize = 1000;
/// Changes that were heard of and are handled together.
const HEARD_AT_ONCE: usize = 4000;
/// A row with more bytes is not kept in memory: each subscriber reads it.
const MAX_KEPT_BYTES: usize = 64 * 1024;
/// Most bytes that the logs of all topics hold; beyond, each keeps its newest change alone.
const MAX_HELD_BYTES: usize = 256 << 20;

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

/// Who is interested in what, by what a changed run has.
#[derive(Default)]
struct Topics {
    all: HashMap<(EnvironmentId, Selection), Arc<Topic>>,
    of_run: HashMap<RunId, Vec<Arc<Topic>>>,
    of_batch: HashMap<BatchId, Vec<Arc<Topic>>>,
    /// By the first of the tags that a run must have.
    of_tag: HashMap<String, Vec<Arc<Topic>>>,
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

/// A subscriber's hold on its topic, for as long as it asks.
pub struct Subscription {
    hub: Hub,
    topic: Arc<Topic>,
}

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

    async fn hear(&self, mut signals: Signals) {
        let mut news = signals.runs.subscribe();
        loop {
            let mut changed = HashSet::new();
            let mut has_missed = false;
            tokio::select! {
                heard = news.recv() => match heard {
                    Ok(run) => { changed.insert(run); }
                    Err(RecvError::Lagged(_)) => has_missed = true,
                    Err(RecvError::Closed) => return,
                },
                Ok(()) = signals.reconnected.changed() => has_missed = true,
            }
            has_missed |= drain(&mut news, &mut changed);
            if let Err(error) = self.read_changed(changed).await {
                warn!(error = &error as &dyn std::error::Error, "could not read what subscribers follow");
                has_missed = true;
            }
            if has_missed {
                self.0.missed.notify_one();
            }
        }
    }

    /// Looks at all that is followed, from time to time and when something was missed. Beside those who hear: it may take long.
    async fn look(&self) {
        let mut pause = LOOK_AGAIN;
        loop {
            let _ = timeout(pause, self.0.missed.notified()).await;
            pause = match self.look_at_all().await {
                Ok(()) => LOOK_AGAIN,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "could not look at what subscribers follow");
                    AFTER_FAILURE
                }
            };
        }
    }

    /// Hands on those of the runs that somebody follows.
    async fn read_changed(&self, changed: HashSet<RunId>) -> Result<(), StoreError> {
        let (mut wanted, others, interest) = self.topics().interest(changed);
        let is_broad = !interest.batches.is_empty() || !interest.tags.is_empty();
        if is_broad && !others.is_empty() {
            for some in others.chunks(LOOK_AT_ONCE) {
                wanted.extend(in_time(feeds::of_interest(&self.0.store, some, &interest)).await?);
            }
        }
        self.read(&wanted).await
    }

    async fn read(&self, runs: &[RunId]) -> Result<(), StoreError> {
        for some in runs.chunks(READ_AT_ONCE) {
            for row in in_time(feeds::runs(&self.0.store, some)).await? {
                self.hand_on(row);
            }
        }
        Ok(())
    }

    fn hand_on(&self, row: RunRow) {
        let topics = self.topics().concerned(&row);
        if topics.is_empty() {
            return;
        }
        let shown = Arc::new(self.show(row, MAX_KEPT_BYTES));
        let spare = self.0.held.load(Ordering::Relaxed) > MAX_HELD_BYTES;
        for topic in topics {
            topic.push(&shown, || self.0.position.fetch_add(1, Ordering::Relaxed) + 1, spare);
        }
    }

    /// Compares everything that is followed with what subscribers were told, and forgets topics that nobody asks for.
    async fn look_at_all(&self) -> Result<(), StoreError> {
        let all: Vec<Arc<Topic>> = {
            let mut topics = self.topics();
            topics.sweep(Instant::now().checked_sub(KEPT_FOR).unwrap_or_else(Instant::now));
            topics.all.values().cloned().collect()
        };
        let (single, several): (Vec<_>, Vec<_>) = all.into_iter().partition(|topic| matches!(topic.selection, Selection::Run(_)));
        let mut changed: HashSet<RunId> = HashSet::new();
        for some in single.chunks(LOOK_AT_ONCE) {
            let by_run: HashMap<RunId, &Arc<Topic>> = some.iter().filter_map(|topic| Some((topic.run()?, topic))).collect();
            let ids: Vec<RunId> = by_run.keys().copied().collect();
            let now = in_time(feeds::seqs(&self.0.store, &ids)).await?;
            changed.extend(now.into_iter().filter(|one| by_run[&one.0].unseen(&[*one]).len() == 1).map(|(run, _)| run));
        }
        for topic in several {
            // Without a snapshot nobody was told anything yet.
            let Some(made_after) = topic.made_after() else { continue };
            let members = feeds::members(&self.0.store, topic.environment, &topic.selection, made_after);
            changed.extend(topic.unseen(&in_time(members).await?));
        }
        self.read(&changed.into_iter().collect::<Vec<_>>()).await
    }
}

/// Takes what has been heard of meanwhile. True: something was missed.
fn drain(news: &mut Receiver<RunId>, changed: &mut HashSet<RunId>) -> bool {
    while changed.len() < HEARD_AT_ONCE {
        match news.try_recv() {
            Ok(run) => changed.insert(run),
            Err(TryRecvError::Lagged(_)) => return true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        };
    }
    false
}

impl Subscription {
    /// The selection's run as it is now. None: there is none in the environment, or it is about several.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn run_now(&self) -> Result<Option<Arc<Shown>>, StoreError> {
        let Some(run) = self.topic.run() else { return Ok(None) };
        let rows = in_time(feeds::runs(&self.hub.0.store, &[run])).await?;
        let Some(row) = rows.into_iter().next().filter(|row| row.environment == self.topic.environment) else {
            return Ok(None);
        };
        // The hub may have heard of a later change meanwhile.
        let shown = Arc::new(self.hub.show(row.clone(), MAX_KEPT_BYTES));
        self.hub.hand_on(row);
        Ok(Some(shown))
    }

    /// The selection's run as this server knows it, which may be a moment ago.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn run(&self) -> Result<Option<Arc<Shown>>, StoreError> {
        match self.topic.newest() {
            Some(shown) => Ok(Some(shown)),
            None => self.run_now().await,
        }
    }

    /// The run once it has changed after this number. Cancelling it loses nothing.
    pub async fn run_after(&self, seq: i64) -> Arc<Shown> {
        let mut news = self.topic.follow();
        loop {
            if let Some(shown) = self.topic.newest().filter(|shown| shown.seq > seq) {
                return shown;
            }
            // The hub holds the sender.
            let _ = news.changed().await;
        }
    }

    /// Whose runs these are.
    pub fn environment(&self) -> EnvironmentId {
        self.topic.environment
    }

    /// Where a snapshot that is taken from here on goes on.
    pub fn position(&self) -> u64 {
        self.topic.position()
    }

    /// Runs that were in the subscriber's snapshot, which began at this position. Returns the one that it has reached.
    pub fn told(&self, position: u64, runs: &[(RunId, i64)], made_after: DateTime<Utc>) -> u64 {
        self.topic.told(position, runs, made_after)
    }

    /// What came after a position, once there is something. Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`Stale`] if it is not known here what came after that position.
    pub async fn runs_after(&self, position: u64, made_after: DateTime<Utc>) -> Result<News, Stale> {
        let mut signal = self.topic.follow();
        loop {
            let news = self.topic.after(position, made_after)?;
            if !news.runs.is_empty() {
                return Ok(news);
            }
            let _ = signal.changed().await;
        }
    }

    /// Whether it is known here what came after that position.
    pub fn knows(&self, position: u64) -> bool {
        self.topic.after(position, DateTime::<Utc>::MIN_UTC).is_ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.leave();
    }
}

impl Topic {
    fn run(&self) -> Option<RunId> {
        match self.selection {
            Selection::Run(id) => Some(id),
            Selection::Tags(_) | Selection::Batch(_) => None,
        }
    }
}

impl Topics {
    fn insert(&mut self, key: (EnvironmentId, Selection), topic: &Arc<Topic>) {
        match &key.1 {
            Selection::Run(id) => self.of_run.entry(*id).or_default().push(topic.clone()),
            Selection::Batch(id) => self.of_batch.entry(*id).or_default().push(topic.clone()),
            Selection::Tags(tags) => {
                let first = tags.first().cloned().unwrap_or_default();
                self.of_tag.entry(first).or_default().push(topic.clone());
            }
        }
        self.all.insert(key, topic.clone());
    }

    /// Of these runs, those that are followed by themselves, the others, and how it is known of those whether somebody follows them.
    fn interest(&self, changed: HashSet<RunId>) -> (Vec<RunId>, Vec<RunId>, Interest) {
        let (single, others) = changed.into_iter().partition(|run| self.of_run.contains_key(run));
        let interest = Interest { batches: self.of_batch.keys().copied().collect(), tags: self.of_tag.keys().cloned().collect() };
        (single, others, interest)
    }

    fn concerned(&self, run: &RunRow) -> Vec<Arc<Topic>> {
        let of_batch = run.batch.and_then(|batch| self.of_batch.get(&batch));
        let of_tags = run.tags.iter().filter_map(|tag| self.of_tag.get(tag));
        let all = self.of_run.get(&run.id).into_iter().chain(of_batch).chain(of_tags).flatten();
        all.filter(|topic| topic.environment == run.environment && topic.selection.holds(run)).cloned().collect()
    }

    /// Forgets what nobody has asked for since.
    fn sweep(&mut self, since: Instant) {
        self.all.retain(|_, topic| !topic.is_idle_since(since));
        let all = &self.all;
        let is_kept = |topic: &Arc<Topic>| all.contains_key(&(topic.environment, topic.selection.clone()));
        fn keep<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Vec<Arc<Topic>>>, is_kept: impl Fn(&Arc<Topic>) -> bool) {
            map.retain(|_, topics| {
                topics.retain(&is_kept);
                !topics.is_empty()
            });
        }
        keep(&mut self.of_run, is_kept);
        keep(&mut self.of_batch, is_kept);
        keep(&mut self.of_tag, is_kept);
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
