//! What runs came to, in the shape that parents and raw callers read. Source: facts 7.3.

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{AppState, Error, auth::SecretKey, error::ErrorBody};
use crate::{
    model::{
        child::{RunEnd, RunOutcome},
        error::RunError,
        id::RunId,
        payload::TEXT,
    },
    store::{children, runs},
};

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
pub(super) async fn of_run(
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
}
