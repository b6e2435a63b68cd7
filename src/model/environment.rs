//! Projects, their environments, and the keys that open them. Source: facts N1, N2.

use chrono::{DateTime, Utc};
use secrecy::SecretString;

pub use super::context::EnvironmentKind;
use super::id::{ApiKeyId, DeploymentId, EnvironmentId, ProjectId};

/// Longest name of a branch, in characters.
pub const MAX_BRANCH_CHARS: usize = 255;

/// An environment with what its project is called: the scope of every request and of every run.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The environment.
    pub id: EnvironmentId,
    /// What kind it is.
    pub kind: EnvironmentKind,
    /// The branch that it is for, and the preview environment that it belongs to; none for all others.
    pub branch: Option<Branch>,
    /// Its project.
    pub project: ProjectId,
    /// The project's public reference, `proj_…`.
    pub project_ref: String,
    /// The project's name.
    pub project_name: String,
    /// The newest root key, of a branch that of its parent. Public access tokens are signed with it.
    pub root_key: SecretString,
    /// Root keys that were rotated and are still good: what was signed with them is accepted. Source: facts 2.2.
    pub earlier_root_keys: Vec<SecretString>,
    /// What new runs start on; none before the first promotion.
    pub current_deployment: Option<DeploymentId>,
}

impl Environment {
    /// Every root key that is good, the newest first.
    pub fn root_keys(&self) -> impl Iterator<Item = &SecretString> {
        std::iter::once(&self.root_key).chain(&self.earlier_root_keys)
    }

    /// The environment that has the keys: a branch's parent, else itself.
    pub fn key_holder(&self) -> EnvironmentId {
        self.branch.as_ref().map_or(self.id, |branch| branch.parent)
    }
}

/// A branch of a repository, as an environment of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// As the repository calls it.
    pub name: String,
    /// The project's preview environment.
    pub parent: EnvironmentId,
}

/// A text that cannot be a branch's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a branch's name has 1 to {MAX_BRANCH_CHARS} characters, and none that git refuses: spaces, ~ ^ : ? * [ \\\\ and ..")]
pub struct BadBranch;

/// The name of a branch as it is stored: `refs/heads/` in front of it is left out.
///
/// # Errors
/// [`BadBranch`].
pub fn branch_name(text: &str) -> Result<String, BadBranch> {
    let name = text.trim().trim_start_matches("refs/heads/");
    let refused = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let fits = (1..=MAX_BRANCH_CHARS).contains(&name.chars().count());
    let well_formed = !name.contains("..") && !name.starts_with('/') && !name.ends_with('/') && !name.contains(refused);
    if fits && well_formed { Ok(name.to_owned()) } else { Err(BadBranch) }
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

/// How an environment stands. Source: facts K1, K8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Of all its runs, how many may execute at a time; none: any number.
    pub concurrency_limit: Option<u32>,
    /// Nothing may begin.
    pub is_paused: bool,
    /// Runs in line.
    pub queued: u64,
    /// Runs that a worker has.
    pub running: u64,
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

/// A key as people may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// For people.
    pub name: String,
    /// What it is for.
    pub kind: ApiKeyKind,
    /// How it ends: enough to tell keys apart.
    pub hint: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_called_as_git_would_let_it_be() {
        assert_eq!(branch_name("refs/heads/feature/a-1").as_deref(), Ok("feature/a-1"));
        assert_eq!(branch_name(" fix/ümlaut#2 ").as_deref(), Ok("fix/ümlaut#2"));
        let long = "x".repeat(256);
        for wrong in ["", "refs/heads/", "a b", "a..b", "a\\b", "a:b", "/a", "a/", "a\0b", long.as_str()] {
            assert_eq!(branch_name(wrong), Err(BadBranch), "{wrong:?}");
        }
    }
}
