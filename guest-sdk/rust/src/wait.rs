//! Waiting. Every function here may suspend the run: memory and call stack are stored, nothing is kept running, and the
//! call returns when the wait is over, perhaps days later in another process.
//!
//! `std::thread::sleep` does the same. These functions say more precisely what they wait for, and tell of cancellation.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;

use crate::bindings::dormouse::task::types::{self as wit, Moment, RunOutcome, TokenOutcome, WaitOutcome};
use crate::bindings::dormouse::task::{wait as host, waitpoints};
use crate::{BatchResult, ErrorCode, HostError, IdempotencyKey, TaskResult, packet, time};

/// Waits for so many seconds.
///
/// # Errors
/// As [`duration`].
pub fn seconds(seconds: u64) -> Result<(), WaitError> {
    duration(Duration::from_secs(seconds))
}

/// Waits that long, rounded up to a millisecond.
///
/// # Errors
/// [`WaitError::Cancelled`] if the run is cancelled meanwhile; [`WaitError::Host`] if the host refuses.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn task() -> Result<(), dormouse::TaskError> {
/// dormouse::wait::duration(Duration::from_secs(90 * 60))?;
/// # Ok(()) }
/// ```
pub fn duration(duration: Duration) -> Result<(), WaitError> {
    Ok(host::for_duration(time::milliseconds(duration), None)?)
}

/// Waits that long, once: the same key in another attempt, or later in this one, waits for what is left of the first wait, and not at
/// all if that is over.
///
/// # Errors
/// As [`duration`].
///
/// ```no_run
/// # use std::time::Duration;
/// # use dormouse::{IdempotencyKey, wait};
/// # fn task() -> Result<(), dormouse::TaskError> {
/// wait::duration_once(Duration::from_secs(86_400), &IdempotencyKey::new("a day's grace"))?;
/// // If this fails, the next attempt does not wait for another day.
/// # Ok(()) }
/// ```
pub fn duration_once(duration: Duration, key: &IdempotencyKey) -> Result<(), WaitError> {
    Ok(host::for_duration(time::milliseconds(duration), Some(&key.to_wit()))?)
}

/// Waits until then, once, as [`duration_once`].
///
/// # Errors
/// As [`duration`].
pub fn until_once(at: SystemTime, key: &IdempotencyKey) -> Result<(), WaitError> {
    Ok(host::until(time::timestamp(at), Some(&key.to_wit()))?)
}

/// Waits until then; returns at once if that is past.
///
/// # Errors
/// As [`duration`].
///
/// ```no_run
/// # use std::time::{Duration, SystemTime};
/// # fn task() -> Result<(), dormouse::TaskError> {
/// let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
/// dormouse::wait::until(tomorrow)?;
/// # Ok(()) }
/// ```
pub fn until(at: SystemTime) -> Result<(), WaitError> {
    Ok(host::until(time::timestamp(at), None)?)
}

/// Waits until somebody completes the token, and returns what they completed it with.
///
/// # Errors
/// [`WaitError::TimedOut`] if the token's time ran out first, [`WaitError::Value`] if the value is no `T`, otherwise as
/// [`duration`].
///
/// ```no_run
/// # fn task() -> Result<(), dormouse::TaskError> {
/// let token = dormouse::token::create()?;
/// println!("say yes or no at {}", token.callback_url);
/// let is_approved: bool = dormouse::wait::token(&token.id)?;
/// # Ok(()) }
/// ```
pub fn token<T: DeserializeOwned>(id: &str) -> Result<T, WaitError> {
    token_value(&host::for_token(id)?)
}

/// Starts a timer for [`any`]; the run goes on.
///
/// # Errors
/// What the host refuses.
pub fn timer(duration: Duration) -> Result<String, HostError> {
    Ok(waitpoints::start_timer(Moment::After(time::milliseconds(duration)), None)?)
}

/// Waits until at least one of these (1 to 1000 timers, tokens, runs or batches, by their ids) is complete, and returns all that
/// are.
///
/// # Errors
/// As [`duration`].
///
/// ```no_run
/// # use std::time::Duration;
/// # use dormouse::{token, wait};
/// # fn task() -> Result<(), dormouse::TaskError> {
/// let answer = token::create()?;
/// let deadline = wait::timer(Duration::from_secs(3_600))?;
/// match &wait::any(&[&answer.id, &deadline])?[0] {
///     first if first.index == 0 => println!("answered: {}", first.token::<String>()?),
///     _ => println!("nobody answered within the hour"),
/// }
/// # Ok(()) }
/// ```
pub fn any<S: AsRef<str>>(ids: &[S]) -> Result<Vec<Completion>, WaitError> {
    let ids: Vec<String> = ids.iter().map(|id| id.as_ref().to_owned()).collect();
    let completions = host::any(&ids)?;
    Ok(completions.into_iter().map(Completion::from).collect())
}

/// One of those that [`any`] waited for, complete.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Its place in the list that was waited for.
    pub index: usize,
    outcome: WaitOutcome,
}

impl From<wit::Completion> for Completion {
    fn from(completion: wit::Completion) -> Completion {
        Completion { index: completion.index as usize, outcome: completion.outcome }
    }
}

impl Completion {
    /// Whether this is a timer.
    pub fn is_timer(&self) -> bool {
        matches!(self.outcome, WaitOutcome::Timer)
    }

