//! Starts what schedules say. If this does not run, they do not fire, and what is late by then is missed.

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::{engine, store::Store};

/// Most schedules of one transaction: runs are seen once it is committed.
const BATCH: u32 = 50;
/// Transactions at a time when more is due than fits into one: at the full hour, it often is.
const AT_A_TIME: usize = 4;

/// Fires everything that is due, and returns how many schedules it looked at, and how long until the next is due.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<(u64, Option<Duration>), engine::Error> {
    let mut looked_at = u64::from(engine::schedule::fire_due(store, BATCH).await?);
    let mut is_more = looked_at == u64::from(BATCH);
    while is_more {
        let batches = try_join_all((0..AT_A_TIME).map(|_| engine::schedule::fire_due(store, BATCH))).await?;
        looked_at += batches.iter().copied().map(u64::from).sum::<u64>();
        is_more = batches.contains(&BATCH);
    }
    Ok((looked_at, engine::schedule::next_due(store).await?))
}
