//! Which rewritten components are kept, and for how long.
//!
//! New runs use what the current version of the rewriter makes of their component. A suspended run goes on with the bytes
//! that its snapshot was taken with, be they of a version long gone, so those stay until no checkpoint names them.

use std::time::Duration;

use crate::{
    engine::Error,
    model::rewriting::Rewriting,
    store::{Store, rewritings},
};

/// Least time between a rewriting's making and its dropping, and between that and its end: much longer than any transaction
/// lasts, so that whoever got it before it was dropped is seen to have it.
pub const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// The kept one of a component by a version of the rewriter; none: it has to be rewritten. One that was dropped is taken up again.
///
/// # Errors
/// If the database does not answer.
pub async fn take_up(store: &Store, component: String, rewriter: u32) -> Result<Option<Rewriting>, Error> {
    Ok(store.tx(move |tx| Box::pin(rewritings::take_up(tx, component, rewriter))).await?)
}

/// Keeps a rewritten component whose blob is durable. If one of the same component by the same version is kept already, that
/// one is returned and shall be used; the other's blob is an orphan then.
///
/// # Errors
/// If the database does not answer.
pub async fn keep(store: &Store, new: Rewriting) -> Result<Rewriting, Error> {
    Ok(store.tx(move |tx| Box::pin(rewritings::keep(tx, new))).await?)
}

/// What a sweep of rewritten components did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// How many no new run gets from now on.
    pub dropped: u64,
    /// Those that are gone: their blobs are orphans now.
    pub forgotten: Vec<Rewriting>,
}

/// Drops what no run needs and forgets what was dropped a day ago. `current` is the version that new runs use; those of later
/// ones stay, for they are the current ones of a process that was upgraded first.
///
/// # Errors
/// If the database does not answer.
pub async fn sweep(store: &Store, current: u32) -> Result<Swept, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                let forgotten = rewritings::forget_dropped(tx, GRACE).await?;
                let dropped = rewritings::drop_unneeded(tx, current, GRACE).await?;
                Ok(Swept { dropped, forgotten })
            })
        })
        .await
}
