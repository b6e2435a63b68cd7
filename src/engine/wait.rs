//! Looks at what can be waited for, and completes it. Source: facts F4, F5, F11.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{Error, answer},
    model::{
        id::{BatchId, EnvironmentId, RunId, WaitpointId},
        payload::{MAX_PAYLOAD_BYTES, Packet},
        waitable::Waitable,
        waitpoint::Completion,
    },
    store::{Store, batches, edges, notify, waitpoints},
};

/// Most things that one wait may name.
pub const MAX_WAITABLES: usize = 1000;
/// Most of them that may be batches: each stands for as many as 1000 runs.
const MAX_BATCHES: usize = 10;

/// What is complete already of these, each with its place in the list; not all of it if that would be more than one answer holds.
/// Writes nothing.
///
/// # Errors
/// [`Error::NotFound`] if one is not in the environment; [`Error::Conflict`] for a batch that is not made yet;
/// [`Error::Invalid`] for none, more than 1000, or more than 10 batches.
pub async fn look(store: &Store, environment: EnvironmentId, waitables: &[Waitable]) -> Result<Vec<Completion>, Error> {
    check_count(waitables)?;
    answer::of_waitables(&mut *store.read().await?, environment, waitables).await
}

/// The runs whose news concern who waits for these: those that are named, and those of batches that are.
///
/// # Errors
/// If the database does not answer.
pub async fn runs_in(store: &Store, environment: EnvironmentId, waitables: &[Waitable]) -> Result<HashSet<RunId>, Error> {
    let of_kind = |waitable: &Waitable| if let Waitable::Batch(id) = waitable { Some(*id) } else { None };
    let batches: Vec<BatchId> = waitables.iter().filter_map(of_kind).collect();
    let single = waitables.iter().filter_map(|waitable| if let Waitable::Run(id) = waitable { Some(*id) } else { None });
    let mut runs: HashSet<RunId> = single.collect();
    if !batches.is_empty() {
        let members = batches::runs_of(&mut *store.read().await?, Some(environment), &batches).await?;
        runs.extend(members.into_iter().map(|(_, run)| RunId::from_uuid(run)));
    }
    Ok(runs)
}

pub(super) fn check_count(waitables: &[Waitable]) -> Result<(), Error> {
    if waitables.is_empty() || waitables.len() > MAX_WAITABLES {
        return Err(Error::invalid("waitables", format!("a wait names 1 to {MAX_WAITABLES} things to wait for")));
    }
    if waitables.iter().filter(|waitable| matches!(waitable, Waitable::Batch(_))).count() > MAX_BATCHES {
        return Err(Error::invalid("waitables", format!("a wait names at most {MAX_BATCHES} batches")));
    }
    Ok(())
}

/// Completes a token and puts the runs that wait for it back into line. False if it was completed or timed out before:
/// then nothing happens. Source: facts F5.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::TooLarge`] for a value above 3 MiB.
pub async fn complete(store: &Store, environment: EnvironmentId, token: WaitpointId, value: Packet) -> Result<bool, Error> {
    if value.data.len() > MAX_PAYLOAD_BYTES {
        return Err(Error::TooLarge { field: "data", limit: MAX_PAYLOAD_BYTES, unit: "bytes" });
    }
    store
        .tx(move |tx| {
            Box::pin(async move {
                if !waitpoints::complete(tx, environment, token, &value).await? {
                    let exists = waitpoints::token_exists(tx, environment, token).await?;
                    return if exists { Ok(false) } else { Err(Error::not_found("token")) };
                }
                wake_blocked(tx, &[token.uuid()]).await?;
                Ok(true)
            })
        })
        .await
}

/// These waitpoints are complete: whoever has nothing left to wait for comes back into line.
pub(super) async fn wake_blocked(tx: &mut PgConnection, completed: &[Uuid]) -> Result<(), Error> {
    if completed.is_empty() {
        return Ok(());
    }
    notify::waitpoints(tx, completed).await?;
    let blocked = edges::blocked_by(tx, completed).await?;
    Ok(edges::meet(tx, completed, &blocked).await?)
}
