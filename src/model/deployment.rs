//! A bundle that was deployed: never changed, and kept as long as a run may resume on it. Source: facts N3-N6.

use chrono::{DateTime, Utc};

use super::{
    id::{DeploymentId, EnvironmentId},
    task::{BundleDefinition, TaskDefinition},
};

/// Longest external id of a deployment, in characters. Source: facts A26.
pub const MAX_EXTERNAL_ID_CHARS: usize = 128;

/// A checked bundle, whose component is already in the blob store.
#[derive(Debug, Clone)]
pub struct NewDeployment {
    /// Digest of the component as it was uploaded, lower-case hex.
    pub component: String,
    /// What the bundle says of itself.
    pub definition: BundleDefinition,
    /// The user's own name for it, at most 128 characters.
    pub external_id: Option<String>,
    /// Whether new runs shall start on it from now on.
    pub promotion: Promotion,
}

/// Whether a deployment becomes the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// At once.
    Promote,
    /// Later, by hand.
    Skip,
}

/// A deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Where it is deployed.
    pub environment: EnvironmentId,
    /// `YYYYMMDD.N`.
    pub version: String,
    /// Digest of the component as it was uploaded.
    pub component: String,
    /// Name and version of the SDK.
    pub sdk: String,
    /// The user's own name for it.
    pub external_id: Option<String>,
    /// When it was deployed.
    pub created_at: DateTime<Utc>,
    /// New runs start on it.
    pub is_current: bool,
    /// Its tasks, by id.
    pub tasks: Vec<TaskDefinition>,
}
