//! Tasks that say and hear something in streams.

use std::time::Duration;

use dormouse::{TaskError, WaitError, input, streams, wait};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Deserialize, Serialize)]
pub struct Talk {
    /// Says the numbers from 0 to this one, without it.
    n: u32,
    /// So many in a group.
    per: u32,
    /// Milliseconds to wait after each group.
    ms: u64,
}

/// Says numbers in the stream `numbers`, in groups with a wait after each.
#[dormouse::task(id = "talk")]
pub fn talk(payload: Talk) -> Result<u32, TaskError> {
    let numbers: Vec<u32> = (0..payload.n).collect();
    for group in numbers.chunks(payload.per.max(1) as usize) {
        let mut writer = streams::writer("numbers");
        for number in group {
            writer.write(number)?;
        }
        writer.flush()?;
        wait::duration(Duration::from_millis(payload.ms))?;
    }
    Ok(payload.n)
}

#[derive(Deserialize)]
pub struct Listen {
    /// Values to hear.
    count: usize,
    /// Milliseconds to wait for each.
    ms: u64,
    /// Stays in memory for each, and looks at it before.
    #[serde(default)]
    stays: bool,
}

/// Hears values in the stream `chat`, repeats each in the stream `heard`, and returns them; `"nothing"` is what did not come in time.
#[dormouse::task(id = "listen")]
pub fn listen(payload: Listen) -> Result<Vec<Value>, TaskError> {
    let (mut chat, timeout, mut heard) = (input::stream("chat"), Duration::from_millis(payload.ms), Vec::new());
    for _ in 0..payload.count {
        let value = if payload.stays {
            let peeked: Option<Value> = chat.peek()?;
            let taken: Option<Value> = chat.once(timeout)?;
            if peeked.is_some() && peeked != taken {
                return Err(TaskError::abort("it was another one when it was looked at"));
            }
            taken
        } else {
            match chat.wait_timeout(timeout) {
                Err(WaitError::TimedOut { .. }) => None,
                value => Some(value?),
            }
        };
        let value = value.unwrap_or_else(|| "nothing".into());
        streams::append("heard", &value)?;
        heard.push(value);
    }
    Ok(heard)
}

/// Starts a `talk`, hears all of it and tells it on in the stream of its own root, and sends itself how many numbers there were.
#[dormouse::task(id = "overhear")]
pub fn overhear(payload: Talk) -> Result<Vec<u32>, TaskError> {
    let child = talk::trigger(&payload)?;
    let numbers = streams::run(&child.id).read::<u32>("numbers").collect::<Result<Vec<u32>, _>>()?;
    let own = dormouse::context::current().run.id;
    input::send(&own, "count", &numbers.len())?;
    let count: usize = input::stream("count").wait()?;
    streams::root().append("count", &count)?;
    Ok(numbers)
}
