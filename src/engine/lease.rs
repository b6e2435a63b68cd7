//! Leases.
use std::time::Duration;
use crate::{engine::Error, model::{attempt::*, id::{RunId, WorkerId}}, store::Store};
/// What became of leases that were to be renewed. Runs that are in neither list were renewed and go on.
#[derive(Debug, Default)]
pub struct Renewed {
    /// Somebody else has them, or nobody: drop the instance, write nothing.
    pub lost: Vec<RunId>,
    /// Renewed, but to be ended: `finish` them with `TaskRunCancelled`.
    pub cancel: Vec<RunId>,
}
/// Leases runs.
pub async fn claim(store: &Store, worker: WorkerId, max: u32, lease_for: Duration) -> Result<Vec<Claimed>, Error> { todo!() }
/// Renews leases.
pub async fn renew(store: &Store, worker: WorkerId, leases: &[(RunId, i64)], lease_for: Duration) -> Result<Renewed, Error> { todo!() }
/// Gives a run back.
pub async fn give_back(store: &Store, lease: &Lease) -> Result<(), Error> { todo!() }
/// Takes back runs whose lease is over.
pub async fn expire(store: &Store, max: u32) -> Result<u32, Error> { todo!() }
