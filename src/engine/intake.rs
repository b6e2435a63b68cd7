//! Takes in what is triggered at the same time: one transaction makes all the runs and, if a worker of this process has room,
//! begins them there; if others are in line, those that are first. So a run that is triggered where there is room begins without a
//! second transaction and without a word to anybody.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use sqlx::PgConnection;
use tracing::warn;

use crate::{
    engine::{
        Error,
        begin::Beginning,
        claim::{self, Claim, Rest, Terms},
        trigger,
    },
    group::Group,
    model::{
        attempt::Claimed,
        context::EnvironmentKind,
        id::{EnvironmentId, QueueId, RunId},
        payload::Packet,
        run::RunStatus,
        trigger::{NewRun, Triggered},
    },
    store::{
        Store,
        line::{Ancestry, Decided, Scene},
        many::{self, Starter},
        notify, queues,
        room::Rooms,
        seal::Keyring,
    },
};

/// Most runs of one transaction: their ids fit into one notification.
const MOST: usize = 64;
/// Transactions beside each other. With a second one, each has half as many runs, which cost a third more.
const AT_ONCE: usize = 1;
/// Longest payload of a run that is made beside others, in bytes: one of 3 MiB shall not keep them waiting.
const MOST_PAYLOAD: usize = 64 * 1024;

/// Whoever can begin runs in this process.
pub trait Workplace: Send + Sync + 'static {
    /// Keeps room for up to `most` runs free; none if there is none.
    fn room(&self, most: usize) -> Option<Box<dyn Room>>;
}

/// Room that is kept free. What is not used is free again when it is dropped.
pub trait Room: Send {
    /// With what runs are leased for it.
    fn terms(&self) -> Terms;
    /// Begins runs that were leased on these terms.
    fn begin(self: Box<Self>, claim: Claim);
}

type Asked = (EnvironmentId, NewRun);

/// Where triggers of one process meet. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    group: Group<Asked, Option<Triggered>>,
}

impl Intake {
    /// Triggers meet here from now on; runs begin in `workplace`, if there is one.
    pub fn new(store: Store, workplace: Option<Arc<dyn Workplace>>) -> Intake {
        let own = store.clone();
        let group = Group::new(MOST, AT_ONCE, move |asked: Vec<Asked>| {
            let (store, room) = (own.clone(), workplace.as_ref().and_then(|workplace| workplace.room(asked.len())));
            async move {
                let count = asked.len();
                make_together(&store, asked, room).await.unwrap_or_else(|error| {
                    warn!(error = &error as &dyn std::error::Error, runs = count, "runs could not be made together");
                    vec![None; count]
                })
            }
        });
        Intake { store, group }
    }

    /// As [`trigger::trigger`], in a transaction that others may share.
    ///
    /// # Errors
    /// The same.
    pub async fn trigger(&self, environment: EnvironmentId, new: NewRun) -> Result<Triggered, Error> {
        let new = trigger::normal(new)?;
        if is_simple(&new)
            && let Some(Some(triggered)) = self.group.ask((environment, new.clone())).await
        {
            return Ok(triggered);
        }
        trigger::trigger(&self.store, environment, new).await
    }
}

/// Whether nothing but the request's own key can stand in the way of the run.
fn is_simple(new: &NewRun) -> bool {
    new.idempotency.is_none()
        && new.debounce.is_none()
        && new.version.is_none()
        && new.parent.is_none()
        && new.batch.is_none()
        && new.replay_of.is_none()
        && new.schedule.is_none()
        && new.external_deployment.is_none()
        && new.concurrency_limits.is_none()
        && new.payload.data.len() <= MOST_PAYLOAD
}

/// Makes the runs, but for those that turn out not to be so simple: for these there is none in their place. Where there is room, begins
/// those that nothing stands in the way of, and then what is first in line.
async fn make_together(store: &Store, asked: Vec<Asked>, room: Option<Box<dyn Room>>) -> Result<Vec<Option<Triggered>>, Error> {
    let (terms, keys, rooms) = (room.as_ref().map(|room| room.terms()), store.keys().clone(), store.rooms().clone());
    let (triggered, claim) = store.tx(move |tx| Box::pin(async move { make(tx, &rooms, &asked, terms, &keys).await })).await?;
    if let (Some(room), Some(claim)) = (room, claim) {
        room.begin(claim);
    }
    Ok(triggered)
}

