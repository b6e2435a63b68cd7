//! A run as the API shows it. What has no value is left out, never null: clients refuse null. Source: facts 7.3, 4.3.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    AppState, packets,
    schedules::Generator,
    when::{duration_text, rfc3339},
};
use crate::model::{
    environment::Environment,
    error::{Cause, RunError},
    id::{EnvironmentId, RunId, ScheduleId},
    machine::Machine,
    payload::{self, Packet},
    price::Prices,
    run::{Run, RunDetail, RunStatus},
    schedule::Schedule,
};

/// What lists and single runs have in common.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunObject {
    /// `run_…`
    #[schema(value_type = String)]
    id: RunId,
    /// One of the 13 statuses.
    #[schema(value_type = String)]
    status: RunStatus,
    task_identifier: String,
    is_queued: bool,
    is_executing: bool,
    is_waiting: bool,
    is_completed: bool,
    is_success: bool,
    is_failed: bool,
    is_cancelled: bool,
    is_test: bool,
    created_at: String,
    updated_at: String,
    tags: Vec<String>,
    /// `durationMs`, each attempt's at the price of its machine. Always 0 unless the server was given prices.
    cost_in_cents: f64,
    /// The price of a run as such, once it has begun. Always 0 unless the server was given one.
    base_cost_in_cents: f64,
    /// CPU time of all attempts, in milliseconds: neither waits nor the time between attempts. Of an attempt that goes on, what it
    /// had used when it was last suspended.
    duration_ms: u64,
    /// The machine preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    machine: Option<Machine>,
    depth: u32,
    trigger_function: &'static str,
    metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_id: Option<String>,
}

impl RunObject {
    pub(super) fn of(run: Run, prices: &Prices) -> RunObject {
        use RunStatus::*;
        let status = run.status;
        let finished_at = run.finished_at.map(rfc3339);
        RunObject {
            is_queued: matches!(status, Queued | Delayed | PendingVersion),
            is_executing: matches!(status, Executing | Dequeued),
            is_waiting: status == Waiting,
            // Every final status, so that a client which polls for it comes to an end. Source: facts C6.
            is_completed: status.is_final(),
            is_success: status == Completed,
            is_failed: status.is_final() && status != Completed,
            is_cancelled: status == Canceled,
            expired_at: finished_at.clone().filter(|_| status == Expired),
            created_at: rfc3339(run.created_at),
            updated_at: rfc3339(run.updated_at),
            started_at: run.started_at.map(rfc3339),
            delayed_until: run.delayed_until.map(rfc3339),
            ttl: run.ttl_ms.map(duration_text),
            batch_id: run.batch.map(|batch| batch.to_string()),
            finished_at,
            id: run.id,
            status,
            task_identifier: run.task,
            is_test: run.is_test,
            tags: run.tags,
            cost_in_cents: prices.compute(&run.machine_time),
            base_cost_in_cents: prices.base(run.started_at.is_some()),
            duration_ms: run.cpu_ms,
            machine: run.machine,
            depth: run.depth,
            trigger_function: match (run.batch.is_some(), run.awaited) {
                (false, false) => "trigger",
                (false, true) => "triggerAndWait",
                (true, false) => "batchTrigger",
                (true, true) => "batchTriggerAndWait",
            },
            metadata: run.metadata.into_iter().filter(|(key, _)| !key.starts_with("$$streams")).collect(),
            idempotency_key: run.idempotency_key,
            version: run.version,
        }
    }
}

/// A run in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunItem {
    #[serde(flatten)]
    run: RunObject,
    env: EnvironmentName,
}

/// Where a run is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EnvironmentName {
    #[schema(value_type = String)]
    id: EnvironmentId,
    name: &'static str,
}

impl RunItem {
    pub(super) fn of(run: Run, environment: &Environment, prices: &Prices) -> RunItem {
        let env = EnvironmentName { id: environment.id, name: environment.kind.slug() };
        RunItem { run: RunObject::of(run, prices), env }
    }
}

/// A payload or an output of more bytes is not in the answer, but at an address. Source: facts 7.3, L1, L2.
const MAX_SHOWN_BYTES: usize = 512 << 10;

