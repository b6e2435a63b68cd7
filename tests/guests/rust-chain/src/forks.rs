//! What is the same, and what is not, in two runs that were restored from one snapshot.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dormouse::{WaitError, wait};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasip2::random::random::get_random_u64;

#[derive(Serialize)]
pub struct Seen {
    /// Random numbers before the wait and after it.
    random: [u64; 2],
    /// Milliseconds of the monotonic clock over the wait.
    elapsed_ms: u64,
    /// Milliseconds of the wall clock since 1970, after the wait.
    now_ms: u64,
}

/// Waits once, with a look at the clocks and a random number on either side.
#[dormouse::task(id = "fork")]
pub fn fork(_: Value) -> Result<Seen, WaitError> {
    let (before, begun) = (get_random_u64(), Instant::now());
    wait::duration(Duration::from_millis(1))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Seen {
        random: [before, get_random_u64()],
        elapsed_ms: begun.elapsed().as_millis() as u64,
        now_ms: now.as_millis() as u64,
    })
}

#[derive(Deserialize)]
pub struct Deep {
    /// Calls that the wait is below.
    calls: u64,
}

/// Waits at the end of so many calls, each of which needs what it had before.
#[dormouse::task(id = "deep")]
pub fn deep(payload: Deep) -> Result<u64, WaitError> {
    descend(payload.calls)
}

#[inline(never)]
fn descend(left: u64) -> Result<u64, WaitError> {
    if left == 0 {
        wait::duration(Duration::from_millis(1))?;
        return Ok(0);
    }
    Ok(descend(left - 1)?.wrapping_mul(31).wrapping_add(left))
}
