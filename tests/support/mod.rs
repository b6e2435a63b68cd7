//! What the tests of this binary share: guests that were built before, servers as child processes, deadlines.

pub mod client;
pub mod compiled;
pub mod effects;
pub mod fleet;
pub mod guests;
pub mod proxy;
pub mod server;
pub mod small_disk;
pub mod suite;
pub mod wall_clock;
pub mod web;

use std::time::Duration;

/// Repeats `probe` until it gives a value; panics with `what` once the deadline is over.
pub async fn eventually<T>(what: &str, within: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
