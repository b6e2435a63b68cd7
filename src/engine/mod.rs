//! The verbs. One file = one transition = one transaction; the only writer of run state.
//!
//! Every verb takes the [`Store`](crate::store::Store) and opens the transaction itself. A verb of a worker takes the
//! [`Lease`](crate::model::attempt::Lease) it acts under; once somebody else has taken the run over it answers
//! [`Error::LostLease`] and has written nothing.

mod answer;
pub mod api_keys;
pub mod batch;
mod begin;
pub mod branch;
pub mod bulk;
pub mod cancel;
pub mod children;
pub mod claim;
mod debounce;
pub mod deploy;
pub mod environment;
pub mod finish;
mod grant;
pub mod input;
pub mod intake;
pub mod journal;
pub mod lease;
pub mod limit;
pub mod log;
mod make;
pub mod metadata;
pub mod once;
mod pin;
mod places;
pub mod project;
pub mod queue;
pub mod replay;
pub mod reschedule;
pub mod rewriting;
mod room;
pub mod schedule;
pub mod stream;
pub mod suspend;
pub mod tags;
pub mod timer;
pub mod token;
pub mod trigger;
pub mod variables;
pub mod wait;

#[cfg(test)]
mod tests;

use crate::{
    model::{metadata::BadKey, run::Illegal, schedule::BadTiming},
    store::StoreError,
};

/// Why a verb did nothing. Split by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing in this environment.
    #[error("{what} not found")]
    NotFound {
        /// `run`, `token`, …
        what: &'static str,
    },
    /// It is not in a state in which this can happen. The text is for users.
    #[error("{0}")]
    Conflict(String),
    /// Another worker has the run, or nobody has: drop the instance and write nothing.
    #[error("the lease was lost")]
    LostLease,
    /// The request breaks a rule. The text is for users.
    #[error("{message}")]
    Invalid {
        /// The field, as the HTTP API names it.
        field: &'static str,
        /// The rule.
        message: String,
    },
    /// More than a limit allows.
    #[error("{field} is larger than {limit} {unit}")]
    TooLarge {
        /// The field, as the HTTP API names it.
        field: &'static str,
        /// Most there may be.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
    /// No more runs may come into line in a queue before some have begun. Source: facts K5.
    #[error(
        "the queue {queue} is full: it takes {size} runs that have not begun; trigger this again once some have, or raise --max-queued"
    )]
    QueueFull {
        /// The queue's name.
        queue: String,
        /// Most runs in line.
        size: u64,
    },
    /// The database cannot be reached: the same may work later.
    #[error("the database is not available")]
    Unavailable(#[source] StoreError),
    /// A fault of ours.
    #[error("the verb failed")]
    Internal(#[source] anyhow::Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        match error {
            StoreError::Unavailable(_) | StoreError::Undone(_) => Error::Unavailable(error),
            _ => Error::Internal(error.into()),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        StoreError::from(error).into()
    }
}

impl From<Illegal> for Error {
    fn from(illegal: Illegal) -> Error {
        Error::Conflict(illegal.to_string())
    }
}

impl From<BadKey> for Error {
    fn from(bad: BadKey) -> Error {
        Error::invalid("metadata", bad.to_string())
    }
}

impl From<BadTiming> for Error {
    fn from(bad: BadTiming) -> Error {
        Error::invalid(bad.field, bad.message)
    }
}

impl Error {
    fn not_found(what: &'static str) -> Error {
        Error::NotFound { what }
    }

    fn invalid(field: &'static str, message: impl Into<String>) -> Error {
        Error::Invalid { field, message: message.into() }
    }
}
