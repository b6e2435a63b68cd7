//! Starts what schedules say. If this does not run, they do not fire, and what is late by then is missed.

use std::time::Duration;

use crate::{engine, store::Store};

/// Most schedules of one transaction: runs are seen once it is committed.
const BATCH: u32 = 50;

/// Fires everything that is due, and returns how many schedules it looked at, and how long until the next is due.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<(u64, Option<Duration>), engine::Error> {
    let mut looked_at = 0;
    loop {
        let some = engine::schedule::fire_due(store, BATCH).await?;
        looked_at += u64::from(some);
        if some == 0 {
            return Ok((looked_at, engine::schedule::next_due(store).await?));
        }
    }
}
