//! Runs as they are read: one, all of it, or a page of a list.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, query_as, query_scalar};
use uuid::Uuid;

use super::{Listing, Page, Store, StoreError, page, rows, schedules};
use crate::model::{
    attempt::Attempt,
    error::RunError,
    id::{BatchId, BulkActionId, EnvironmentId, RunId, RunKind, ScheduleId},
    machine::Machine,
    payload::Packet,
    price::MachineTime,
    run::{Run, RunDetail, RunStatus},
};

/// Which runs a list shows; an empty list filters nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
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
    /// Running, or to run, on one of these versions.
    pub versions: Vec<String>,
    /// Marked as a test, or not.
    pub is_test: Option<bool>,
    /// Of this batch.
    pub batch: Option<BatchId>,
    /// In one of these queues, by name.
    pub queues: Vec<String>,
    /// On one of these machines.
    pub machines: Vec<Machine>,
    /// Cancelled or made by this bulk action.
    pub bulk_action: Option<BulkActionId>,
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
    attempts: Value,
    metadata: Value,
    error: Option<Value>,
    cancel_requested_at: Option<DateTime<Utc>>,
    environment_id: Uuid,
    in_attempt: bool,
    attempt_started_at: Option<DateTime<Utc>>,
    schedule_id: Option<Uuid>,
    payload: Option<Vec<u8>>,
    payload_type: String,
    output: Option<Vec<u8>>,
    output_type: Option<String>,
    has_children: Option<bool>,
    is_large: bool,
}

/// How much of runs to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// What lists show.
    Item,
    /// All but their relatives, and payloads and outputs of more bytes than this together.
    Detail { most: i64 },
}

impl Row {
    fn run(mut self) -> Result<Run, StoreError> {
        let ended: Vec<EndedAttempt> = rows::json("attempts", std::mem::take(&mut self.attempts))?;
        self.run_with(&ended)
    }

    /// Without its relatives, and whether there are children.
    fn detail(mut self) -> Result<(RunDetail, bool), StoreError> {
        let ended: Vec<EndedAttempt> = rows::json("attempts", std::mem::take(&mut self.attempts))?;
        let payload =
            Packet { data: self.payload.take().unwrap_or_default(), content_type: std::mem::take(&mut self.payload_type) };
        let output = rows::packet(self.output.take(), self.output_type.take());
        let under_way = self.attempt_started_at.filter(|_| self.in_attempt);
        let has_children = self.has_children.unwrap_or_default();
        let run = self.run_with(&ended)?;
        let mut attempts: Vec<Attempt> = ended.into_iter().map(EndedAttempt::attempt).collect();
        attempts.extend(under_way.map(|started_at| Attempt {
            number: run.attempt_count,
            started_at,
            finished_at: None,
            error: None,
            cpu_ms: None,
            machine: run.machine,
        }));
        Ok((
            RunDetail { run, payload, output, attempts, parent: None, root: None, children: Vec::new(), schedule: None },
            has_children,
        ))
    }

