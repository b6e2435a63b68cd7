//! Looks at what can be waited for, and completes it. Source: facts F4, F5, F11.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::Error,
    model::{
        id::{EnvironmentId, WaitpointId},
        payload::{MAX_PAYLOAD_BYTES, Packet},
        waitpoint::{Completion, Resolution, WaitRequest},
    },
    store::{
        Store, line, notify,
        waitpoints::{self, Seen},
    },
};

/// Most things that one wait may name.
pub const MAX_WAITPOINTS: usize = 1000;

/// What is complete already of these, each with its place in the list. Writes nothing.
///
/// # Errors
/// [`Error::NotFound`] if one is not in the environment; [`Error::Invalid`] for none or more than 1000.
pub async fn look(store: &Store, environment: EnvironmentId, waitpoints: &[WaitpointId]) -> Result<Vec<Completion>, Error> {
    check_count(waitpoints)?;
    let seen = waitpoints::see(&mut *store.read().await?, Some(environment), waitpoints).await?;
    in_order(&by_id(seen), waitpoints)
}

pub(super) fn check_count(waitpoints: &[WaitpointId]) -> Result<(), Error> {
    if waitpoints.is_empty() || waitpoints.len() > MAX_WAITPOINTS {
        return Err(Error::invalid("waitpoints", format!("a wait names 1 to {MAX_WAITPOINTS} waitpoints")));
    }
    Ok(())
}

type Resolutions = HashMap<WaitpointId, Option<Resolution>>;

fn by_id(seen: Vec<Seen>) -> Resolutions {
    seen.into_iter().map(|seen| (seen.id, seen.resolution)).collect()
}

fn in_order(seen: &Resolutions, asked: &[WaitpointId]) -> Result<Vec<Completion>, Error> {
    let mut completions = Vec::new();
    for (index, id) in (0..).zip(asked) {
        let resolution = seen.get(id).ok_or(Error::not_found("waitpoint"))?;
        completions.extend(resolution.clone().map(|resolution| Completion { index, resolution }));
    }
    Ok(completions)
}

/// What waits that are over came to, in their order; read at once for all of them. What they name was checked when their
/// runs were suspended.
pub(super) async fn completions(tx: &mut PgConnection, waits: &[&WaitRequest]) -> Result<Vec<Vec<Completion>>, Error> {
    let named = waits.iter().flat_map(|wait| match wait {
        WaitRequest::Any { waitpoints } => waitpoints.as_slice(),
        WaitRequest::Sleep { .. } | WaitRequest::Timer { .. } => &[],
    });
    let named: Vec<WaitpointId> = named.copied().collect();
    let seen = if named.is_empty() { Vec::new() } else { waitpoints::see(tx, None, &named).await? };
    let seen = by_id(seen);
    let of = |wait: &&WaitRequest| match wait {
        WaitRequest::Sleep { .. } => Ok(Vec::new()),
        WaitRequest::Timer { .. } => Ok(vec![Completion { index: 0, resolution: Resolution::Elapsed }]),
        WaitRequest::Any { waitpoints } => in_order(&seen, waitpoints),
    };
    waits.iter().map(of).collect()
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

/// These waitpoints are complete: whoever waits for one of them comes back into line.
pub(super) async fn wake_blocked(tx: &mut PgConnection, completed: &[Uuid]) -> Result<(), Error> {
    if completed.is_empty() {
        return Ok(());
    }
    notify::waitpoints(tx, completed).await?;
    let blocked = waitpoints::blocked_by(tx, completed).await?;
    if blocked.is_empty() {
        return Ok(());
    }
    Ok(line::wake_waiting(tx, &blocked).await?)
}