async fn make(
    tx: &mut PgConnection,
    rooms: &Rooms,
    asked: &[Asked],
    terms: Option<Terms>,
    keys: &Keyring,
) -> Result<(Vec<Option<Triggered>>, Option<Claim>), Error> {
    let (mut runs, kinds) = decide(tx, asked).await?;
    let (beginning, starter) = match &terms {
        Some(terms) => {
            let starter = Starter { worker: terms.worker, lease_for: terms.lease_for };
            (Beginning::decide(tx, &mut runs, terms, keys).await?, Some(starter))
        }
        None => Default::default(),
    };
    // Of a request that is here twice, the second finds the run of the first, by itself.
    let mut requests = HashSet::new();
    let once = asked.iter().zip(&runs).filter(|((environment, new), _)| {
        new.request_key.as_deref().is_none_or(|key| requests.insert((*environment, new.task.as_str(), key)))
    });
    let once: Vec<&Decided<'_>> = once.map(|(_, run)| run).collect();
    let once = with_room(tx, rooms, once, &kinds).await?;
    let made = many::insert(tx, &once, terms.is_none(), starter).await?;
    let ids: HashSet<RunId> = made.iter().map(|made| made.id).collect();
    for run in once.iter().filter(|run| run.status == RunStatus::Queued && ids.contains(&run.id)) {
        rooms.take(run.queue, 1);
    }
    let triggered = runs.iter().map(|run| ids.contains(&run.id).then_some(Triggered { id: run.id, is_cached: false })).collect();
    let Some(terms) = terms else { return Ok((triggered, None)) };
    let in_line = once.iter().filter(|run| run.status == RunStatus::Queued && ids.contains(&run.id)).map(|run| run.id);
    let begun = beginning.claimed(&made, &terms)?;
    Ok((triggered, Some(take_from_line(tx, begun, in_line.collect(), terms, keys).await?)))
}

/// Those that begin at once, and of the others as many as their queues have room for: one whose queue is full is refused by itself.
async fn with_room<'r, 'a>(
    tx: &mut PgConnection,
    rooms: &Rooms,
    runs: Vec<&'r Decided<'a>>,
    kinds: &HashMap<QueueId, EnvironmentKind>,
) -> Result<Vec<&'r Decided<'a>>, Error> {
    let mut left: HashMap<QueueId, u64> = HashMap::new();
    let mut fitting = Vec::with_capacity(runs.len());
    for run in runs {
        if run.status == RunStatus::Executing {
            fitting.push(run);
            continue;
        }
        let left = match left.entry(run.queue) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let counted = rooms.left(tx, run.environment, kinds[&run.queue], run.queue).await?;
                unknown.insert(counted.unwrap_or(u64::MAX))
            }
        };
        if *left > 0 {
            *left -= 1;
            fitting.push(run);
        }
    }
    Ok(fitting)
}

/// Adds to what begins what is first in line, if these runs came into line and there is still room.
async fn take_from_line(
    tx: &mut PgConnection,
    begun: Vec<Claimed>,
    in_line: Vec<RunId>,
    terms: Terms,
    keys: &Keyring,
) -> Result<Claim, Error> {
    let mut claim = Claim { runs: begun, rest: Rest::Unknown, turn: terms.turn.clone() };
    let room = terms.max.saturating_sub(claim.runs.len() as u32);
    if !in_line.is_empty() && room > 0 {
        let Claim { runs, rest, turn } = claim::claim_in(tx, Terms { max: room, ..terms }, keys).await?;
        claim.runs.extend(runs);
        (claim.rest, claim.turn) = (rest, turn);
    }
    // Others are told if there is something left for them.
    let begun: HashSet<RunId> = claim.runs.iter().map(|run| run.lease.run).collect();
    if in_line.iter().any(|run| !begun.contains(run)) {
        notify::line(tx).await?;
    }
    Ok(claim)
}

/// Each run as it is asked for, and the kinds of the environments that their queues are in.
async fn decide<'a>(
    tx: &mut PgConnection,
    asked: &'a [Asked],
) -> Result<(Vec<Decided<'a>>, HashMap<QueueId, EnvironmentKind>), Error> {
    let tasks: HashSet<(EnvironmentId, &str)> =
        asked.iter().map(|(environment, new)| (*environment, new.task.as_str())).collect();
    let mut scenes: HashMap<(EnvironmentId, &str), Scene> = HashMap::new();
    for (environment, task) in tasks {
        let plain = NewRun::of(task, Packet::empty());
        scenes.insert((environment, task), trigger::scene(tx, environment, &plain).await?);
    }
    let mut queues: HashMap<(EnvironmentId, String), QueueId> = HashMap::new();
    let mut decided: Vec<Decided<'_>> = Vec::with_capacity(asked.len());
    let mut kinds = HashMap::new();
    for (environment, new) in asked {
        let scene = &scenes[&(*environment, new.task.as_str())];
        let key = (*environment, trigger::queue_name(new, scene.task.as_ref()));
        let queue = match queues.get(&key) {
            Some(queue) => *queue,
            None => {
                let queue = queues::ensure(tx, *environment, &key.1).await?;
                queues.insert(key, queue);
                queue
            }
        };
        kinds.insert(queue, scene.kind);
        let id = RunId::new();
        let ancestry = Ancestry { root: id, trace: None, depth: 0, is_test: new.is_test };
        decided.push(trigger::decide(id, *environment, new, scene, ancestry, queue));
    }
    Ok((decided, kinds))
}
