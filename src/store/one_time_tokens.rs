//! Tokens that are good for one call, and what they were used for.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::model::id::EnvironmentId;

/// The SHA-256 of a token as it was presented.
pub type Digest = [u8; 32];

/// An earlier use of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Names the request, if it had a name.
    pub request_key: Option<String>,
    /// The run or batch that it made.
    pub made: Option<Uuid>,
}

/// Notes that this request uses the token, until it is void at `expires_at`; if it was used before, tells how. Waits for another
/// transaction that is using it.
///
/// # Errors
/// If the database does not answer.
pub async fn redeem(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    digest: &Digest,
    request_key: Option<&str>,
    expires_at: DateTime<Utc>,
) -> Result<Option<Use>, StoreError> {
    let first = query!(
        "insert into one_time_tokens (environment_id, digest, request_key, expires_at) values ($1, $2, $3, $4)
         on conflict do nothing",
        environment.uuid(),
        digest.as_slice(),
        request_key,
        expires_at
    )
    .execute(&mut *connection)
    .await?;
    if first.rows_affected() == 1 {
        return Ok(None);
    }
    let earlier = query!(
        "select request_key, made_id from one_time_tokens where environment_id = $1 and digest = $2",
        environment.uuid(),
        digest.as_slice()
    )
    .fetch_optional(connection)
    .await?;
    // Swept away in between: it is void.
    let unknown = Use { request_key: None, made: None };
    Ok(Some(earlier.map_or(unknown, |row| Use { request_key: row.request_key, made: row.made_id })))
}

/// Notes what the token was used for.
///
/// # Errors
/// If the database does not answer.
pub async fn note(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    digest: &Digest,
    made: Uuid,
) -> Result<(), StoreError> {
    query!(
        "update one_time_tokens set made_id = $3 where environment_id = $1 and digest = $2",
        environment.uuid(),
        digest.as_slice(),
        made
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The run or batch that the token was used for, if it was.
///
/// # Errors
/// If the database does not answer.
pub async fn used_for(store: &Store, environment: EnvironmentId, digest: &Digest) -> Result<Option<Uuid>, StoreError> {
    let made = query_scalar!(
        "select made_id from one_time_tokens where environment_id = $1 and digest = $2",
        environment.uuid(),
        digest.as_slice()
    )
    .fetch_optional(&mut *store.read().await?)
    .await?;
    Ok(made.flatten())
}

/// Deletes at most `max` uses of tokens that are void by now.
///
/// # Errors
/// If the database does not answer.
pub async fn forget(connection: &mut PgConnection, max: i64) -> Result<u64, StoreError> {
    let done = query!(
        "delete from one_time_tokens where (environment_id, digest) in (
            select environment_id, digest from one_time_tokens
            where expires_at <= clock_now() order by expires_at limit $1 for update skip locked
         )",
        max
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
