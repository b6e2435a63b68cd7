//! Repeats a run: a new one with the same payload, metadata, tags, queue, concurrency key and machine, unless told otherwise, on
//! the version that is current when it starts. Source: facts C9, N4.

use serde_json::{Map, Value};

use crate::{
    engine::{
        Error,
        trigger::{normal, trigger_in},
    },
    model::{
        id::{EnvironmentId, RunId},
        payload::Packet,
        trigger::{NewRun, Triggered},
    },
    store::{Store, repeats},
};

/// What shall be otherwise than in the run that is repeated.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Another payload.
    pub payload: Option<Packet>,
    /// Other metadata to begin with.
    pub metadata: Option<Map<String, Value>>,
    /// Other tags.
    pub tags: Option<Vec<String>>,
    /// Everything else, as for a trigger; its task, payload, metadata and tags are not looked at.
    pub others: NewRun,
}

/// Makes the run that repeats `run`. It is nobody's child, and has an idempotency key only if the changes give it one.
///
/// # Errors
/// [`Error::NotFound`], and those of [`trigger`](super::trigger::trigger).
pub async fn replay(store: &Store, environment: EnvironmentId, run: RunId, changes: Changes) -> Result<Triggered, Error> {
    let rooms = store.rooms().clone();
    store
        .tx(move |tx| {
            Box::pin(async move {
                let original = repeats::original(tx, environment, run).await?.ok_or(Error::not_found("run"))?;
                let Changes { payload, metadata, tags, others } = changes;
                let new = NewRun {
                    task: original.task,
                    payload: payload.unwrap_or(original.payload),
                    metadata: metadata.unwrap_or(original.metadata),
                    tags: tags.unwrap_or(original.tags),
                    queue: others.queue.or(Some(original.queue)),
                    concurrency_key: others.concurrency_key.or(original.concurrency_key),
                    concurrency_limits: others.concurrency_limits.or(original.concurrency_limits),
                    machine: others.machine.or(original.machine),
                    is_test: others.is_test || original.is_test,
                    replay_of: Some(run),
                    parent: None,
                    ..others
                };
                trigger_in(tx, &rooms, environment, &normal(new)?).await
            })
        })
        .await
}
