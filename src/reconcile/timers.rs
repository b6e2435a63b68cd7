//! Moves on what time alone moves on. If this does not run, sleeping runs sleep on.

use std::time::Duration;

use crate::{engine, store::Store};

/// Most waitpoints and most runs of one transaction.
const BATCH: u32 = 500;

/// Moves on everything that is due, and returns how many waitpoints and runs, and how long until the next is due.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<(u64, Option<Duration>), engine::Error> {
    let mut fired = 0;
    loop {
        let some = engine::timer::fire_due(store, BATCH).await?;
        fired += u64::from(some);
        if some < BATCH {
            return Ok((fired, engine::timer::next_due(store).await?));
        }
    }
}
