//! Which places a claim may still give away: what the gates say, less who is through. Part of [`claim`](super::claim).

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::Error,
    store::{
        gates::{self, Bounds},
        lanes::{Lane, Seen},
    },
};

/// What counts together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pool {
    Environment(Uuid),
    /// A queue's limit is for each concurrency key apart. Source: facts A16.
    Queue(Uuid, String),
    Limit(Uuid),
    LimitKey(Uuid, String),
}

/// Why a lane gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Its whole environment is full.
    Environment,
    /// All of its queue is closed.
    Queue,
    /// This limit is full for all.
    Limit(Uuid),
    /// It alone is full, or its concurrency key.
    Lane,
}

/// Gates that this claim has locked, and who is through.
#[derive(Debug, Default)]
pub(super) struct Places {
    gates: HashMap<Uuid, Bounds>,
    taken: HashMap<Pool, u64>,
    /// Environments whose runs count.
    counted: HashSet<Uuid>,
    /// Gates that another claim holds.
    foreign: HashSet<Uuid>,
}

impl Places {
    /// Locks those gates of the lanes that it does not hold yet, and counts who is through; runs of `admitted` are about to be.
    ///
    /// # Errors
    /// If the database does not answer.
    pub(super) async fn look(&mut self, tx: &mut PgConnection, seen: &[Seen], admitted: &[Lane]) -> Result<(), Error> {
        let open = || seen.iter().filter(|seen| !seen.is_closed);
        let environments = open().filter(|seen| seen.is_environment_limited).map(|seen| seen.lane.environment);
        let queues = open().filter(|seen| seen.is_queue_limited).map(|seen| seen.lane.queue);
        let limits = open().flat_map(|seen| seen.lane.limits.iter().copied());
        let (environments, queues, limits) = (self.unknown(environments), self.unknown(queues), self.unknown(limits));
        let asked: Vec<Uuid> = [&environments[..], &queues, &limits].concat();
        if asked.is_empty() {
            return Ok(());
        }
        self.gates.extend(gates::lock_free(tx, &environments, &queues, &limits).await?);
        self.foreign.extend(asked.into_iter().filter(|id| !self.gates.contains_key(id)));
        self.counted.extend(open().map(|seen| seen.lane.environment));
        self.taken.clear();
        for (lane, count) in gates::leased(tx, &self.counted.iter().copied().collect::<Vec<_>>()).await? {
            self.add(&lane, count);
        }
        for lane in admitted {
            self.add(lane, 1);
        }
        Ok(())
    }

    fn unknown(&self, ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
        let is_new = |id: &Uuid| !self.gates.contains_key(id) && !self.foreign.contains(id);
        ids.filter(is_new).collect::<HashSet<_>>().into_iter().collect()
    }

    /// Whether another claim is deciding about a gate of this lane.
    pub(super) fn is_foreign(&self, lane: &Lane) -> bool {
        gates_of(lane).any(|id| self.foreign.contains(&id))
    }

    /// Why no run of this lane may begin now; none: one may.
    pub(super) fn full(&self, lane: &Lane) -> Option<Full> {
        if self.is_full(Pool::Environment(lane.environment), self.bounds(lane.environment).and_then(|gate| gate.total)) {
            return Some(Full::Environment);
        }
        let of_queue = self.bounds(lane.queue).and_then(|gate| gate.total);
        if of_queue == Some(0) {
            return Some(Full::Queue);
        }
        if self.is_full(Pool::Queue(lane.queue, lane.key.clone()), of_queue) {
            return Some(Full::Lane);
        }
        for id in &lane.limits {
            let Some(gate) = self.bounds(*id) else { continue };
            if self.is_full(Pool::Limit(*id), gate.total) {
                return Some(Full::Limit(*id));
            }
            let per_key = gate.keys.get(&lane.key).copied().or(gate.per_key);
            if self.is_full(Pool::LimitKey(*id, lane.key.clone()), per_key) {
                return Some(Full::Lane);
            }
        }
        None
    }

    fn bounds(&self, id: Uuid) -> Option<&Bounds> {
        self.gates.get(&id)
    }

    fn is_full(&self, pool: Pool, limit: Option<u32>) -> bool {
        limit.is_some_and(|limit| self.taken.get(&pool).copied().unwrap_or_default() >= u64::from(limit))
    }

    /// Takes places for so many runs of this lane.
    pub(super) fn add(&mut self, lane: &Lane, count: u64) {
        // Without a gate nobody looks; with the first one, all are counted.
        if self.gates.is_empty() {
            return;
        }
        for pool in pools_of(lane) {
            *self.taken.entry(pool).or_default() += count;
        }
    }

    /// Gives such places back: fewer runs were there.
    pub(super) fn remove(&mut self, lane: &Lane, count: u64) {
        for pool in pools_of(lane) {
            if let Some(taken) = self.taken.get_mut(&pool) {
                *taken = taken.saturating_sub(count);
            }
        }
    }
}

fn gates_of(lane: &Lane) -> impl Iterator<Item = Uuid> {
    [lane.environment, lane.queue].into_iter().chain(lane.limits.iter().copied())
}

fn pools_of(lane: &Lane) -> impl Iterator<Item = Pool> {
    let limits = lane.limits.iter().flat_map(|id| [Pool::Limit(*id), Pool::LimitKey(*id, lane.key.clone())]);
    [Pool::Environment(lane.environment), Pool::Queue(lane.queue, lane.key.clone())].into_iter().chain(limits)
}
