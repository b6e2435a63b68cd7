//! Runs: one, many, their end, their log. Source: facts 7.3.

use axum::{
    Json,
    extract::{Path, State},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::{Caller, SecretKey},
    error::ErrorBody,
    pagination::{Paged, Pagination, Parameters},
    run_object::{RunDetails, RunItem},
    when::rfc3339,
};
use crate::{
    engine,
    model::{
        environment::{Environment, EnvironmentKind},
        event::RunEvent,
        id::RunId,
        log::{Level, Source},
        machine::Machine,
        queue,
        run::{Run, RunStatus},
        trace::SpanId,
    },
    store::{events, logs, runs},
};

/// How far back a list goes that does not say so.
const DEFAULT_WINDOW: TimeDelta = TimeDelta::days(7);
/// Most events of one answer.
const MAX_EVENTS: u32 = 1000;

/// Filters that this version cannot honour: there is one region, and errors have no fingerprints.
const UNAVAILABLE_FILTERS: [&str; 2] = ["filter[region]", "filter[error]"];

/// Shows a run.
#[utoipa::path(get, path = "/api/v3/runs/{runId}", tag = "runs", security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path)),
    responses((status = 200, body = RunDetails), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RunDetails>, Error> {
    let detail = state.reads.run(caller.environment.id, parse(&id)?).await?.ok_or_else(not_found)?;
    may_read(&caller, &detail.run)?;
    Ok(Json(RunDetails::of(detail, &state, &caller.environment)))
}

/// Lists runs, newest first; those of the last seven days unless said otherwise.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", security(("secretKey" = []), ("publicToken" = [])),
    params(
        ("page[size]" = Option<u32>, Query), ("page[after]" = Option<String>, Query), ("page[before]" = Option<String>, Query),
        ("filter[status]" = Option<String>, Query, description = "Comma-separated"),
        ("filter[taskIdentifier]" = Option<String>, Query, description = "Comma-separated"),
        ("filter[tag]" = Option<String>, Query, description = "Comma-separated; any of them"),
        ("filter[schedule]" = Option<String>, Query, description = "The schedule that started them, sched_…"),
        ("filter[version]" = Option<String>, Query, description = "Comma-separated"),
        ("filter[isTest]" = Option<bool>, Query),
        ("filter[batch]" = Option<String>, Query, description = "Of this batch, batch_…"),
        ("filter[bulkAction]" = Option<String>, Query, description = "Cancelled or made by this bulk action, bulk_…"),
        ("filter[queue]" = Option<String>, Query, description = "Comma-separated names; of a task's own, task/ and the task's id"),
        ("filter[machine]" = Option<String>, Query, description = "Comma-separated presets"),
        ("filter[createdAt][from]" = Option<String>, Query, description = "Milliseconds since 1970"),
        ("filter[createdAt][to]" = Option<String>, Query, description = "Milliseconds since 1970"),
        ("filter[createdAt][period]" = Option<String>, Query, description = "Such as 1d")),
    responses((status = 200, body = Paged<RunItem>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Parameters,
) -> Result<Json<Paged<RunItem>>, Error> {
    let tasks = query.list("filter[taskIdentifier]");
    may_list(&caller, &tasks)?;
    page(&state, &caller.environment, &query).await
}

/// Lists the runs of an environment, named by its project, newest first; those of the last seven days unless said otherwise.
#[utoipa::path(get, path = "/api/v1/projects/{projectRef}/runs", tag = "runs", security(("secretKey" = [])),
    params(("projectRef" = String, Path),
        ("filter[env]" = Option<String>, Query, description = "Comma-separated slugs; of the key's environment there is none or all"),
        ("page[size]" = Option<u32>, Query), ("page[after]" = Option<String>, Query), ("page[before]" = Option<String>, Query)),
    responses((status = 200, body = Paged<RunItem>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn list_of_project(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(project): Path<String>,
    query: Parameters,
) -> Result<Json<Paged<RunItem>>, Error> {
    if project != environment.project_ref {
        return Err(Error::not_found("project"));
    }
    let slugs = query.list("filter[env]");
    let known = EnvironmentKind::ALL.map(EnvironmentKind::slug).join(", ");
    query.list_of("filter[env]", &known, EnvironmentKind::from_slug)?;
    if !slugs.is_empty() && !slugs.iter().any(|slug| slug == environment.kind.slug()) {
        return Ok(Json(Paged { data: Vec::new(), pagination: Pagination::default() }));
    }
    page(&state, &environment, &query).await
}

/// The page of a list that a query asks for.
async fn page(state: &AppState, environment: &Environment, query: &Parameters) -> Result<Json<Paged<RunItem>>, Error> {
    let filter = filter(query, Utc::now())?;
    let listing = runs::list(&state.store, environment.id, &filter, query.page()?).await?;
    Ok(Json(Paged::of(listing, |run| RunItem::of(run, environment, &state.prices))))
}

/// Which runs a query asks for.
pub(super) fn filter(query: &Parameters, now: DateTime<Utc>) -> Result<runs::Filter, Error> {
    query.without(&UNAVAILABLE_FILTERS)?;
    let known = RunStatus::ALL.map(RunStatus::as_str).join(", ");
    let statuses = query.list_of("filter[status]", &known, RunStatus::parse)?;
    let (from, to) = query.range("filter[createdAt]", now)?;
    let created_from = from.or_else(|| if to.is_none() { Some(now - DEFAULT_WINDOW) } else { None });
    let presets = Machine::ALL.map(Machine::as_str).join(", ");
    Ok(runs::Filter {
        statuses,
        tasks: query.list("filter[taskIdentifier]"),
        tags: query.list("filter[tag]"),
        created_from,
        created_to: to,
        schedule: query.id("filter[schedule]")?,
        versions: query.list("filter[version]"),
        is_test: query.flag("filter[isTest]")?,
        batch: query.id("filter[batch]")?,
        queues: query.list("filter[queue]").iter().map(|name| queue::sanitize(name)).collect(),
        machines: query.list_of("filter[machine]", &presets, Machine::parse)?,
        bulk_action: query.id("filter[bulkAction]")?,
    })
}

/// A run that was asked to end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancelled {
    /// `run_…`
    #[schema(value_type = String)]
    id: RunId,
}

/// Ends a run and its children in progress. One that has ended already stays as it is.
#[utoipa::path(post, path = "/api/v2/runs/{runId}/cancel", tag = "runs", security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path)),
    responses((status = 200, body = Cancelled), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Cancelled>, Error> {
    let run = find(&state, &caller, &id).await?;
    caller.must(&[("runs", Some(&id)), ("tasks", Some(&run.task))])?;
    engine::cancel::cancel(&state.store, caller.environment.id, run.id).await?;
    Ok(Json(Cancelled { id: run.id }))
}

/// A line of a run's log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogLine {
    /// From 1 without gaps; the last one read is the cursor.
    id: u32,
    /// When it was written.
    at: String,
    /// `debug`, `log`, `info`, `warn` or `error`.
    #[schema(value_type = String)]
    level: Level,
    /// `logger`, `stdout`, `stderr` or `host`.
    #[schema(value_type = String)]
    source: Source,
    /// The attempt that wrote it.
    attempt: u32,
    /// The text.
    message: String,
    /// Its fields.
    #[serde(skip_serializing_if = "Value::is_null")]
    attributes: Value,
    /// The span that it belongs to, if the guest said so.
    #[serde(rename = "spanId", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    span: Option<SpanId>,
}

/// Shows what a run logs, oldest first. To follow it, ask again with `page[after]` set to the `id` of the last line.
#[utoipa::path(get, path = "/api/v1/runs/{runId}/logs", tag = "runs", security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), ("page[size]" = Option<u32>, Query), ("page[after]" = Option<u32>, Query)),
    responses((status = 200, body = Paged<LogLine>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn logs(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    query: Parameters,
) -> Result<Json<Paged<LogLine>>, Error> {
    let run = find(&state, &caller, &id).await?;
    may_read(&caller, &run)?;
    let size = query.size()?;
    let after = query.text("page[after]").map_or(Ok(0), |text| {
        text.parse().map_err(|_| Error::query("page[after]", "write the id of the last line that was read"))
    })?;
    let mut lines = logs::after(&state.store, run.id, after, size + 1).await?;
    let goes_on = lines.len() > size as usize;
    lines.truncate(size as usize);
    let next = lines.last().filter(|_| goes_on).map(|line| line.line.to_string());
    let show = |line: logs::Line| LogLine {
        id: line.line,
        at: rfc3339(line.record.at),
        level: line.record.level,
        source: line.record.source,
        attempt: line.attempt,
        message: line.record.message,
        attributes: line.record.attributes,
        span: line.record.span,
    };
    Ok(Json(Paged { data: lines.into_iter().map(show).collect(), pagination: Pagination { next, previous: None } }))
}

/// What has happened to a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<Event>,
}

/// One thing that happened to a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// From 1 without gaps.
    seq: i64,
    /// When it happened.
    at: String,
    /// What happened, such as `suspended`.
    kind: &'static str,
    /// The run's status after it.
    status: &'static str,
}

impl Event {
    fn of(event: RunEvent) -> Event {
        let RunEvent { seq, at, kind, status } = event;
        Event { seq, at: rfc3339(at), kind: kind.as_str(), status: status.as_str() }
    }
}

/// Shows what has happened to a run, oldest first, at most 1000 things.
#[utoipa::path(get, path = "/api/v1/runs/{runId}/events", tag = "runs", security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), ("after" = Option<i64>, Query, description = "Only what came after this `seq`")),
    responses((status = 200, body = Events), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn events(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    query: Parameters,
) -> Result<Json<Events>, Error> {
    let run = find(&state, &caller, &id).await?;
    may_read(&caller, &run)?;
    let after = query.text("after").map_or(Ok(0), |text| text.parse().map_err(|_| Error::query("after", "write a number")))?;
    let events = events::after(&state.store, run.id, after, MAX_EVENTS).await?;
    Ok(Json(Events { events: events.into_iter().map(Event::of).collect() }))
}

async fn find(state: &AppState, caller: &Caller, id: &str) -> Result<Run, Error> {
    of_environment(state, &caller.environment, id).await
}

/// The run of this environment.
pub(super) async fn of_environment(state: &AppState, environment: &Environment, id: &str) -> Result<Run, Error> {
    runs::get(&state.store, environment.id, parse(id)?).await?.ok_or_else(not_found)
}

/// What is no id names nothing.
pub(super) fn parse(id: &str) -> Result<RunId, Error> {
    id.parse().map_err(|_| not_found())
}

fn not_found() -> Error {
    Error::not_found("run")
}

/// Source: facts 2.3.
pub(super) fn may_read(caller: &Caller, run: &Run) -> Result<(), Error> {
    let (id, batch) = (run.id.to_string(), run.batch.map(|batch| batch.to_string()));
    let mut identities = vec![("runs", Some(id.as_str())), ("tasks", Some(run.task.as_str()))];
    identities.extend(run.tags.iter().map(|tag| ("tags", Some(tag.as_str()))));
    identities.extend(batch.iter().map(|batch| ("batch", Some(batch.as_str()))));
    caller.must(&identities)
}

/// A token for single tasks may list their runs only: every task that is asked for must be allowed. Source: facts 2.3.
fn may_list(caller: &Caller, tasks: &[String]) -> Result<(), Error> {
    let all = caller.must(&[("runs", None), ("tasks", None)]);
    if all.is_ok() || tasks.is_empty() {
        return all;
    }
    tasks.iter().try_for_each(|task| caller.must(&[("tasks", Some(task))]))
}
