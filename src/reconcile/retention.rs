//! Deletes what has been over for longer than the operator keeps it: runs with all that belongs to them, batches, tokens and
//! timers. If this does not run, nothing is lost but room. What goes on is never deleted, nor what it may still ask for: see
//! [`store::retention`](crate::store::retention).

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    engine,
    store::{
        Store, clock,
        retention::{self, Stepped, Walk},
    },
};

/// Most rows of one transaction.
const STEP: i64 = 500;
/// Pause after each, so that deleting much at once takes no more than its share of the database.
const PAUSE: Duration = Duration::from_millis(20);

/// What was deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Runs.
    pub runs: u64,
    /// Batches.
    pub batches: u64,
    /// Tokens and timers.
    pub waitpoints: u64,
}

/// Deletes all that has been over for longer than `keep`.
///
/// # Errors
/// If the database does not answer; what was deleted until then is.
pub async fn tick(store: &Store, keep: Duration) -> Result<Swept, engine::Error> {
    let now = clock::now(&mut *store.read().await?).await?;
    let over_by = now.checked_sub_signed(chrono::Duration::from_std(keep).unwrap_or(chrono::Duration::MAX));
    let Some(over_by) = over_by.filter(|time| *time > DateTime::UNIX_EPOCH) else { return Ok(Swept::default()) };
    let begin = Walk { after: Uuid::nil(), before: first_id(over_by), over_by, step: STEP };
    // In this order: a batch goes once its runs have, and what a run made once that is final.
    let mut swept = Swept::default();
    let mut walk = begin;
    while walk.after < walk.before {
        let stepped = store.tx(move |tx| Box::pin(async move { retention::runs(tx, &walk).await })).await?;
        swept.runs += go_on(&mut walk, stepped).await;
    }
    walk = begin;
    while walk.after < walk.before {
        let stepped = store.tx(move |tx| Box::pin(async move { retention::batches(tx, &walk).await })).await?;
        swept.batches += go_on(&mut walk, stepped).await;
    }
    walk = begin;
    while walk.after < walk.before {
        let stepped = store.tx(move |tx| Box::pin(async move { retention::waitpoints(tx, &walk).await })).await?;
        swept.waitpoints += go_on(&mut walk, stepped).await;
    }
    Ok(swept)
}

/// Moves on to what the step has not looked at, and returns how many rows it deleted.
async fn go_on(walk: &mut Walk, stepped: Stepped) -> u64 {
    walk.after = stepped.last.unwrap_or(walk.before);
    if stepped.last.is_some() {
        tokio::time::sleep(PAUSE).await;
    }
    stepped.deleted
}

/// Below every id that was made at that time or later.
fn first_id(at: DateTime<Utc>) -> Uuid {
    Uuid::from_u128((at.timestamp_millis().unsigned_abs() as u128) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::RunId;

    #[test]
    fn ids_are_told_apart_by_when_they_were_made() {
        let id = RunId::new().uuid();
        assert!(first_id(Utc::now() - chrono::Duration::seconds(1)) < id);
        assert!(first_id(Utc::now() + chrono::Duration::seconds(1)) > id);
    }
}
