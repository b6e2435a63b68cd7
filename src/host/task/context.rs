//! `dormouse:task/context`: who am I?

use wasmtime::format_err;

use super::{convert::milliseconds, wit::context};
use crate::{
    host::HostState,
    model::{
        attempt::Cancellation,
        context::{EnvironmentKind, RunContext},
        price::Prices,
        trace::{self, SpanId, TraceId},
    },
};

/// There is one organization so far.
const ORGANIZATION: &str = "default";

impl context::Host for HostState {
    async fn current(&mut self) -> wasmtime::Result<context::RunContext> {
        let run = self.run.as_ref();
        run.map(|run| run_context(&run.context, &run.prices)).ok_or_else(|| {
            format_err!("context.current was called while the bundle was asked what it declares: there is no run yet")
        })
    }

    async fn get_cancellation(&mut self) -> wasmtime::Result<Option<context::Cancellation>> {
        let cancellation = self.run.as_ref().and_then(|run| run.caller.cancellation());
        Ok(cancellation.map(|Cancellation { requested_at, deadline }| context::Cancellation {
            requested_at: milliseconds(requested_at),
            deadline: milliseconds(deadline),
        }))
    }

    async fn get_usage(&mut self) -> wasmtime::Result<context::Usage> {
        let duration_ms = (self.cpu)().as_secs_f64() * 1000.0;
        let (per_ms, base) =
            self.run.as_ref().map_or((0.0, 0.0), |run| (run.prices.per_ms(run.context.machine), run.prices.base(true)));
        let compute = context::Compute { duration_ms, cost_in_cents: duration_ms * per_ms };
        Ok(context::Usage { attempt: compute, run: compute, base_cost_in_cents: base })
    }
}

fn run_context(run: &RunContext, prices: &Prices) -> context::RunContext {
    context::RunContext {
        run: run_info(run),
        attempt: context::AttemptInfo { number: run.attempt, started_at: milliseconds(run.attempt_started_at) },
        task: run.task.clone(),
        queue: context::QueueInfo {
            id: run.queue.to_string(),
            name: run.queue_name.clone(),
            concurrency_key: run.concurrency_key.clone(),
        },
        environment: context::EnvironmentInfo {
            id: run.environment.to_string(),
            slug: run.environment_kind.slug().into(),
            kind: match run.environment_kind {
                EnvironmentKind::Development => context::EnvironmentType::Development,
                EnvironmentKind::Staging => context::EnvironmentType::Staging,
                EnvironmentKind::Preview => context::EnvironmentType::Preview,
                EnvironmentKind::Production => context::EnvironmentType::Production,
            },
            branch: None,
        },
        project: context::ProjectInfo {
            id: run.project.to_string(),
            ref_: run.project_ref.clone(),
            slug: run.project_ref.clone(),
            name: run.project_name.clone(),
        },
        organization: context::OrganizationInfo { id: ORGANIZATION.into(), slug: ORGANIZATION.into(), name: ORGANIZATION.into() },
        deployment: deployment(run),
        machine: context::MachineInfo {
            name: run.machine.as_str().into(),
            cpu: run.machine.cpu(),
            memory_bytes: run.machine.memory_bytes(),
            cents_per_ms: prices.per_ms(run.machine),
        },
        traceparent: traceparent(run),
        tracestate: None,
    }
}

fn run_info(run: &RunContext) -> context::RunInfo {
    context::RunInfo {
        id: run.run.to_string(),
        tags: run.tags.clone(),
        is_test: run.is_test,
        is_replay: run.is_replay,
        created_at: milliseconds(run.created_at),
        started_at: milliseconds(run.started_at),
        parent: run.parent.map(|parent| parent.to_string()),
        root: run.root.to_string(),
        depth: run.depth,
        batch: run.batch.map(|batch| batch.to_string()),
        idempotency_key: run.idempotency_key.clone(),
        idempotency_key_scope: None,
        priority: 0,
        max_attempts: run.max_attempts,
        max_duration_ms: run.max_duration_ms,
        region: None,
        version: Some(run.version.clone()),
    }
}

/// None in development. The short code is the end of the id, its random part.
fn deployment(run: &RunContext) -> Option<context::DeploymentInfo> {
    let id = run.deployment.to_string();
    let short_code = id.chars().skip(id.len().saturating_sub(8)).collect();
    (run.environment_kind != EnvironmentKind::Development).then(|| context::DeploymentInfo {
        id,
        short_code,
        version: run.version.clone(),
    })
}

/// What the guest calls is below its attempt's span, which is the same after every restore.
fn traceparent(run: &RunContext) -> String {
    trace::traceparent(TraceId::of(run.trace), SpanId::attempt(run.run, run.attempt))
}
