//! Keeps a run's effectful calls from happening twice: each is numbered from the last checkpoint on, and its answer is kept
//! until the next. A run that lost its host goes on from the checkpoint, makes the same call again and gets the same
//! answer; if it makes another call at the same place, that acts anew.

use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;

use crate::{
    engine::Error,
    model::{attempt::Lease, id::EnvironmentId},
    store::journal,
};

/// The place of an effectful call in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Sequence of the checkpoint that the run went on from; 0 if its attempt began from the start.
    pub sequence: u64,
    /// The call's number since then, from 0.
    pub ordinal: u32,
}

/// Most calls between two checkpoints that are kept.
const MAX_CALLS: u32 = 100_000;

/// Answers a call from the journal, or lets `act` happen and keeps its answer, in the transaction at hand.
pub(super) async fn once<A, T>(
    tx: &mut PgConnection,
    lease: &Lease,
    call: Call,
    function: &str,
    arguments: &A,
    act: impl AsyncFnOnce(&mut PgConnection, EnvironmentId) -> Result<T, Error>,
) -> Result<T, Error>
where
    A: Serialize,
    T: Serialize + DeserializeOwned,
{
    if call.ordinal >= MAX_CALLS {
        return Err(Error::TooLarge { field: "calls", limit: MAX_CALLS as usize, unit: "calls between two waits" });
    }
    let environment = journal::lock(tx, lease).await?.ok_or(Error::LostLease)?;
    let digest = digest(function, arguments)?;
    if let Some(kept) = journal::answer(tx, lease.run, call.sequence, call.ordinal, &digest).await? {
        return serde_json::from_value(kept).map_err(|error| Error::Internal(error.into()));
    }
    let answer = act(&mut *tx, environment).await?;
    let kept = serde_json::to_value(&answer).map_err(|error| Error::Internal(error.into()))?;
    journal::keep(tx, lease.run, call.sequence, call.ordinal, &digest, &kept).await?;
    Ok(answer)
}

fn digest<A: Serialize>(function: &str, arguments: &A) -> Result<[u8; 32], Error> {
    let bytes = serde_json::to_vec(&(function, arguments)).map_err(|error| Error::Internal(error.into()))?;
    Ok(blake3::hash(&bytes).into())
}
