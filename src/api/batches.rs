//! Batches: made first, then given their items (see [`batch_items`]), then looked at. Source: facts 7.2, B1-B6.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::Caller,
    batch_items, body,
    error::{ErrorBody, Issue, Part},
    tasks::{self, Checks, KeyOptions},
    tokens::Minted,
    when::rfc3339,
};
use crate::{
    engine::{self, once::Ticket},
    model::{
        batch::{Batch, Item, MAX_ITEMS, NewBatch},
        id::{BatchId, RunId},
    },
    store::{Store, batches},
    wall_clock,
};

/// Largest body that makes a batch. Source: facts 4.5.
const MAX_CREATE_BYTES: u64 = 131_072;
/// Largest body that makes a batch with its items, and most of them. Source: facts 4.5, B1.
const MAX_LEGACY: (u64, usize) = (1_000_000, 500);

/// A batch to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateBatchBody {
    /// How many items it will have, 1 to 1000.
    run_count: Option<f64>,
    /// The tasks of its items, for callers who may trigger only some.
    task_identifiers: Option<Vec<String>>,
    /// The run that triggers them.
    parent_run_id: Option<String>,
    /// That run means to wait for them, which run on its version unless they name another. Waiting is then its own affair.
    resume_parent_on_completion: Option<bool>,
    /// The same key gets the same batch; at most 2048 characters.
    idempotency_key: Option<String>,
    /// What the key was made of.
    idempotency_key_options: Option<KeyOptions>,
}

/// The batch that was made, or found by its idempotency key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatedResponse {
    /// `batch_…`
    #[schema(value_type = String)]
    id: BatchId,
    run_count: u32,
    /// It has its items: an earlier request with the same key sent them.
    is_cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
}

/// Makes a batch, to which its items are then added. Nothing is triggered before all of them are there.
#[utoipa::path(post, path = "/api/v3/batches", tag = "batches", security(("secretKey" = []), ("publicToken" = [])),
    params(("x-trigger-request-idempotency-key" = Option<String>, Header,
        description = "Names the request: sent again within a day it makes no second batch")),
    request_body = CreateBatchBody,
    responses(
        (status = 202, body = CreatedResponse, headers(
            ("x-trigger-jwt" = String, description = "A public token that may read the batch, for an hour"),
            ("x-trigger-jwt-claims" = String, description = "What such a token claims, as JSON"))),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Minted, Json<CreatedResponse>), Error> {
    let body: CreateBatchBody = body::read_json(&headers, body, "The request body", MAX_CREATE_BYTES).await?;
    match &body.task_identifiers {
        Some(tasks) if !tasks.is_empty() => may_batch(&caller, tasks.iter().map(String::as_str))?,
        _ => caller.must(&[("batch", None), ("tasks", None)])?,
    }
    let (new, now) = (new_batch(body, &headers)?, Utc::now());
    let key = new.idempotency.as_ref().map(|key| key.key.clone());
    state.rates.count_items(caller.environment.id, new.run_count)?;

    let created = match one_time_ticket(&caller) {
        Some(ticket) => engine::once::create_batch(&state.store, caller.environment.id, ticket, new, None).await?,
        None => engine::batch::create(&state.store, caller.environment.id, new).await?,
    };

    let minted = minted(&caller, created.id, &headers, now);
    let response =
        CreatedResponse { id: created.id, run_count: created.run_count, is_cached: created.is_cached, idempotency_key: key };
    Ok((StatusCode::ACCEPTED, minted, Json(response)))
}

