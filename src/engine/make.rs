//! Makes the runs of a batch's items, many in one statement. An item is decided on like a run that is triggered alone; one that
//! cannot be triggered becomes a run that has failed for that, so that every item has a run and results keep their order.
//! Source: facts B4-B6.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{
        Error,
        trigger::{self, Above},
    },
    model::{
        batch::{Draft, Item, Refusal},
        error::{ErrorCode, RunError},
        event::EventKind,
        id::{BatchId, EnvironmentId, QueueId, RunId},
        payload::Packet,
        queue,
        run::RunStatus,
        trigger::NewRun,
    },
    store::{
        batch_items::Made,
        endings::{self, Ending},
        events,
        line::{self, Decided, Scene},
        many, notify, queues,
        room::Rooms,
    },
};

/// Times that an idempotency key may change hands while we look.
const MAX_ROUNDS: u32 = 3;

/// Whose items they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) environment: EnvironmentId,
    pub(super) batch: BatchId,
    pub(super) parent: Option<RunId>,
    pub(super) awaited: bool,
}

/// Makes runs of these items, each of which has one afterwards: a new one, the one that holds its idempotency key, or one that has
/// failed already. Whether there is room for them has been looked at.
///
/// # Errors
/// [`Error::Invalid`] if the parent is not there or too deep; [`Error::NotFound`] without such an environment.
pub(super) async fn make(tx: &mut PgConnection, rooms: &Rooms, owner: Owner, items: Vec<Item>) -> Result<Vec<Made>, Error> {
    let above = Above::of(tx, owner.environment, owner.parent).await?;
    let version = trigger::version_for(tx, owner.parent, owner.awaited).await?;
    let mut scenery = Scenery::new(owner.environment);
    let (mut places, mut news, mut debounced, mut refused) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Item { index, task, draft } in items {
        match check(tx, &mut scenery, draft, version.as_deref()).await? {
            Ok(new) => {
                let new = NewRun { parent: owner.parent, batch: Some(owner.batch), awaited: owner.awaited, ..new };
                if new.debounce.is_some() {
                    debounced.push((index, new));
                } else {
                    places.push((index, task));
                    news.push(new);
                }
            }
            Err(refusal) => refused.push((index, task, refusal)),
        }
    }
    let mut decided = Vec::with_capacity(news.len());
    for new in &news {
        let id = RunId::new();
        let (scene, queue) = scenery.of(tx, new).await?;
        decided.push(trigger::decide(id, owner.environment, new, scene, above.below(id, new), queue));
    }
    let runs = insert(tx, &decided).await?;
    for run in decided.iter().filter(|run| run.status == RunStatus::Queued) {
        rooms.take(run.queue, 1);
    }
    let mut made: Vec<Made> =
        places.into_iter().zip(runs).map(|((index, task), run)| Made { index, task, run, refusal: None }).collect();
    made.extend(join(tx, owner.environment, debounced).await?);
    made.extend(fail(tx, owner, above, refused).await?);
    Ok(made)
}

/// Triggers items that are debounced, one by one: each makes a delayed run, or puts off the one that has its key, also that of an
/// item before it. In the order of the keys, so that two batches with the same ones do not wait for each other.
async fn join(tx: &mut PgConnection, environment: EnvironmentId, mut items: Vec<(u32, NewRun)>) -> Result<Vec<Made>, Error> {
    let key_of = |new: &NewRun| (new.task.clone(), new.debounce.as_ref().map(|debounce| debounce.key.clone()));
    items.sort_by_cached_key(|(index, new)| (key_of(new), *index));
    let mut made = Vec::with_capacity(items.len());
    for (index, new) in items {
        // Delayed, so there is room for it.
        let run = trigger::trigger_in(tx, &Rooms::default(), environment, &new).await?.id;
        made.push(Made { index, task: new.task, run, refusal: None });
    }
    Ok(made)
}

/// The run that an item shall be, within its limits, or why it cannot be one.
async fn check(
    tx: &mut PgConnection,
    scenery: &mut Scenery,
    draft: Draft,
    version: Option<&str>,
) -> Result<Result<NewRun, Refusal>, Error> {
    let new = match draft {
        Draft::Refused(refusal) => return Ok(Err(refusal)),
        Draft::Run(new) => trigger::on_version(*new, version),
    };
    let checked = match trigger::normal(new) {
        Ok(new) => scenery.scene(tx, &new).await.map(|_| new),
        Err(error) => Err(error),
    };
    match checked {
        Ok(new) => Ok(Ok(new)),
        Err(error) => refusal(error).map(Err),
    }
}

/// What stands against one item is its own affair; anything else stands against all.
fn refusal(error: Error) -> Result<Refusal, Error> {
    let (code, message) = match error {
        Error::TooLarge { field: "payload", .. } => (ErrorCode::PayloadTooLarge, error.to_string()),
        Error::TooLarge { .. } => (ErrorCode::BatchItemCouldNotTrigger, error.to_string()),
        Error::Invalid { field, message } => (ErrorCode::BatchItemCouldNotTrigger, format!("{field}: {message}")),
        other => return Err(other),
    };
    Ok(Refusal { code, message })
}

