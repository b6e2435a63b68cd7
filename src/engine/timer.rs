//! Timers.
use std::time::Duration;
use chrono::{DateTime, Utc};
use crate::{engine::{Error, journal::Call}, model::{attempt::Lease, waitpoint::Idempotency, id::WaitpointId}, store::Store};
/// Makes a timer for a run; the same call made again gets the same timer.
pub async fn start(store: &Store, lease: &Lease, call: Call, at: DateTime<Utc>, idempotency: Option<Idempotency>) -> Result<WaitpointId, Error> { todo!() }
/// Moves on whatever time alone moves on.
pub async fn fire_due(store: &Store, max: u32) -> Result<u32, Error> { todo!() }
/// How long until something is due, by the database's clock; zero if something is.
pub async fn next_due(store: &Store) -> Result<Option<Duration>, Error> { todo!() }
