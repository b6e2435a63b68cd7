//! Waitpoints.
use chrono::{DateTime, Utc};
use crate::{model::{waitpoint::{Token, WaitpointStatus}, id::{EnvironmentId, WaitpointId, WaitpointKind}}, store::{Listing, Page, Store, StoreError}};
/// Which tokens a list shows; an empty list filters nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// With one of these statuses.
    pub statuses: Vec<WaitpointStatus>,
    /// Made with this key.
    pub idempotency_key: Option<String>,
    /// With at least one of these tags.
    pub tags: Vec<String>,
    /// Made at this time or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Made at this time or earlier.
    pub created_to: Option<DateTime<Utc>>,
}
/// A token.
pub async fn get_token(store: &Store, environment: EnvironmentId, id: WaitpointId) -> Result<Option<Token>, StoreError> { todo!() }
/// A token by its id alone, with its environment: for its callback address, which names nothing else.
pub async fn find_token(store: &Store, id: WaitpointId) -> Result<Option<(EnvironmentId, Token)>, StoreError> { todo!() }
/// Tokens, newest first.
pub async fn list_tokens(store: &Store, environment: EnvironmentId, filter: &Filter, page: Page<WaitpointKind>) -> Result<Listing<Token, WaitpointKind>, StoreError> { todo!() }
