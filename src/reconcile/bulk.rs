//! Carries out bulk actions: each that is not over gets its turn, some runs at a time. If this does not run, they stay pending.

use crate::{
    engine::{self, bulk},
    store::{self, Store, bulk_actions},
};

/// Most actions that take turns.
const AT_ONCE: i64 = 20;

/// Goes on until no action has anything left that this process can do, and returns how many turns that took. An action that cannot be
/// gone on with does not keep others from it: it is tried again later.
///
/// # Errors
/// If the database does not answer.
pub async fn tick(store: &Store) -> Result<u64, engine::Error> {
    let mut turns = 0;
    loop {
        let mut goes_on = false;
        for action in store::in_time(bulk_actions::pending(store, AT_ONCE)).await? {
            match bulk::advance(store, &action).await {
                Ok(more) => goes_on |= more,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(bulk_action.id = %action.id, error, "a bulk action could not be gone on with");
                }
            }
            turns += 1;
        }
        if !goes_on {
            return Ok(turns);
        }
    }
}
