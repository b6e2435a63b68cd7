//! Runs as they are read: one, all of it, or a page of a list.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{Listing, Page, Store, StoreError, page, rows, schedules};
use crate::model::{
    attempt::Attempt,
    error::RunError,
    id::{BatchId, EnvironmentId, RunId, RunKind, ScheduleId},
    machine::Machine,
    payload::Packet,
    price::MachineTime,
    run::{Run, RunDetail, RunStatus},
};

/// Which runs a list shows; an empty list filters nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// With one of these statuses.
    pub statuses: Vec<RunStatus>,
    /// Of one of these tasks.
    pub tasks: Vec<String>,
    /// With at least one of these tags.
    pub tags: Vec<String>,
    /// Triggered at this time or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Triggered at this time or earlier.
    pub created_to: Option<DateTime<Utc>>,
    /// Started by this schedule.
    pub schedule: Option<ScheduleId>,
}

struct Row {
    id: Uuid,
    status: String,
    task: String,
    version: Option<String>,
    tags: Vec<String>,
    is_test: bool,
    is_replay: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    delay_until: Option<DateTime<Utc>>,
    ttl_ms: Option<i64>,
    idempotency_key: Option<String>,
    parent_id: Option<Uuid>,
    root_id: Uuid,
    depth: i32,
    batch_id: Option<Uuid>,
    awaited: bool,
    queue: String,
    concurrency_key: String,
    machine: String,
    attempt: i32,
    cpu_ms: i64,
    attempt_cpu_ms: i64,
    ended: Value,
    metadata: Value,
    error: Option<Value>,
    cancel_requested_at: Option<DateTime<Utc>>,
}

impl Row {
    fn run(self) -> Result<Run, StoreError> {
        let machine = Machine::parse(&self.machine);
        Ok(Run {
            machine_time: machine_time(self.ended, machine, rows::count(self.attempt_cpu_ms))?,
            id: RunId::from_uuid(self.id),
            status: rows::run_status(&self.status)?,
            task: self.task,
            version: self.version,
            tags: self.tags,
            is_test: self.is_test,
            is_replay: self.is_replay,
            created_at: self.created_at,
            updated_at: self.updated_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            delayed_until: self.delay_until,
            ttl_ms: self.ttl_ms.map(rows::count),
            idempotency_key: self.idempotency_key,
            parent: self.parent_id.map(RunId::from_uuid),
            root: RunId::from_uuid(self.root_id),
            depth: self.depth.unsigned_abs(),
            batch: self.batch_id.map(BatchId::from_uuid),
            awaited: self.awaited,
            queue: self.queue,
            concurrency_key: Some(self.concurrency_key).filter(|key| !key.is_empty()),
            machine,
            attempt_count: self.attempt.unsigned_abs(),
            cpu_ms: rows::count(self.cpu_ms),
            metadata: rows::object(self.metadata),
            error: self.error.map(|error| rows::json("runs", error)).transpose()?,
            cancel_requested_at: self.cancel_requested_at,
        })
    }
}

/// What the attempts that have ended used, `[machine or null, ms]` each, and the one that goes on up to its checkpoint. A machine that
/// this version does not know has no price: it is left out.
pub(super) fn machine_time(ended: Value, own: Option<Machine>, cpu_ms: u64) -> Result<Vec<MachineTime>, StoreError> {
    let ended: Vec<(Option<String>, u64)> = rows::json("attempts", ended)?;
    let ended = ended.into_iter().map(|(name, cpu_ms)| (name.map_or(own, |name| Machine::parse(&name)), cpu_ms));
    let mut used: Vec<MachineTime> = Vec::new();
    for (machine, cpu_ms) in ended.chain([(own, cpu_ms)]) {
        let Some(machine) = machine.filter(|_| cpu_ms > 0) else { continue };
        match used.iter_mut().find(|used| used.machine == machine) {
            Some(used) => used.cpu_ms += cpu_ms,
            None => used.push(MachineTime { machine, cpu_ms }),
        }
    }
    Ok(used)
}

/// Most children that a run's detail shows.
const MAX_CHILDREN: i64 = 100;

/// A run as lists show it.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, environment: EnvironmentId, id: RunId) -> Result<Option<Run>, StoreError> {
    Ok(by_ids(&mut *store.read().await?, environment, &[id.uuid()]).await?.pop())
}

async fn by_ids(connection: &mut PgConnection, environment: EnvironmentId, ids: &[Uuid]) -> Result<Vec<Run>, StoreError> {
    query_as!(
        Row,
        r#"
        select r.id, r.status, r.task, d.version as "version?", r.tags, r.is_test,
            r.replay_of is not null as "is_replay!", r.created_at, r.updated_at, r.started_at, r.finished_at,
            r.delay_until, r.ttl_ms, coalesce(r.idempotency_shown, r.idempotency_key) as idempotency_key,
            r.parent_id, r.root_id, r.depth, r.batch_id, r.awaited, q.name as queue, r.concurrency_key, r.attempt,
            coalesce(r.machine, t.definition ->> 'machine', $3) as "machine!",
            r.earlier_cpu_ms + r.attempt_cpu_ms as "cpu_ms!", r.attempt_cpu_ms,
            (select coalesce(json_agg(json_build_array(machine, cpu_ms)), '[]') from attempts where run_id = r.id) as "ended!",
            r.metadata, r.error, r.cancel_requested_at
        from runs r
        join queues q on q.id = r.queue_id
        left join deployments d on d.id = r.deployment_id
        left join tasks t on t.deployment_id = d.id and t.id = r.task
        -- Not `=`: with few runs in the table, all of the environment would be looked through for these, and later, too.
        where r.environment_id is not distinct from $1 and r.id = any($2)
        order by r.id desc
        "#,
        environment.uuid(),
        ids,
        Machine::default().as_str()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Row::run)
    .collect()
}

