//! Projects, their environments, and the keys that open them. Source: facts N1, N2.

use chrono::{DateTime, Utc};
use secrecy::SecretString;

pub use super::context::EnvironmentKind;
use super::id::{DeploymentId, EnvironmentId, ProjectId};

/// An environment with what its project is called: the scope of every request and of every run.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The environment.
    pub id: EnvironmentId,
    /// What kind it is.
    pub kind: EnvironmentKind,
    /// Its project.
    pub project: ProjectId,
    /// The project's public reference, `proj_…`.
    pub project_ref: String,
    /// The project's name.
    pub project_name: String,
    /// The newest root key. Public access tokens are signed with it.
    pub root_key: SecretString,
    /// What new runs start on; none before the first promotion.
    pub current_deployment: Option<DeploymentId>,
}

/// An environment variable.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: SecretString,
    /// Never shown again once written.
    pub is_secret: bool,
}

/// An environment variable that shall be set. Source: facts N7.
#[derive(Debug, Clone)]
pub struct NewVariable {
    /// 1 to 256 of `A-Z a-z 0-9 _`.
    pub name: String,
    /// At most 64 KiB.
    pub value: SecretString,
    /// None: as the variable of that name is, and no secret if there is none.
    pub is_secret: Option<bool>,
}

/// A project that shall exist.
#[derive(Debug, Clone)]
pub struct NewProject {
    /// Public reference, `proj_…`; unique.
    pub project_ref: String,
    /// For people.
    pub name: String,
}

/// A key that shall open an environment.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// For people.
    pub name: String,
    /// The key itself, `tr_dev_…`.
    pub secret: SecretString,
    /// A root key also signs public access tokens, so it is stored as it is; of any other only the hash is kept.
    pub kind: ApiKeyKind,
    /// When it stops opening anything; none: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKeyKind {
    /// The environment's own.
    Root,
    /// One more, given to somebody.
    Additional,
}
