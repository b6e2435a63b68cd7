//! Adds tags to a run. Source: facts A19.

use crate::{
    engine::Error,
    model::{
        event::EventKind,
        id::{EnvironmentId, RunId},
        token::{MAX_TAG_CHARS, MAX_TAGS},
    },
    store::{Store, events, notes},
};

/// Adds tags to a run, and returns all it has. A final run may get tags too.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] if it would have more than 10, or one is empty or longer than 128 characters.
pub async fn add(store: &Store, environment: EnvironmentId, run: RunId, tags: Vec<String>) -> Result<Vec<String>, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                let has = notes::lock_tags(tx, environment, run).await?.ok_or(Error::not_found("run"))?;
                let all = merge(has.clone(), tags)?;
                if all.len() > has.len() {
                    let changed = notes::set_tags(tx, run, &all).await?;
                    events::record(tx, EventKind::Changed, &[changed]).await?;
                }
                Ok(all)
            })
        })
        .await
}

/// Both lists as one, in order, each tag once.
pub(super) fn merge(mut has: Vec<String>, more: Vec<String>) -> Result<Vec<String>, Error> {
    for tag in more {
        if tag.is_empty() || tag.contains('\0') || tag.chars().count() > MAX_TAG_CHARS {
            return Err(Error::invalid("tags", format!("a tag has 1 to {MAX_TAG_CHARS} characters")));
        }
        if !has.contains(&tag) {
            has.push(tag);
        }
    }
    if has.len() > MAX_TAGS {
        return Err(Error::invalid("tags", format!("there are at most {MAX_TAGS} tags, this would make {}", has.len())));
    }
    Ok(has)
}
