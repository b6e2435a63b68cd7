//! The first task: it goes some calls deep with its hands full, naps there, and comes back with everything it held.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use dormouse::{TaskError, WaitError, log, metadata, wait};
use serde::{Deserialize, Serialize};

/// How many calls lie between the task and its nap.
const DEPTH: u32 = 5;

#[derive(Deserialize)]
struct Hello {
    name: String,
    /// Length of the nap in seconds.
    #[serde(default = "default_seconds")]
    seconds: f64,
}

fn default_seconds() -> f64 {
    5.0
}

#[derive(Serialize)]
struct Greeting {
    greeting: String,
    /// The calls that were open during the nap, in the order in which they returned.
    came_back_through: Vec<String>,
    /// How often each letter comes up in the name.
    letters: BTreeMap<char, u32>,
}

#[dormouse::task(
    id = "hello",
    retry(max_attempts = 3),
    machine = "small-1x",
    description = "Greets after a nap, five calls deep"
)]
fn hello(payload: Hello) -> Result<Greeting, TaskError> {
    println!("Hello, {}! I am going {DEPTH} calls deep to take a nap there.", payload.name);
    let mut letters: HashMap<char, u32> = HashMap::new();
    for letter in payload.name.to_lowercase().chars() {
        *letters.entry(letter).or_default() += 1;
    }
    let nap = Duration::try_from_secs_f64(payload.seconds).map_err(|error| TaskError::from(error).no_retry())?;

    let mut path = Vec::new();
    let greet = |sum: u32| format!("Good morning, {}! {sum} is what you get from 1 to {DEPTH}.", payload.name);
    let sum = descend(1, nap, &mut path)?;

    metadata::set("status", "awake")?;
    log::info!("back at the top", calls = path.len(), sum = sum);
    Ok(Greeting { greeting: greet(sum), came_back_through: path, letters: letters.into_iter().collect() })
}

/// Goes on down to [`DEPTH`], naps there, and notes on the way back what this call still holds.
fn descend(depth: u32, nap: Duration, path: &mut Vec<String>) -> Result<u32, WaitError> {
    let held = format!("call {depth}");
    let below = if depth < DEPTH { descend(depth + 1, nap, path)? } else { sleep(nap)? };
    println!("{held} is back, {below} from below");
    path.push(held);
    Ok(depth + below)
}

/// The process that comes in here need not be the one that comes out.
fn sleep(nap: Duration) -> Result<u32, WaitError> {
    if let Err(error) = metadata::set("status", "asleep") {
        log::warn!("nobody will see that I sleep: {error}");
    }
    println!("zzz for {} s", nap.as_secs_f64());
    wait::duration(nap)?;
    println!("awake again");
    Ok(0)
}

dormouse::bundle!(hello);
