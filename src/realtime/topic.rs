//! What subscribers of one selection of runs share: the changes that this server has heard of, in order, as many as fit.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use super::Shown;
use crate::model::{
    feed::Selection,
    id::{EnvironmentId, RunId},
};

/// Changes that a topic over several runs keeps for subscribers that are slow to come back.
const MAX_LOG: usize = 500;
/// Runs of which a topic knows what its subscribers have been told. More than a snapshot has.
const MAX_SEEN: usize = 4000;

/// See the module.
pub(super) struct Topic {
    pub(super) environment: EnvironmentId,
    pub(super) selection: Selection,
    state: Mutex<State>,
    /// The position of its newest change. Changes with it.
    position: watch::Sender<u64>,
    readers: AtomicUsize,
    used_at: Mutex<Instant>,
    /// Bytes that the logs of all topics hold.
    held: Arc<AtomicUsize>,
}

struct State {
    log: VecDeque<Entry>,
    /// Changes up to this position are not in the log any more, or were before the topic.
    floor: u64,
    /// The number of the newest change of each run that is in the log or in a snapshot, by the run's id.
    seen: BTreeMap<Uuid, i64>,
    /// Since when runs were made that its subscribers follow; none: none has been told of any yet.
    made_after: Option<DateTime<Utc>>,
}

struct Entry {
    position: u64,
    shown: Arc<Shown>,
}

/// What came after a position.
#[derive(Debug)]
pub struct News {
    /// The newest change of each run, with its position; oldest first.
    pub runs: Vec<(u64, Arc<Shown>)>,
    /// The position up to which these are all.
    pub newest: u64,
}

/// The changes after a position are not known here any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale;

impl Topic {
    /// The run, if it is about one.
    pub(super) fn run(&self) -> Option<RunId> {
        match self.selection {
            Selection::Run(id) => Some(id),
            Selection::Tags(_) | Selection::Batch(_) => None,
        }
    }

