//! `dormouse:task/wait`: the durable functions, each split in two by the rewriter.
//!
//! `<name>-start` takes the arguments and answers 1 if the run is to be suspended; then the stack unwinds, and
//! `<name>-finish` is called later, perhaps elsewhere, for the result. On 0 it is called at once.

use futures_util::{FutureExt, future::BoxFuture};
use wasmtime::{
    bail,
    component::{ComponentNamedList, Lift, LinkerInstance, Lower},
};

use super::{
    check,
    convert::{batch_result, completion, input_value, milliseconds, run_result, too_large},
    options,
    wit::types::{self, BatchItem, BatchResult, Idempotency, InputCursor, InputOutcome, Moment, RunResult, TriggerOptions},
};
use crate::{
    host::{HostError, HostErrorCode, HostState, wasi::reopen},
    model::{
        child::Intent,
        waitpoint::{Completion, Resolution, WaitRequest},
    },
    wall_clock,
};

/// What a guest gets from a wait.
type Answer<T> = Result<T, types::HostError>;
/// What a start function makes of its arguments; none: the wait is over before it begins.
type Begun = Result<Option<WaitRequest>, HostError>;
/// Some have to ask the run's caller first.
type Beginning = BoxFuture<'static, Begun>;

/// Registers three functions for each of the interface: the two halves, and the whole, which the instance type still has
/// and nothing calls.
pub(super) fn link(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    durable(instance, "for-duration", |_, arguments| now(for_duration(arguments)), elapsed)?;
    durable(instance, "until", |_, arguments| now(until(arguments)), elapsed)?;
    durable(instance, "for-token", |_, arguments| now(for_token(arguments)), token_outcome)?;
    durable(instance, "any", |_, arguments| now(any(arguments)), completions)?;
    durable(instance, "for-input", for_input, input_outcome)?;
    durable(instance, "trigger-and-wait", trigger_and_wait, run_end)?;
    durable(instance, "batch-trigger-and-wait", batch_trigger_and_wait, batch_end)
}