fn new_batch(body: CreateBatchBody, headers: &HeaderMap) -> Result<NewBatch, Error> {
    let mut checks = Checks::default();
    if body.run_count.is_none() {
        checks.issue("runCount", format!("write a whole number from 1 to {MAX_ITEMS}"));
    }
    let run_count = tasks::whole(body.run_count, 1, MAX_ITEMS as u32, "runCount", &mut checks).unwrap_or(0);
    let parent = body.parent_run_id.as_deref();
    let parent: Option<RunId> = checks.read("parentRunId", parent, |text| text.parse().ok(), "write the id of a run, run_…");
    let awaited = body.resume_parent_on_completion == Some(true);
    checks.that(!awaited || parent.is_some(), "resumeParentOnCompletion", || tasks::AWAITED_BY_NOBODY.into());
    let idempotency =
        body.idempotency_key.map(|key| tasks::key_of(key, None, body.idempotency_key_options.as_ref(), "", &mut checks));
    let request_key = tasks::request_key(headers, &mut checks);
    checks.pass().map(|()| NewBatch { run_count, parent, awaited, idempotency, request_key })
}

/// The token of the caller, if it is one that is good for one call.
pub(super) fn one_time_ticket(caller: &Caller) -> Option<Ticket> {
    let token = caller.token.as_ref().filter(|token| token.claims.one_time_use)?;
    let expires_at = DateTime::from_timestamp(token.claims.exp, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    Some(Ticket { digest: Sha256::digest(token.text.as_bytes()).into(), expires_at })
}

/// Every task of a batch must be allowed, not any. Source: facts 2.3.
fn may_batch<'a>(caller: &Caller, mut tasks: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    tasks.try_for_each(|task| caller.must(&[("tasks", Some(task))]))
}

/// A token that reads the batch, and from a browser also fills it: that has no other key. Source: facts 2.2.
fn minted(caller: &Caller, batch: BatchId, headers: &HeaderMap, now: DateTime<Utc>) -> Minted {
    let mut scopes = vec![format!("read:batch:{batch}")];
    if headers.get("x-trigger-client").is_some_and(|client| client == "browser") {
        scopes.push(format!("write:batch:{batch}"));
    }
    Minted::new(caller, scopes, now, TimeDelta::hours(1))
}

/// A batch with its items.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LegacyBody {
    /// 1 to 500.
    #[serde(default)]
    items: Vec<LegacyItem>,
    /// The run that triggers them.
    parent_run_id: Option<String>,
    /// That run means to wait for them, which run on its version unless they name another. Waiting is then its own affair.
    resume_parent_on_completion: Option<bool>,
}

/// A run to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct LegacyItem {
    /// The task's id.
    task: String,
    /// Any JSON value; a string if `options.payloadType` is not `application/json`.
    #[serde(default, deserialize_with = "body::written")]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    /// As for a trigger.
    #[serde(default)]
    #[schema(value_type = Option<tasks::TriggerOptions>)]
    options: Option<Box<RawValue>>,
}

/// The batch that was triggered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggeredResponse {
    /// `batch_…`
    #[schema(value_type = String)]
    id: BatchId,
    run_count: u32,
}

