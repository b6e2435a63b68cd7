//! Keeps this process's time that of the database.

use std::time::Instant;

use chrono::TimeDelta;

use crate::{
    store::{self, Store, StoreError},
    wall_clock,
};

/// A difference above this is worth a line in the log, each time that it changes by as much.
const NOTABLE: TimeDelta = TimeDelta::seconds(2);

/// Asks the database for the time.
///
/// # Errors
/// If it does not answer.
pub async fn tick(store: &Store) -> Result<(), StoreError> {
    let mut connection = store.read().await?;
    let asked = Instant::now();
    let said = store::in_time(store::clock::now(&mut connection)).await?;
    let wrong = wall_clock::learn(said, asked, Instant::now());
    if wrong.abs() > NOTABLE {
        let seconds = wrong.as_seconds_f64();
        tracing::warn!(seconds, "the time of the database is another one than this process had; it goes by that of the database");
    }
    Ok(())
}
