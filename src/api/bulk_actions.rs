//! Bulk actions: many runs that are cancelled or replayed in one request. Source: facts 7.3.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::SecretKey,
    body::{self, OneOrMany, TextOrNumber},
    error::ErrorBody,
    pagination::{Paged, Parameters},
    runs as list,
    tasks::{self, Checks},
    when::rfc3339,
};
use crate::{
    engine,
    model::{
        bulk::{BulkAction, BulkKind, MAX_NAME_CHARS, MAX_RUN_IDS},
        id::{BulkActionId, RunId},
        queue::TASK_PREFIX,
    },
    store::{
        bulk_actions::{self, NewBulkAction, Selection},
        runs,
    },
};

const MAX_BODY_BYTES: u64 = 256 * 1024;

/// A bulk action to be made: of the runs that are named, or of those that a filter finds.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateBulkActionBody {
    /// `cancel` or `replay`.
    action: Option<String>,
    /// 1 to 5000 runs.
    run_ids: Option<Vec<String>>,
    /// The runs that a list with this filter shows, of the last seven days unless it says otherwise, as far as they are there now.
    filter: Option<FilterBody>,
    /// Your name for it, at most 255 characters.
    name: Option<String>,
    /// There is one region.
    #[serde(rename = "targetRegion")]
    _target_region: Option<String>,
}

/// Which runs; something must be said. Each is as in a list of runs.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FilterBody {
    status: Option<OneOrMany>,
    task_identifier: Option<OneOrMany>,
    version: Option<OneOrMany>,
    /// Any of them.
    tag: Option<OneOrMany>,
    /// Milliseconds since 1970, or a date.
    from: Option<TextOrNumber>,
    /// Milliseconds since 1970, or a date.
    to: Option<TextOrNumber>,
    /// Such as `1d`.
    period: Option<String>,
    /// `bulk_…`
    bulk_action: Option<String>,
    /// `sched_…`
    schedule: Option<String>,
    is_test: Option<bool>,
    /// `batch_…`
    batch: Option<String>,
    queue: Option<OneOrManyQueues>,
    machine: Option<OneOrMany>,
    region: Option<OneOrMany>,
}

/// One queue, or a list of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a queue or a list of queues, each with type and name")]
pub(super) enum OneOrManyQueues {
    /// One.
    One(QueueBody),
    /// Several.
    Many(Vec<QueueBody>),
}

/// A queue by its name.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct QueueBody {
    /// `task` or `custom`.
    #[serde(rename = "type")]
    kind: String,
    name: String,
}

impl FilterBody {
    /// Which runs; none if it says nothing.
    fn read(self, now: DateTime<Utc>) -> Result<Option<runs::Filter>, Error> {
        // Not by way of a query, whose lists have commas between their entries: a tag may hold one.
        let texts = |texts: &Option<OneOrMany>| -> Vec<String> {
            let texts = texts.clone().map(OneOrMany::into_vec).unwrap_or_default();
            texts.into_iter().filter(|text| !text.trim().is_empty()).collect()
        };
        let (tasks, tags, versions) = (texts(&self.task_identifier), texts(&self.tag), texts(&self.version));
        let said = self.into_parameters();
        if said.is_empty() && tasks.is_empty() && tags.is_empty() && versions.is_empty() {
            return Ok(None);
        }
        let filter = list::filter(&Parameters::of(said), now)?;
        // What is made from now on is none of its business, its own replays among it.
        let created_to = Some(filter.created_to.map_or(now, |to| to.min(now)));
        Ok(Some(runs::Filter { tasks, tags, versions, created_to, ..filter }))
    }

    /// The rest as the query of a list says it.
    fn into_parameters(self) -> Vec<(&'static str, String)> {
        // A list of nothing but blanks says nothing.
        let joined = |texts: Vec<String>| texts.into_iter().filter(|text| !text.trim().is_empty()).collect::<Vec<_>>().join(",");
        let many = |texts: Option<OneOrMany>| texts.map(|texts| joined(texts.into_vec()));
        let moment = |time: Option<TextOrNumber>| time.map(TextOrNumber::into_text);
        let queue = |queue: QueueBody| match queue.kind.as_str() {
            "task" => format!("{TASK_PREFIX}{}", queue.name),
            _ => queue.name,
        };
        let queues = self.queue.map(|queues| match queues {
            OneOrManyQueues::One(one) => queue(one),
            OneOrManyQueues::Many(many) => joined(many.into_iter().map(queue).collect()),
        });
        let said = [
            ("filter[status]", many(self.status)),
            ("filter[createdAt][from]", moment(self.from)),
            ("filter[createdAt][to]", moment(self.to)),
            ("filter[createdAt][period]", self.period),
            ("filter[bulkAction]", self.bulk_action),
            ("filter[schedule]", self.schedule),
            ("filter[isTest]", self.is_test.map(|is_test| is_test.to_string())),
            ("filter[batch]", self.batch),
            ("filter[queue]", queues),
            ("filter[machine]", many(self.machine)),
            ("filter[region]", many(self.region)),
        ];
        said.into_iter().filter_map(|(name, text)| Some((name, text.filter(|text| !text.trim().is_empty())?))).collect()
    }
}

