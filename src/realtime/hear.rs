//! How a hub hears what has changed, reads what somebody follows of it, and hands it on; and how it finds what it did not hear of.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::timeout,
};
use tracing::warn;

use super::{Hub, MAX_KEPT_BYTES, topic::Topic};
use crate::{
    model::{
        feed::{RunRow, Selection},
        id::RunId,
    },
    store::{StoreError, feeds, in_time, listen::Signals},
};

/// How often everything that is followed is looked at, whatever was heard: the net under lost notifications.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// The same after a look that failed.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long a topic is kept that nobody asks for: subscribers come back as soon as they have their answer.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Runs that are read by one statement.
const READ_AT_ONCE: usize = 50;
/// Numbers of changes that are read by one statement.
const LOOK_AT_ONCE: usize = 1000;
/// Changes that were heard of and are handled together.
const HEARD_AT_ONCE: usize = 4000;
/// Most bytes that the logs of all topics hold; beyond, each keeps its newest change alone.
const MAX_HELD_BYTES: usize = 256 << 20;

impl Hub {
    pub(super) async fn hear(&self, mut signals: Signals) {
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
    pub(super) async fn look(&self) {
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

    pub(super) fn hand_on(&self, row: RunRow) {
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
pub(super) fn drain(news: &mut Receiver<RunId>, changed: &mut HashSet<RunId>) -> bool {
    while changed.len() < HEARD_AT_ONCE {
        match news.try_recv() {
            Ok(run) => changed.insert(run),
            Err(TryRecvError::Lagged(_)) => return true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        };
    }
    false
}