    /// The value that the token was completed with.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if its time ran out, [`WaitError::Value`] if the value is no `T` or this is no token.
    pub fn token<T: DeserializeOwned>(&self) -> Result<T, WaitError> {
        match &self.outcome {
            WaitOutcome::Token(outcome) => token_value(outcome),
            _ => Err(WaitError::Value("the completion is not that of a token".into())),
        }
    }

    /// What became of the run.
    ///
    /// # Errors
    /// [`WaitError::Value`] if the output is no `T` or this is no run.
    pub fn task<T: DeserializeOwned>(&self) -> Result<TaskResult<T>, WaitError> {
        match &self.outcome {
            WaitOutcome::Run(result) => TaskResult::of(result.clone()),
            _ => Err(WaitError::Value("the completion is not that of a run".into())),
        }
    }

    /// What became of the batch.
    ///
    /// # Errors
    /// [`WaitError::Value`] if an output is no `T` or this is no batch.
    pub fn batch<T: DeserializeOwned>(&self) -> Result<BatchResult<T>, WaitError> {
        match &self.outcome {
            WaitOutcome::Batch(result) => BatchResult::of(result.clone()),
            _ => Err(WaitError::Value("the completion is not that of a batch".into())),
        }
    }

    /// The output of the run.
    ///
    /// # Errors
    /// [`WaitError::RunFailed`] if it has none, [`WaitError::Value`] if the output is no `T` or this is no run.
    pub fn run<T: DeserializeOwned>(&self) -> Result<T, WaitError> {
        match &self.outcome {
            WaitOutcome::Run(result) => match &result.outcome {
                RunOutcome::Completed(output) => packet::decode(output).map_err(|error| WaitError::Value(error.to_string())),
                RunOutcome::Failed(failure) => {
                    Err(WaitError::RunFailed { run: result.run.clone(), message: message_of(&failure.error) })
                }
            },
            _ => Err(WaitError::Value("the completion is not that of a run".into())),
        }
    }
}

fn token_value<T: DeserializeOwned>(outcome: &TokenOutcome) -> Result<T, WaitError> {
    match outcome {
        TokenOutcome::Completed(value) => packet::decode(value).map_err(|error| WaitError::Value(error.to_string())),
        TokenOutcome::TimedOut(at) => Err(WaitError::TimedOut { at: time::instant(*at) }),
    }
}

fn message_of(error: &wit::RunError) -> String {
    match error {
        wit::RunError::Exception(chain) => chain.outermost.message.clone(),
        wit::RunError::Text(text) | wit::RunError::Custom(text) => text.clone(),
        wit::RunError::Internal(error) => error.message.clone(),
    }
}

/// Why a wait brought no value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WaitError {
    /// The token's time ran out.
    TimedOut {
        /// When.
        at: SystemTime,
    },
    /// The run is being cancelled: there is a moment left to tidy up, then it ends.
    Cancelled,
    /// The value does not fit the type it is read as; says why.
    Value(String),
    /// The run that was waited for failed.
    RunFailed {
        /// Its id.
        run: String,
        /// What it failed with.
        message: String,
    },
    /// The host refused.
    Host(HostError),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::TimedOut { .. } => f.write_str("what was waited for timed out"),
            WaitError::Cancelled => f.write_str("the run was cancelled while it waited"),
            WaitError::Value(reason) => write!(f, "the value that was waited for cannot be read: {reason}"),
            WaitError::RunFailed { run, message } => write!(f, "{run} failed: {message}"),
            WaitError::Host(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WaitError {}

impl From<HostError> for WaitError {
    fn from(error: HostError) -> WaitError {
        match error {
            HostError { code: ErrorCode::Cancelled, .. } => WaitError::Cancelled,
            error => WaitError::Host(error),
        }
    }
}

impl From<wit::HostError> for WaitError {
    fn from(error: wit::HostError) -> WaitError {
        HostError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Completion, WaitError, token_value};
    use crate::bindings::dormouse::task::types::{ErrorCode, HostError, Packet, TokenOutcome, WaitOutcome};

    fn completed(json: &str) -> TokenOutcome {
        TokenOutcome::Completed(Packet { data: json.into(), content_type: "application/json".into() })
    }

    #[test]
    fn a_token_brings_its_value_or_says_why_not() {
        assert_eq!(token_value::<u8>(&completed("7")), Ok(7));
        assert!(matches!(token_value::<u8>(&completed("\"x\"")), Err(WaitError::Value(_))));
        let at = UNIX_EPOCH + Duration::from_millis(5);
        assert_eq!(token_value::<u8>(&TokenOutcome::TimedOut(5)), Err(WaitError::TimedOut { at }));
    }

    #[test]
    fn a_completion_is_read_as_what_it_is() {
        let timer = Completion { index: 0, outcome: WaitOutcome::Timer };
        assert!(timer.is_timer());
        assert!(timer.token::<u8>().is_err() && timer.run::<u8>().is_err());
        let token = Completion { index: 1, outcome: WaitOutcome::Token(completed("true")) };
        assert_eq!(token.token::<bool>(), Ok(true));
    }

    #[test]
    fn cancellation_stands_out_among_the_hosts_refusals() {
        let refusal = |code| WaitError::from(HostError { code, message: "m".into(), retry_after_ms: None });
        assert_eq!(refusal(ErrorCode::Cancelled), WaitError::Cancelled);
        assert!(matches!(refusal(ErrorCode::Conflict), WaitError::Host(error) if error.message == "m"));
    }
}
