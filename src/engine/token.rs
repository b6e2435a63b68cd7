//! Tokens.
use crate::{engine::{Error, journal::Call}, model::{attempt::Lease, token::NewToken, id::{EnvironmentId, WaitpointId}}, store::Store};
/// A token that was made or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// The waitpoint.
    pub id: WaitpointId,
    /// An earlier call with the same key made it.
    pub is_cached: bool,
}
/// Makes a token.
pub async fn create(store: &Store, environment: EnvironmentId, token: NewToken) -> Result<Created, Error> { todo!() }
/// Makes a token for a run; the same call made again gets the same token.
pub async fn create_in_run(store: &Store, lease: &Lease, call: Call, token: NewToken) -> Result<Created, Error> { todo!() }
