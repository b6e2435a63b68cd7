//! Makes a run: decides where it begins (pending, delayed or in line), once for each idempotency key and each request.
//!
//! Two triggers with the same key meet at a unique index: the second waits for the first and then finds its run. So do two with the
//! same debounce key; see `debounce`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{Error, debounce, deploy, pin, room, tags},
    model::{
        context::EnvironmentKind,
        event::EventKind,
        id::{EnvironmentId, RunId},
        key, limit,
        payload::{MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES},
        queue,
        run::RunStatus,
        task::TaskDefinition,
        trigger::{
            DEFAULT_KEY_TTL_MS, DEVELOPMENT_TTL_MS, Debounce, MAX_ATTEMPTS, MAX_KEY_CHARS, MIN_MAX_DURATION_MS, NewRun,
            RunIdempotency, Triggered,
        },
    },
    store::{
        Store, children, events, limits,
        line::{self, Ancestry, Decided, Scene},
        notify, queues,
        room::Rooms,
    },
};

/// Longest id of a task, concurrency key and content type, in characters.
const MAX_NAME_CHARS: usize = 255;
/// Most parents above a run: a task that triggers itself for ever stops here.
const MAX_DEPTH: i32 = 1000;
/// Times that a key may change hands while we look.
const MAX_ROUNDS: u32 = 3;
/// Farthest a time may lie ahead; more is this. Postgres has no infinite intervals before version 17.
pub(super) const FARTHEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Makes a run, or finds the one that an earlier trigger with the same key, or the same request, made.
///
/// # Errors
/// [`Error::Invalid`] and [`Error::TooLarge`] if the request breaks a rule (tags, queue name, version, parent);
/// [`Error::QueueFull`]; [`Error::NotFound`] without such an environment.
pub async fn trigger(store: &Store, environment: EnvironmentId, new: NewRun) -> Result<Triggered, Error> {
    let new = normal(new)?;
    let rooms = store.rooms().clone();
    store.tx(move |tx| Box::pin(async move { trigger_child(tx, &rooms, environment, new).await })).await
}

/// Releases an idempotency key, so that the next trigger with it makes a new run. Source: facts A9.
///
/// # Errors
/// [`Error::NotFound`] if no run of the task holds it.
pub async fn reset_key(store: &Store, environment: EnvironmentId, task: String, key: String) -> Result<(), Error> {
    let key = key::indexed(key);
    store
        .tx(move |tx| {
            Box::pin(async move {
                let released = line::release_key(tx, environment, &task, &key).await?;
                if released { Ok(()) } else { Err(Error::not_found("idempotency key")) }
            })
        })
        .await
}

/// [`trigger_in`] for a run that may have a parent which means to wait for it.
pub(super) async fn trigger_child(
    tx: &mut PgConnection,
    rooms: &Rooms,
    environment: EnvironmentId,
    new: NewRun,
) -> Result<Triggered, Error> {
    let version = version_for(tx, new.parent, new.awaited).await?;
    trigger_in(tx, rooms, environment, &on_version(new, version.as_deref())).await
}

/// The version that what a parent waits for runs on: the parent's own, once that has one. Source: facts A25.
pub(super) async fn version_for(tx: &mut PgConnection, parent: Option<RunId>, awaited: bool) -> Result<Option<String>, Error> {
    match parent.filter(|_| awaited) {
        Some(parent) => Ok(children::version_of(tx, parent).await?),
        None => Ok(None),
    }
}

/// The run on this version, if there is one and it names none.
pub(super) fn on_version(new: NewRun, version: Option<&str>) -> NewRun {
    let is_free = new.version.is_none() && new.external_deployment.is_none();
    NewRun { version: new.version.or(version.filter(|_| is_free).map(str::to_owned)), ..new }
}