/// The bulk action.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkId {
    /// `bulk_…`
    #[schema(value_type = String)]
    id: BulkActionId,
}

/// A bulk action.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BulkObject {
    /// `bulk_…`
    #[schema(value_type = String)]
    id: BulkActionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// `CANCEL` or `REPLAY`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// `PENDING`, `COMPLETED` or `ABORTED`.
    status: &'static str,
    counts: Counts,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
}

/// What became of a bulk action's runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Counts {
    /// As many as there were when it was made.
    total: u64,
    success: u64,
    /// Those that had ended already, are not there, or cannot be replayed.
    failure: u64,
}

impl BulkObject {
    fn of(action: BulkAction) -> BulkObject {
        let BulkAction { id, name, kind, status, total, success, failure, created_at, completed_at } = action;
        BulkObject {
            id,
            name,
            kind: kind.as_str(),
            status: status.as_str(),
            counts: Counts { total, success, failure },
            created_at: rfc3339(created_at),
            completed_at: completed_at.map(rfc3339),
        }
    }
}

/// Cancels or replays many runs, which goes on after the answer.
#[utoipa::path(post, path = "/api/v1/bulk-actions", tag = "bulk actions", security(("secretKey" = [])),
    params(("x-trigger-request-idempotency-key" = Option<String>, Header,
        description = "Names the request: sent again it makes no second action")),
    request_body = CreateBulkActionBody,
    responses((status = 200, body = BulkId), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BulkId>, Error> {
    let body: CreateBulkActionBody = body::read_json(&headers, body, "The request body", MAX_BODY_BYTES).await?;
    let mut checks = Checks::default();
    let kind = match body.action.as_deref() {
        Some("cancel") => Some(BulkKind::Cancel),
        Some("replay") => Some(BulkKind::Replay),
        _ => None,
    };
    checks.that(kind.is_some(), "action", || "write cancel or replay".into());
    checks.length("name", body.name.as_deref().filter(|name| !name.is_empty()), MAX_NAME_CHARS);
    let request_key = tasks::request_key(&headers, &mut checks);
    let selection = match (body.run_ids, body.filter) {
        (Some(ids), None) => {
            checks.that((1..=MAX_RUN_IDS).contains(&ids.len()), "runIds", || format!("write 1 to {MAX_RUN_IDS} runs"));
            let known: Vec<RunId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
            checks.that(known.len() == ids.len(), "runIds", || "write ids of runs, run_…".into());
            Selection::Runs(known)
        }
        (None, Some(filter)) => {
            let filter = filter.read(state.now().await?)?;
            checks.that(filter.is_some(), "filter", || "say something of the runs".into());
            Selection::Filter(filter.unwrap_or_default())
        }
        _ => {
            checks.issue("", "write either runIds or filter");
            Selection::Runs(Vec::new())
        }
    };
    checks.pass()?;
    let kind = kind.expect("it was checked");
    let name = body.name.filter(|name| !name.is_empty());
    let new = NewBulkAction { kind, name, selection, total: 0, request_key };
    let id = engine::bulk::create(&state.store, environment.id, new).await?;
    Ok(Json(BulkId { id }))
}

/// Lists bulk actions, newest first.
#[utoipa::path(get, path = "/api/v1/bulk-actions", tag = "bulk actions", security(("secretKey" = [])),
    params(("page[size]" = Option<u32>, Query), ("page[after]" = Option<String>, Query), ("page[before]" = Option<String>, Query)),
    responses((status = 200, body = Paged<BulkObject>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    query: Parameters,
) -> Result<Json<Paged<BulkObject>>, Error> {
    let listing = bulk_actions::list(&state.store, environment.id, query.page()?).await?;
    Ok(Json(Paged::of(listing, BulkObject::of)))
}

/// Shows a bulk action.
#[utoipa::path(get, path = "/api/v1/bulk-actions/{bulkActionId}", tag = "bulk actions", security(("secretKey" = [])),
    params(("bulkActionId" = String, Path)),
    responses((status = 200, body = BulkObject), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<BulkObject>, Error> {
    let action = bulk_actions::get(&state.store, environment.id, parse(&id)?).await?.ok_or_else(not_found)?;
    Ok(Json(BulkObject::of(action)))
}

/// Stops a bulk action; what it has done stays done. One that is over stays as it is.
#[utoipa::path(post, path = "/api/v1/bulk-actions/{bulkActionId}/abort", tag = "bulk actions", security(("secretKey" = [])),
    params(("bulkActionId" = String, Path)),
    responses((status = 200, body = BulkId), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn abort(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<BulkId>, Error> {
    let id = parse(&id)?;
    engine::bulk::abort(&state.store, environment.id, id).await?;
    Ok(Json(BulkId { id }))
}

/// What is no id names nothing.
fn parse(id: &str) -> Result<BulkActionId, Error> {
    id.parse().map_err(|_| not_found())
}

fn not_found() -> Error {
    Error::not_found("bulk action")
}
