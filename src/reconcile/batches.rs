//! Turns what is left of sealed batches into runs, and gives up batches that nobody fills. If this does not run, a batch whose
//! server died stays half made.

use std::time::Duration;

use crate::{
    engine::{self, batch},
    store::{self, Store, batches},
};

/// How long nothing must have come of a sealed batch for it to be taken up here: until then somebody else is at it.
const IDLE: Duration = Duration::from_secs(5);
/// Most batches of one sweep.
const BATCH: i64 = 100;

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Batches whose items are all runs now.
    pub made: u64,
    /// Batches that were given up.
    pub aborted: u64,
}

/// Takes up what was left, and gives up what is not filled. A batch that cannot be made does not keep others from it: it is tried
/// again later.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<Swept, engine::Error> {
    let mut swept = Swept { made: 0, aborted: batch::abort_idle(store, BATCH).await? };
    for (environment, id) in store::in_time(batches::unmade(store, IDLE, BATCH)).await? {
        match batch::make_all(store, environment, id).await {
            Ok(()) => swept.made += 1,
            Err(error) => {
                tracing::error!(batch.id = %id, error = &error as &dyn std::error::Error, "a batch could not be made");
            }
        }
    }
    Ok(swept)
}
