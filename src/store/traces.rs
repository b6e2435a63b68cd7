//! What a trace is derived from. A few statements for a whole trace, each of which reads a bounded number of rows.

use std::collections::{HashMap, HashSet};

use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError, clock, rows};
use crate::model::{
    attempt::Attempt,
    event::EventKind,
    id::{BatchId, EnvironmentId, RunId, WaitpointId},
    log::LogRecord,
    machine::Machine,
    trace::{Above, Entry, Line, MAX_RUN_LEVELS, MAX_RUNS, MAX_SPANS, Measured, Member, Note, Parts, SpanId, TraceId, Triggered},
    waitable::Waitable,
    waitpoint::WaitpointKind,
};

/// Runs whose rows are read together.
const AT_ONCE: usize = 100;
/// Most entries of waits: three for each.
const MAX_ENTRIES: usize = 3 * MAX_SPANS;
/// Most lines that are shown in a trace.
const MAX_LINES: usize = 1000;
/// Most lines of one run.
const MAX_LINES_OF_RUN: usize = 100;
/// Longest message of a line in a trace, in characters; all of it is in the run's log.
const MAX_MESSAGE_CHARS: i32 = 2000;
/// Longest attributes of a line in a trace, in bytes; longer ones are in the run's log.
const MAX_ATTRIBUTE_BYTES: i32 = 8192;
/// Longest attributes of a guest's span, and longest error, in bytes. Longer attributes are left out, of longer errors only the
/// message is shown, unless it is about the one span that is to be shown whole.
const MAX_DETAIL_BYTES: i32 = 4096;
/// The same for that one's run. An error with its causes has no more.
const MAX_WHOLE_BYTES: i32 = 512 << 10;
/// Most triggered runs of one run.
const MAX_TRIGGERED: usize = 100;

/// How much of a trace is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// With the runs that the run waited for, and those that these waited for.
    pub below: Below,
    /// With what guests wrote, and what they triggered.
    pub events: Events,
    /// A span that is shown whole: of the others, what is long is left out.
    pub whole: Option<SpanId>,
}

/// Whether the runs below are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// All that are part of the trace.
    All,
    /// The run alone.
    None,
}

/// Whether lines and triggers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    /// As many as a trace shows.
    Some,
    /// They are not.
    None,
}

/// The rows of a run's part of its trace. Without members if the environment has no such run.
///
/// # Errors
/// If the database does not answer.
pub async fn of_run(store: &Store, environment: EnvironmentId, run: RunId, extent: Extent) -> Result<Parts, StoreError> {
    let connection = &mut *store.read().await?;
    let mut parts = Parts { at: clock::now(connection).await?, ..Parts::default() };
    let ids = match extent.below {
        Below::None => vec![run.uuid()],
        Below::All => tree(connection, environment, run).await?,
    };
    parts.is_cut = ids.len() > MAX_RUNS;
    let ids = &ids[..ids.len().min(MAX_RUNS)];
    parts.members = members(connection, Some(environment), ids).await?;
    read(connection, &mut parts, extent, MAX_LINES).await?;
    Ok(parts)
}

/// The rows of these runs, each as if alone. Of all environments.
///
/// # Errors
/// If the database does not answer.
pub async fn of_runs(connection: &mut PgConnection, runs: &[RunId]) -> Result<Vec<Parts>, StoreError> {
    let at = clock::now(connection).await?;
    let mut all = Vec::with_capacity(runs.len());
    let mut together = Parts { members: members(connection, None, &rows::uuids(runs)).await?, at, ..Parts::default() };
    let extent = Extent { below: Below::None, events: Events::Some, whole: None };
    read(connection, &mut together, extent, MAX_LINES_OF_RUN * runs.len()).await?;
    if together.is_cut && runs.len() > 1 {
        // One of them is large, and the others shall not be short for it.
        for run in runs {
            all.extend(Box::pin(of_runs(connection, &[*run])).await?);
        }
        return Ok(all);
    }
    let Parts { members, attempts, entries, waitpoints, measured, lines, triggered, is_cut, .. } = together;
    let mut places: HashMap<RunId, usize> = HashMap::new();
    for member in members {
        places.insert(member.id, all.len());
        all.push(Parts { members: vec![member], waitpoints: waitpoints.clone(), at, is_cut, ..Parts::default() });
    }
    let mut put = |run: RunId, with: &mut dyn FnMut(&mut Parts)| {
        if let Some(place) = places.get(&run) {
            with(&mut all[*place]);
        }
    };
    attempts.into_iter().for_each(|row| put(row.0, &mut |parts| parts.attempts.push(row.clone())));
    entries.into_iter().for_each(|row| put(row.run, &mut |parts| parts.entries.push(row.clone())));
    measured.into_iter().for_each(|row| put(row.run, &mut |parts| parts.measured.push(row.clone())));
    lines.into_iter().for_each(|row| put(row.run, &mut |parts| parts.lines.push(row.clone())));
    triggered.into_iter().for_each(|row| put(row.parent, &mut |parts| parts.triggered.push(row.clone())));
    Ok(all)
}

