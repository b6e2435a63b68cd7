//! Claims: a worker leases runs that are in line, of all environments and lanes in turn, as far as limits let them begin.
//!
//! One transaction. What a limit holds back stays where it is; a claim that has seen such runs says so, and its worker looks again
//! when one of its own runs has ended, and every now and then for what ends elsewhere.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use serde::Deserialize as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{
        Error,
        grant::{self, Variables},
        places::{Full, Places},
    },
    model::{
        attempt::Claimed,
        context::EnvironmentKind,
        event::EventKind,
        id::{EnvironmentId, RunId, WorkerId},
        machine::Machine,
        task::TaskDefinition,
    },
    store::{
        Store, events,
        lanes::{self, Closed, Lane, Seen, Stretch, Turn},
        leases::{self, InLine},
        line,
        seal::Keyring,
        variables,
    },
};

/// Most runs of one claim.
const MAX_CLAIM: u32 = 200;
/// A claim that finds lanes from which nothing may begin looks this often for others.
const MAX_ROUNDS: u32 = 10;
/// Environments that a claim looks into.
const MAX_ENVIRONMENTS: usize = 32;
/// Lanes of one environment that a claim looks into at a time: at least and at most at first, and then.
const LANES: (usize, usize, usize) = (8, 64, 256);
/// Environments whose place in turn a process remembers.
const MAX_TURNS: usize = 1000;

/// With what runs are leased.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who leases.
    pub worker: WorkerId,
    /// Runs it can begin; more than 200 are not leased at a time.
    pub max: u32,
    /// For how long.
    pub lease_for: Duration,
    /// Version of the rewriter that it begins runs with; those that go on need their own.
    pub rewriter: u32,
    /// Where its claims are in their way through the lanes.
    pub turn: Turn,
}

impl Terms {
    /// Most runs that may be leased.
    pub(super) fn most(&self) -> usize {
        self.max.min(MAX_CLAIM) as usize
    }
}

/// What a claim got.
#[derive(Debug)]
pub struct Claim {
    /// Leased runs, the longest in line first.
    pub runs: Vec<Claimed>,
    /// Why there are not more.
    pub rest: Rest,
    /// For the next claim.
    pub turn: Turn,
}

/// What is left in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing that this worker could begin.
    Nothing,
    /// Runs that limits hold back, or so much that is closed that it did not get through.
    Held,
    /// Runs about which another claim is deciding just now.
    Contended,
    /// It did not look at everything.
    Unknown,
}

/// Leases runs on these terms.
///
/// # Errors
/// If the database does not answer.
pub async fn claim(store: &Store, terms: Terms) -> Result<Claim, Error> {
    let keys = store.keys().clone();
    store.tx(move |tx| Box::pin(async move { claim_in(tx, terms, &keys).await })).await
}

/// [`claim`], as part of another transaction.
pub(super) async fn claim_in(tx: &mut PgConnection, terms: Terms, keys: &Keyring) -> Result<Claim, Error> {
    let mut claiming = Claiming {
        room: terms.most(),
        rewriter: terms.rewriter,
        keys,
        turn: terms.turn,
        places: Places::default(),
        closed: Closed::default(),
        variables: Variables::new(),
        admitted: Vec::new(),
        skip: Vec::new(),
        is_held: false,
        is_contended: false,
    };
    let has_seen_all = claiming.run(tx).await?;
    let Claiming { room, turn, variables, mut admitted, is_held, is_contended, .. } = claiming;
    let rest = match () {
        () if is_contended => Rest::Contended,
        // One that found nothing among so many looks at the others after a pause, or it would never rest.
        () if !has_seen_all && admitted.is_empty() && room > 0 => Rest::Held,
        () if is_held && has_seen_all => Rest::Held,
        () if room == 0 || !has_seen_all => Rest::Unknown,
        () => Rest::Nothing,
    };
    admitted.sort_by_key(|run| (run.position, run.id));
    let runs = match &admitted[..] {
        [] => Vec::new(),
        _ => grant::grant(tx, terms.worker, terms.lease_for, admitted, &variables).await?,
    };
    Ok(Claim { runs, rest, turn })
}

/// A claim on its way.
struct Claiming<'a> {
    /// Runs that may still be admitted.
    room: usize,
    rewriter: u32,
    keys: &'a Keyring,
    turn: Turn,
    places: Places,
    closed: Closed,
    variables: Variables,
    admitted: Vec<InLine>,
    /// Runs that were looked at: they are locked, and found again.
    skip: Vec<Uuid>,
    is_held: bool,
    is_contended: bool,
}