fn durable<Params, T>(
    instance: &mut LinkerInstance<'_, HostState>,
    name: &'static str,
    begin: fn(&HostState, Params) -> Beginning,
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
        let beginning = begin(store.data(), params);
        Box::new(async move { Ok((start(store.data_mut(), beginning.await).await as u32,)) })
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

fn now(begun: Begun) -> Beginning {
    std::future::ready(begun).boxed()
}

fn for_duration((duration, idempotency): (types::DurationMs, Option<Idempotency>)) -> Begun {
    let (at, idempotency) = (check::after("duration", duration)?, check::idempotency(idempotency)?);
    Ok((duration > 0).then_some(WaitRequest::Timer { at, idempotency }))
}

fn until((at, idempotency): (types::TimestampMs, Option<Idempotency>)) -> Begun {
    let (at, idempotency) = (check::at("at", at)?, check::idempotency(idempotency)?);
    Ok((at > wall_clock::now()).then_some(WaitRequest::Timer { at, idempotency }))
}

fn for_token((token,): (String,)) -> Begun {
    Ok(Some(WaitRequest::Any { waitables: vec![check::waitpoint("token", &token)?.into()] }))
}

fn any((waitables,): (Vec<String>,)) -> Begun {
    Ok(Some(WaitRequest::Any { waitables: check::waitables(&waitables)? }))
}

/// The waitpoint is an effectful call of its own, as a child is.
fn for_input(state: &HostState, arguments: (InputCursor, Option<Moment>, Option<Idempotency>)) -> Beginning {
    let caller = state.acting().map(|run| run.caller.clone());
    async move {
        let (cursor, timeout, idempotency) = arguments;
        let timeout = timeout.map(|timeout| check::moment("timeout", timeout)).transpose()?;
        let (cursor, idempotency) = (check::cursor("cursor", cursor)?, check::idempotency(idempotency)?);
        let waitpoint = caller?.start_input(cursor, timeout, idempotency).await?;
        Ok(Some(WaitRequest::Any { waitables: vec![waitpoint.into()] }))
    }
    .boxed()
}

/// The start of the child is an effectful call of its own: if the host is lost before the wait's checkpoint, it is made again and
/// gets the same child.
fn trigger_and_wait(state: &HostState, (task, payload, options): (String, types::Packet, TriggerOptions)) -> Beginning {
    let caller = state.acting().map(|run| run.caller.clone());
    async move {
        let child = caller?.trigger(options::run(task, payload, options)?, Intent::Wait).await?;
        Ok(Some(WaitRequest::Any { waitables: vec![child.id.into()] }))
    }
    .boxed()
}

fn batch_trigger_and_wait(state: &HostState, (items, idempotency): (Vec<BatchItem>, Option<Idempotency>)) -> Beginning {
    let caller = state.acting().map(|run| run.caller.clone());
    async move {
        let (items, idempotency) = (options::items(items)?, options::idempotency(idempotency)?);
        let batch = caller?.batch_trigger(items, idempotency, Intent::Wait).await?;
        Ok(Some(WaitRequest::Any { waitables: vec![batch.id.into()] }))
    }
    .boxed()
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

fn input_outcome(completions: Vec<Completion>) -> Result<InputOutcome, HostError> {
    match completions.into_iter().next().map(|completion| completion.resolution) {
        Some(Resolution::Input(value)) => Ok(InputOutcome::Received(input_value(value))),
        Some(Resolution::NoInput(at)) => Ok(InputOutcome::TimedOut(milliseconds(at))),
        Some(_) | None => Err(without_completion()),
    }
}

fn run_end(completions: Vec<Completion>) -> Result<RunResult, HostError> {
    match completions.into_iter().next().map(|completion| completion.resolution) {
        Some(Resolution::Run(end)) => Ok(run_result(end)),
        Some(_) | None => Err(without_completion()),
    }
}

fn batch_end(completions: Vec<Completion>) -> Result<BatchResult, HostError> {
    match completions.into_iter().next().map(|completion| completion.resolution) {
        Some(Resolution::Batch(end)) => Ok(batch_result(end)),
        Some(Resolution::TooLarge { bytes }) => Err(too_large(bytes)),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        host::{
            Begin,
            task::options::tests::none,
            testing::{Asked, Recorder, state},
        },
        model::{
            child::{BatchEnd, RunEnd, RunOutcome},
            error::{ErrorCode, RunError},
            id::{BatchId, RunId},
            payload::Packet,
            run::RunStatus,
            waitable::Waitable,
        },
    };

    fn packet() -> types::Packet {
        Packet::json(&serde_json::json!(1)).into()
    }

    fn end(outcome: RunOutcome) -> RunEnd {
        RunEnd { run: RunId::new(), task: "child".into(), outcome }
    }

    #[tokio::test]
    async fn a_child_is_started_to_be_waited_for_and_then_waited_for() {
        let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
        let state = state(Begin::Fresh, scratch.path(), caller.clone());
        let begun = trigger_and_wait(&state, ("child".into(), packet(), none())).await.unwrap();
        let Some(WaitRequest::Any { waitables }) = begun else { panic!("{begun:?}") };
        assert!(matches!(waitables[..], [Waitable::Run(_)]), "{waitables:?}");
        let item = types::BatchItem { task: "child".into(), payload: packet(), options: none() };
        let begun = batch_trigger_and_wait(&state, (vec![item], None)).await.unwrap();
        let Some(WaitRequest::Any { waitables }) = begun else { panic!("{begun:?}") };
        assert!(matches!(waitables[..], [Waitable::Batch(_)]), "{waitables:?}");
        let asked = [Asked::Trigger("child".into(), Intent::Wait), Asked::Batch(vec!["child".into()], Intent::Wait)];
        assert_eq!(caller.asked(), asked);
        let refused = batch_trigger_and_wait(&state, (Vec::new(), None)).await.unwrap_err();
        assert_eq!(refused.code, HostErrorCode::Invalid);
    }

    #[tokio::test]
    async fn a_restored_instance_starts_nothing_until_it_is_rebuilt() {
        let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
        let state = state(Begin::Restored, scratch.path(), caller.clone());
        let refused = trigger_and_wait(&state, ("child".into(), packet(), none())).await.unwrap_err();
        assert_eq!((refused.code, caller.asked()), (HostErrorCode::Unavailable, vec![]));
    }

    #[test]
    fn the_end_of_a_child_is_an_answer_whatever_it_was() {
        let answer = |resolution| run_end(vec![Completion { index: 0, resolution }]);
        let done = answer(Resolution::Run(end(RunOutcome::Completed(Packet::empty())))).unwrap();
        assert!(done.task == "child" && matches!(done.outcome, types::RunOutcome::Completed(_)));
        let error = RunError::internal(ErrorCode::MaxDurationExceeded, "too long");
        let failed = answer(Resolution::Run(end(RunOutcome::Failed { status: RunStatus::TimedOut, error }))).unwrap();
        let types::RunOutcome::Failed(failure) = failed.outcome else { panic!("{failed:?}") };
        assert!(matches!(failure.status, types::FailedStatus::TimedOut));
        let types::RunError::Internal(error) = failure.error else { panic!("{failure:?}") };
        assert_eq!((error.code.as_str(), error.message.as_str()), ("MAX_DURATION_EXCEEDED", "too long"));
        assert_eq!(answer(Resolution::Elapsed).unwrap_err().code, HostErrorCode::Internal);
        assert_eq!(run_end(Vec::new()).unwrap_err().code, HostErrorCode::Internal);
    }

    #[test]
    fn a_batch_answers_its_runs_in_order_or_that_they_are_too_large() {
        let runs = vec![end(RunOutcome::Completed(Packet::empty())), end(RunOutcome::Completed(Packet::empty()))];
        let ids: Vec<String> = runs.iter().map(|end| end.run.to_string()).collect();
        let resolution = Resolution::Batch(BatchEnd { batch: BatchId::new(), runs });
        let all = vec![Completion { index: 0, resolution }, Completion { index: 1, resolution: Resolution::Elapsed }];
        let answered = batch_end(all.clone()).unwrap();
        assert_eq!(answered.runs.iter().map(|run| run.run.clone()).collect::<Vec<_>>(), ids);
        let any = completions(all).unwrap();
        assert!(matches!(any[0].outcome, types::WaitOutcome::Batch(_)) && matches!(any[1].outcome, types::WaitOutcome::Timer));
        let large = vec![Completion { index: 0, resolution: Resolution::TooLarge { bytes: 99 } }];
        assert_eq!(batch_end(large.clone()).unwrap_err().code, HostErrorCode::TooLarge);
        assert!(completions(large).unwrap_err().message.contains("99 bytes"));
    }
}