/// Triggers a batch in one request, as older clients do.
#[utoipa::path(post, path = "/api/v2/tasks/batch", tag = "batches", security(("secretKey" = []), ("publicToken" = [])),
    request_body = LegacyBody,
    responses(
        (status = 202, body = TriggeredResponse, headers(
            ("x-trigger-jwt" = String, description = "A public token that may read the batch, for an hour"),
            ("x-trigger-jwt-claims" = String, description = "What such a token claims, as JSON"))),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn trigger(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Minted, Json<TriggeredResponse>), Error> {
    let (max_bytes, max_items) = MAX_LEGACY;
    let body: LegacyBody = body::read_json(&headers, body, "The request body", max_bytes).await?;
    may_batch(&caller, body.items.iter().map(|item| item.task.as_str()))?;
    if body.items.is_empty() || body.items.len() > max_items {
        return Err(Error::body("items", format!("write 1 to {max_items} items")));
    }
    let now = Utc::now();
    let time = wall_clock::now();
    let items = body.items.into_iter().enumerate().map(|(index, item)| legacy_item(index, item, time));
    let mut resolved = Vec::new();
    for item in items {
        resolved.push(batch_items::resolved(&state, &caller, item?).await?);
    }
    let items = resolved;
    let create = CreateBatchBody {
        run_count: Some(items.len() as f64),
        parent_run_id: body.parent_run_id,
        resume_parent_on_completion: body.resume_parent_on_completion,
        idempotency_key: tasks::header(&headers, "idempotency-key").map(str::to_owned),
        ..CreateBatchBody::default()
    };
    let new = new_batch(create, &headers)?;
    state.rates.count_items(caller.environment.id, new.run_count)?;

    let created = match one_time_ticket(&caller) {
        Some(ticket) => engine::once::create_batch(&state.store, caller.environment.id, ticket, new, Some(items)).await?,
        None => engine::batch::create_filled(&state.store, caller.environment.id, new, items).await?,
    };
    make(&state.store, &caller, created.id).await;

    let minted = minted(&caller, created.id, &headers, now);
    Ok((StatusCode::ACCEPTED, minted, Json(TriggeredResponse { id: created.id, run_count: created.run_count })))
}

fn legacy_item(index: usize, item: LegacyItem, now: DateTime<Utc>) -> Result<Item, Error> {
    let LegacyItem { task, payload, options } = item;
    if !batch_items::is_task(&task) {
        let path = format!("items.{index}.task");
        return Err(Error::Malformed { part: Part::Body, issues: vec![Issue::new(&path, batch_items::TASK_HINT)] });
    }
    Ok(batch_items::item(index as u32, task, payload, options.as_deref(), now))
}

/// Turns the items of a sealed batch into runs. What goes wrong is no reason to say that they were not taken: they are durable, and
/// the sweep tries again.
pub(super) async fn make(store: &Store, caller: &Caller, batch: BatchId) {
    if let Err(error) = engine::batch::make_all(store, caller.environment.id, batch).await {
        tracing::warn!(batch.id = %batch, error = &error as &dyn std::error::Error, "the rest of a batch is left to the sweep");
    }
}

/// A batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BatchObject {
    /// `batch_…`
    #[schema(value_type = String)]
    id: BatchId,
    /// `PENDING`, `PROCESSING`, `COMPLETED`, `PARTIAL_FAILED` or `ABORTED`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    created_at: String,
    updated_at: String,
    run_count: u32,
    /// Its runs, in the order of the items, as far as there are any.
    #[schema(value_type = Vec<String>)]
    runs: Vec<RunId>,
    processing: Processing,
}

/// What became of a batch's items.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Processing {
    /// When every item had a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    /// Items that could not be triggered.
    errors: Vec<ItemErrorObject>,
}

/// An item that could not be triggered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ItemErrorObject {
    /// Its place, from 0.
    index: u32,
    task_identifier: String,
    error: String,
    error_code: String,
}

impl BatchObject {
    fn of(batch: Batch) -> BatchObject {
        let status = batch.status().as_str();
        let errors = batch.errors.into_iter().map(|error| ItemErrorObject {
            index: error.index,
            task_identifier: error.task,
            error: error.message,
            error_code: error.code,
        });
        BatchObject {
            id: batch.id,
            status,
            idempotency_key: batch.idempotency_key,
            created_at: rfc3339(batch.created_at),
            updated_at: rfc3339(batch.updated_at),
            run_count: batch.run_count,
            runs: batch.runs,
            processing: Processing { completed_at: batch.made_at.map(rfc3339), errors: errors.collect() },
        }
    }
}

/// Shows a batch.
#[utoipa::path(get, path = "/api/v2/batches/{batchId}", tag = "batches", security(("secretKey" = []), ("publicToken" = [])),
    params(("batchId" = String, Path)),
    responses((status = 200, body = BatchObject), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BatchObject>, Error> {
    caller.must(&[("batch", Some(&id)), ("runs", None)])?;
    let batch = batches::get(&state.store, caller.environment.id, parse(&id)?).await?.ok_or_else(not_found)?;
    Ok(Json(BatchObject::of(batch)))
}

/// What is no id names nothing.
pub(super) fn parse(id: &str) -> Result<BatchId, Error> {
    id.parse().map_err(|_| not_found())
}

pub(super) fn not_found() -> Error {
    Error::not_found("batch")
}