/// What a scene depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Seen {
    task: String,
    version: Option<String>,
    external_deployment: Option<String>,
    limits: Option<Vec<String>>,
}

/// What the items of one call have to know, looked up once for all that are alike.
struct Scenery {
    environment: EnvironmentId,
    scenes: HashMap<Seen, Scene>,
    queues: HashMap<String, QueueId>,
}

impl Scenery {
    fn new(environment: EnvironmentId) -> Scenery {
        Scenery { environment, scenes: HashMap::new(), queues: HashMap::new() }
    }

    async fn scene(&mut self, tx: &mut PgConnection, new: &NewRun) -> Result<&Scene, Error> {
        let key = Seen {
            task: new.task.clone(),
            version: new.version.clone(),
            external_deployment: new.external_deployment.clone(),
            limits: new.concurrency_limits.clone(),
        };
        if !self.scenes.contains_key(&key) {
            let scene = trigger::scene(tx, self.environment, new).await?;
            self.scenes.insert(key.clone(), scene);
        }
        Ok(&self.scenes[&key])
    }

    async fn queue(&mut self, tx: &mut PgConnection, name: &str) -> Result<QueueId, Error> {
        if let Some(queue) = self.queues.get(name) {
            return Ok(*queue);
        }
        let queue = queues::ensure(tx, self.environment, name).await?;
        self.queues.insert(name.to_owned(), queue);
        Ok(queue)
    }

    async fn of(&mut self, tx: &mut PgConnection, new: &NewRun) -> Result<(&Scene, QueueId), Error> {
        let name = trigger::queue_name(&new.task, new.queue.as_deref(), self.scene(tx, new).await?.task.as_ref());
        let queue = self.queue(tx, &name).await?;
        Ok((self.scene(tx, new).await?, queue))
    }
}

/// Writes the runs, and says which each became: another one if that has its key.
async fn insert(tx: &mut PgConnection, runs: &[Decided<'_>]) -> Result<Vec<RunId>, Error> {
    let all: Vec<&Decided<'_>> = runs.iter().collect();
    let made: HashSet<RunId> = many::insert(tx, &all, true, None).await?.into_iter().map(|made| made.id).collect();
    let mut became = Vec::with_capacity(runs.len());
    for run in runs {
        became.push(if made.contains(&run.id) { run.id } else { insert_or_find(tx, run).await? });
    }
    Ok(became)
}

/// A run whose key was taken when it was to be written.
async fn insert_or_find(tx: &mut PgConnection, run: &Decided<'_>) -> Result<RunId, Error> {
    let key = run.new.idempotency.as_ref().map_or("", |idempotency| &idempotency.key);
    for _ in 0..MAX_ROUNDS {
        if let Some(holder) = line::holder_of_key(tx, run.environment, &run.new.task, key).await? {
            return Ok(holder);
        }
        if let Some(made) = line::insert(tx, run).await? {
            events::record(tx, EventKind::Triggered, &[made]).await?;
            if run.status == RunStatus::Queued {
                notify::line(tx).await?;
            }
            if run.is_due_soon {
                notify::timers(tx).await?;
            }
            return Ok(run.id);
        }
    }
    Err(Error::Conflict("an idempotency key is being used by other requests".into()))
}

/// Makes runs that have failed before they began, in the place of items that cannot be triggered.
async fn fail(
    tx: &mut PgConnection,
    owner: Owner,
    above: Above,
    refused: Vec<(u32, String, Refusal)>,
) -> Result<Vec<Made>, Error> {
    let mut queues = Scenery::new(owner.environment);
    let news: Vec<NewRun> = refused
        .iter()
        .map(|(_, task, _)| NewRun {
            parent: owner.parent,
            batch: Some(owner.batch),
            awaited: owner.awaited,
            ..NewRun::of(task, Packet::empty())
        })
        .collect();
    let mut runs = Vec::with_capacity(news.len());
    for new in &news {
        let id = RunId::new();
        runs.push(Decided {
            id,
            environment: owner.environment,
            new,
            // Seen by nobody: it ends in this transaction.
            status: RunStatus::PendingVersion,
            deployment: None,
            queue: queues.queue(tx, &queue::name_of_task(&new.task)).await?,
            limits: Vec::new(),
            ancestry: above.below(id, new),
            position: None,
            delay_until: None,
            due_at: None,
            is_due_soon: false,
            key_expires_at: None,
        });
    }
    many::insert(tx, &runs.iter().collect::<Vec<_>>(), false, None).await?;
    let mut alike: HashMap<&Refusal, Vec<Uuid>> = HashMap::new();
    for ((_, _, refusal), run) in refused.iter().zip(&runs) {
        alike.entry(refusal).or_default().push(run.id.uuid());
    }
    for (Refusal { code, message }, ids) in alike {
        let error = RunError::internal(*code, message.clone());
        let ending = Ending { status: error.status(), output: None, error: Some(&error), cpu_ms: 0 };
        endings::end(tx, &ids, &ending).await?;
    }
    let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    let made = |((index, task, refusal), run)| Made { index, task, run, refusal: Some(refusal) };
    Ok(refused.into_iter().zip(ids).map(made).collect())
}