    fn run_with(self, ended: &[EndedAttempt]) -> Result<Run, StoreError> {
        let machine = Machine::parse(&self.machine);
        let used = ended.iter().map(|attempt| (attempt.machine.as_deref(), attempt.cpu_ms));
        Ok(Run {
            machine_time: machine_time(used, machine, rows::count(self.attempt_cpu_ms)),
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

/// What the attempts that have ended used, each on its machine (none: the run's own), and the one that goes on up to its checkpoint. A
/// machine that this version does not know has no price: it is left out.
pub(super) fn machine_time<'a>(
    ended: impl Iterator<Item = (Option<&'a str>, u64)>,
    own: Option<Machine>,
    cpu_ms: u64,
) -> Vec<MachineTime> {
    let ended = ended.map(|(machine, cpu_ms)| (machine.map_or(own, Machine::parse), cpu_ms));
    let mut used: Vec<MachineTime> = Vec::new();
    for (machine, cpu_ms) in ended.chain([(own, cpu_ms)]) {
        let Some(machine) = machine.filter(|_| cpu_ms > 0) else { continue };
        match used.iter_mut().find(|used| used.machine == machine) {
            Some(used) => used.cpu_ms += cpu_ms,
            None => used.push(MachineTime { machine, cpu_ms }),
        }
    }
    used
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

/// Those of an environment, newest first.
async fn by_ids(connection: &mut PgConnection, environment: EnvironmentId, ids: &[Uuid]) -> Result<Vec<Run>, StoreError> {
    let rows = rows_of(connection, ids, Depth::Item).await?;
    rows.into_iter().filter(|row| row.environment_id == environment.uuid()).map(Row::run).collect()
}

/// Newest first. Of all environments: asked for one, Postgres would look through all of it while the table is small, and later with
/// the same plan.
async fn rows_of(connection: &mut PgConnection, ids: &[Uuid], depth: Depth) -> Result<Vec<Row>, StoreError> {
    let (is_detail, most) = match depth {
        Depth::Item => (false, 0),
        Depth::Detail { most } => (true, most),
    };
    Ok(query_as!(
        Row,
        r#"
        select r.id, r.environment_id, r.status, r.task, d.version as "version?", r.tags, r.is_test,
            r.replay_of is not null as "is_replay!", r.created_at, r.updated_at, r.started_at, r.finished_at,
            r.delay_until, r.ttl_ms, coalesce(r.idempotency_shown, r.idempotency_key) as idempotency_key,
            r.parent_id, r.root_id, r.depth, r.batch_id, r.awaited, q.name as queue, r.concurrency_key, r.attempt,
            coalesce(r.machine, t.definition ->> 'machine', $2) as "machine!",
            r.earlier_cpu_ms + r.attempt_cpu_ms as "cpu_ms!", r.attempt_cpu_ms, r.metadata, r.error, r.cancel_requested_at,
            r.in_attempt, r.attempt_started_at, r.schedule_id, r.payload_type, r.output_type,
            -- None has ended while the first goes on: most who ask, ask then.
            case when r.attempt = 0 or r.attempt = 1 and r.in_attempt then '[]' else
            (select coalesce(json_agg(json_build_object('number', number, 'startedAt', started_at, 'finishedAt', finished_at,
                'error', case when $3 then error end, 'cpuMs', cpu_ms, 'machine', machine) order by number), '[]')
             from attempts where run_id = r.id) end as "attempts!",
            case when $3 and size.bytes <= $4 then r.payload end as payload,
            case when $3 and size.bytes <= $4 then r.output end as output,
            case when $3 then exists (select from runs where parent_id = r.id) end as has_children,
            $3 and size.bytes > $4 as "is_large!"
        from runs r
        -- Known without their being read.
        cross join lateral (select octet_length(r.payload)::bigint + coalesce(octet_length(r.output), 0) as bytes) as size
        join queues q on q.id = r.queue_id
        left join deployments d on d.id = r.deployment_id
        left join tasks t on t.deployment_id = d.id and t.id = r.task
        where r.id = any($1)
        order by r.id desc
        "#,
        ids,
        Machine::default().as_str(),
        is_detail,
        most
    )
    .fetch_all(connection)
    .await?)
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

/// Most runs of one call of [`details`].
pub const MOST_DETAILS: usize = 32;

/// A run that was asked for beside others.
#[derive(Debug)]
pub enum Read {
    /// All there is to see.
    Run(Box<RunDetail>),
    /// Its environment does not have it.
    Nothing,
    /// More than others should wait for, or hold in memory: read it by itself.
    Large,
}

/// Runs with all there is to see, in the order in which they are asked for, but for those whose payload and output have more than `most`
/// bytes. One statement for them all, and some more for those that have relatives: to ask again and again is cheap.
///
/// # Errors
/// If the database does not answer.
pub async fn details(store: &Store, asked: &[(EnvironmentId, RunId)], most: i64) -> Result<Vec<Read>, StoreError> {
    let mut borrowed = store.read().await?;
    let connection = &mut *borrowed;
    let ids: Vec<Uuid> = asked.iter().map(|(_, id)| id.uuid()).collect();
    let mut found = HashMap::new();
    for row in rows_of(connection, &ids, Depth::Detail { most }).await? {
        let (environment, schedule, is_large) = (EnvironmentId::from_uuid(row.environment_id), row.schedule_id, row.is_large);
        let (mut detail, has_children) = row.detail()?;
        if !is_large {
            relatives(connection, environment, &mut detail, has_children).await?;
            if let Some(id) = schedule {
                detail.schedule = schedules::find(connection, ScheduleId::from_uuid(id)).await?;
            }
        }
        found.insert((environment, detail.run.id), (detail, is_large));
    }
    borrowed.done();
    let read = |asked| match found.get(asked) {
        None => Read::Nothing,
        Some((_, true)) => Read::Large,
        Some((detail, false)) => Read::Run(Box::new(detail.clone())),
    };
    Ok(asked.iter().map(read).collect())
}

/// A run with all there is to see.
///
/// # Errors
/// If the database does not answer.
pub async fn detail(store: &Store, environment: EnvironmentId, id: RunId) -> Result<Option<RunDetail>, StoreError> {
    match details(store, &[(environment, id)], i64::MAX).await?.pop() {
        Some(Read::Run(detail)) => Ok(Some(*detail)),
        Some(Read::Nothing | Read::Large) | None => Ok(None),
    }
}

/// Adds the runs above and below.
async fn relatives(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    detail: &mut RunDetail,
    has_children: bool,
) -> Result<(), StoreError> {
    let run = &detail.run;
    let above: Vec<Uuid> = run.parent.into_iter().chain((run.root != run.id).then_some(run.root)).map(|id| id.uuid()).collect();
    if !above.is_empty() {
        let above = by_ids(connection, environment, &above).await?;
        let find = |id: RunId| above.iter().find(|run| run.id == id).cloned();
        (detail.parent, detail.root) = (run.parent.and_then(find), find(run.root));
    }
    if has_children {
        detail.children = children(connection, environment, detail.run.id).await?;
    }
    Ok(())
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
    let machines: Vec<&str> = filter.machines.iter().map(|machine| machine.as_str()).collect();
    Ok(query_scalar!(
        r#"
        select id from runs
        where environment_id = $1
            and (cardinality($2::text[]) = 0 or status = any($2))
            and (cardinality($3::text[]) = 0 or task = any($3))
            and (cardinality($4::text[]) = 0 or tags && $4)
            and ($5::timestamptz is null or created_at >= $5)
            and ($6::timestamptz is null or created_at <= $6)
            and ($7::uuid is null or schedule_id = $7)
            and (cardinality($8::text[]) = 0
                or deployment_id in (select id from deployments where environment_id = $1 and version = any($8)))
            and ($9::boolean is null or is_test = $9)
            and ($10::uuid is null or batch_id = $10)
            and (cardinality($11::text[]) = 0 or queue_id in (select id from queues where environment_id = $1 and name = any($11)))
            and (cardinality($12::text[]) = 0 or coalesce(machine, (select definition ->> 'machine' from tasks t
                where t.deployment_id = runs.deployment_id and t.id = runs.task), $13) = any($12))
            and ($14::uuid is null or id in (select run_id from bulk_action_runs where bulk_action_id = $14))
            and ($15::uuid is null or id < $15) and ($16::uuid is null or id > $16)
        order by case when $16::uuid is null then id end desc, id
        limit $17
        "#,
        environment.uuid(),
        &statuses as &[&str],
        &filter.tasks,
        &filter.tags,
        filter.created_from,
        filter.created_to,
        filter.schedule.map(|id| id.uuid()),
        &filter.versions,
        filter.is_test,
        filter.batch.map(|id| id.uuid()),
        &filter.queues,
        &machines as &[&str],
        Machine::default().as_str(),
        filter.bulk_action.map(|id| id.uuid()),
        cut.below,
        cut.above,
        cut.limit
    )
    .fetch_all(connection)
    .await?)
}

/// At most `most` runs of a list that are older than one, newest first.
///
/// # Errors
/// If the database does not answer.
pub async fn older_than(
    store: &Store,
    environment: EnvironmentId,
    filter: &Filter,
    run: Option<RunId>,
    most: i64,
) -> Result<Vec<RunId>, StoreError> {
    let cut = page::Cut { below: run.map(|run| run.uuid()), above: None, limit: most };
    let found = find(&mut *store.browse().await?, environment, filter, cut).await?;
    Ok(found.into_iter().map(RunId::from_uuid).collect())
}

/// How many runs a list has in all.
///
/// # Errors
/// If the database does not answer.
pub async fn count(store: &Store, environment: EnvironmentId, filter: &Filter) -> Result<u64, StoreError> {
    let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    let machines: Vec<&str> = filter.machines.iter().map(|machine| machine.as_str()).collect();
    let count = query_scalar!(
        r#"
        select count(*) as "count!" from runs
        where environment_id = $1
            and (cardinality($2::text[]) = 0 or status = any($2))
            and (cardinality($3::text[]) = 0 or task = any($3))
            and (cardinality($4::text[]) = 0 or tags && $4)
            and ($5::timestamptz is null or created_at >= $5)
            and ($6::timestamptz is null or created_at <= $6)
            and ($7::uuid is null or schedule_id = $7)
            and (cardinality($8::text[]) = 0
                or deployment_id in (select id from deployments where environment_id = $1 and version = any($8)))
            and ($9::boolean is null or is_test = $9)
            and ($10::uuid is null or batch_id = $10)
            and (cardinality($11::text[]) = 0 or queue_id in (select id from queues where environment_id = $1 and name = any($11)))
            and (cardinality($12::text[]) = 0 or coalesce(machine, (select definition ->> 'machine' from tasks t
                where t.deployment_id = runs.deployment_id and t.id = runs.task), $13) = any($12))
            and ($14::uuid is null or id in (select run_id from bulk_action_runs where bulk_action_id = $14))
        "#,
        environment.uuid(),
        &statuses as &[&str],
        &filter.tasks,
        &filter.tags,
        filter.created_from,
        filter.created_to,
        filter.schedule.map(|id| id.uuid()),
        &filter.versions,
        filter.is_test,
        filter.batch.map(|id| id.uuid()),
        &filter.queues,
        &machines as &[&str],
        Machine::default().as_str(),
        filter.bulk_action.map(|id| id.uuid())
    )
    .fetch_one(&mut *store.browse().await?)
    .await?;
    Ok(count.unsigned_abs())
}
