//! What runs came to, in the shape that parents and raw callers read. Source: facts 7.3.

use std::collections::HashMap;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AppState, Error, auth::SecretKey, batches, error::ErrorBody};
use crate::{
    model::{
        child::{RunEnd, RunOutcome},
        error::RunError,
        id::{BatchId, RunId},
        payload::TEXT,
    },
    store::{self, Store, StoreError, children, runs},
};

/// Bytes of outputs after which results are sent before more are read.
const RESULTS_AT_ONCE: u64 = 4 << 20;

/// What a run came to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExecutionResult {
    /// Whether it returned.
    ok: bool,
    /// `run_…`
    #[schema(value_type = String)]
    id: RunId,
    task_identifier: String,
    /// What it returned, encoded as `outputType` says; left out if that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_type: Option<String>,
    /// Why it did not return.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<RunError>,
}

impl ExecutionResult {
    pub(super) fn of(end: RunEnd) -> ExecutionResult {
        let RunEnd { run: id, task: task_identifier, outcome } = end;
        let nothing = ExecutionResult { ok: false, id, task_identifier, output: None, output_type: None, error: None };
        match outcome {
            RunOutcome::Completed(output) => {
                let is_value = !output.data.is_empty() || output.content_type == TEXT;
                ExecutionResult {
                    ok: true,
                    output: is_value.then(|| String::from_utf8_lossy(&output.data).into_owned()),
                    output_type: Some(output.content_type),
                    ..nothing
                }
            }
            RunOutcome::Failed { error, .. } => ExecutionResult { error: Some(error), ..nothing },
        }
    }
}

/// Shows what a run came to; 404 until it is final.
#[utoipa::path(get, path = "/api/v1/runs/{runId}/result", tag = "runs", security(("secretKey" = [])),
    params(("runId" = String, Path)),
    responses((status = 200, body = ExecutionResult), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn run_result(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Json<ExecutionResult>, Error> {
    let id: RunId = id.parse().map_err(|_| Error::not_found("run"))?;
    let run = runs::get(&state.store, environment.id, id).await?.ok_or_else(|| Error::not_found("run"))?;
    let end = children::ends(&mut *state.store.read().await?, &[run.id.uuid()]).await?.pop();
    let end = end.ok_or_else(|| Error::NotFound("The run is not finished".into()))?;
    Ok(Json(ExecutionResult::of(end)))
}

/// What the runs of a batch came to: the shape of what is sent piece by piece.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BatchResults {
    /// `batch_…`
    #[schema(value_type = String)]
    id: BatchId,
    /// Of the runs that are final, in the order of the items.
    items: Vec<ExecutionResult>,
}

/// Shows what those runs of a batch that are final came to, in the order of the items.
#[utoipa::path(get, path = "/api/v1/batches/{batchId}/results", tag = "batches", security(("secretKey" = [])),
    params(("batchId" = String, Path)),
    responses((status = 200, body = BatchResults), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn batch_results(
    State(state): State<AppState>,
    SecretKey(environment): SecretKey,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let id = batches::parse(&id)?;
    store::batches::request_of(&state.store, environment.id, id).await?.ok_or_else(batches::not_found)?;
    let runs = store::batches::final_runs(&state.store, id).await?;
    let body = Body::from_stream(stream::try_unfold(
        Results {
            store: state.store.clone(),
            head: Some(format!("{{\"id\":\"{id}\",\"items\":[")),
            portions: portions(runs),
            tail: true,
        },
        Results::next,
    ));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Runs in their order, in portions of which each but a single large one has outputs of bounded size.
fn portions(runs: Vec<(Uuid, u64)>) -> std::vec::IntoIter<Vec<Uuid>> {
    let mut portions: Vec<Vec<Uuid>> = Vec::new();
    let mut bytes = 0;
    for (run, size) in runs {
        // So much for what is around an output.
        let size = size + 1000;
        match portions.last_mut() {
            Some(portion) if bytes + size <= RESULTS_AT_ONCE => {
                portion.push(run);
                bytes += size;
            }
            _ => {
                portions.push(vec![run]);
                bytes = size;
            }
        }
    }
    portions.into_iter()
}

/// A list of results on its way: outputs of 1000 runs may be more than there is memory.
struct Results {
    store: Store,
    head: Option<String>,
    portions: std::vec::IntoIter<Vec<Uuid>>,
    tail: bool,
}

impl Results {
    async fn next(mut self) -> Result<Option<(Bytes, Results)>, StoreError> {
        let mut text = self.head.take();
        let is_first = text.is_some();
        match self.portions.next() {
            Some(runs) => {
                let piece = read_portion(&self.store, &runs).await?;
                let comma = if is_first { "" } else { "," };
                text.get_or_insert_default().push_str(&format!("{comma}{piece}"));
            }
            None if self.tail => {
                self.tail = false;
                text.get_or_insert_default().push_str("]}");
            }
            None => {}
        }
        Ok(text.map(|text| (text.into(), self)))
    }
}

/// Results in the order of the runs, with commas between.
async fn read_portion(store: &Store, runs: &[Uuid]) -> Result<String, StoreError> {
    let ends = children::ends(&mut *store.read().await?, runs).await?;
    let ends: HashMap<Uuid, RunEnd> = ends.into_iter().map(|end| (end.run.uuid(), end)).collect();
    let shown = runs
        .iter()
        .filter_map(|run| ends.get(run).cloned())
        .map(|end| serde_json::to_string(&ExecutionResult::of(end)).expect("plain data with text keys"));
    Ok(shown.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{error::ErrorCode, payload::Packet, run::RunStatus};
    use serde_json::json;

    #[test]
    fn an_end_looks_as_the_clients_expect_it() {
        let show = |outcome| {
            let end = RunEnd { run: RunId::from_uuid(uuid::Uuid::nil()), task: "t".into(), outcome };
            serde_json::to_value(ExecutionResult::of(end)).unwrap()
        };
        let id = "run_00000000000000000000000000";
        let done = RunOutcome::Completed(Packet::json(&json!({"a": 1})));
        assert_eq!(
            show(done),
            json!({"ok": true, "id": id, "taskIdentifier": "t", "output": "{\"a\":1}", "outputType": "application/json"})
        );
        let nothing = show(RunOutcome::Completed(Packet::empty()));
        assert_eq!(nothing, json!({"ok": true, "id": id, "taskIdentifier": "t", "outputType": "application/json"}));
        let error = RunError::internal(ErrorCode::TaskRunCancelled, "no");
        assert_eq!(
            show(RunOutcome::Failed { status: RunStatus::Canceled, error }),
            json!({"ok": false, "id": id, "taskIdentifier": "t",
                "error": {"type": "INTERNAL_ERROR", "code": "TASK_RUN_CANCELLED", "message": "no"}})
        );
    }

    #[test]
    fn results_are_read_in_portions_of_bounded_size() {
        let runs = |sizes: &[u64]| sizes.iter().map(|size| (Uuid::now_v7(), *size)).collect::<Vec<_>>();
        let counts = |sizes: &[u64]| portions(runs(sizes)).map(|portion| portion.len()).collect::<Vec<_>>();
        assert_eq!(counts(&[]), Vec::<usize>::new());
        assert_eq!(counts(&[1, 2, 3]), [3]);
        assert_eq!(counts(&[RESULTS_AT_ONCE, 1, RESULTS_AT_ONCE / 2, RESULTS_AT_ONCE / 2, 1]), [1, 2, 2]);
    }
}
