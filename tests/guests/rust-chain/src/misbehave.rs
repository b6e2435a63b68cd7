//! Tasks that do what tasks should not.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use dormouse::{TaskError, context, log, metadata, wait};
use serde::Deserialize;

/// Executes `unreachable`, without a word.
#[dormouse::task(id = "trap", retry(max_attempts = 1))]
pub fn trap() {
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable()
}

/// Panics with a message.
#[dormouse::task(id = "panic", retry(max_attempts = 1))]
pub fn panic() {
    panic!("this task panics on purpose");
}

/// Spins for ever.
#[dormouse::task(id = "spin", retry(max_attempts = 1))]
pub fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

#[derive(Deserialize, Default)]
pub struct Alloc {
    /// MiB to stop at; none: when memory is gone.
    mib: Option<u32>,
}

/// Takes memory and writes to every page of it, MiB by MiB. Returns how many it got.
#[dormouse::task(id = "alloc", retry(max_attempts = 1))]
pub fn alloc(payload: Option<Alloc>) -> u32 {
    let most = payload.and_then(|payload| payload.mib).unwrap_or(u32::MAX);
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while (taken.len() as u32) < most {
        taken.push(std::hint::black_box(vec![taken.len() as u8 | 1; 1 << 20]));
        if taken.len().is_multiple_of(64) {
            println!("{} MiB", taken.len());
        }
    }
    taken.len() as u32
}

#[derive(Deserialize, Default)]
pub struct Exit {
    #[serde(default)]
    code: i32,
}

/// Leaves through `exit`.
#[dormouse::task(id = "exit", retry(max_attempts = 1))]
pub fn exit(payload: Option<Exit>) {
    println!("leaving");
    std::process::exit(payload.unwrap_or_default().code)
}

#[derive(Deserialize)]
pub struct BigOutput {
    bytes: usize,
}

/// Returns a text of so many bytes.
#[dormouse::task(id = "big-output", retry(max_attempts = 1))]
pub fn big_output(payload: BigOutput) -> String {
    "x".repeat(payload.bytes)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Lines,
    NoNewline,
    Attributes,
    Metadata,
    Files,
}

#[derive(Deserialize)]
pub struct Flood {
    what: What,
    count: u64,
}

/// Asks for more of something than anybody needs.
#[dormouse::task(id = "flood", retry(max_attempts = 1))]
pub fn flood(payload: Flood) -> Result<u64, TaskError> {
    let large = "x".repeat(1 << 16);
    for n in 0..payload.count {
        match payload.what {
            What::Lines => println!("line {n}"),
            What::NoNewline => print!("{large}"),
            What::Attributes => log::info!("large", text = &large),
            What::Metadata => metadata::increment("n", 1.0)?,
            What::Files => drop(std::fs::File::create(format!("file-{n}"))?),
        }
    }
    Ok(payload.count)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Much {
    Levels,
    Size,
    Open,
    Deleted,
}

#[derive(Deserialize)]
pub struct Hoard {
    what: Much,
    count: u64,
    ms: u64,
}

/// Has as much of something to do with files as it gets, all at once, and waits. Returns how many files it had open over the wait.
#[dormouse::task(id = "hoard", retry(max_attempts = 1))]
pub fn hoard(payload: Hoard) -> Result<usize, TaskError> {
    let mut open = vec![];
    match payload.what {
        // Each folder goes into a new one, so that no path is ever long.
        Much::Levels => {
            let name = "a name that is not short ".repeat(8);
            for _ in 0..payload.count {
                std::fs::create_dir("outer")?;
                if std::fs::metadata(&name).is_ok() {
                    std::fs::rename(&name, format!("outer/{name}"))?;
                }
                std::fs::rename("outer", &name)?;
            }
        }
        Much::Size => std::fs::File::create("sparse")?.set_len(payload.count)?,
        Much::Open => {
            let files = (0..payload.count).map_while(|n| std::fs::File::create(format!("file-{n}")).ok());
            open.extend(files);
        }
        Much::Deleted => {
            let mut file = std::fs::File::create("file")?;
            std::fs::remove_file("file")?;
            for _ in 0..payload.count {
                file.write_all(&[1; 1 << 16])?;
            }
            open.push(file);
        }
    }
    wait::duration(Duration::from_millis(payload.ms))?;
    for file in &mut open {
        file.write_all(b"text")?;
    }
    Ok(open.len())
}

/// Looks for what is not its own: the names of the variables it sees, and the files it can read of those it should not.
#[dormouse::task(id = "peek", retry(max_attempts = 1))]
pub fn peek(paths: Vec<String>) -> (Vec<String>, Vec<String>) {
    let variables = std::env::vars().map(|(name, _)| name).collect();
    (variables, paths.into_iter().filter(|path| std::fs::metadata(path).is_ok() || std::fs::read_dir(path).is_ok()).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Decision {
    Policy,
    Abort,
    After,
    At,
}

#[derive(Deserialize)]
pub struct Fail {
    decision: Decision,
    /// Milliseconds from now, for `after` and `at`.
    #[serde(default)]
    ms: u64,
    /// The attempt that succeeds, if any does.
    succeeds_at: Option<u32>,
}

/// Fails, leaving the retry to the policy, forbidding it, or setting its time. Returns the attempt that succeeded.
#[dormouse::task(
    id = "fail",
    retry(max_attempts = 3, min_timeout = "100ms", max_timeout = "1s", factor = 2.0, randomize = false)
)]
pub fn fail(payload: Fail) -> Result<u32, TaskError> {
    let attempt = context::current().attempt.number;
    if payload.succeeds_at == Some(attempt) {
        return Ok(attempt);
    }
    let cause = "x".parse::<u8>().expect_err("not a number");
    let error = TaskError::from(Refused { attempt, cause });
    let delay = Duration::from_millis(payload.ms);
    Err(match payload.decision {
        Decision::Policy => error,
        Decision::Abort => error.no_retry(),
        Decision::After => error.retry_after(delay),
        Decision::At => error.retry_at(SystemTime::now() + delay),
    })
}

#[derive(Debug)]
struct Refused {
    attempt: u32,
    cause: std::num::ParseIntError,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "attempt {} fails on purpose", self.attempt)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
