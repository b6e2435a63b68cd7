//! Takes in what is triggered at the same time: one transaction makes all the runs and, if a worker of this process has room,
//! leases it the first in line, which on an idle system are the very runs that were made. So a run that is triggered where there
//! is room begins without a second transaction and without a word to anybody.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use sqlx::PgConnection;
use tracing::warn;

use crate::{
    engine::{
        Error,
        claim::{self, Claim, Terms},
        trigger,
    },
    group::Group,
    model::{
        id::{EnvironmentId, QueueId, RunId},
        payload::Packet,
        run::RunStatus,
        trigger::{NewRun, Triggered},
    },
    store::{
        Store,
        line::{Ancestry, Decided, Scene},
        many, notify, queues,
        room::Rooms,
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

/// Makes the runs, but for those that turn out not to be so simple: for these there is none in their place.
async fn make_together(store: &Store, asked: Vec<Asked>, room: Option<Box<dyn Room>>) -> Result<Vec<Option<Triggered>>, Error> {
    let (terms, keys, rooms) = (room.as_ref().map(|room| room.terms()), store.keys().clone(), store.rooms().clone());
    let (made, claimed) = store
        .tx(move |tx| {
            Box::pin(async move {
                let made = make(tx, &rooms, &asked, terms.is_none()).await?;
                let claimed = match terms {
                    Some(terms) => Some(claim::claim_in(tx, terms, &keys).await?),
                    None => None,
                };
                let begun: HashSet<RunId> = claimed.iter().flat_map(|claim| &claim.runs).map(|run| run.lease.run).collect();
                // Others are told if there is something left for them.
                if claimed.is_some() && made.iter().flatten().any(|made| made.is_in_line && !begun.contains(&made.id)) {
                    notify::line(tx).await?;
                }
                Ok::<_, Error>((made, claimed))
            })
        })
        .await?;
    if let (Some(room), Some(claimed)) = (room, claimed) {
        room.begin(claimed);
    }
    Ok(made.into_iter().map(|made| made.map(|made| Triggered { id: made.id, is_cached: false })).collect())
}

#[derive(Clone, Copy)]
struct Made {
    id: RunId,
    is_in_line: bool,
}

async fn make(tx: &mut PgConnection, rooms: &Rooms, asked: &[Asked], tell_workers: bool) -> Result<Vec<Option<Made>>, Error> {
    let tasks: HashSet<(EnvironmentId, &str)> =
        asked.iter().map(|(environment, new)| (*environment, new.task.as_str())).collect();
    let mut scenes: HashMap<(EnvironmentId, &str), Scene> = HashMap::new();
    for (environment, task) in tasks {
        let plain = NewRun::of(task, Packet::empty());
        scenes.insert((environment, task), trigger::scene(tx, environment, &plain).await?);
    }
    let mut queues: HashMap<(EnvironmentId, String), QueueId> = HashMap::new();
    let mut decided: Vec<Decided<'_>> = Vec::with_capacity(asked.len());
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
        let id = RunId::new();
        let ancestry = Ancestry { root: id, depth: 0, is_test: new.is_test };
        decided.push(trigger::decide(id, *environment, new, scene, ancestry, queue));
    }
    // Of a request that is here twice, the second finds the run of the first, by itself.
    let mut requests = HashSet::new();
    let once = asked.iter().zip(&decided).filter(|((environment, new), _)| {
        new.request_key.as_deref().is_none_or(|key| requests.insert((*environment, new.task.as_str(), key)))
    });
    // One whose queue is full is refused by itself, too.
    let mut left: HashMap<QueueId, u64> = HashMap::new();
    for run in &decided {
        if let Entry::Vacant(unknown) = left.entry(run.queue) {
            let kind = scenes[&(run.environment, run.new.task.as_str())].kind;
            unknown.insert(rooms.left(tx, run.environment, kind, run.queue).await?.unwrap_or(u64::MAX));
        }
    }
    let mut has_room = |run: &Decided<'_>| {
        let left = left.entry(run.queue).or_default();
        let fits = *left > 0;
        *left = left.saturating_sub(1);
        fits
    };
    let once: Vec<&Decided<'_>> = once.map(|(_, run)| run).filter(|run| has_room(run)).collect();
    let made: HashSet<RunId> = many::insert(tx, &once, tell_workers).await?.into_iter().collect();
    for run in once.iter().filter(|run| run.status == RunStatus::Queued && made.contains(&run.id)) {
        rooms.take(run.queue, 1);
    }
    let made =
        |run: &Decided<'_>| made.contains(&run.id).then_some(Made { id: run.id, is_in_line: run.status == RunStatus::Queued });
    Ok(decided.iter().map(made).collect())
}
