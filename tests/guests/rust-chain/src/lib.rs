//! The guest that the tests suspend, restore and torment.
//!
//! - [`chain`](chain::chain) waits `n` times, from every kind of call stack that Rust makes, and returns a digest over all
//!   that it saw: a straight run and one that was suspended at every wait must return the same.
//! - The tasks of [`driven`] are for those who drive runs from outside.
//! - The tasks of [`ends`] are ended, or not, by what is around them: memory, time, somebody who cancels them.
//! - [`family`](family::family) starts other runs and waits for them.
//! - [`files`](files::files) keeps things in files over its waits.
//! - The tasks of [`forks`] see what a restored run must not share with another, and wait at the end of a deep stack.
//! - Of the tasks of [`narrow`] only so many may execute at a time.
//! - [`measure`](measured::measure) measures what it does.
//! - The tasks of [`talk`] say and hear something in streams.
//! - [`variables`](variables::variables) looks at the environment on either side of a wait.
//! - The tasks of [`misbehave`] trap, panic, spin, exit, fail, eat memory and flood the host.

mod chain;
mod digest;
mod driven;
mod ends;
mod family;
mod files;
mod forks;
mod measured;
mod misbehave;
mod narrow;
mod pauses;
mod scenes;
mod talk;
mod variables;

use serde_json::Value;

/// Gives back what it got.
#[dormouse::task(id = "echo")]
fn echo(payload: Value) -> Value {
    payload
}

dormouse::bundle!(
    chain::chain,
    echo,
    driven::await_token,
    driven::folder_echo,
    driven::on_schedule,
    ends::burn,
    ends::outgrow,
    ends::small_outgrow,
    ends::tidy,
    ends::untidy,
    ends::wait_once,
    family::family,
    family::member,
    files::files,
    forks::deep,
    forks::fork,
    measured::measure,
    misbehave::alloc,
    misbehave::big_output,
    misbehave::exit,
    misbehave::fail,
    misbehave::flood,
    misbehave::hoard,
    misbehave::panic,
    misbehave::peek,
    misbehave::spin,
    misbehave::trap,
    narrow::other_shared,
    narrow::shared,
    narrow::single,
    talk::listen,
    talk::overhear,
    talk::talk,
    variables::variables,
);
