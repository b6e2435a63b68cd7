//! A run to watch from a web page: it writes word by word into a stream, says how far it is, hears what is said to it meanwhile, and
//! publishes when a person agrees.

use std::time::Duration;

use dormouse::input::{self, Input};
use dormouse::{TaskError, metadata, streams, wait};
use serde::{Deserialize, Serialize};

/// What is written.
const TEXT: &str = "A dormouse sleeps for half a year and wakes up where it fell asleep. Its tasks do the same: while they wait they \
                    are a snapshot on a disk, and hold no memory, no connection and no core. When the wait ends the call returns.";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Draft {
    /// Milliseconds to wait after each word.
    pace_ms: u64,
    /// It stops after so many words, unless the text ends before.
    #[serde(default = "all")]
    words: usize,
    /// The token that a person completes; without one nobody is asked.
    token: Option<String>,
}

fn all() -> usize {
    usize::MAX
}

#[derive(Deserialize)]
struct Answer {
    approved: bool,
}

#[derive(Serialize)]
struct Drafted {
    words: usize,
    /// What was said to it.
    notes: Vec<String>,
    published: bool,
}

/// Writes, hears, asks, publishes.
#[dormouse::task(id = "draft", retry(max_attempts = 3), description = "Drafts a text, and publishes it when a person agrees")]
fn draft(payload: Draft) -> Result<Drafted, TaskError> {
    let words: Vec<&str> = TEXT.split_inclusive(' ').take(payload.words).collect();
    let (mut desk, mut notes) = (input::stream("notes"), Vec::new());
    metadata::set("step", "writing")?;
    for (number, word) in words.iter().enumerate() {
        streams::append("text", word)?;
        hear(&mut desk, &mut notes)?;
        metadata::set("progress", &((number + 1) * 100 / words.len()))?;
        wait::duration(Duration::from_millis(payload.pace_ms))?;
    }
    let published = match payload.token {
        None => true,
        Some(id) => {
            metadata::set("step", "waiting for approval")?;
            ask(&id, &mut desk, &mut notes)?
        }
    };
    metadata::set("step", if published { "published" } else { "put away" })?;
    Ok(Drafted { words: words.len(), notes, published })
}

/// Waits for the person's answer, and hears notes until it comes.
fn ask(token: &str, desk: &mut Input, notes: &mut Vec<String>) -> Result<bool, TaskError> {
    loop {
        let note = desk.waitpoint()?;
        let answer = wait::any(&[token, &note])?.iter().find(|done| done.index == 0).map(|done| done.token::<Answer>());
        hear(desk, notes)?;
        if let Some(answer) = answer {
            return Ok(answer?.approved);
        }
    }
}

/// Takes the notes that are there, and reads each back.
fn hear(desk: &mut Input, notes: &mut Vec<String>) -> Result<(), TaskError> {
    while let Some(note) = desk.once::<String>(Duration::ZERO)? {
        streams::append("heard", &note)?;
        notes.push(note);
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    /// What is checked.
    what: String,
    /// Milliseconds that it takes.
    ms: u64,
    /// It turns out to be wrong.
    #[serde(default)]
    is_wrong: bool,
}

/// One of many small runs.
#[dormouse::task(id = "check", retry(max_attempts = 1), description = "Checks one thing, for batches and tags to have many of")]
fn check(payload: Check) -> Result<String, TaskError> {
    metadata::set("what", &payload.what)?;
    wait::duration(Duration::from_millis(payload.ms))?;
    if payload.is_wrong { Err(TaskError::abort(format!("{} is wrong", payload.what))) } else { Ok(payload.what) }
}

dormouse::bundle!(draft, check);
