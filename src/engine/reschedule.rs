//! Lets a delayed run begin at another time. Source: facts C8.

use chrono::{DateTime, Utc};

use crate::{
    engine::Error,
    model::{
        event::EventKind,
        id::{EnvironmentId, RunId},
        run::RunStatus,
    },
    store::{Store, debounce, events, leases, notify, runs},
};

/// Lets a delayed run begin at another time, earlier or later; at once if that has passed. It keeps its debounce key.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if it is not delayed any more.
pub async fn reschedule(store: &Store, environment: EnvironmentId, run: RunId, until: DateTime<Utc>) -> Result<(), Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                if !runs::exists(tx, environment, run).await? {
                    return Err(Error::not_found("run"));
                }
                let held = leases::hold(tx, run).await?.ok_or(Error::not_found("run"))?;
                if held.status != RunStatus::Delayed {
                    let status = held.status.as_str();
                    return Err(Error::Conflict(format!("Only a run that is DELAYED can be rescheduled; this one is {status}")));
                }
                let until = until.max(held.now);
                let changed = debounce::put_off(tx, run, until).await?;
                events::record(tx, EventKind::Rescheduled, &[changed]).await?;
                notify::timers(tx).await?;
                Ok(())
            })
        })
        .await
}
