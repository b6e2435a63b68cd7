//! The task that waits from everywhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pauses::{Mode, Pauses};
use crate::scenes;

#[derive(Deserialize)]
pub struct Chain {
    /// How many waits.
    n: u32,
    #[serde(default = "default_mode")]
    mode: Mode,
    /// Milliseconds that each takes.
    #[serde(default = "default_ms")]
    ms: f64,
}

fn default_mode() -> Mode {
    Mode::Wait
}

fn default_ms() -> f64 {
    1.0
}

#[derive(Serialize)]
pub struct Seen {
    /// 16 hex digits over everything that was seen.
    digest: String,
    waits: u32,
    rounds: u32,
    /// The state that lived on the heap from the first wait to the last.
    words: Vec<String>,
}

/// Goes through all scenes until the waits are used up. What it returns depends on `n` alone.
#[dormouse::task(
    id = "chain",
    retry(max_attempts = 1),
    machine = "small-1x",
    description = "Waits n times from every kind of stack"
)]
pub fn chain(payload: Chain) -> Seen {
    let mut pauses = Pauses::new(payload.n, payload.mode, Duration::from_secs_f64(payload.ms / 1_000.0));
    let mut words = vec!["dormouse".to_owned()];
    let mut rounds = 0;
    while pauses.are_left() {
        rounds += 1;
        scenes::play_all(&mut pauses, rounds, &mut words);
        pauses.digest.bytes(words.concat().as_bytes());
        println!("round {rounds} done after {} waits", pauses.done());
    }
    eprintln!("{} words at the end", words.len());
    Seen { digest: format!("{:016x}", pauses.digest.value()), waits: pauses.done(), rounds, words }
}