/// The same in the transaction of another verb, for what [`normal`] has let pass.
pub(super) async fn trigger_in(
    tx: &mut PgConnection,
    rooms: &Rooms,
    environment: EnvironmentId,
    new: &NewRun,
) -> Result<Triggered, Error> {
    let id = RunId::new();
    if let Some(key) = &new.request_key
        && let Some(id) = line::claim_request(tx, environment, &new.task, key, id).await?
    {
        return Ok(Triggered { id, is_cached: false });
    }
    let scene = scene(tx, environment, new).await?;
    let ancestry = Above::of(tx, environment, new.parent).await?.below(id, new);
    let queue_name = queue_name(&new.task, new.queue.as_deref(), scene.task.as_ref());
    let queue = queues::ensure(tx, environment, &queue_name).await?;
    let run = decide(id, environment, new, &scene, ancestry, queue);
    if let Some(joined) = debounce::join(tx, environment, new, scene.now).await? {
        return Ok(joined);
    }
    let is_room = room::is_left(tx, rooms, environment, scene.kind, queue).await?;
    for _ in 0..MAX_ROUNDS {
        if is_room && let Some(made) = line::insert(tx, &run).await? {
            events::record(tx, EventKind::Triggered, &[made]).await?;
            if run.status == RunStatus::Queued {
                rooms.take(queue, 1);
                notify::line(tx).await?;
            }
            if run.is_due_soon {
                notify::timers(tx).await?;
            }
            return Ok(Triggered { id, is_cached: false });
        }
        let key = new.idempotency.as_ref().map_or("", |idempotency| &idempotency.key);
        if let Some(holder) = line::holder_of_key(tx, environment, &new.task, key).await? {
            if let Some(request) = &new.request_key {
                line::correct_request(tx, environment, &new.task, request, holder).await?;
            }
            return Ok(Triggered { id: holder, is_cached: true });
        }
        if let Some(joined) = debounce::join(tx, environment, new, scene.now).await? {
            return Ok(joined);
        }
        // Only now: what an earlier trigger made needs no room.
        if !is_room {
            return Err(room::full(rooms, scene.kind, queue_name));
        }
    }
    Err(Error::Conflict("the idempotency or debounce key is being used by other requests".into()))
}

/// What the run has to know of its environment, its task and the deployment it is locked or pinned to.
pub(super) async fn scene(tx: &mut PgConnection, environment: EnvironmentId, new: &NewRun) -> Result<Scene, Error> {
    let pinned = pin::version(tx, environment, new).await?;
    let scene = line::scene(tx, environment, &new.task, new.version.as_deref().or(pinned.as_deref())).await?;
    let mut scene = pin::seen_from(new, scene.ok_or(Error::not_found("environment"))?)?;
    if new.version.is_some() && (scene.deployment.is_none() || scene.task.is_none()) {
        return Err(Error::invalid("lockToVersion", "there is no such version with this task"));
    }
    scene.limits = limits(tx, environment, new, scene.task.as_ref()).await?;
    Ok(scene)
}

