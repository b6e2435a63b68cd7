//! What a run was made with, for a run that repeats it.

use serde_json::{Map, Value};
use sqlx::{PgConnection, query};

use super::{StoreError, rows};
use crate::model::{
    id::{EnvironmentId, RunId},
    machine::Machine,
    payload::Packet,
};

/// What a repetition has in common with its run. Source: facts C9.
#[derive(Debug)]
pub struct Original {
    /// Its task.
    pub task: String,
    /// What it ran with.
    pub payload: Packet,
    /// As it was triggered, before it changed it.
    pub metadata: Map<String, Value>,
    /// Those it has now.
    pub tags: Vec<String>,
    /// Name of its queue.
    pub queue: String,
    /// Its pool within the queue.
    pub concurrency_key: Option<String>,
    /// Shared limits that it names; none: as the task says.
    pub concurrency_limits: Option<Vec<String>>,
    /// None: as the task says.
    pub machine: Option<Machine>,
    /// From a test page.
    pub is_test: bool,
}

/// What a run was made with. It stays until the transaction ends, so that its payload in the blob store has a name until the repetition
/// names it, too.
///
/// # Errors
/// If the database does not answer.
pub async fn original(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    run: RunId,
) -> Result<Option<Original>, StoreError> {
    let row = query!(
        r#"
        select r.task, r.payload, r.payload_type, coalesce(r.seed_metadata, r.metadata) as "metadata!", r.tags,
            q.name as queue, r.concurrency_key, r.limit_names, r.machine, r.is_test
        from runs r
        join queues q on q.id = r.queue_id
        where r.id = $1 and r.environment_id = $2
        for key share of r
        "#,
        run.uuid(),
        environment.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Original {
            task: row.task,
            payload: Packet { data: row.payload, content_type: row.payload_type },
            metadata: rows::object(row.metadata),
            tags: row.tags,
            queue: row.queue,
            concurrency_key: Some(row.concurrency_key).filter(|key| !key.is_empty()),
            concurrency_limits: row.limit_names,
            machine: row.machine.as_deref().map(rows::machine).transpose()?,
            is_test: row.is_test,
        })
    })
    .transpose()
}
