//! Payloads that were put into the blob store, by the paths that clients chose.

use std::time::Duration;

use sqlx::{PgConnection, query};

use super::{Store, StoreError, leases::interval};
use crate::model::{id::EnvironmentId, payload::StoredPacket};

/// How long a run may be triggered with a path.
pub const GOOD_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long its row is kept: a batch that names the blob may take a while until its runs do.
const KEPT_FOR: Duration = Duration::from_secs(48 * 60 * 60);

/// Notes what was put at a path. False: there is something else already, which stays.
///
/// # Errors
/// If the database does not answer.
pub async fn put(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    path: &str,
    packet: &StoredPacket,
) -> Result<bool, StoreError> {
    let done = query!(
        "insert into packets (environment_id, path, digest, content_type, size_bytes) values ($1, $2, $3, $4, $5)
         on conflict (environment_id, path) do update set created_at = clock_now()
             where packets.digest = excluded.digest and packets.content_type = excluded.content_type",
        environment.uuid(),
        path,
        packet.digest,
        packet.content_type,
        packet.bytes as i64
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What was put at a path within the last day.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, environment: EnvironmentId, path: &str) -> Result<Option<StoredPacket>, StoreError> {
    let row = query!(
        "select digest, content_type, size_bytes from packets
         where environment_id = $1 and path = $2 and created_at > clock_now() - $3::interval",
        environment.uuid(),
        path,
        interval(GOOD_FOR)
    )
    .fetch_optional(&mut *store.read().await?)
    .await?;
    Ok(row.map(|row| StoredPacket { digest: row.digest, content_type: row.content_type, bytes: row.size_bytes.unsigned_abs() }))
}

/// Forgets at most `max` paths that are no good any more.
///
/// # Errors
/// If the database does not answer.
pub async fn forget(connection: &mut PgConnection, max: i64) -> Result<u64, StoreError> {
    let done = query!(
        "delete from packets where (environment_id, path) in (
            select environment_id, path from packets
            where created_at <= clock_now() - $1::interval order by created_at limit $2 for update skip locked
         )",
        interval(KEPT_FOR),
        max
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