/// The limits that the run needs a place in: its task's own, and those that the trigger names or else the task.
async fn limits(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewRun,
    task: Option<&TaskDefinition>,
) -> Result<Vec<Uuid>, Error> {
    let (own, of_task) = match task {
        Some(task) if !task.concurrency_limits.is_empty() => limits_of_task(tx, environment, task).await?,
        _ => (None, Vec::new()),
    };
    let Some(names) = &new.concurrency_limits else { return Ok(of_task) };
    let found = limits::ids(tx, environment, names).await?;
    if let Some(name) = names.iter().find(|name| !found.contains_key(*name)) {
        let message = format!("no deployment declares the limit {name:?}; without it the run would not be limited");
        return Err(Error::invalid("concurrency", message));
    }
    let mut ids: Vec<Uuid> = found.into_values().chain(own).collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// A task's own limit, and that one with those that it names, sorted.
pub(super) async fn limits_of_task(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    task: &TaskDefinition,
) -> Result<(Option<Uuid>, Vec<Uuid>), Error> {
    let found = limits::ids(tx, environment, &task.concurrency_limits).await?;
    let own = found.get(&limit::own_name(&task.id)).copied();
    let mut ids: Vec<Uuid> = found.into_values().collect();
    ids.sort();
    Ok((own, ids))
}

/// The queue that a trigger of `task` names, else the one that it is deployed with.
pub(super) fn queue_name(task: &str, named: Option<&str>, deployed: Option<&TaskDefinition>) -> String {
    match (named, deployed) {
        (Some(name), _) => name.to_owned(),
        (None, Some(deployed)) => deploy::queue_of(deployed),
        (None, None) => queue::name_of_task(task),
    }
}

/// Where a parent stands in its tree; none: there is no parent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Above(Option<Ancestry>);

impl Above {
    /// Looks the parent up, if there is one.
    pub(super) async fn of(tx: &mut PgConnection, environment: EnvironmentId, parent: Option<RunId>) -> Result<Above, Error> {
        let Some(parent) = parent else { return Ok(Above(None)) };
        let above = line::ancestry(tx, environment, parent).await?;
        let above = above.ok_or(Error::invalid("parentRunId", "there is no such run"))?;
        if above.depth >= MAX_DEPTH {
            return Err(Error::invalid("parentRunId", format!("a run has at most {MAX_DEPTH} runs above it")));
        }
        Ok(Above(Some(above)))
    }

    /// Where a child stands. A test's children are tests, and one that its parent waits for is part of the parent's trace. Source: facts
    /// A27, A31, P2.
    pub(super) fn below(self, id: RunId, new: &NewRun) -> Ancestry {
        let Some(above) = self.0 else { return Ancestry { root: id, trace: None, depth: 0, is_test: new.is_test } };
        Ancestry {
            root: above.root,
            trace: above.trace.filter(|_| new.awaited),
            depth: above.depth + 1,
            is_test: new.is_test || above.is_test,
        }
    }
}

/// Where the run begins: delayed if its time is to come, pending without a deployment that has its task, else in line.
pub(super) fn decide<'a>(
    id: RunId,
    environment: EnvironmentId,
    new: &'a NewRun,
    scene: &Scene,
    ancestry: Ancestry,
    queue: crate::model::id::QueueId,
) -> Decided<'a> {
    let now = scene.now;
    let after = |ms: u64| now + Duration::from_millis(ms).min(FARTHEST);
    let delay_until = debounce::delay_until(new, now);
    let status = match (delay_until, &scene.task) {
        (Some(until), _) if until > now => RunStatus::Delayed,
        (_, None) => RunStatus::PendingVersion,
        _ => RunStatus::Queued,
    };
    let of_task = || scene.task.as_ref().and_then(|task| task.ttl_ms);
    let of_kind = || (scene.kind == EnvironmentKind::Development).then_some(DEVELOPMENT_TTL_MS);
    let ttl = new.ttl_ms.or_else(of_task).or_else(of_kind).filter(|ttl| *ttl > 0);
    let due_at = match status {
        RunStatus::Delayed => delay_until,
        RunStatus::Queued => ttl.map(after),
        RunStatus::PendingVersion => pin::parked_until(new, now),
        _ => None,
    };
    Decided {
        id,
        environment,
        new,
        status,
        deployment: scene.deployment,
        queue,
        limits: scene.limits.clone(),
        ancestry,
        delay_until,
        position: (status == RunStatus::Queued).then(|| now - TimeDelta::milliseconds(new.priority_ms)),
        due_at,
        is_due_soon: due_at.is_some_and(|due| due < now + notify::SOON),
        key_expires_at: new.idempotency.as_ref().map(|key| after(key.ttl_ms.unwrap_or(DEFAULT_KEY_TTL_MS))),
    }
}