impl Claiming<'_> {
    /// Goes through the lanes until there is no room left or nothing more to see; says whether it has seen everything.
    async fn run(&mut self, tx: &mut PgConnection) -> Result<bool, Error> {
        let (mut come_by, mut done): (HashSet<Lane>, HashSet<Uuid>) = Default::default();
        for round in 0..MAX_ROUNDS {
            if self.room == 0 {
                return Ok(false);
            }
            // The first look is for what there usually is, further ones are for what stands behind lanes that are full.
            let each = match round {
                0 => (2 * self.room / self.turn.environments.max(1)).clamp(LANES.0, LANES.1),
                _ => LANES.2,
            };
            let Stretch { environments, mut lanes } = lanes::next(tx, &self.turn, &self.closed, MAX_ENVIRONMENTS, each).await?;
            self.turn.environments = environments.len();
            let (is_last, before) = (environments.len() < MAX_ENVIRONMENTS, done.len());
            for environment in &environments {
                let of = lanes.iter().filter(|seen| seen.lane.environment == *environment);
                let (count, is_round) = of.fold((0, false), |(n, round), seen| (n + 1, round || come_by.contains(&seen.lane)));
                if count < each || is_round {
                    done.insert(*environment);
                }
            }
            lanes.retain(|seen| come_by.insert(seen.lane.clone()));
            let admitted: Vec<Lane> = self.admitted.iter().map(lane_of).collect();
            self.places.look(tx, &lanes, &admitted).await?;
            self.serve(tx, &lanes).await?;
            if environments.iter().all(|environment| done.contains(environment)) && (is_last || done.len() == before) {
                return Ok(true);
            }
            if self.room > 0 {
                self.turn.environment = environments.last().copied();
            }
        }
        Ok(false)
    }

    /// Admits runs of these lanes, of each in turn one, until there is no room or they have no more.
    async fn serve(&mut self, tx: &mut PgConnection, seen: &[Seen]) -> Result<(), Error> {
        let mut exhausted: HashSet<usize> = HashSet::new();
        // More than a few times only if many runs are found that this version cannot begin.
        for _ in 0..MAX_ROUNDS {
            let quotas = self.deal(seen, &exhausted);
            if quotas.is_empty() {
                return Ok(());
            }
            let asked: Vec<(&Lane, usize)> = quotas.iter().map(|(index, count)| (&seen[*index].lane, *count)).collect();
            let picked = lanes::pick(tx, &asked, &self.skip).await?;
            for (place, (index, count)) in quotas.iter().enumerate() {
                let got = picked.iter().filter(|(of, _)| *of == place).count();
                if got < *count {
                    exhausted.insert(*index);
                    self.places.remove(&seen[*index].lane, (count - got) as u64);
                    self.room += count - got;
                }
            }
            let picked: Vec<Uuid> = picked.into_iter().map(|(_, id)| id).collect();
            self.skip.extend(&picked);
            self.admit(tx, &picked).await?;
        }
        Ok(())
    }

    /// Says how many runs each lane gets, by its place in the list: one for each environment in turn, and of each from its lanes in
    /// turn, as long as there is room.
    fn deal(&mut self, seen: &[Seen], exhausted: &HashSet<usize>) -> Vec<(usize, usize)> {
        let mut quotas: BTreeMap<usize, usize> = BTreeMap::new();
        let open = |lanes: Vec<usize>| lanes.into_iter().filter(|index| !exhausted.contains(index)).collect::<VecDeque<_>>();
        let mut waiting: VecDeque<VecDeque<usize>> = by_environment(seen).into_iter().map(open).collect();
        while self.room > 0
            && let Some(mut lanes) = waiting.pop_front()
        {
            let Some(index) = lanes.pop_front() else { continue };
            let Seen { lane, is_closed, .. } = &seen[index];
            if !quotas.contains_key(&index) {
                self.came_by(lane);
            }
            if *is_closed || !self.is_open(lane) {
                waiting.push_front(lanes);
                continue;
            }
            self.places.add(lane, 1);
            *quotas.entry(index).or_default() += 1;
            self.room -= 1;
            lanes.push_back(index);
            waiting.push_back(lanes);
        }
        quotas.into_iter().collect()
    }

    /// The next claim begins behind this lane.
    fn came_by(&mut self, lane: &Lane) {
        if self.turn.lanes.len() >= MAX_TURNS {
            self.turn.lanes.clear();
        }
        self.turn.environment = Some(lane.environment);
        self.turn.lanes.insert(lane.environment, lane.clone());
    }

    /// Whether one more run of this lane may begin. What is closed for more than this lane is not looked into again.
    fn is_open(&mut self, lane: &Lane) -> bool {
        if self.places.is_foreign(lane) {
            self.is_contended = true;
            return false;
        }
        if self.closed.has(lane) {
            return false;
        }
        let Some(full) = self.places.full(lane) else { return true };
        self.is_held = true;
        match full {
            Full::Environment => self.closed.environments.push(lane.environment),
            Full::Queue => self.closed.queues.push(lane.queue),
            Full::Limit(limit) => self.closed.limits.push(limit),
            Full::Lane => {}
        }
        false
    }

    /// Reads the runs that were picked, and admits those that can begin here and now. Places of others are given back.
    async fn admit(&mut self, tx: &mut PgConnection, picked: &[Uuid]) -> Result<(), Error> {
        if picked.is_empty() {
            return Ok(());
        }
        let loaded = leases::load(tx, picked, self.rewriter).await?;
        let (deployed, undeployed): (Vec<_>, Vec<_>) = loaded.into_iter().partition(|run| run.definition.is_some());
        if !undeployed.is_empty() {
            let ids: Vec<Uuid> = undeployed.iter().map(|run| run.id).collect();
            let changed = line::back_to_pending(tx, &ids).await?;
            events::record(tx, EventKind::Undeployed, &changed).await?;
        }
        let environments: Vec<Uuid> = deployed.iter().map(|run| run.environment_id).collect();
        let sealed = look_up(tx, self.keys, &environments, &mut self.variables).await?;
        self.closed.environments.extend(sealed);
        let can_begin = |run: &InLine| self.variables.contains_key(&run.environment_id) && is_readable(run, self.rewriter);
        let (admitted, passed_over): (Vec<_>, Vec<_>) = deployed.into_iter().partition(can_begin);
        for run in passed_over.iter().chain(&undeployed) {
            self.places.remove(&lane_of(run), 1);
            self.room += 1;
        }
        self.admitted.extend(admitted);
        Ok(())
    }
}

