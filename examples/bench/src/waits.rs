//! What a run and its waits cost. Times are milliseconds since 1970 with their fraction, from the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dormouse::{WaitError, wait};
use serde::{Deserialize, Serialize};
use serde_json::Value;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1_000.0)
}

#[derive(Deserialize)]
pub struct Noop {
    k: Value,
}

#[derive(Serialize)]
pub struct Started {
    k: Value,
    started: f64,
}

/// Reads the clock and is done.
#[dormouse::task(id = "bench-noop")]
pub fn noop(payload: Noop) -> Started {
    Started { started: now(), k: payload.k }
}

#[derive(Deserialize)]
pub struct Sleep {
    k: Value,
    /// A moment, in milliseconds since 1970.
    until: f64,
}

#[derive(Serialize)]
pub struct Woke {
    k: Value,
    woke: f64,
}

/// Waits once, until the given moment.
#[dormouse::task(id = "bench-sleep")]
pub fn sleep(payload: Sleep) -> Result<Woke, WaitError> {
    wait::until(UNIX_EPOCH + Duration::try_from_secs_f64(payload.until / 1_000.0).unwrap_or_default())?;
    Ok(Woke { woke: now(), k: payload.k })
}

#[derive(Deserialize)]
pub struct Many {
    k: Value,
    /// How many waits.
    n: u32,
    /// Milliseconds that each takes.
    ms: f64,
}

#[derive(Serialize)]
pub struct Marks {
    k: Value,
    /// Before the first wait, after a tenth, after all but a tenth, after the last.
    marks: [f64; 4],
}

/// Waits n times, one after the other.
#[dormouse::task(id = "bench-loop")]
pub fn many(payload: Many) -> Result<Marks, WaitError> {
    let length = Duration::try_from_secs_f64(payload.ms / 1_000.0).unwrap_or_default();
    let tenth = payload.n.div_ceil(10);
    let mut marks = [now(); 4];
    for done in 1..=payload.n {
        wait::duration(length)?;
        // With few waits some of the three fall together.
        for (mark, at) in [(1, tenth), (2, payload.n - tenth), (3, payload.n)] {
            if done == at {
                marks[mark] = now();
            }
        }
    }
    Ok(Marks { k: payload.k, marks })
}
