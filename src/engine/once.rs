//! Calls with a token that is good for one: what the token is used for is written with what the call makes, or not at all. Source:
//! facts 2.3.
//!
//! The same request sent again gets what it made; another request with the same token is refused. A call that is refused for
//! another reason has not used the token up.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{
        Error, batch,
        batch::Created,
        trigger::{normal, trigger_child},
    },
    model::{
        batch::{Item, NewBatch},
        id::{BatchId, EnvironmentId, RunId},
        trigger::{NewRun, Triggered},
    },
    store::{
        Store, batches,
        one_time_tokens::{self, Digest, Use},
    },
};

/// A token that is good for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Which: tokens that were signed in the same second with the same claims are one.
    pub digest: Digest,
    /// From when on nobody can come with it.
    pub expires_at: DateTime<Utc>,
}

/// Makes the run that the token is good for.
///
/// # Errors
/// [`Error::Conflict`] if the token was used by another request, and those of [`trigger`](super::trigger::trigger).
pub async fn trigger(store: &Store, environment: EnvironmentId, ticket: Ticket, new: NewRun) -> Result<Triggered, Error> {
    let (new, rooms) = (normal(new)?, store.rooms().clone());
    store
        .tx(move |tx| {
            Box::pin(async move {
                if let Some(made) = redeem(tx, environment, &ticket, new.request_key.as_deref(), &new.task).await? {
                    return Ok(Triggered { id: RunId::from_uuid(made), is_cached: false });
                }
                let triggered = trigger_child(tx, &rooms, environment, new).await?;
                one_time_tokens::note(tx, environment, &ticket.digest, triggered.id.uuid()).await?;
                Ok(triggered)
            })
        })
        .await
}

/// Makes the batch that the token is good for, with all its items or to be filled.
///
/// # Errors
/// [`Error::Conflict`] if the token was used by another request, and those of [`batch::create`].
pub async fn create_batch(
    store: &Store,
    environment: EnvironmentId,
    ticket: Ticket,
    new: NewBatch,
    items: Option<Vec<Item>>,
) -> Result<Created, Error> {
    let new = batch::normal(new)?;
    let (items, rooms) = (items.map(batch::kept_all).transpose()?, store.rooms().clone());
    store
        .tx(move |tx| {
            Box::pin(async move {
                if let Some(made) = redeem(tx, environment, &ticket, new.request_key.as_deref(), "a batch").await? {
                    let id = BatchId::from_uuid(made);
                    let held = batches::hold(tx, environment, id).await?.ok_or(Error::not_found("batch"))?;
                    return Ok(Created { id, run_count: held.run_count, is_cached: held.stage.is_sealed() });
                }
                let created = match items {
                    Some(items) => batch::create_filled_in(tx, &rooms, environment, &new, &items).await?,
                    None => batch::create_in(tx, environment, &new).await?,
                };
                one_time_tokens::note(tx, environment, &ticket.digest, created.id.uuid()).await?;
                Ok(created)
            })
        })
        .await
}

/// What the same request made with the token before; none if nobody has used it.
async fn redeem(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    ticket: &Ticket,
    request_key: Option<&str>,
    what: &str,
) -> Result<Option<Uuid>, Error> {
    let Ticket { digest, expires_at } = ticket;
    match one_time_tokens::redeem(tx, environment, digest, request_key, *expires_at).await? {
        None => Ok(None),
        Some(Use { request_key: Some(key), made: Some(made) }) if Some(key.as_str()) == request_key => Ok(Some(made)),
        Some(_) => Err(Error::Conflict(format!("Cannot trigger {what} with a one-time use token as it has already been used."))),
    }
}