/// A run with all there is to see.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunDetails {
    #[serde(flatten)]
    run: RunObject,
    attempt_count: u32,
    /// The payload as plain JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
    /// Where the payload is to be had within the next hour, if it was put into the blob store or has more than 512 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_presigned_url: Option<String>,
    /// The output as plain JSON, once completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    /// Where the output is to be had within the next hour, if it has more than 512 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_presigned_url: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject>,
    related_runs: RelatedRuns,
    /// What started it, if a schedule did that is there still.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<RunSchedule>,
    /// Always empty: clients of old expect it.
    #[schema(value_type = Vec<Object>)]
    attempts: [(); 0],
}

/// The schedule that started a run.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunSchedule {
    /// `sched_…`
    #[schema(value_type = String)]
    id: ScheduleId,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deduplication_key: Option<String>,
    generator: Generator,
}

impl RunSchedule {
    fn of(schedule: Schedule) -> RunSchedule {
        let Schedule { id, external_id, deduplication_key, timing, .. } = schedule;
        RunSchedule { id, external_id, deduplication_key, generator: Generator::of(&timing) }
    }
}

/// The runs around a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RelatedRuns {
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<RunObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<RunObject>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<RunObject>,
}

/// Why a run failed. Source: facts D9.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorObject {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_trace: Option<String>,
    /// Outermost first; of an internal error, what happened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    causes: Vec<ErrorObject>,
}

impl RunDetails {
    pub(super) fn of(detail: RunDetail, state: &AppState, environment: &Environment) -> RunDetails {
        let object = |run| RunObject::of(run, &state.prices);
        let run = detail.run.id;
        let is_elsewhere = |packet: &Packet| packet.content_type == payload::STORE || packet.data.len() > MAX_SHOWN_BYTES;
        let shown = |packet: Option<Packet>, field| match packet {
            Some(packet) if is_elsewhere(&packet) => (None, Some(packets::address_of(state, environment, run, field))),
            packet => (packet.and_then(|packet| packet.to_plain_json()), None),
        };
        let error = detail.run.error.clone().filter(|_| detail.run.status.is_final()).map(ErrorObject::of);
        let completed = detail.run.status == RunStatus::Completed;
        let (payload, payload_presigned_url) = shown(Some(detail.payload), packets::Field::Payload);
        let (output, output_presigned_url) = shown(detail.output.filter(|_| completed), packets::Field::Output);
        RunDetails {
            attempt_count: detail.run.attempt_count,
            payload,
            payload_presigned_url,
            output,
            output_presigned_url,
            error,
            related_runs: RelatedRuns {
                root: detail.root.map(object),
                parent: detail.parent.map(object),
                children: detail.children.into_iter().map(object).collect(),
            },
            schedule: detail.schedule.map(RunSchedule::of),
            attempts: [],
            run: object(detail.run),
        }
    }
}

impl ErrorObject {
    fn of(error: RunError) -> ErrorObject {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let plain = |message: String| ErrorObject { message, name: None, stack_trace: None, causes: Vec::new() };
        match error {
            RunError::Exception { name, message, stack_trace, causes } => ErrorObject {
                name: some(name),
                stack_trace: some(stack_trace),
                causes: causes.into_iter().map(ErrorObject::of_cause).collect(),
                ..plain(message)
            },
            RunError::Text { raw } | RunError::Custom { raw } => plain(raw),
            RunError::Internal { code, message, stack_trace } => ErrorObject {
                stack_trace: stack_trace.and_then(some),
                causes: message.into_iter().map(plain).collect(),
                ..plain(format!("trigger.dev internal error ({})", code.text()))
            },
        }
    }

    fn of_cause(cause: Cause) -> ErrorObject {
        let some = |text: String| (!text.is_empty()).then_some(text);
        ErrorObject { message: cause.message, name: some(cause.name), stack_trace: some(cause.stack_trace), causes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::ErrorCode;

    #[test]
    fn errors_look_as_the_clients_expect_them() {
        let show = |error| serde_json::to_value(ErrorObject::of(error)).unwrap();
        let exception = RunError::Exception {
            name: "TypeError".into(),
            message: "no".into(),
            stack_trace: String::new(),
            causes: vec![Cause { name: String::new(), message: "why".into(), stack_trace: String::new() }],
        };
        assert_eq!(show(exception), serde_json::json!({"message": "no", "name": "TypeError", "causes": [{"message": "why"}]}));
        assert_eq!(show(RunError::Text { raw: "no".into() }), serde_json::json!({"message": "no"}));
        assert_eq!(
            show(RunError::internal(ErrorCode::TaskRunCrashed, "unreachable")),
            serde_json::json!({"message": "trigger.dev internal error (TASK_RUN_CRASHED)", "causes": [{"message": "unreachable"}]})
        );
    }
}
