//! Tokens: waits that somebody outside ends, a person or another program.

use std::time::Duration;

use serde::Serialize;

use crate::bindings::dormouse::task::types::Moment;
use crate::bindings::dormouse::task::waitpoints;
use crate::{HostError, packet, time};

/// A token. Whoever has its id and a key, or its address, may complete it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// `waitpoint_…`, for [`wait::token`](crate::wait::token).
    pub id: String,
    /// A POST to this address completes the token with the body.
    pub callback_url: String,
    /// Lets a browser complete this token and nothing else, for 24 hours.
    pub public_access_token: String,
}

/// Makes a token that never times out.
///
/// # Errors
/// What the host refuses.
pub fn create() -> Result<Token, HostError> {
    make(None, &[])
}

/// Makes a token that times out if nobody completes it within `timeout`.
///
/// # Errors
/// What the host refuses.
///
/// ```no_run
/// # use std::time::Duration;
/// # use dormouse::{WaitError, token, wait};
/// # fn task() -> Result<(), dormouse::TaskError> {
/// let token = token::create_with_timeout(Duration::from_secs(3_600))?;
/// match wait::token::<bool>(&token.id) {
///     Err(WaitError::TimedOut { .. }) => println!("nobody answered"),
///     answer => println!("answered: {}", answer?),
/// }
/// # Ok(()) }
/// ```
pub fn create_with_timeout(timeout: Duration) -> Result<Token, HostError> {
    make(Some(timeout), &[])
}

/// Makes a token with tags to find it by, at most 10.
///
/// # Errors
/// What the host refuses.
pub fn create_tagged(timeout: Option<Duration>, tags: &[&str]) -> Result<Token, HostError> {
    make(timeout, tags)
}

/// Completes a token, which another run may be waiting for. The first completion counts; later ones change nothing.
///
/// # Errors
/// What the host refuses, and values that cannot be encoded or are larger than 3 MiB.
pub fn complete<T: Serialize + ?Sized>(id: &str, value: &T) -> Result<(), HostError> {
    let value = packet::encode(value).map_err(|error| HostError::unencodable(&error))?;
    Ok(waitpoints::complete_token(id, &value)?)
}

fn make(timeout: Option<Duration>, tags: &[&str]) -> Result<Token, HostError> {
    let timeout = timeout.map(|timeout| Moment::After(time::milliseconds(timeout)));
    let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
    let token = waitpoints::create_token(timeout, None, &tags)?;
    Ok(Token { id: token.id, callback_url: token.callback_url, public_access_token: token.public_access_token })
}