/// What belongs to the members, until there is enough.
async fn read(connection: &mut PgConnection, parts: &mut Parts, extent: Extent, most_lines: usize) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = parts.members.iter().map(|member| member.id.uuid()).collect();
    for some in ids.chunks(AT_ONCE) {
        let room = MAX_SPANS.saturating_sub(parts.attempts.len());
        let read = attempts(connection, some, extent.whole, room).await?;
        parts.is_cut |= read.len() == room;
        parts.attempts.extend(read);
        let room = MAX_ENTRIES.saturating_sub(parts.entries.len());
        let read = entries(connection, some, room).await?;
        parts.is_cut |= read.len() == room;
        parts.entries.extend(read);
        let room = MAX_SPANS.saturating_sub(parts.measured.len());
        let read = measured(connection, some, extent, room).await?;
        parts.is_cut |= read.len() == room;
        parts.measured.extend(read);
        if extent.events == Events::Some {
            let room = most_lines.saturating_sub(parts.lines.len());
            parts.lines.extend(lines(connection, some, extent.whole, room).await?);
            let room = MAX_SPANS.saturating_sub(parts.triggered.len());
            parts.triggered.extend(triggered(connection, some, room).await?);
        }
        let spans = parts.attempts.len() + parts.entries.len() / 3 + parts.measured.len();
        if spans >= MAX_SPANS {
            parts.is_cut = true;
            break;
        }
    }
    parts.waitpoints = waitpoints(connection, &parts.entries).await?;
    Ok(())
}

/// The run and those below it that are part of its trace, each after its parent; one more than [`MAX_RUNS`] if there are more.
async fn tree(connection: &mut PgConnection, environment: EnvironmentId, run: RunId) -> Result<Vec<Uuid>, StoreError> {
    Ok(query_scalar!(
        r#"
        with recursive tree as (
            select id, coalesce(trace_id, id) as trace_id, 0 as level from runs where id = $1 and environment_id = $2
            union all
            select r.id, above.trace_id, above.level + 1 from tree above
            join runs r on r.parent_id = above.id and r.trace_id = above.trace_id
            where above.level < $3
        )
        select id as "id!" from tree limit $4
        "#,
        run.uuid(),
        environment.uuid(),
        MAX_RUN_LEVELS as i32,
        MAX_RUNS as i64 + 1
    )
    .fetch_all(connection)
    .await?)
}

/// In the order in which they are asked for.
async fn members(
    connection: &mut PgConnection,
    environment: Option<EnvironmentId>,
    ids: &[Uuid],
) -> Result<Vec<Member>, StoreError> {
    let rows = query!(
        r#"
        select r.id, coalesce(r.trace_id, r.id) as "trace_id!", e.kind as environment, r.task, r.status, d.version as "version?", q.name as queue,
            coalesce(r.machine, t.definition ->> 'machine', $3) as "machine!", r.batch_id, r.tags, r.created_at, r.started_at,
            r.finished_at, r.earlier_cpu_ms + r.attempt_cpu_ms as "cpu_ms!", r.attempt, r.in_attempt, r.attempt_started_at,
            above.id as "parent_id?", coalesce(above.trace_id, above.id) as "parent_trace?",
            case when above.attempt_started_at <= r.created_at then above.attempt else
                (select max(number) from attempts a where a.run_id = above.id and a.started_at <= r.created_at)
            end as "parent_attempt?",
            case when r.error is null or octet_length(r.error::text) <= $4 then r.error else json_build_object('type', 'STRING_ERROR', 'raw',
                coalesce(r.error ->> 'message', left(r.error ->> 'raw', 1000), '')) end as error
        from unnest($1::uuid[]) with ordinality as asked (id, place)
        join runs r on r.id = asked.id
        join environments e on e.id = r.environment_id
        join queues q on q.id = r.queue_id
        left join runs above on above.id = r.parent_id
        left join deployments d on d.id = r.deployment_id
        left join tasks t on t.deployment_id = d.id and t.id = r.task
        where $2::uuid is null or r.environment_id = $2
        order by asked.place
        "#,
        ids,
        environment.map(|environment| environment.uuid()),
        Machine::default().as_str(),
        MAX_DETAIL_BYTES
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let above = row.parent_id.zip(row.parent_trace).map(|(run, trace)| Above {
                run: RunId::from_uuid(run),
                trace: RunId::from_uuid(trace),
                attempt: row.parent_attempt.map(i32::unsigned_abs).filter(|attempt| *attempt > 0),
            });
            Ok(Member {
                id: RunId::from_uuid(row.id),
                trace: RunId::from_uuid(row.trace_id),
                above,
                environment: row.environment,
                task: row.task,
                status: rows::run_status(&row.status)?,
                version: row.version,
                queue: row.queue,
                machine: Machine::parse(&row.machine),
                batch: row.batch_id.map(BatchId::from_uuid),
                tags: row.tags,
                created_at: row.created_at,
                started_at: row.started_at,
                finished_at: row.finished_at,
                error: row.error.map(|error| rows::json("runs", error)).transpose()?,
                cpu_ms: rows::count(row.cpu_ms),
                under_way: row.attempt_started_at.filter(|_| row.in_attempt).map(|since| (row.attempt.unsigned_abs(), since)),
            })
        })
        .collect()
}

