//! What a run and its waits cost. Times are milliseconds since 1970 with their fraction, from the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dormouse::{WaitError, wait};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error},
};
use serde_json::Value;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1_000.0)
}

/// JSON, or a string that holds it: load generators send either.
pub struct Input<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Input<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = match Value::deserialize(deserializer)? {
            Value::String(text) => serde_json::from_str(&text),
            value => serde_json::from_value(value),
        };
        parsed.map(Input).map_err(D::Error::custom)
    }
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
pub fn noop(Input(payload): Input<Noop>) -> Started {
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
pub fn sleep(Input(payload): Input<Sleep>) -> Result<Woke, WaitError> {
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
pub fn many(Input(payload): Input<Many>) -> Result<Marks, WaitError> {
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

#[derive(Deserialize)]
pub struct Large {
    /// MiB of memory, all of it written to before the first wait.
    mib: usize,
    /// KiB of it that are written to between two waits, each time others.
    changed_kib: usize,
    /// How many waits.
    n: u32,
}

/// Waits n times with a large memory.
#[dormouse::task(id = "bench-large")]
pub fn large(payload: Large) -> Result<u64, WaitError> {
    const WORDS_IN_KIB: usize = 128;
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut memory: Vec<u64> = (0..payload.mib.max(1) * 1024 * WORDS_IN_KIB).map(|_| next()).collect();
    let changed = (payload.changed_kib * WORDS_IN_KIB).min(memory.len());
    for _ in 0..payload.n {
        wait::duration(Duration::from_millis(1))?;
        let start = next() as usize % (memory.len() - changed + 1);
        memory[start..start + changed].iter_mut().for_each(|word| *word = word.rotate_left(9) ^ next());
    }
    Ok(memory.iter().fold(0, |sum, word| sum.rotate_left(5) ^ word))
}
