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
        queue,
        run::RunStatus,
        trigger::{NewRun, Triggered},
    },
    store::{
        Store, StoreError,
        line::{Ancestry, Decided, Scene},
        many::{self, Starter},
        notify, queues,
        room::Rooms,
        seal::Keyring,
        soon,
        stages::{self, Place, Stage},
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

/// What became of a trigger among others.
#[derive(Debug, Clone)]
enum Answer {
    Made(Triggered),
    /// It is not so simple, or nothing was written for any: it has to be done by itself.
    Alone,
    /// The database is away, perhaps after it has committed.
    Unknown,
}

/// Where triggers of one process meet. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    group: Group<Asked, Answer>,
}

impl Intake {
    /// Triggers meet here from now on; runs begin in `workplace`, if there is one.
    pub fn new(store: Store, workplace: Option<Arc<dyn Workplace>>) -> Intake {
        let own = store.clone();
        let group = Group::new(MOST, AT_ONCE, move |asked: Vec<Asked>| {
            let (store, room) = (own.clone(), workplace.as_ref().and_then(|workplace| workplace.room(asked.len())));
            async move {
                let count = asked.len();
                match make_together(&store, asked, room).await {
                    Ok(made) => made.into_iter().map(|made| made.map_or(Answer::Alone, Answer::Made)).collect(),
                    Err(error) => {
                        warn!(error = &error as &dyn std::error::Error, runs = count, "runs could not be made together");
                        let is_unknown = matches!(error, Error::Unavailable(_));
                        vec![if is_unknown { Answer::Unknown } else { Answer::Alone }; count]
                    }
                }
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
        if is_simple(&new) {
            match self.group.ask((environment, new.clone())).await {
                Some(Answer::Made(triggered)) => return Ok(triggered),
                // Made again without its request's key it could be there twice.
                Some(Answer::Unknown) if new.request_key.is_none() => return Err(Error::Unavailable(StoreError::no_answer())),
                Some(Answer::Unknown | Answer::Alone) | None => {}
            }
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
    let terms = room.as_ref().map(|room| room.terms());
    let making = Making { asked: asked.into(), terms, keys: store.keys().clone(), rooms: store.rooms().clone() };
    let at_once = making.clone();
    let made = store.single(move |connection| Box::pin(async move { at_once.unless_in_line(connection).await })).await?;
    let Made { triggered, claim } = match made {
        Some(made) => made,
        None => store.tx(move |tx| Box::pin(async move { making.and_claim(tx).await })).await?,
    };
    if let (Some(room), Some(claim)) = (room, claim) {
        room.begin(claim);
    }
    Ok(triggered)
}

/// Runs on their way to be made together.
#[derive(Clone)]
struct Making {
    asked: Arc<[Asked]>,
    /// Of the worker that has room.
    terms: Option<Terms>,
    keys: Keyring,
    rooms: Rooms,
}

/// What came of it.
struct Made {
    /// None: by itself.
    triggered: Vec<Option<Triggered>>,
    /// For the room.
    claim: Option<Claim>,
}

impl Making {
    /// Makes the runs with one statement; none if something comes into line where there is room: then a claim has to follow.
    async fn unless_in_line(&self, connection: &mut PgConnection) -> Result<Option<Made>, Error> {
        let (runs, kinds, beginning) = self.decide(connection).await?;
        if self.terms.is_some() && runs.iter().any(|run| run.status == RunStatus::Queued) {
            return Ok(None);
        }
        let (made, _) = self.insert(connection, &runs, &kinds).await?;
        let begun = self.terms.as_ref().map(|terms| Ok::<_, Error>((beginning.claimed(&made, terms)?, terms.turn.clone())));
        let claim = begun.transpose()?.map(|(runs, turn)| Claim { runs, rest: Rest::Unknown, turn });
        Ok(Some(Made { triggered: triggered(&runs, &made), claim }))
    }

    /// Makes the runs, and claims what is first in line.
    async fn and_claim(&self, tx: &mut PgConnection) -> Result<Made, Error> {
        let (runs, kinds, beginning) = self.decide(tx).await?;
        let (made, in_line) = self.insert(tx, &runs, &kinds).await?;
        let claim = match &self.terms {
            Some(terms) => Some(take_from_line(tx, beginning.claimed(&made, terms)?, in_line, terms.clone(), &self.keys).await?),
            None => None,
        };
        Ok(Made { triggered: triggered(&runs, &made), claim })
    }

    /// Each run as it is asked for, the kinds of the environments that their queues are in, and which begin at once.
    async fn decide(&self, connection: &mut PgConnection) -> Result<(Vec<Decided<'_>>, Kinds, Beginning), Error> {
        let places: HashSet<Place<'_>> = self.asked.iter().map(place_of).collect();
        let places: Vec<Place<'_>> = places.into_iter().collect();
        let rewriter = self.terms.as_ref().map(|terms| terms.rewriter);
        let seen = soon(see(connection, &places, rewriter)).await?;
        let seen: HashMap<Place<'_>, (Scene, QueueId, Option<Stage>)> = places.into_iter().zip(seen).collect();
        let mut runs = Vec::with_capacity(self.asked.len());
        for asked in self.asked.iter() {
            let ((environment, new), (scene, queue, _)) = (asked, &seen[&place_of(asked)]);
            let id = RunId::new();
            let ancestry = Ancestry { root: id, trace: None, depth: 0, is_test: new.is_test };
            runs.push(trigger::decide(id, *environment, new, scene, ancestry, *queue));
        }
        let kinds = seen.values().map(|(scene, queue, _)| (*queue, scene.kind)).collect();
        let stages =
            seen.into_iter().filter_map(|(place, (_, queue, stage))| Some(((place.environment, place.task, queue), stage?)));
        let beginning = match &self.terms {
            Some(terms) => Beginning::decide(connection, &mut runs, stages.collect(), terms, &self.keys).await?,
            None => Beginning::default(),
        };
        Ok((runs, kinds, beginning))
    }

    /// Writes the runs, but for those that are not so simple. Says which it wrote, and which of these are in line.
    async fn insert(
        &self,
        connection: &mut PgConnection,
        runs: &[Decided<'_>],
        kinds: &Kinds,
    ) -> Result<(Vec<many::Made>, Vec<RunId>), Error> {
        // Of a request that is here twice, the second finds the run of the first, by itself.
        let mut requests = HashSet::new();
        let once = self.asked.iter().zip(runs).filter(|((environment, new), _)| {
            new.request_key.as_deref().is_none_or(|key| requests.insert((*environment, new.task.as_str(), key)))
        });
        let once: Vec<&Decided<'_>> = once.map(|(_, run)| run).collect();
        let once = with_room(connection, &self.rooms, once, kinds).await?;
        let starter = self.terms.as_ref().map(|terms| Starter { worker: terms.worker, lease_for: terms.lease_for });
        let made = many::insert(connection, &once, self.terms.is_none(), starter).await?;
        let ids: HashSet<RunId> = made.iter().map(|made| made.id).collect();
        let in_line: Vec<_> = once.iter().filter(|run| run.status == RunStatus::Queued && ids.contains(&run.id)).collect();
        in_line.iter().for_each(|run| self.rooms.take(run.queue, 1));
        Ok((made, in_line.into_iter().map(|run| run.id).collect()))
    }
}

/// Kinds of the environments that queues are in.
type Kinds = HashMap<QueueId, EnvironmentKind>;

fn triggered(runs: &[Decided<'_>], made: &[many::Made]) -> Vec<Option<Triggered>> {
    let ids: HashSet<RunId> = made.iter().map(|made| made.id).collect();
    runs.iter().map(|run| ids.contains(&run.id).then_some(Triggered { id: run.id, is_cached: false })).collect()
}

fn place_of((environment, new): &Asked) -> Place<'_> {
    Place { environment: *environment, task: &new.task, queue: new.queue.as_deref() }
}

/// What there is of each of these places. A queue that is not there is made.
async fn see(
    connection: &mut PgConnection,
    places: &[Place<'_>],
    rewriter: Option<u32>,
) -> Result<Vec<(Scene, QueueId, Option<Stage>)>, Error> {
    let own_queues: Vec<String> = places.iter().map(|place| queue::name_of_task(place.task)).collect();
    let all = stages::see(connection, places, &own_queues, rewriter).await?;
    let mut seen = Vec::with_capacity(places.len());
    for (place, found) in places.iter().zip(all) {
        let mut found = found.ok_or(Error::not_found("environment"))?;
        if let Some(task) = &found.scene.task
            && !task.concurrency_limits.is_empty()
        {
            found.scene.limits = trigger::limits_of_task(connection, place.environment, task).await?.1;
        }
        let name = trigger::queue_name(place.task, place.queue, found.scene.task.as_ref());
        seen.push(match found.queue {
            Some((id, found_name)) if found_name == name => (found.scene, id, found.stage),
            // It was not there: its first run goes through the line.
            _ => (found.scene, queues::ensure(connection, place.environment, &name).await?, None),
        });
    }
    Ok(seen)
}

/// Those that begin at once, and of the others as many as their queues have room for: one whose queue is full is refused by itself.
async fn with_room<'r, 'a>(
    tx: &mut PgConnection,
    rooms: &Rooms,
    runs: Vec<&'r Decided<'a>>,
    kinds: &Kinds,
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