async fn attempts(
    connection: &mut PgConnection,
    runs: &[Uuid],
    whole: Option<SpanId>,
    room: usize,
) -> Result<Vec<(RunId, Attempt)>, StoreError> {
    let rows = query!(
        r#"
        select run_id, number, started_at, finished_at, cpu_ms, machine,
            case when error is null or octet_length(error::text) <= $2 then error else json_build_object('type', 'STRING_ERROR', 'raw',
                coalesce(error ->> 'message', left(error ->> 'raw', 1000), '')) end as error
        from attempts where run_id = any($1) limit $3
        "#,
        runs,
        if whole.is_some() { MAX_WHOLE_BYTES } else { MAX_DETAIL_BYTES },
        room as i64
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let attempt = Attempt {
                number: row.number.unsigned_abs(),
                started_at: row.started_at,
                finished_at: Some(row.finished_at),
                error: row.error.map(|error| rows::json("attempts", error)).transpose()?,
                cpu_ms: Some(rows::count(row.cpu_ms)),
                machine: row.machine.as_deref().and_then(Machine::parse),
            };
            Ok((RunId::from_uuid(row.run_id), attempt))
        })
        .collect()
}

/// Those that say when waits began and were over.
async fn entries(connection: &mut PgConnection, runs: &[Uuid], room: usize) -> Result<Vec<Entry>, StoreError> {
    let kinds = [EventKind::Suspended, EventKind::Resumed, EventKind::Claimed, EventKind::AttemptFailed, EventKind::Finished]
        .map(EventKind::as_str);
    let rows = query!(
        r#"
        select e.run_id, e.seq, e.at, e.kind, e.data
        from unnest($1::uuid[]) with ordinality as asked (id, place)
        cross join lateral (
            select run_id, seq, at, kind, data from run_events
            where run_id = asked.id and kind = any($2) order by seq limit $3
        ) e
        order by asked.place, e.seq limit $3
        "#,
        runs,
        &kinds as &[&str],
        room as i64
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Entry {
                run: RunId::from_uuid(row.run_id),
                seq: row.seq,
                at: row.at,
                kind: rows::event_kind(&row.kind)?,
                // Only shown: what another version wrote is left out rather than hide the rest.
                note: row.data.and_then(|data| serde_json::from_value::<Note>(data).ok()).unwrap_or_default(),
            })
        })
        .collect()
}

async fn measured(
    connection: &mut PgConnection,
    runs: &[Uuid],
    extent: Extent,
    room: usize,
) -> Result<Vec<Measured>, StoreError> {
    // Pages show none.
    let most = if extent.events == Events::Some { MAX_DETAIL_BYTES } else { 0 };
    let rows = query!(
        r#"
        select run_id, id, attempt, parent_id, name, started_at, ended_at,
            case when id = $3 or octet_length(attributes::text) <= $4 then attributes end as attributes,
            case when id = $3 or octet_length(end_attributes::text) <= $4 then end_attributes end as end_attributes,
            id <> coalesce($3, 0)
                and coalesce(greatest(octet_length(attributes::text), octet_length(end_attributes::text)) > $4, false) as "is_cut!",
            case when id = $3 then error else left(error, 1000) end as error
        from spans where run_id = any($1) limit $2
        "#,
        runs,
        room as i64,
        extent.whole.map(|span| span.number() as i64),
        most
    )
    .fetch_all(connection)
    .await?;
    let spans = rows.into_iter().filter_map(|row| {
        let mut attributes = rows::object(row.attributes.unwrap_or_default());
        attributes.extend(rows::object(row.end_attributes.unwrap_or_default()));
        if row.is_cut && extent.events == Events::Some {
            attributes.insert("attributesLeftOut".into(), true.into());
        }
        Some(Measured {
            run: RunId::from_uuid(row.run_id),
            attempt: row.attempt.unsigned_abs(),
            id: span_id(row.id)?,
            parent: row.parent_id.and_then(span_id),
            name: row.name,
            begin: row.started_at,
            end: row.ended_at,
            attributes,
            error: row.error,
        })
    });
    Ok(spans.collect())
}