    pub(super) fn new(environment: EnvironmentId, selection: Selection, floor: u64, held: Arc<AtomicUsize>) -> Topic {
        Topic {
            environment,
            selection,
            state: Mutex::new(State { log: VecDeque::new(), floor, seen: BTreeMap::new(), made_after: None }),
            position: watch::Sender::new(floor),
            readers: AtomicUsize::new(0),
            used_at: Mutex::new(Instant::now()),
            held,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    pub(super) fn enter(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        *self.used_at.lock().expect("no code panics while it holds this lock") = Instant::now();
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nobody has asked since.
    pub(super) fn is_idle_since(&self, then: Instant) -> bool {
        self.readers.load(Ordering::Relaxed) == 0 && *self.used_at.lock().expect("no code panics while it holds this lock") < then
    }

    pub(super) fn position(&self) -> u64 {
        *self.position.borrow()
    }

    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.position.subscribe()
    }

    /// Enters a change at the next position, unless it or a later one of the run is known. `spare`: no more than the newest is kept.
    pub(super) fn push(&self, shown: &Arc<Shown>, next: impl FnOnce() -> u64, spare: bool) {
        let mut state = self.state();
        if state.seen.get(&shown.id.uuid()).is_some_and(|seen| *seen >= shown.seq) {
            return;
        }
        let position = next();
        state.saw(shown.id, shown.seq);
        self.held.fetch_add(shown.bytes(), Ordering::Relaxed);
        state.log.push_back(Entry { position, shown: shown.clone() });
        let most = if spare || matches!(self.selection, Selection::Run(_)) { 1 } else { MAX_LOG };
        while state.log.len() > most
            && let Some(gone) = state.log.pop_front()
        {
            self.held.fetch_sub(gone.shown.bytes(), Ordering::Relaxed);
            state.floor = gone.position;
        }
        drop(state);
        self.position.send_replace(position);
    }

    /// A subscriber was told of these in its snapshot, and follows runs that were made after this moment. Returns the position that its
    /// snapshot has reached, if it began at this one: what was heard of while it was read may be in it.
    pub(super) fn told(&self, position: u64, runs: &[(RunId, i64)], made_after: DateTime<Utc>) -> u64 {
        let mut state = self.state();
        state.made_after = Some(state.made_after.map_or(made_after, |before| before.min(made_after)));
        for (run, seq) in runs {
            state.saw(*run, *seq);
        }
        let told: HashMap<RunId, i64> = runs.iter().copied().collect();
        let is_told = |entry: &&Entry| told.get(&entry.shown.id).is_some_and(|seq| *seq >= entry.shown.seq);
        let later = state.log.iter().filter(|entry| entry.position > position);
        later.take_while(is_told).last().map_or(position, |entry| entry.position)
    }

    pub(super) fn made_after(&self) -> Option<DateTime<Utc>> {
        self.state().made_after
    }

    /// Those that have changed since they were seen.
    pub(super) fn unseen(&self, now: &[(RunId, i64)]) -> Vec<RunId> {
        let state = self.state();
        now.iter().filter(|(run, seq)| state.seen.get(&run.uuid()).is_none_or(|seen| seen < seq)).map(|(run, _)| *run).collect()
    }

    /// The newest change that is in the log.
    pub(super) fn newest(&self) -> Option<Arc<Shown>> {
        self.state().log.back().map(|entry| entry.shown.clone())
    }

    /// The newest change of each run after a position, oldest first.
    pub(super) fn after(&self, position: u64, made_after: DateTime<Utc>) -> Result<News, Stale> {
        let state = self.state();
        let newest = state.log.back().map_or(state.floor, |entry| entry.position);
        if position < state.floor || position > newest.max(self.position()) {
            return Err(Stale);
        }
        let is_newest = |shown: &Shown| state.seen.get(&shown.id.uuid()).is_none_or(|seen| *seen <= shown.seq);
        let new = state.log.iter().filter(|entry| entry.position > position);
        let new = new.filter(|entry| entry.shown.created_at >= made_after && is_newest(&entry.shown));
        Ok(News { runs: new.map(|entry| (entry.position, entry.shown.clone())).collect(), newest })
    }
}

impl State {
    fn saw(&mut self, run: RunId, seq: i64) {
        let seen = self.seen.entry(run.uuid()).or_insert(seq);
        *seen = (*seen).max(seq);
        // The oldest runs go first: their ids are the lowest.
        while self.seen.len() > MAX_SEEN {
            self.seen.pop_first();
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let bytes: usize = self.state().log.iter().map(|entry| entry.shown.bytes()).sum();
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(run: RunId, seq: i64) -> Arc<Shown> {
        Arc::new(Shown::bare(run, seq))
    }

    fn topic(selection: Selection) -> Topic {
        Topic::new(EnvironmentId::new(), selection, 10, Arc::default())
    }

    fn ids(topic: &Topic, position: u64) -> Result<Vec<(RunId, i64)>, Stale> {
        let news = topic.after(position, DateTime::<Utc>::MIN_UTC)?;
        Ok(news.runs.iter().map(|(_, shown)| (shown.id, shown.seq)).collect())
    }

    #[test]
    fn who_comes_back_gets_what_came_since_once_and_in_its_newest_form() {
        let topic = topic(Selection::Tags(vec!["a".into()]));
        let (one, other) = (RunId::new(), RunId::new());
        for (place, (run, seq)) in [(one, 1), (other, 1), (one, 2), (one, 2), (one, 1)].into_iter().enumerate() {
            topic.push(&shown(run, seq), || 11 + place as u64, false);
        }
        assert_eq!(ids(&topic, 10), Ok(vec![(other, 1), (one, 2)]));
        assert_eq!(ids(&topic, 12), Ok(vec![(one, 2)]));
        assert_eq!(ids(&topic, 13), Ok(vec![]));
        assert_eq!(topic.position(), 13);
    }

    #[test]
    fn a_position_of_before_the_topic_or_of_what_never_was_is_stale() {
        let topic = topic(Selection::Tags(vec!["a".into()]));
        topic.push(&shown(RunId::new(), 1), || 11, false);
        assert_eq!((ids(&topic, 9), ids(&topic, 12)), (Err(Stale), Err(Stale)));
        for position in 12..=(12 + MAX_LOG as u64) {
            topic.push(&shown(RunId::new(), 1), || position, false);
        }
        assert_eq!(ids(&topic, 10), Err(Stale), "the first changes are not kept any more");
        assert!(ids(&topic, 12).is_ok());
        topic.push(&shown(RunId::new(), 1), || 9000, true);
        assert_eq!(ids(&topic, 12), Err(Stale), "memory was short");
        assert_eq!(topic.held.load(Ordering::Relaxed), shown(RunId::new(), 1).bytes());
    }

    #[test]
    fn what_a_snapshot_told_is_no_news() {
        let topic = topic(Selection::Batch(crate::model::id::BatchId::new()));
        let (one, other) = (RunId::new(), RunId::new());
        assert_eq!(topic.told(10, &[(one, 3)], DateTime::<Utc>::MIN_UTC), 10);
        assert_eq!(topic.unseen(&[(one, 3), (other, 1)]), [other]);
        topic.push(&shown(one, 3), || 11, false);
        assert_eq!(ids(&topic, 10), Ok(vec![]));
        // Heard of while the snapshot was read.
        topic.push(&shown(other, 2), || 12, false);
        topic.push(&shown(one, 4), || 13, false);
        assert_eq!(topic.told(10, &[(one, 3), (other, 2)], DateTime::<Utc>::MIN_UTC), 12);
        assert_eq!(topic.told(10, &[(one, 4), (other, 1)], DateTime::<Utc>::MIN_UTC), 10);
    }
}
