//! Pauses and resumes queues, and overrides their limits. Runs that execute already are left alone. Source: facts K2, K3.

use crate::{
    engine::Error,
    model::{
        id::{EnvironmentId, QueueId},
        queue::{MAX_CONCURRENCY, Queue},
    },
    store::{
        Store, notify,
        queues::{self, Which},
    },
};

enum Change {
    Pause,
    Resume,
    Limit(Option<u32>),
}

/// Stops taking runs from a queue.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn pause(store: &Store, environment: EnvironmentId, queue: QueueId) -> Result<Queue, Error> {
    change(store, environment, queue, Change::Pause).await
}

/// Takes runs from it again.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn resume(store: &Store, environment: EnvironmentId, queue: QueueId) -> Result<Queue, Error> {
    change(store, environment, queue, Change::Resume).await
}

/// Overrides the limit that the deployment declares; none: goes back to it.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] above 100,000.
pub async fn set_limit(store: &Store, environment: EnvironmentId, queue: QueueId, limit: Option<u32>) -> Result<Queue, Error> {
    if limit.is_some_and(|limit| limit > MAX_CONCURRENCY) {
        return Err(Error::invalid("concurrencyLimit", format!("a limit is at most {MAX_CONCURRENCY}")));
    }
    change(store, environment, queue, Change::Limit(limit)).await
}

async fn change(store: &Store, environment: EnvironmentId, queue: QueueId, change: Change) -> Result<Queue, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                queues::find(tx, environment, &Which::Id(queue)).await?.ok_or(Error::not_found("queue"))?;
                match change {
                    Change::Pause => queues::set_paused(tx, queue, true).await?,
                    Change::Resume => queues::set_paused(tx, queue, false).await?,
                    Change::Limit(limit) => queues::set_override(tx, queue, limit).await?,
                }
                // Whatever the new rule is, the next claim applies it to whoever is in line.
                notify::line(tx).await?;
                queues::find(tx, environment, &Which::Id(queue)).await?.ok_or(Error::not_found("queue"))
            })
        })
        .await
}