/// The places of lanes in the list, by environment.
fn by_environment(seen: &[Seen]) -> Vec<Vec<usize>> {
    let indexes: Vec<usize> = (0..seen.len()).collect();
    let of = |index: &usize| seen[*index].lane.environment;
    indexes.chunk_by(|a, b| of(a) == of(b)).map(<[usize]>::to_vec).collect()
}

fn lane_of(run: &InLine) -> Lane {
    Lane { environment: run.environment_id, queue: run.queue_id, limits: run.limit_ids.clone(), key: run.concurrency_key.clone() }
}

/// Reads the variables of these environments. An environment whose variables were encrypted with a key that this
/// process does not have is left out: its runs must stay in line, for a process that has it. That is so while servers get a
/// new key one after the other.
pub(super) async fn look_up(
    tx: &mut PgConnection,
    keys: &Keyring,
    environments: &[Uuid],
    into: &mut Variables,
) -> Result<Vec<Uuid>, Error> {
    let unknown = environments.iter().copied().filter(|id| !into.contains_key(id));
    let unknown: Vec<Uuid> = unknown.collect::<HashSet<_>>().into_iter().collect();
    let mut sealed = Vec::new();
    if unknown.is_empty() {
        return Ok(sealed);
    }
    for (id, opened) in variables::of_runs(tx, keys, &unknown).await? {
        match opened {
            Ok(variables) => drop(into.insert(id, variables)),
            Err(error) => {
                tracing::error!(environment.id = %EnvironmentId::from_uuid(id), "variables: {error}; its runs stay in line");
                sealed.push(id);
            }
        }
    }
    Ok(sealed)
}

/// Whether this version understands the run. One that it does not, as when a newer version wrote it, must not keep the runs
/// behind it from being claimed; it is left for a version that does. So is one that sleeps in what a later rewriter made, which
/// may need of its host what this one does not have: while servers are upgraded one after the other, the new ones take it.
pub(super) fn is_readable(run: &InLine, rewriter: u32) -> bool {
    let is_readable = run.rewriter.is_none_or(|of_run| of_run.unsigned_abs() <= rewriter)
        && run.definition.as_ref().is_some_and(|definition| TaskDefinition::deserialize(definition).is_ok())
        && run.machine.as_deref().is_none_or(|name| Machine::parse(name).is_some())
        && EnvironmentKind::from_slug(&run.environment_kind).is_some()
        && grant::suspended(run).is_ok();
    if !is_readable {
        tracing::error!(run.id = %RunId::from_uuid(run.id), "a run holds what this version does not know; it stays in line");
    }
    is_readable
}
