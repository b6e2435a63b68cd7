//! Schedules: tasks that are started by the clock. Source: facts 7.5, J1-J11.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::SecretKey,
    body,
    error::ErrorBody,
    pagination::{OffsetPaged, Parameters},
    tasks::Checks,
    when::rfc3339,
};
use crate::{
    engine,
    model::{
        environment::Environment,
        id::{EnvironmentId, ScheduleId},
        schedule::{self, MAX_SCHEDULE_KEY_CHARS, NewSchedule, Schedule, Timing},
    },
    store::schedules,
};

const MAX_BODY_BYTES: u64 = 16 * 1024;
/// Entries of a page that does not say how many it wants.
const DEFAULT_PER_PAGE: u32 = 20;

/// What a schedule shall be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScheduleBody {
    /// A scheduled task of the current deployment.
    #[schema(required = true, value_type = String)]
    task: Option<String>,
    /// Five fields: minute, hour, day of month, month, day of week.
    #[schema(required = true, value_type = String, example = "0 9 * * 1-5")]
    cron: Option<String>,
    /// The name of a zone, `UTC` unless said otherwise.
    timezone: Option<String>,
    /// Your own name for what it is about; runs are told. At most 512 characters.
    external_id: Option<String>,
    /// Spreads schedules with the same times: each fires at a time of its own within it. `30m`, `2h` or `50%` of the time to the
    /// next one.
    window: Option<String>,
    /// The same key gets the same schedule, in all environments of the project. At most 512 characters. Required to make one; it
    /// cannot be changed.
    deduplication_key: Option<String>,
}

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScheduleObject {
    /// `sched_…`
    #[schema(value_type = String)]
    id: ScheduleId,
    /// `DECLARATIVE` if the task declares it, else `IMPERATIVE`.
    #[serde(rename = "type")]
    kind: &'static str,
    task: String,
    /// Whether it fires.
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    deduplication_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    generator: Generator,
    timezone: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<String>,
    /// The next time that the expression has.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run: Option<String>,
    /// When it fires for that, within its window.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run_effective_at: Option<String>,
    /// Always one.
    environments: [ScheduleEnvironment; 1],
}

/// When a schedule fires.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generator {
    /// Always `CRON`.
    #[serde(rename = "type")]
    kind: &'static str,
    expression: String,
    /// The expression in words.
    description: String,
}

impl Generator {
    pub(super) fn of(timing: &Timing) -> Generator {
        Generator { kind: "CRON", expression: timing.cron.to_string(), description: timing.cron.description() }
    }
}

/// Where a schedule's runs are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScheduleEnvironment {
    #[schema(value_type = String)]
    id: EnvironmentId,
    /// `DEVELOPMENT`, `STAGING`, `PREVIEW` or `PRODUCTION`.
    #[serde(rename = "type")]
    kind: &'static str,
}

impl ScheduleObject {
    fn of(schedule: Schedule, environment: &Environment) -> ScheduleObject {
        ScheduleObject {
            id: schedule.id,
            kind: schedule.kind.as_str(),
            active: schedule.is_active,
            generator: Generator::of(&schedule.timing),
            timezone: schedule.timing.zone.name(),
            window: schedule.timing.window.map(|window| window.to_string()),
            next_run: schedule.next.map(|next| rfc3339(next.at)),
            next_run_effective_at: schedule.next.map(|next| rfc3339(next.due_at)),
            task: schedule.task,
            deduplication_key: schedule.deduplication_key,
            external_id: schedule.external_id,
            environments: [ScheduleEnvironment { id: environment.id, kind: environment.kind.api_name() }],
        }
    }
}

/// A schedule that was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedSchedule {
    /// `sched_…`
    #[schema(value_type = String)]
    id: ScheduleId,
}

/// Zones.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Timezones {
    /// Their names.
    timezones: Vec<&'static str>,
}

