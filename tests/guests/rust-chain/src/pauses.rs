//! The waits of a run: at most as many as asked for, of the kind asked for, each leaving its trace.

use std::time::{Duration, SystemTime};

use dormouse::{log, wait};
use serde::Deserialize;

use crate::digest::Digest;

/// How to wait.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Through the functions of `dormouse::wait`.
    Wait,
    /// With `std::thread::sleep`.
    Sleep,
    /// One after the other.
    Mixed,
}

/// The waits that are left and what was seen so far.
pub struct Pauses {
    left: u32,
    done: u32,
    mode: Mode,
    length: Duration,
    pub digest: Digest,
}

impl Pauses {
    pub fn new(count: u32, mode: Mode, length: Duration) -> Pauses {
        Pauses { left: count, done: 0, mode, length, digest: Digest::new() }
    }

    pub fn are_left(&self) -> bool {
        self.left > 0
    }

    pub fn done(&self) -> u32 {
        self.done
    }

    /// Waits if a wait is left, and notes `seen` before and after it.
    pub fn pause(&mut self, seen: u64) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        self.done += 1;
        let number = self.done;
        self.digest.number(seen);
        println!("pause {number}: {seen:016x}");
        self.wait(number);
        self.digest.number(seen ^ u64::from(number));
        if number.is_multiple_of(7) {
            log::info!("woken", number = number, digest = format!("{:016x}", self.digest.value()));
        }
    }

    fn wait(&self, number: u32) {
        let waited = match (self.mode, number % 4) {
            (Mode::Sleep, _) | (Mode::Mixed, 1 | 3) => {
                std::thread::sleep(self.length);
                Ok(())
            }
            (_, 0) => wait::until(SystemTime::now() + self.length),
            _ => wait::duration(self.length),
        };
        waited.expect("no test cancels this wait");
    }
}
