//! Waits.
use crate::{engine::Error, model::{payload::Packet, waitpoint::Completion, id::{EnvironmentId, WaitpointId}}, store::Store};
/// What is complete already of these; index = place in the list.
pub async fn look(store: &Store, environment: EnvironmentId, waitpoints: &[WaitpointId]) -> Result<Vec<Completion>, Error> { todo!() }
/// Completes a token; false if it was complete already.
pub async fn complete(store: &Store, environment: EnvironmentId, token: WaitpointId, value: Packet) -> Result<bool, Error> { todo!() }
