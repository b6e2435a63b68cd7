//! Cancels a run: at once if nobody runs it; else its worker learns of it when it renews its lease, or its lease ends.
//! Source: facts C7, O4.

use crate::{
    engine::Error,
    model::{
        error::{ErrorCode, RunError},
        event::EventKind,
        id::{EnvironmentId, RunId},
        run::{Happening, RunStatus},
    },
    store::{
        Store,
        endings::{self, Ending},
        events, leases, places, runs,
    },
};

/// Cancels a run; one that is final stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn cancel(store: &Store, environment: EnvironmentId, run: RunId) -> Result<(), Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                if !runs::exists(tx, environment, run).await? {
                    return Err(Error::not_found("run"));
                }
                let held = leases::hold(tx, run).await?.ok_or(Error::not_found("run"))?;
                if held.status.is_final() || held.cancel_requested {
                    return Ok(());
                }
                if held.worker.is_some() {
                    let changed = leases::request_cancel(tx, run).await?;
                    events::record(tx, EventKind::CancelRequested, &[changed]).await?;
                    return Ok(());
                }
                held.status.on(Happening::Cancel)?;
                let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run was cancelled");
                if held.in_attempt {
                    endings::end_attempt(tx, run, Some(&error), held.attempt_cpu_ms).await?;
                }
                let cpu_ms = held.attempt_cpu_ms;
                let ending = Ending { status: RunStatus::Canceled, output: None, error: Some(&error), cpu_ms };
                let (changed, pools) = endings::end(tx, &[run.uuid()], &ending).await?;
                events::record(tx, EventKind::Finished, &changed).await?;
                places::place_freed(tx, &pools).await?;
                Ok(())
            })
        })
        .await
}
