//! Cancels a run: at once if nobody runs it; else its worker learns of it when it renews its lease, or its lease ends.
//! Its children in progress are cancelled with it, once it is final: [`children::cancel_some`]. Source: facts C7, O4.

use sqlx::PgConnection;

use crate::{
    engine::{Error, children},
    model::{
        error::{ErrorCode, RunError},
        event::EventKind,
        id::{EnvironmentId, RunId},
        run::{Happening, RunStatus},
    },
    store::{
        Store,
        endings::{self, Ending},
        events, leases, runs,
    },
};

/// Transactions for its children that the cancellation of a run waits for; the sweep does the rest.
const ROUNDS_FOR_CHILDREN: u32 = 10;

/// Cancels a run, and its children with it; one that is final stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn cancel(store: &Store, environment: EnvironmentId, run: RunId) -> Result<(), Error> {
    store.tx(move |tx| Box::pin(async move { cancel_in(tx, environment, run).await })).await?;
    for _ in 0..ROUNDS_FOR_CHILDREN {
        match children::cancel_some(store).await {
            Ok(true) => {}
            Ok(false) => break,
            // What the sweep does is no reason to say that the run was not cancelled.
            Err(error) => {
                tracing::warn!(run.id = %run, error = &error as &dyn std::error::Error, "its children are left to the sweep");
                break;
            }
        }
    }
    Ok(())
}

/// The same in the transaction of another verb, without its children: whoever calls it sees to [`children::cancel_some`]. False: it
/// had ended already.
pub(super) async fn cancel_in(tx: &mut PgConnection, environment: EnvironmentId, run: RunId) -> Result<bool, Error> {
    if !runs::exists(tx, environment, run).await? {
        return Err(Error::not_found("run"));
    }
    let held = leases::hold(tx, run).await?.ok_or(Error::not_found("run"))?;
    if held.status.is_final() || held.cancel_requested {
        return Ok(!held.status.is_final());
    }
    if held.worker.is_some() {
        let changed = leases::request_cancel(tx, run).await?;
        events::record(tx, EventKind::CancelRequested, &[changed]).await?;
        return Ok(true);
    }
    held.status.on(Happening::Cancel)?;
    let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run was cancelled");
    if held.in_attempt {
        endings::end_attempt(tx, run, Some(&error), held.attempt_cpu_ms).await?;
    }
    let cpu_ms = held.attempt_cpu_ms;
    let ending = Ending { status: RunStatus::Canceled, output: None, error: Some(&error), cpu_ms };
    endings::end(tx, &[run.uuid()], &ending).await?;
    Ok(true)
}
