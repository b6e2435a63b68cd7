//! Runs.
use chrono::{DateTime, Utc};
use crate::{model::{id::{EnvironmentId, RunId, RunKind}, run::{Run, RunDetail, RunStatus}}, store::{Listing, Page, Store, StoreError}};
/// Which runs a list shows; an empty list filters nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// With one of these statuses.
    pub statuses: Vec<RunStatus>,
    /// Of one of these tasks.
    pub tasks: Vec<String>,
    /// With at least one of these tags.
    pub tags: Vec<String>,
    /// Triggered at this time or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Triggered at this time or earlier.
    pub created_to: Option<DateTime<Utc>>,
}
/// A run as lists show it.
pub async fn get(store: &Store, environment: EnvironmentId, id: RunId) -> Result<Option<Run>, StoreError> { todo!() }
/// A run with all there is to see.
pub async fn detail(store: &Store, environment: EnvironmentId, id: RunId) -> Result<Option<RunDetail>, StoreError> { todo!() }
/// Runs, newest first.
pub async fn list(store: &Store, environment: EnvironmentId, filter: &Filter, page: Page<RunKind>) -> Result<Listing<Run, RunKind>, StoreError> { todo!() }