/// The request within its limits, or why not.
pub(super) fn normal(mut new: NewRun) -> Result<NewRun, Error> {
    short("taskIdentifier", &new.task, MAX_NAME_CHARS)?;
    if new.task.len() > key::MAX_TASK_BYTES {
        return Err(Error::invalid("taskIdentifier", format!("taskIdentifier has at most {} bytes", key::MAX_TASK_BYTES)));
    }
    short("payloadType", &new.payload.content_type, MAX_NAME_CHARS)?;
    if new.payload.data.len() > MAX_PAYLOAD_BYTES {
        return Err(Error::TooLarge { field: "payload", limit: MAX_PAYLOAD_BYTES, unit: "bytes" });
    }
    if serde_json::to_string(&new.metadata).map_or(0, |text| text.len()) > MAX_METADATA_BYTES {
        return Err(Error::TooLarge { field: "metadata", limit: MAX_METADATA_BYTES, unit: "bytes" });
    }
    new.tags = tags::merge(Vec::new(), new.tags)?;
    new.debounce.as_ref().map_or(Ok(()), debounce::check)?;
    pin::check(&new)?;
    for (field, key) in [("idempotencyKey", key_of(&new)), ("requestKey", new.request_key.as_deref())] {
        if let Some(key) = key {
            short(field, key, MAX_KEY_CHARS)?;
        }
    }
    if let Some(RunIdempotency { shown, scope, .. }) = &new.idempotency {
        for text in [shown, scope].into_iter().flatten() {
            text_only("idempotencyKeyOptions", text, MAX_KEY_CHARS)?;
        }
    }
    new.idempotency = new.idempotency.map(with_indexed_key);
    new.request_key = new.request_key.map(key::indexed);
    new.debounce = new.debounce.map(|debounce| Debounce { key: key::indexed(debounce.key), ..debounce });
    if let Some(name) = new.queue.take() {
        let name = queue::sanitize(&name);
        short("queue", &name, queue::MAX_QUEUE_NAME_CHARS)?;
        new.queue = Some(name);
    }
    if let Some(key) = &new.concurrency_key {
        text_only("concurrencyKey", key, MAX_NAME_CHARS)?;
    }
    if let Some(names) = &new.concurrency_limits {
        if names.len() > limit::MAX_SHARED {
            return Err(Error::invalid("concurrency", format!("a run has at most {} shared limits", limit::MAX_SHARED)));
        }
        for name in names {
            short("concurrency", name, limit::MAX_LIMIT_NAME_CHARS)?;
        }
    }
    if new.max_attempts.is_some_and(|most| !(1..=MAX_ATTEMPTS).contains(&most)) {
        return Err(Error::invalid("maxAttempts", format!("a run has 1 to {MAX_ATTEMPTS} attempts")));
    }
    // A client may name a time that Postgres has no room for.
    new.delay_until = new.delay_until.map(|until| until.max(DateTime::UNIX_EPOCH));
    new.max_duration_ms = new.max_duration_ms.map(|ms| if ms == 0 { 0 } else { ms.max(MIN_MAX_DURATION_MS) });
    new.priority_ms = new.priority_ms.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
    new.ttl_ms = new.ttl_ms.map(|ms| ms.min(FARTHEST.as_millis() as u64));
    Ok(new)
}

/// The key as it is compared; what the user wrote is kept to be shown.
pub(super) fn with_indexed_key(idempotency: RunIdempotency) -> RunIdempotency {
    let RunIdempotency { key, shown, .. } = idempotency;
    let indexed = key::indexed(key.clone());
    let shown = shown.or((indexed != key).then_some(key));
    RunIdempotency { key: indexed, shown, ..idempotency }
}

fn key_of(new: &NewRun) -> Option<&str> {
    new.idempotency.as_ref().map(|idempotency| idempotency.key.as_str())
}

/// 1 to `most` characters.
pub(super) fn short(field: &'static str, text: &str, most: usize) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::invalid(field, format!("{field} is empty")));
    }
    text_only(field, text, most)
}

/// At most `most` characters, none of them NUL, which Postgres does not store.
pub(super) fn text_only(field: &'static str, text: &str, most: usize) -> Result<(), Error> {
    if text.contains('\0') || text.chars().count() > most {
        return Err(Error::invalid(field, format!("{field} has at most {most} characters, none of them NUL")));
    }
    Ok(())
}
