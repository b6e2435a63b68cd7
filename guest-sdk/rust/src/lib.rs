//! Durable tasks in ordinary blocking Rust.
//!
//! ```no_run
//! use std::collections::HashMap;
//!
//! use dormouse::{TaskError, log, wait};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Signup {
//!     name: String,
//! }
//!
//! #[dormouse::task(id = "welcome", retry(max_attempts = 5), machine = "small-1x")]
//! fn welcome(signup: Signup) -> Result<HashMap<String, usize>, TaskError> {
//!     log::info!("signed up", name = signup.name);
//!     let letters: HashMap<_, _> = [(signup.name.clone(), signup.name.len())].into();
//!     wait::seconds(86_400)?; // the process may die here: a day later `letters` is still what it was
//!     println!("a day later: {letters:?}");
//!     Ok(letters)
//! }
//!
//! dormouse::bundle!(welcome);
//! # fn main() {}
//! ```
//!
//! A task is a function with [`#[dormouse::task]`](task), compiled to a component for `wasm32-wasip2`;
//! [`bundle!`] names all tasks of the component. The functions of [`wait`] and `std::thread::sleep` suspend it: memory and call stack are
//! stored, and the call returns later, perhaps in another process, with everything else untouched. There are no rules
//! for the code between waits; clocks, random numbers, threads' sleep, environment variables, files in the scratch
//! directory and collections behave as everywhere.
//!
//! Outside of a run (in a unit test on the developer's machine) a task is still a plain function and [`log`] prints to
//! stderr; everything else that needs the host panics there.

// A single `task!`-like list rather than link-time registration: the linker for wasm has no section that could collect the
// tasks, and constructors would have to run before every exported function.

#[doc(hidden)]
pub mod bindings;
mod bundle;
mod error;
mod host_error;
mod idempotency;
mod packet;
mod panic;
mod result;
mod schedule;
mod time;

pub mod context;
pub mod input;
pub mod log;
pub mod metadata;
pub mod span;
pub mod streams;
pub mod tags;
pub mod tasks;
pub mod token;
pub mod wait;

pub use bundle::Task;
pub use dormouse_macros::task;
pub use error::TaskError;
pub use host_error::{ErrorCode, HostError};
pub use idempotency::IdempotencyKey;
pub use result::{BatchResult, FailedStatus, RunFailure, SubtaskUnwrapError, TaskResult};
pub use schedule::{ScheduleEvent, ScheduleKind};
pub use wait::WaitError;

/// What the macros expand to; not for people.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    pub use crate::bindings::dormouse::task::types::Packet;
    pub use crate::bindings::export_bundle;
    pub use crate::bundle::{Entry, Limit, Options, Queue, Retry, Schedule, describe, ids_are_distinct, run};
    pub use crate::log::Fields;
    pub use crate::packet::{Output, Returned, decode_payload};
    pub use serde::{Serialize, de::DeserializeOwned};
    pub use serde_json;
}
