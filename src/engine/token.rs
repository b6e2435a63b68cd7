//! Makes tokens: waitpoints that anyone who holds their id may complete. Source: facts F4-F6, 7.4.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{
    engine::{
        Error,
        journal::{self, Call},
        tags, trigger,
    },
    model::{
        attempt::Lease,
        id::{EnvironmentId, RunId, WaitpointId},
        key,
        token::NewToken,
        trigger::MAX_KEY_CHARS,
        waitpoint::{Idempotency, WaitpointKind},
    },
    store::{
        Store, notify,
        waitpoints::{self, NewWaitpoint},
    },
};

/// Times that a key may change hands while we look.
const MAX_ROUNDS: u32 = 3;

/// A token that was made or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The waitpoint.
    pub id: WaitpointId,
    /// An earlier call with the same key made it.
    pub is_cached: bool,
}

/// Makes a token, or finds the one with the same idempotency key.
///
/// # Errors
/// [`Error::Invalid`] for tags or a key that break a rule.
pub async fn create(store: &Store, environment: EnvironmentId, token: NewToken) -> Result<Created, Error> {
    let token = normal(token)?;
    store.tx(move |tx| Box::pin(async move { create_in(tx, environment, &token, None).await })).await
}

/// Makes a token for a run. The same call made again after its host was lost gets the same token.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::Invalid`] for tags or a key that break a rule.
pub async fn create_in_run(store: &Store, lease: &Lease, call: Call, token: NewToken) -> Result<Created, Error> {
    let token = normal(token)?;
    let lease = *lease;
    store
        .tx(move |tx| {
            Box::pin(async move {
                // The timeout is left out: the guest computes it from the time, which differs when it asks again.
                let arguments = (&token.idempotency, &token.tags, token.timeout_at.is_some());
                journal::once(tx, &lease, call, "create-token", &arguments, async |tx, environment| {
                    create_in(tx, environment, &token, Some(lease.run)).await
                })
                .await
            })
        })
        .await
}

async fn create_in(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    token: &NewToken,
    maker: Option<RunId>,
) -> Result<Created, Error> {
    let (kind, due_at) = (WaitpointKind::Token, token.timeout_at);
    let created = ensure(tx, environment, kind, due_at, token.idempotency.as_ref(), &token.tags, maker).await?;
    if token.timeout_at.is_some() && !created.is_cached {
        notify::timers(tx).await?;
    }
    Ok(created)
}

fn normal(mut token: NewToken) -> Result<NewToken, Error> {
    token.tags = tags::merge(Vec::new(), token.tags)?;
    check_key(token.idempotency.as_ref())?;
    Ok(token)
}

pub(super) fn check_key(idempotency: Option<&Idempotency>) -> Result<(), Error> {
    match idempotency {
        Some(Idempotency { key, .. }) if key.is_empty() => Err(Error::invalid("idempotencyKey", "the idempotency key is empty")),
        Some(Idempotency { key, .. }) => trigger::text_only("idempotencyKey", key, MAX_KEY_CHARS),
        None => Ok(()),
    }
}

/// Makes a waitpoint, or finds the one with the same key.
pub(super) async fn ensure(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    kind: WaitpointKind,
    due_at: Option<chrono::DateTime<chrono::Utc>>,
    idempotency: Option<&Idempotency>,
    tags: &[String],
    maker: Option<RunId>,
) -> Result<Created, Error> {
    let key = idempotency.map(|idempotency| key::indexed(idempotency.key.clone()));
    let farthest = trigger::FARTHEST.as_millis() as u64;
    let new = NewWaitpoint {
        kind,
        // A guest may name a time that Postgres has no room for.
        due_at: due_at.map(|at| at.max(chrono::DateTime::UNIX_EPOCH)),
        idempotency_key: key.as_deref(),
        key_ttl_ms: idempotency.and_then(|idempotency| idempotency.ttl_ms).map(|ms| ms.min(farthest) as i64),
        tags,
        maker,
    };
    for _ in 0..MAX_ROUNDS {
        if let Some(id) = waitpoints::insert(tx, environment, &new).await? {
            return Ok(Created { id, is_cached: false });
        }
        let key = new.idempotency_key.unwrap_or_default();
        if let Some(id) = waitpoints::holder_of_key(tx, environment, kind, key).await? {
            return Ok(Created { id, is_cached: true });
        }
    }
    Err(Error::Conflict("the idempotency key is being used by other requests".into()))
}
