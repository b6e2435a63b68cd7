//! The topics of a hub, and which of them a changed run concerns.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::topic::Topic;
use crate::{
    model::{
        feed::{RunRow, Selection},
        id::{BatchId, EnvironmentId, RunId},
    },
    store::feeds::Interest,
};

/// Who is interested in what, by what a changed run has.
#[derive(Default)]
pub(super) struct Topics {
    pub(super) all: HashMap<(EnvironmentId, Selection), Arc<Topic>>,
    of_run: HashMap<RunId, Vec<Arc<Topic>>>,
    of_batch: HashMap<BatchId, Vec<Arc<Topic>>>,
    /// By the first of the tags that a run must have.
    of_tag: HashMap<String, Vec<Arc<Topic>>>,
}

impl Topics {
    pub(super) fn insert(&mut self, key: (EnvironmentId, Selection), topic: &Arc<Topic>) {
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
    pub(super) fn interest(&self, changed: HashSet<RunId>) -> (Vec<RunId>, Vec<RunId>, Interest) {
        let (single, others) = changed.into_iter().partition(|run| self.of_run.contains_key(run));
        let interest = Interest { batches: self.of_batch.keys().copied().collect(), tags: self.of_tag.keys().cloned().collect() };
        (single, others, interest)
    }

    pub(super) fn concerned(&self, run: &RunRow) -> Vec<Arc<Topic>> {
        let of_batch = run.batch.and_then(|batch| self.of_batch.get(&batch));
        let of_tags = run.tags.iter().filter_map(|tag| self.of_tag.get(tag));
        let all = self.of_run.get(&run.id).into_iter().chain(of_batch).chain(of_tags).flatten();
        all.filter(|topic| topic.environment == run.environment && topic.selection.holds(run)).cloned().collect()
    }

    /// Forgets what nobody has asked for since.
    pub(super) fn sweep(&mut self, since: Instant) {
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
