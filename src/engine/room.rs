//! Whether queues have room for the runs that a trigger is about to make. Part of [`trigger`] and its plurals.
//! Source: facts K5.
//!
//! What is refused is the trigger, so whoever makes more work than is done learns of it. What is acknowledged, or has begun, comes
//! into line whatever stands there: runs that come back from a wait, delayed ones whose time has come, the items of a sealed batch.

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::{
    engine::{Error, trigger},
    model::{
        context::EnvironmentKind,
        id::{EnvironmentId, QueueId},
        payload::Packet,
        queue,
        trigger::NewRun,
    },
    store::{batch_items::Wanted, queues, room::Rooms},
};

/// Refuses a batch of which a queue cannot take all. What stands against single items is not looked at.
///
/// # Errors
/// [`Error::QueueFull`].
pub(super) async fn for_items(
    tx: &mut PgConnection,
    rooms: &Rooms,
    environment: EnvironmentId,
    wanted: Vec<Wanted>,
) -> Result<(), Error> {
    if rooms.is_endless() {
        return Ok(());
    }
    let mut lines: HashMap<String, (EnvironmentKind, u64)> = HashMap::new();
    for Wanted { task, queue, version, external_deployment, count } in wanted {
        let queue = queue.map(|name| queue::sanitize(&name)).filter(|name| !name.is_empty());
        let new = NewRun { queue, version, external_deployment, ..NewRun::of(task, Packet::empty()) };
        let scene = match trigger::scene(tx, environment, &new).await {
            Ok(scene) => scene,
            Err(Error::Invalid { .. }) => continue,
            Err(error) => return Err(error),
        };
        lines.entry(trigger::queue_name(&new.task, new.queue.as_deref(), scene.task.as_ref())).or_insert((scene.kind, 0)).1 +=
            count;
    }
    for (name, (kind, count)) in lines {
        let queue = queues::ensure(tx, environment, &name).await?;
        if rooms.left(tx, environment, kind, queue).await?.is_some_and(|left| left < count) {
            return Err(full(rooms, kind, name));
        }
    }
    Ok(())
}

/// Whether the queue can take one more run.
///
/// # Errors
/// If the database does not answer.
pub(super) async fn is_left(
    tx: &mut PgConnection,
    rooms: &Rooms,
    environment: EnvironmentId,
    kind: EnvironmentKind,
    queue: QueueId,
) -> Result<bool, Error> {
    Ok(rooms.left(tx, environment, kind, queue).await?.is_none_or(|left| left > 0))
}

/// That the queue with this name cannot.
pub(super) fn full(rooms: &Rooms, kind: EnvironmentKind, queue: String) -> Error {
    Error::QueueFull { queue, size: rooms.size(kind).unwrap_or_default() }
}
