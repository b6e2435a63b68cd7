//! Takes back runs whose worker was not heard of in time. If this does not run, such runs stay where they are.

use crate::{engine, store::Store};

/// Most runs of one sweep.
const BATCH: u32 = 100;

/// Takes back what can be taken back now, and returns how many runs.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<u64, engine::Error> {
    let mut taken_back = 0;
    loop {
        let some = engine::lease::expire(store, BATCH).await?;
        taken_back += u64::from(some);
        if some < BATCH {
            return Ok(taken_back);
        }
    }
}