/// Makes a schedule, or changes the one with this key.
#[utoipa::path(post, path = "/api/v1/schedules", tag = "schedules", security(("secretKey" = [])),
    request_body = ScheduleBody,
    responses((status = 200, body = ScheduleObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ScheduleObject>, Error> {
    let mut body: ScheduleBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let mut checks = Checks::default();
    let key = required("deduplicationKey", body.deduplication_key.take(), &mut checks);
    let new = new_schedule(body, checks)?;

    let schedule = engine::schedule::create(&state.store, environment.id, key, new).await?;

    Ok(Json(ScheduleObject::of(schedule, &environment)))
}

/// Lists the environment's schedules, newest first.
#[utoipa::path(get, path = "/api/v1/schedules", tag = "schedules", security(("secretKey" = [])),
    params(("page" = Option<u32>, Query, description = "From 1"), ("perPage" = Option<u32>, Query, description = "1 to 100")),
    responses((status = 200, body = OffsetPaged<ScheduleObject>), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    query: Parameters,
) -> Result<Json<OffsetPaged<ScheduleObject>>, Error> {
    let page = query.offset_page(DEFAULT_PER_PAGE)?;
    let (found, count) = schedules::list(&state.store, environment.id, page.offset(), page.size).await?;
    let data = found.into_iter().map(|schedule| ScheduleObject::of(schedule, &environment)).collect();
    Ok(Json(OffsetPaged::of(data, page, count)))
}

/// Shows a schedule.
#[utoipa::path(get, path = "/api/v1/schedules/{scheduleId}", tag = "schedules", security(("secretKey" = [])),
    params(("scheduleId" = String, Path)),
    responses((status = 200, body = ScheduleObject), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<ScheduleObject>, Error> {
    let schedule = schedules::get(&state.store, environment.id, parse(&id)?).await?.ok_or_else(not_found)?;
    Ok(Json(ScheduleObject::of(schedule, &environment)))
}

/// Replaces everything about a schedule but its key. One that a task declares is changed there.
#[utoipa::path(put, path = "/api/v1/schedules/{scheduleId}", tag = "schedules", security(("secretKey" = [])),
    params(("scheduleId" = String, Path)),
    request_body = ScheduleBody,
    responses((status = 200, body = ScheduleObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn update(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ScheduleObject>, Error> {
    let id = parse(&id)?;
    let body: ScheduleBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let new = new_schedule(body, Checks::default())?;

    let schedule = engine::schedule::update(&state.store, environment.id, id, new).await?;

    Ok(Json(ScheduleObject::of(schedule, &environment)))
}

/// Deletes a schedule; its runs stay. One that a task declares is deleted there.
#[utoipa::path(delete, path = "/api/v1/schedules/{scheduleId}", tag = "schedules", security(("secretKey" = [])),
    params(("scheduleId" = String, Path)),
    responses((status = 200, body = DeletedSchedule), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn delete(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<DeletedSchedule>, Error> {
    let id = parse(&id)?;
    engine::schedule::delete(&state.store, environment.id, id).await?;
    Ok(Json(DeletedSchedule { id }))
}

/// Lets a schedule fire again, from now on.
#[utoipa::path(post, path = "/api/v1/schedules/{scheduleId}/activate", tag = "schedules", security(("secretKey" = [])),
    params(("scheduleId" = String, Path)),
    responses((status = 200, body = ScheduleObject), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn activate(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<ScheduleObject>, Error> {
    let schedule = engine::schedule::activate(&state.store, environment.id, parse(&id)?).await?;
    Ok(Json(ScheduleObject::of(schedule, &environment)))
}

/// Keeps a schedule from firing.
#[utoipa::path(post, path = "/api/v1/schedules/{scheduleId}/deactivate", tag = "schedules", security(("secretKey" = [])),
    params(("scheduleId" = String, Path)),
    responses((status = 200, body = ScheduleObject), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn deactivate(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<ScheduleObject>, Error> {
    let schedule = engine::schedule::deactivate(&state.store, environment.id, parse(&id)?).await?;
    Ok(Json(ScheduleObject::of(schedule, &environment)))
}

/// Lists the zones that a schedule may name.
#[utoipa::path(get, path = "/api/v1/timezones", tag = "schedules", security(()),
    params(("excludeUtc" = Option<bool>, Query, description = "Without UTC")),
    responses((status = 200, body = Timezones), (status = 400, body = ErrorBody)))]
pub(super) async fn timezones(query: Parameters) -> Result<Json<Timezones>, Error> {
    let without_utc = query.flag("excludeUtc")?.unwrap_or(false);
    Ok(Json(Timezones { timezones: schedule::zone_names().filter(|name| !without_utc || *name != "UTC").collect() }))
}

/// What is missing or too long is malformed; what cannot be understood breaks a rule.
fn new_schedule(body: ScheduleBody, mut checks: Checks) -> Result<NewSchedule, Error> {
    let task = required("task", body.task, &mut checks);
    checks.that(body.cron.is_some(), "cron", || "is required".into());
    checks.length("externalId", body.external_id.as_deref(), MAX_SCHEDULE_KEY_CHARS);
    checks.pass()?;
    let cron = body.cron.unwrap_or_default();
    let timing = Timing::parse(&cron, body.timezone.as_deref(), body.window.as_deref()).map_err(engine::Error::from)?;
    Ok(NewSchedule { task, timing, external_id: body.external_id })
}

fn required(path: &str, text: Option<String>, checks: &mut Checks) -> String {
    checks.that(text.is_some(), path, || "is required".into());
    checks.length(path, text.as_deref(), MAX_SCHEDULE_KEY_CHARS);
    text.unwrap_or_default()
}

/// What is no id names nothing.
fn parse(id: &str) -> Result<ScheduleId, Error> {
    id.parse().map_err(|_| not_found())
}

fn not_found() -> Error {
    Error::not_found("schedule")
}