/// The first lines of each run, and no more than `room`; of one span, if it is one of a guest, or else of all that are of none.
async fn lines(
    connection: &mut PgConnection,
    runs: &[Uuid],
    whole: Option<SpanId>,
    room: usize,
) -> Result<Vec<Line>, StoreError> {
    let rows = query!(
        r#"
        select l.run_id, l.attempt, l.at, l.level, l.source, l.message as "message!", l.attributes, l.span_id
        from unnest($1::uuid[]) with ordinality as asked (id, place)
        cross join lateral (
            select run_id, line, attempt, at, level, source, left(message, $3) as message, span_id,
                case when octet_length(attributes::text) <= $4 then attributes end as attributes
            from logs
            where run_id = asked.id and ($6::bigint is null
                or span_id is not distinct from (select id from spans where run_id = asked.id and id = $6))
            order by line limit $5
        ) l
        order by asked.place, l.line limit $2
        "#,
        runs,
        room as i64,
        MAX_MESSAGE_CHARS,
        MAX_ATTRIBUTE_BYTES,
        if whole.is_some() { MAX_LINES } else { MAX_LINES_OF_RUN } as i64,
        whole.map(|span| span.number() as i64)
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let record = LogRecord {
                at: row.at,
                level: rows::level(&row.level)?,
                source: rows::source(&row.source)?,
                message: row.message,
                attributes: row.attributes.unwrap_or_default(),
                span: row.span_id.and_then(span_id),
            };
            Ok(Line { run: RunId::from_uuid(row.run_id), attempt: row.attempt.unsigned_abs(), record })
        })
        .collect()
}

/// The first runs that each triggered.
async fn triggered(connection: &mut PgConnection, runs: &[Uuid], room: usize) -> Result<Vec<Triggered>, StoreError> {
    let rows = query!(
        r#"
        select asked.id as "parent!", child.id, coalesce(child.trace_id, child.id) as "trace_id!", child.task, child.status, child.created_at
        from unnest($1::uuid[]) as asked (id)
        cross join lateral (
            select id, trace_id, task, status, created_at from runs where parent_id = asked.id order by id limit $2
        ) child
        limit $3
        "#,
        runs,
        MAX_TRIGGERED as i64,
        room as i64
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Triggered {
                parent: RunId::from_uuid(row.parent),
                run: RunId::from_uuid(row.id),
                trace: TraceId::of(RunId::from_uuid(row.trace_id)),
                task: row.task,
                status: rows::run_status(&row.status)?,
                created_at: row.created_at,
            })
        })
        .collect()
}

/// What the waitpoints are that these entries name.
async fn waitpoints(connection: &mut PgConnection, entries: &[Entry]) -> Result<HashMap<WaitpointId, WaitpointKind>, StoreError> {
    let named = entries.iter().filter_map(|entry| entry.note.wait.as_ref()).flat_map(|wait| &wait.waitables);
    let ids: HashSet<Uuid> = named
        .filter_map(|waitable| match waitable {
            Waitable::Waitpoint(id) => Some(id.uuid()),
            Waitable::Run(_) | Waitable::Batch(_) => None,
        })
        .collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let rows = query!("select id, kind from waitpoints where id = any($1)", &ids).fetch_all(connection).await?;
    let kind = |text: &str| match text {
        "TIMER" => Some(WaitpointKind::Timer),
        "TOKEN" => Some(WaitpointKind::Token),
        "INPUT" => Some(WaitpointKind::Input),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(|row| Some((WaitpointId::from_uuid(row.id), kind(&row.kind)?))).collect())
}

/// Eight bytes as the column holds them.
fn span_id(number: i64) -> Option<SpanId> {
    SpanId::of(number as u64)
}
