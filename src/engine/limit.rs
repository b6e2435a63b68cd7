//! Pauses concurrency limits and overrides their bounds, for all their runs or for those with one concurrency key. Runs that execute
//! already are left alone. Source: facts A17, K4.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{
    engine::Error,
    model::{
        id::EnvironmentId,
        limit::{KEY_TTL, KeyLimit, Limit},
        queue::MAX_CONCURRENCY,
    },
    store::{Store, limits, notify},
};

/// Longest concurrency key, in characters. Source: facts 7.6.
const MAX_KEY_CHARS: usize = 128;
/// Most exceptions of one limit at a time: every claim reads them.
const MAX_EXCEPTIONS: u64 = 1000;

/// What shall be otherwise.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// It lets nothing through.
    Pause,
    /// It lets runs through again.
    Resume,
    /// These bounds hold, 0 to [`MAX_CONCURRENCY`]; none: as before.
    Override {
        /// Of all its runs.
        total: Option<u32>,
        /// Of those with one key.
        per_key: Option<u32>,
    },
    /// The declared bounds hold again. Exceptions for keys stay.
    Reset,
}

/// Changes the limit with this name.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] with a bound above [`MAX_CONCURRENCY`], or without any.
pub async fn change(store: &Store, environment: EnvironmentId, name: String, change: Change) -> Result<Limit, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                let limit = find(tx, environment, &name).await?.id;
                match change {
                    Change::Pause => limits::set_paused(tx, limit, true).await?,
                    Change::Resume => limits::set_paused(tx, limit, false).await?,
                    Change::Override { total: None, per_key: None } => {
                        return Err(Error::invalid("total", "give at least one of total and perKey"));
                    }
                    Change::Override { total, per_key } => {
                        bounded("total", total)?;
                        bounded("perKey", per_key)?;
                        limits::set_by_hand(tx, limit, total, per_key).await?;
                    }
                    Change::Reset => limits::reset(tx, limit).await?,
                }
                // Whatever the new rule is, the next claim applies it to whoever is in line.
                notify::line(tx).await?;
                find(tx, environment, &name).await
            })
        })
        .await
}

/// Makes an exception of a limit for one concurrency key, for a while (a week, at most 30 days); none: ends it.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] if the bound, the key or the time is out of range; [`Error::Conflict`] if the limit has
/// 1000 exceptions.
pub async fn except(
    store: &Store,
    environment: EnvironmentId,
    name: String,
    key: String,
    exception: Option<(u32, Option<Duration>)>,
) -> Result<KeyLimit, Error> {
    if key.is_empty() || key.contains('\0') || key.chars().count() > MAX_KEY_CHARS {
        return Err(Error::invalid("concurrencyKey", format!("a key has 1 to {MAX_KEY_CHARS} characters, none of them NUL")));
    }
    let (usual, longest) = KEY_TTL;
    if let Some((bound, ttl)) = exception {
        bounded("perKey", Some(bound))?;
        if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > longest) {
            return Err(Error::invalid("ttl", "an exception holds for 1 second to 30 days"));
        }
    }
    store
        .tx(move |tx| {
            Box::pin(async move {
                let limit = find(tx, environment, &name).await?;
                match exception {
                    None => limits::end_exception(tx, limit.id, &key).await?,
                    Some((bound, ttl)) => {
                        limits::set_exception(tx, limit.id, &key, bound, ttl.unwrap_or(usual)).await?;
                        if limits::count_exceptions(tx, limit.id).await? > MAX_EXCEPTIONS {
                            return Err(Error::Conflict(format!("the limit has {MAX_EXCEPTIONS} exceptions: end some first")));
                        }
                    }
                }
                notify::line(tx).await?;
                Ok(limits::of_key(tx, environment, limit, &key).await?)
            })
        })
        .await
}

async fn find(tx: &mut PgConnection, environment: EnvironmentId, name: &str) -> Result<Limit, Error> {
    limits::find(tx, environment, name).await?.ok_or(Error::not_found("concurrency limit"))
}

fn bounded(field: &'static str, bound: Option<u32>) -> Result<(), Error> {
    if bound.is_some_and(|bound| bound > MAX_CONCURRENCY) {
        return Err(Error::invalid(field, format!("a limit is at most {MAX_CONCURRENCY}")));
    }
    Ok(())
}