/// Whether there is such a run.
///
/// # Errors
/// If the database does not answer.
pub async fn exists(connection: &mut PgConnection, environment: EnvironmentId, id: RunId) -> Result<bool, StoreError> {
    let found = query_scalar!("select id from runs where id = $1 and environment_id = $2", id.uuid(), environment.uuid())
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

/// A run with all there is to see.
///
/// # Errors
/// If the database does not answer.
pub async fn detail(store: &Store, environment: EnvironmentId, id: RunId) -> Result<Option<RunDetail>, StoreError> {
    let connection = &mut *store.read().await?;
    let Some(run) = by_ids(connection, environment, &[id.uuid()]).await?.pop() else { return Ok(None) };
    // With one statement for the run and one for what belongs to it, asking again and again is cheap while nothing happens.
    let values = query!(
        r#"
        select r.payload, r.payload_type, r.output, r.output_type, r.in_attempt, r.attempt, r.attempt_started_at, r.schedule_id,
            exists (select from runs where parent_id = r.id) as "has_children!",
            (select coalesce(json_agg(json_build_object('number', number, 'startedAt', started_at, 'finishedAt', finished_at,
                'error', error, 'cpuMs', cpu_ms, 'machine', machine) order by number), '[]') from attempts where run_id = r.id) as "attempts!"
        from runs r where r.id = $1
        "#,
        id.uuid()
    )
    .fetch_one(&mut *connection)
    .await?;
    let ended: Vec<EndedAttempt> = rows::json("attempts", values.attempts)?;
    let mut attempts = ended.into_iter().map(EndedAttempt::attempt).collect::<Vec<_>>();
    if let (true, Some(started_at)) = (values.in_attempt, values.attempt_started_at) {
        let number = values.attempt.unsigned_abs();
        attempts.push(Attempt { number, started_at, finished_at: None, error: None, cpu_ms: None, machine: run.machine });
    }
    let children = if values.has_children { children(connection, environment, id).await? } else { Vec::new() };
    let above: Vec<Uuid> = run.parent.into_iter().chain((run.root != id).then_some(run.root)).map(|id| id.uuid()).collect();
    let above = if above.is_empty() { Vec::new() } else { by_ids(connection, environment, &above).await? };
    let schedule = match values.schedule_id {
        Some(id) => schedules::find(connection, ScheduleId::from_uuid(id)).await?,
        None => None,
    };
    let find = |id: RunId| above.iter().find(|run| run.id == id).cloned();
    Ok(Some(RunDetail {
        payload: Packet { data: values.payload, content_type: values.payload_type },
        output: rows::packet(values.output, values.output_type),
        attempts,
        parent: run.parent.and_then(find),
        root: find(run.root),
        children,
        schedule,
        run,
    }))
}

/// The newest of a run's children.
async fn children(connection: &mut PgConnection, environment: EnvironmentId, id: RunId) -> Result<Vec<Run>, StoreError> {
    let ids = query_scalar!("select id from runs where parent_id = $1 order by id desc limit $2", id.uuid(), MAX_CHILDREN)
        .fetch_all(&mut *connection)
        .await?;
    by_ids(connection, environment, &ids).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndedAttempt {
    number: u32,
    started_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    error: Option<RunError>,
    cpu_ms: u64,
    machine: Option<String>,
}

impl EndedAttempt {
    fn attempt(self) -> Attempt {
        let EndedAttempt { number, started_at, finished_at, error, cpu_ms, machine } = self;
        let machine = machine.as_deref().and_then(Machine::parse);
        Attempt { number, started_at, finished_at: Some(finished_at), error, cpu_ms: Some(cpu_ms), machine }
    }
}

/// Runs, newest first.
///
/// # Errors
/// If the database does not answer.
pub async fn list(
    store: &Store,
    environment: EnvironmentId,
    filter: &Filter,
    page: Page<RunKind>,
) -> Result<Listing<Run, RunKind>, StoreError> {
    let connection = &mut *store.browse().await?;
    let found = find(connection, environment, filter, page.cut()).await?;
    let listing = page.listing(found, |id| RunId::from_uuid(*id));
    let items = by_ids(connection, environment, &listing.items).await?;
    Ok(Listing { items, next: listing.next, previous: listing.previous })
}

async fn find(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    filter: &Filter,
    cut: page::Cut,
) -> Result<Vec<Uuid>, StoreError> {
    let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    Ok(query_scalar!(
        r#"
        select id from runs
        where environment_id = $1
            and (cardinality($2::text[]) = 0 or status = any($2))
            and (cardinality($3::text[]) = 0 or task = any($3))
            and (cardinality($4::text[]) = 0 or tags && $4)
            and ($5::timestamptz is null or created_at >= $5)
            and ($6::timestamptz is null or created_at <= $6)
            and ($10::uuid is null or schedule_id = $10)
            and ($7::uuid is null or id < $7) and ($8::uuid is null or id > $8)
        order by case when $8::uuid is null then id end desc, id
        limit $9
        "#,
        environment.uuid(),
        &statuses as &[&str],
        &filter.tasks,
        &filter.tags,
        filter.created_from,
        filter.created_to,
        cut.below,
        cut.above,
        cut.limit,
        filter.schedule.map(|id| id.uuid())
    )
    .fetch_all(connection)
    .await?)
}
