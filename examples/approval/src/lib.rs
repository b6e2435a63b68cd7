//! A human in the loop: the run asks, sleeps until somebody answers (for days if need be), and goes on.

use std::time::Duration;

use dormouse::token::{self, Token};
use dormouse::{TaskError, WaitError, log, metadata, wait};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    /// What somebody shall agree to.
    what: String,
    /// A token made elsewhere; without one the task makes its own.
    token: Option<String>,
    /// Seconds to wait at most; none: as long as it takes. Of no effect on a token made elsewhere.
    timeout_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    approved: bool,
    #[serde(default)]
    by: Option<String>,
}

#[derive(Serialize)]
struct Decision {
    what: String,
    approved: bool,
    by: String,
}

#[dormouse::task(id = "approval", retry(max_attempts = 3), description = "Waits for a person to say yes or no")]
fn approval(request: Request) -> Result<Decision, TaskError> {
    let id = match &request.token {
        Some(id) => id.clone(),
        None => ask(&request)?,
    };
    let decided = match wait::token::<Answer>(&id) {
        Ok(answer) => (answer.approved, answer.by.unwrap_or_else(|| "somebody".to_owned())),
        Err(WaitError::TimedOut { .. }) => (false, "nobody in time".to_owned()),
        Err(error) => return Err(error.into()),
    };
    let (approved, by) = decided;
    metadata::set("status", if approved { "approved" } else { "declined" })?;
    log::info!("decided", what = request.what, approved = approved, by = by);
    Ok(Decision { what: request.what, approved, by })
}

/// Makes a token and shows where it can be completed: in the metadata for programs, in the log for people.
fn ask(request: &Request) -> Result<String, TaskError> {
    let timeout = request.timeout_seconds.map(Duration::from_secs);
    let Token { id, callback_url, .. } = timeout.map_or_else(token::create, token::create_with_timeout)?;
    metadata::set("token", &id)?;
    metadata::set("callbackUrl", &callback_url)?;
    println!("{}? Answer with {{\"approved\": true, \"by\": \"you\"}} at {callback_url}", request.what);
    Ok(id)
}

dormouse::bundle!(approval);
