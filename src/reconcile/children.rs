//! Cancels children of cancelled runs. If this does not run, those that were not cancelled at once go on.

use crate::{engine, store::Store};

/// Cancels what there is to cancel now, and returns in how many transactions.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<u64, engine::Error> {
    let mut done = 0;
    while engine::children::cancel_some(store).await? {
        done += 1;
    }
    Ok(done)
}
