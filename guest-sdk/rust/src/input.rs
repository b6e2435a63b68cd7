//! Input streams: data into a run. Backends, browsers and other runs send values; they are kept in order from the run's beginning,
//! whether or not it listens.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use dormouse::{WaitError, input, streams};
//! # fn task() -> Result<(), dormouse::TaskError> {
//! let mut chat = input::stream("chat");
//! loop {
//!     match chat.wait_timeout::<String>(Duration::from_secs(86_400)) { // suspended meanwhile
//!         Ok(question) => streams::append("answers", &format!("{question}? Let me think."))?,
//!         Err(WaitError::TimedOut { .. }) => break,
//!         Err(error) => return Err(error.into()),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A new attempt of a run begins with the first value again.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::bindings::dormouse::task::types::{InputCursor, InputOutcome, InputValue, Moment};
use crate::bindings::dormouse::task::{input as host, wait, waitpoints};
use crate::{HostError, WaitError, packet, time};

/// One of the run's input streams, with its place in it. Two of the same name each see every value.
#[derive(Clone, Debug)]
pub struct Input {
    key: String,
    after: Option<u64>,
}

/// The input stream of this name, from its first value on.
pub fn stream(key: &str) -> Input {
    Input { key: key.into(), after: None }
}

/// Sends a value of at most 1 MiB to a run, which may be this one.
///
/// # Errors
/// What the host refuses ([`ErrorCode::Conflict`](crate::ErrorCode::Conflict): that run is over), and values that cannot be encoded.
///
/// ```no_run
/// # fn task(run: &str) -> Result<(), dormouse::TaskError> {
/// dormouse::input::send(run, "chat", "Are you there")?;
/// # Ok(()) }
/// ```
pub fn send<T: Serialize + ?Sized>(run: &str, key: &str, value: &T) -> Result<(), HostError> {
    let value = packet::encode(value).map_err(|error| HostError::unencodable(&error))?;
    Ok(host::send(run, key, &value)?)
}

impl Input {
    /// Takes the next value; until there is one the run is suspended.
    ///
    /// # Errors
    /// [`WaitError::Value`] if the value is no `T`, which is taken nevertheless; [`WaitError::Cancelled`]; what the host refuses.
    pub fn wait<T: DeserializeOwned>(&mut self) -> Result<T, WaitError> {
        self.wait_for(None)
    }

    /// As [`Input::wait`], for at most so long.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if no value came, and those of [`Input::wait`].
    pub fn wait_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T, WaitError> {
        self.wait_for(Some(Moment::After(time::milliseconds(timeout))))
    }

    fn wait_for<T: DeserializeOwned>(&mut self, timeout: Option<Moment>) -> Result<T, WaitError> {
        match wait::for_input(&self.cursor(), timeout, None)? {
            InputOutcome::Received(value) => {
                self.after = Some(value.seq);
                packet::decode(&value.value).map_err(|error| WaitError::Value(error.to_string()))
            }
            InputOutcome::TimedOut(at) => Err(WaitError::TimedOut { at: time::instant(at) }),
        }
    }

    /// Takes the next value if it comes within `timeout`. The run stays in memory meanwhile.
    ///
    /// # Errors
    /// What the host refuses, and values that are no `T`, which are taken nevertheless.
    pub fn once<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<Option<T>, HostError> {
        let Some(value) = self.next(timeout)? else { return Ok(None) };
        self.after = Some(value.seq);
        decode(&value).map(Some)
    }

    /// Looks at the next value, if it is there, and leaves it.
    ///
    /// # Errors
    /// What the host refuses, and values that are no `T`.
    pub fn peek<T: DeserializeOwned>(&self) -> Result<Option<T>, HostError> {
        self.next(Duration::ZERO)?.as_ref().map(decode).transpose()
    }

    /// A waitpoint that the next value completes, for [`wait::any`](crate::wait::any) beside other things. The value is taken with
    /// [`Input::once`] then.
    ///
    /// # Errors
    /// What the host refuses.
    pub fn waitpoint(&self) -> Result<String, HostError> {
        Ok(waitpoints::start_input(&self.cursor(), None, None)?)
    }

    fn next(&self, timeout: Duration) -> Result<Option<InputValue>, HostError> {
        Ok(host::receive(&[self.cursor()], 1, time::milliseconds(timeout))?.into_iter().next())
    }

    fn cursor(&self) -> InputCursor {
        InputCursor { stream_id: self.key.clone(), after: self.after }
    }
}

fn decode<T: DeserializeOwned>(value: &InputValue) -> Result<T, HostError> {
    packet::decode(&value.value).map_err(|error| HostError::undecodable("the value that was sent", &error))
}
