//! Makes the environment of a branch: with what is first deployed to it, or with its first variable. Source: facts N1.

use crate::{
    engine::Error,
    model::{
        environment::{Environment, EnvironmentKind, branch_name},
        id::EnvironmentId,
    },
    store::{Store, deployments, environments},
};

/// Most branches of a project.
pub const MAX_BRANCHES: u64 = 10_000;

/// Makes the environment of a branch of this preview environment, or finds it.
///
/// # Errors
/// [`Error::Invalid`] for what cannot be a branch's name, or if the environment is none for previews; [`Error::Conflict`] beyond
/// 10,000 branches.
pub async fn ensure(store: &Store, preview: &Environment, name: &str) -> Result<Environment, Error> {
    let name = branch_name(name).map_err(|error| Error::invalid("branch", error.to_string()))?;
    if preview.kind != EnvironmentKind::Preview || preview.branch.is_some() {
        return Err(Error::invalid("branch", "only the preview environment has branches"));
    }
    let parent = preview.id;
    if let Some(found) = environments::of_branch(store, parent, &name).await? {
        return Ok(found);
    }
    let limit = store.environment_limit();
    let id: EnvironmentId = store
        .tx(move |tx| {
            Box::pin(async move {
                // Those who make one take turns, so that the limit holds.
                deployments::lock_environment(tx, parent).await?;
                if environments::count_branches(tx, parent).await? >= MAX_BRANCHES {
                    return Err(Error::Conflict(format!("a project has at most {MAX_BRANCHES} branches")));
                }
                Ok(environments::ensure_branch(tx, parent, &name, limit).await?)
            })
        })
        .await?;
    environments::get(store, id).await?.ok_or(Error::not_found("branch"))
}
