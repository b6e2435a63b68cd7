//! Tasks that are ended, or not, by what is around them.

use std::time::{Duration, Instant};

use dormouse::{IdempotencyKey, TaskError, WaitError, context, metadata, wait};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub struct Outgrow {
    mib: usize,
    /// Says that it has too little, instead of taking it.
    #[serde(default)]
    says_so: bool,
}

#[derive(Serialize)]
pub struct Grown {
    attempt: u32,
    machine: String,
    memory: u64,
}

/// Needs more memory than its machine has.
#[dormouse::task(
    id = "outgrow",
    machine = "micro",
    retry(max_attempts = 3, min_timeout = "100ms", randomize = false, out_of_memory_machine = "small-2x")
)]
pub fn outgrow(payload: Outgrow) -> Result<Grown, TaskError> {
    grow(&payload)
}

/// The same with no machine to go on with but its own.
#[dormouse::task(id = "small-outgrow", machine = "micro", retry(max_attempts = 3, out_of_memory_machine = "micro"))]
pub fn small_outgrow(payload: Outgrow) -> Result<Grown, TaskError> {
    grow(&payload)
}

fn grow(payload: &Outgrow) -> Result<Grown, TaskError> {
    let context = context::current();
    let (attempt, machine, memory) = (context.attempt.number, context.machine.name, context.machine.memory);
    if payload.says_so && memory < (payload.mib as u64) << 20 {
        return Err(TaskError::out_of_memory(format!("{} MiB are needed", payload.mib)));
    }
    let taken: Vec<Vec<u8>> = (0..payload.mib).map(|n| std::hint::black_box(vec![n as u8 | 1; 1 << 20])).collect();
    drop(taken);
    Ok(Grown { attempt, machine, memory })
}

#[derive(Deserialize)]
pub struct Burn {
    /// Milliseconds by the clock.
    ms: u64,
}

/// Computes without a pause. Returns the milliseconds of CPU time that it got for it.
#[dormouse::task(id = "burn", retry(max_attempts = 1))]
pub fn burn(payload: Burn) -> u64 {
    let (begun, before) = (Instant::now(), context::cpu_time());
    let mut turns = 0_u64;
    while begun.elapsed() < Duration::from_millis(payload.ms) {
        for _ in 0..10_000 {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }
    (context::cpu_time() - before).as_millis() as u64
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Waits for an hour.
    Wait,
    /// For a token that nobody completes.
    Token,
    /// Never waits for long, and asks now and then.
    Ask,
    /// Sleeps for so long.
    Sleep(u64),
    /// Computes, and does not care.
    Never,
}

/// Tidies up when it is cancelled: writes into its metadata how it learned of it, and how many seconds it is given.
#[dormouse::task(id = "tidy", on_cancel, retry(max_attempts = 3))]
pub fn tidy(how: How) -> Result<(), TaskError> {
    go_on(how)
}

/// The same without having said that it listens.
#[dormouse::task(id = "untidy", retry(max_attempts = 3))]
pub fn untidy(how: How) -> Result<(), TaskError> {
    go_on(how)
}

fn go_on(how: How) -> Result<(), TaskError> {
    metadata::set("begun", &true)?;
    let learned = match how {
        How::Wait => is_cancelled(wait::seconds(3600))?,
        How::Token => is_cancelled(wait::token::<u8>(&dormouse::token::create()?.id))?,
        How::Ask => {
            while context::cancellation().is_none() {
                std::thread::sleep(Duration::from_millis(50));
            }
            true
        }
        How::Never => loop {
            std::hint::black_box(context::cpu_time());
        },
        How::Sleep(ms) => {
            std::thread::sleep(Duration::from_millis(ms));
            context::cancellation().is_some()
        }
    };
    let given = context::cancellation().and_then(|request| request.deadline.duration_since(request.requested_at).ok());
    metadata::set("learned", &learned)?;
    metadata::set("given", &given.map(|given| given.as_secs()))?;
    // A second wait ends as well.
    metadata::set("again", &is_cancelled(wait::seconds(1))?)?;
    Err(TaskError::new("an error does not make a cancelled run a failed one"))
}

fn is_cancelled<T>(waited: Result<T, WaitError>) -> Result<bool, TaskError> {
    match waited {
        Err(WaitError::Cancelled) => Ok(true),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(false),
    }
}

#[derive(Deserialize)]
pub struct WaitOnce {
    ms: u64,
    /// Keeps itself in memory over the wait.
    #[serde(default)]
    stays: bool,
}

/// Waits once with a key and fails; the next attempt returns how long the same wait took then, in milliseconds.
#[dormouse::task(id = "wait-once", retry(max_attempts = 2, min_timeout = "100ms", randomize = false))]
pub fn wait_once(payload: WaitOnce) -> Result<u64, TaskError> {
    // A file that is open and has no name cannot be taken along.
    let open = payload.stays.then(|| std::fs::File::create("open").and_then(|file| std::fs::remove_file("open").map(|()| file)));
    let begun = Instant::now();
    wait::duration_once(Duration::from_millis(payload.ms), &IdempotencyKey::new("once"))?;
    drop(open.transpose()?);
    match context::current().attempt.number {
        1 => Err(TaskError::new("fails after its wait")),
        _ => Ok(begun.elapsed().as_millis() as u64),
    }
}
