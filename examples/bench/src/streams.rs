//! What others follow.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dormouse::{TaskError, metadata, streams, wait};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

#[derive(Deserialize)]
pub struct Stream {
    k: Value,
    /// Chunks in all.
    n: u32,
    /// Chunks of one append.
    per: u32,
    /// Chunks in a second; none: as fast as it can.
    rate: Option<u32>,
}

#[derive(Serialize)]
pub struct Appended {
    k: Value,
    ms: f64,
}

/// Appends `n` chunks to the stream `bench`, each with its number and when it was made.
#[dormouse::task(id = "bench-stream", retry(max_attempts = 1))]
pub fn stream(payload: Stream) -> Result<Appended, TaskError> {
    let begun = now_ms();
    let mut writer = streams::writer("bench");
    for number in 0..payload.n {
        writer.write(&json!([number, now_ms()]))?;
        if (number + 1) % payload.per.max(1) == 0 {
            writer.flush()?;
            let due = payload.rate.map_or(0.0, |rate| f64::from(number + 1) * 1000.0 / f64::from(rate.max(1)));
            let early = begun + due - now_ms();
            if early > 1.0 {
                std::thread::sleep(Duration::from_secs_f64(early / 1000.0));
            }
        }
    }
    writer.flush()?;
    Ok(Appended { k: payload.k, ms: now_ms() - begun })
}

#[derive(Deserialize)]
pub struct Status {
    k: Value,
    /// Changes of the metadata.
    n: u32,
    /// Milliseconds between two.
    ms: u64,
}

/// Changes its metadata `n` times; each change says when it was made.
#[dormouse::task(id = "bench-status", retry(max_attempts = 1))]
pub fn status(payload: Status) -> Result<Value, TaskError> {
    for _ in 0..payload.n {
        wait::duration(Duration::from_millis(payload.ms))?;
        metadata::set("at", &now_ms())?;
    }
    Ok(payload.k)
}
