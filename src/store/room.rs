//! How many more runs may come into line in a queue. Source: facts K5.
//!
//! To count a long line takes long. So a process does it at most once a second for each queue that runs come into, and for a
//! fiftieth of its time at most, never beyond the limit; in between it takes off what it has added itself. What other processes
//! add, and what workers take, it sees with the next count. So near its limit a queue may for that long take more runs, or
//! refuse some that would have had a place; nobody locks or writes anything for it, and there is no counter that could be wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use sqlx::{PgConnection, query_scalar};

use super::{StoreError, rows};
use crate::model::{
    context::EnvironmentKind,
    id::{EnvironmentId, QueueId},
};

/// How long a count holds at least, and for how many times what it took.
const HOLDS: (Duration, u32) = (Duration::from_secs(1), 50);
/// Queues that a process remembers the room of.
const MAX_KNOWN: usize = 10_000;

/// Most runs that may be in line in one queue; none: any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// In environments for development.
    pub development: Option<u64>,
    /// In all others.
    pub deployed: Option<u64>,
}

impl Sizes {
    /// What holds in environments of this kind.
    pub fn of(&self, kind: EnvironmentKind) -> Option<u64> {
        if kind == EnvironmentKind::Development { self.development } else { self.deployed }
    }
}

/// What a process knows of the room in queues. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rooms {
    sizes: Sizes,
    known: Arc<Mutex<HashMap<QueueId, Known>>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    left: u64,
    until: Instant,
}

impl Rooms {
    /// Of queues of these sizes.
    pub fn new(sizes: Sizes) -> Rooms {
        Rooms { sizes, known: Arc::default() }
    }

    /// Most runs that may be in line in a queue of such an environment; none: any number.
    pub fn size(&self, kind: EnvironmentKind) -> Option<u64> {
        self.sizes.of(kind)
    }

    /// Whether queues of all kinds of environments take any number of runs.
    pub fn is_endless(&self) -> bool {
        self.sizes == Sizes::default()
    }

    /// How many more runs may come into line; none: any number.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn left(
        &self,
        connection: &mut PgConnection,
        environment: EnvironmentId,
        kind: EnvironmentKind,
        queue: QueueId,
    ) -> Result<Option<u64>, StoreError> {
        let Some(size) = self.size(kind) else { return Ok(None) };
        let begun = Instant::now();
        if let Some(known) = self.lock().get(&queue).filter(|known| known.until > begun) {
            return Ok(Some(known.left));
        }
        let left = size.saturating_sub(in_line(connection, environment, queue, size).await?);
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(queue, Known { left, until: Instant::now() + HOLDS.0.max(begun.elapsed() * HOLDS.1) });
        Ok(Some(left))
    }

    /// So many runs have come into line.
    pub fn take(&self, queue: QueueId, count: u64) {
        if let Some(known) = self.lock().get_mut(&queue) {
            known.left = known.left.saturating_sub(count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QueueId, Known>> {
        self.known.lock().expect("no code panics while it holds this lock")
    }
}

/// How many runs are in line; it is not counted beyond `most`.
async fn in_line(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    queue: QueueId,
    most: u64,
) -> Result<u64, StoreError> {
    let count = query_scalar!(
        r#"
        select count(*) as "count!" from (
            select from runs where environment_id = $1 and queue_id = $2 and status = 'QUEUED' limit $3
        ) line
        "#,
        environment.uuid(),
        queue.uuid(),
        i64::try_from(most).unwrap_or(i64::MAX)
    )
    .fetch_one(connection)
    .await?;
    Ok(rows::count(count))
}
