//! A task that keeps things in files over its waits, some of them open.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use dormouse::{TaskError, wait};
use serde::{Deserialize, Serialize};

/// Bytes of a file that is written once.
const LARGE: usize = 200_000;

#[derive(Deserialize)]
pub struct Payload {
    rounds: u32,
    ms: u64,
}

/// What the files held in the end.
#[derive(Serialize)]
pub struct Found {
    /// Written through one handle that was open over all waits.
    lines: String,
    /// Written anew in each round.
    last: String,
    /// Removed and made again in each round.
    folders: Vec<String>,
    /// What was read through a handle whose place moved over the waits.
    read: String,
    /// Whether the large file is what it was.
    large_is_whole: bool,
}

#[dormouse::task(id = "files", retry(max_attempts = 1))]
pub fn files(payload: Payload) -> Result<Found, TaskError> {
    let large: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8).collect();
    fs::create_dir_all("kept/deep")?;
    fs::write("kept/deep/large", &large)?;
    fs::write("letters", "abcdefghijklmnopqrstuvwxyz")?;
    let mut letters = File::open("letters")?;
    let mut lines = OpenOptions::new().create(true).append(true).open("lines")?;
    let mut read = String::new();
    for round in 0..payload.rounds {
        writeln!(lines, "line {round}")?;
        fs::write("last", round.to_string())?;
        fs::create_dir(format!("folder-{round}"))?;
        if round > 0 {
            fs::remove_dir(format!("folder-{}", round - 1))?;
        }
        let mut two = [0; 2];
        letters.read_exact(&mut two)?;
        read.extend(two.map(char::from));
        wait::duration(Duration::from_millis(payload.ms))?;
    }
    letters.seek(SeekFrom::Start(0))?;
    letters.read_to_string(&mut read)?;
    let mut folders: Vec<String> = vec![];
    for entry in fs::read_dir(".")? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    folders.sort();
    Ok(Found {
        lines: fs::read_to_string("lines")?,
        last: fs::read_to_string("last")?,
        folders,
        read,
        large_is_whole: fs::read("kept/deep/large")? == large,
    })
}
