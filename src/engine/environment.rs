//! How many runs of an environment may execute at a time, and whether any may begin. Runs that execute already are left alone.
//! Source: facts K1, K8.

use crate::{
    engine::Error,
    model::{environment::Standing, id::EnvironmentId, queue::MAX_CONCURRENCY},
    store::{Store, environments, notify},
};

/// Sets the limit, pauses or lets go on; what is none stays as it is. A limit of none is no limit.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] above [`MAX_CONCURRENCY`].
pub async fn set(
    store: &Store,
    environment: EnvironmentId,
    limit: Option<Option<u32>>,
    paused: Option<bool>,
) -> Result<Standing, Error> {
    if limit.flatten().is_some_and(|limit| limit > MAX_CONCURRENCY) {
        return Err(Error::invalid("concurrencyLimit", format!("a limit is at most {MAX_CONCURRENCY}")));
    }
    store
        .tx(move |tx| {
            Box::pin(async move {
                environments::set_gate(tx, environment, limit, paused).await?;
                // Whatever the new rule is, the next claim applies it to whoever is in line.
                notify::line(tx).await?;
                environments::standing(tx, environment).await?.ok_or(Error::not_found("environment"))
            })
        })
        .await
}
