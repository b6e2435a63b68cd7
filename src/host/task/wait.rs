//! `dormouse:task/wait`: the durable functions, each split in two by the rewriter.
//!
//! `<name>-start` takes the arguments and answers 1 if the run is to be suspended; then the stack unwinds, and
//! `<name>-finish` is called later, perhaps elsewhere, for the result. On 0 it is called at once.

use chrono::Utc;
use wasmtime::{
    bail,
    component::{ComponentNamedList, Lift, LinkerInstance, Lower},
};

use super::{
    check,
    convert::{completion, milliseconds},
    wit::types::{self, BatchItem, BatchResult, Idempotency, InputCursor, InputOutcome, Moment, RunResult, TriggerOptions},
};
use crate::{
    host::{HostError, HostErrorCode, HostState, wasi::reopen},
    model::waitpoint::{Completion, Resolution, WaitRequest},
};

/// What a guest gets from a wait.
type Answer<T> = Result<T, types::HostError>;
/// What a start function makes of its arguments; none: the wait is over before it begins.
type Begun = Result<Option<WaitRequest>, HostError>;

/// Registers three functions for each of the interface: the two halves, and the whole, which the instance type still has
/// and nothing calls.
pub(super) fn link(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    durable(instance, "for-duration", for_duration, elapsed)?;
    durable(instance, "until", until, elapsed)?;
    durable(instance, "for-token", for_token, token_outcome)?;
    durable(instance, "any", any, completions)?;
    durable(instance, "for-input", for_input, absent::<InputOutcome>)?;
    durable(instance, "trigger-and-wait", trigger_and_wait, absent::<RunResult>)?;
    durable(instance, "batch-trigger-and-wait", batch_trigger_and_wait, absent::<BatchResult>)
}

fn durable<Params, T>(
    instance: &mut LinkerInstance<'_, HostState>,
    name: &'static str,
    begin: fn(Params) -> Begun,
    finish: fn(Vec<Completion>) -> Result<T, HostError>,
) -> wasmtime::Result<()>
where
    Params: ComponentNamedList + Lift + Send + Sync + 'static,
    T: 'static,
    (Answer<T>,): ComponentNamedList + Lower + Send + Sync,
{
    instance.func_wrap(name, move |_, _: Params| -> wasmtime::Result<(Answer<T>,)> {
        bail!("wait.{name} was called in a component that was not rewritten")
    })?;
    instance.func_wrap_async(&format!("{name}-start"), move |mut store, params: Params| {
        Box::new(async move { Ok((start(store.data_mut(), begin(params)).await as u32,)) })
    })?;
    instance.func_wrap(&format!("{name}-finish"), move |mut store, ()| -> wasmtime::Result<(Answer<T>,)> {
        let over = store.data_mut().take_over()?;
        Ok((over.and_then(finish).map_err(types::HostError::from),))
    })
}

/// Whether the run is to be suspended.
async fn start(state: &mut HostState, begun: Begun) -> bool {
    match begun {
        Ok(Some(request)) => {
            let warm_only = reopen::warm_reason(state);
            state.begin_wait(request, warm_only.as_deref()).await
        }
        Ok(None) => {
            let elapsed = vec![Completion { index: 0, resolution: Resolution::Elapsed }];
            let result = state.acting().map(|_| elapsed);
            state.over(result)
        }
        Err(error) => state.over(Err(error)),
    }
}

fn for_duration((duration, idempotency): (types::DurationMs, Option<Idempotency>)) -> Begun {
    let (at, idempotency) = (check::after("duration", duration)?, check::idempotency(idempotency)?);
    Ok((duration > 0).then_some(WaitRequest::Timer { at, idempotency }))
}

fn until((at, idempotency): (types::TimestampMs, Option<Idempotency>)) -> Begun {
    let (at, idempotency) = (check::at("at", at)?, check::idempotency(idempotency)?);
    Ok((at > Utc::now()).then_some(WaitRequest::Timer { at, idempotency }))
}

fn for_token((token,): (String,)) -> Begun {
    Ok(Some(WaitRequest::Any { waitables: vec![check::waitpoint("token", &token)?.into()] }))
}

fn any((waitables,): (Vec<String>,)) -> Begun {
    Ok(Some(WaitRequest::Any { waitables: check::waitables(&waitables)? }))
}

fn for_input(_: (InputCursor, Option<Moment>, Option<Idempotency>)) -> Begun {
    Err(HostError::not_in_this_version("wait.for-input"))
}

fn trigger_and_wait(_: (String, types::Packet, TriggerOptions)) -> Begun {
    Err(HostError::not_in_this_version("wait.trigger-and-wait"))
}

fn batch_trigger_and_wait(_: (Vec<BatchItem>, Option<Idempotency>)) -> Begun {
    Err(HostError::not_in_this_version("wait.batch-trigger-and-wait"))
}

fn elapsed(_: Vec<Completion>) -> Result<(), HostError> {
    Ok(())
}

fn token_outcome(completions: Vec<Completion>) -> Result<types::TokenOutcome, HostError> {
    match completions.into_iter().next().map(|completion| completion.resolution) {
        Some(Resolution::Completed(packet)) => Ok(types::TokenOutcome::Completed(packet.into())),
        Some(Resolution::TimedOut(at)) => Ok(types::TokenOutcome::TimedOut(milliseconds(at))),
        Some(Resolution::Elapsed) => {
            Err(HostError::new(HostErrorCode::Conflict, "token is the id of a timer: wait for it with wait.any"))
        }
        Some(_) | None => Err(without_completion()),
    }
}

fn completions(all: Vec<Completion>) -> Result<Vec<types::Completion>, HostError> {
    if all.is_empty() {
        return Err(without_completion());
    }
    all.into_iter().map(completion).collect()
}

/// Or with one of something else than was waited for.
fn without_completion() -> HostError {
    HostError::new(HostErrorCode::Internal, "the wait ended without a completion")
}

/// Never reached: the start function has answered with an error.
fn absent<T>(_: Vec<Completion>) -> Result<T, HostError> {
    Err(HostError::not_in_this_version("this wait"))
}
