//! Keys of environments. Of a key only a hash is kept, and of a root key the key itself, because tokens that clients sign with it
//! have to be checked. A key that is over stays as a row, so that nothing makes it good again. Source: facts N2.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError, leases::interval, rows};
use crate::model::{
    environment::{ApiKey, ApiKeyKind},
    id::{ApiKeyId, EnvironmentId},
};

/// Most keys of one answer.
const MAX: i64 = 200;

struct Row {
    id: Uuid,
    name: String,
    is_root: bool,
    hint: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

impl From<Row> for ApiKey {
    fn from(row: Row) -> ApiKey {
        ApiKey {
            id: ApiKeyId::from_uuid(row.id),
            name: row.name,
            kind: if row.is_root { ApiKeyKind::Root } else { ApiKeyKind::Additional },
            hint: row.hint,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

/// How a key is found.
pub type Fingerprint = [u8; 32];

/// How this key is found: keys are random, so a plain hash is enough.
pub fn fingerprint(secret: &str) -> Fingerprint {
    Sha256::digest(secret.as_bytes()).into()
}

/// The environment that the secret key with this fingerprint opens, never a branch, and the key.
///
/// # Errors
/// If the database does not answer.
pub async fn by_fingerprint(store: &Store, fingerprint: &Fingerprint) -> Result<Option<(EnvironmentId, ApiKey)>, StoreError> {
    let row = query!(
        r#"
        select environment_id, id, name, root_secret is not null as "is_root!", hint, created_at, expires_at
        from api_keys where secret_sha256 = $1 and (expires_at is null or expires_at > clock_now())
        "#,
        &fingerprint[..]
    )
    .fetch_optional(&mut *store.read().await?)
    .await?;
    Ok(row.map(|row| {
        let environment = EnvironmentId::from_uuid(row.environment_id);
        let (id, name, is_root, hint) = (row.id, row.name, row.is_root, row.hint);
        (environment, Row { id, name, is_root, hint, created_at: row.created_at, expires_at: row.expires_at }.into())
    }))
}

/// The keys of an environment that are good, the newest first.
///
/// # Errors
/// If the database does not answer.
pub async fn list(store: &Store, environment: EnvironmentId) -> Result<Vec<ApiKey>, StoreError> {
    let rows = query_as!(
        Row,
        r#"
        select id, name, root_secret is not null as "is_root!", hint, created_at, expires_at from api_keys
        where environment_id = $1 and (expires_at is null or expires_at > clock_now())
        order by created_at desc, id desc limit $2
        "#,
        environment.uuid(),
        MAX
    )
    .fetch_all(&mut *store.read().await?)
    .await?;
    Ok(rows.into_iter().map(ApiKey::from).collect())
}

/// A key to be added.
#[derive(Debug)]
pub struct Added<'k> {
    /// Whose it is.
    pub environment: EnvironmentId,
    /// For people.
    pub name: &'k str,
    /// The key itself.
    pub secret: &'k str,
    /// What it is for; a root key is kept as it is.
    pub kind: ApiKeyKind,
    /// When it stops opening anything; none: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Adds a key, and tells whose it is: another environment's if it was there before. One that is there stays as it is.
///
/// # Errors
/// If the database does not answer.
pub async fn add(connection: &mut PgConnection, key: &Added<'_>) -> Result<(EnvironmentId, ApiKey), StoreError> {
    let hint: String = key.secret.chars().skip(key.secret.chars().count().saturating_sub(4)).collect();
    let row = query!(
        r#"
        insert into api_keys (id, environment_id, name, secret_sha256, root_secret, hint, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (secret_sha256) do update set name = api_keys.name
        returning environment_id, id, name, root_secret is not null as "is_root!", hint, created_at, expires_at
        "#,
        ApiKeyId::new().uuid(),
        key.environment.uuid(),
        key.name,
        &fingerprint(key.secret)[..],
        (key.kind == ApiKeyKind::Root).then_some(key.secret),
        hint,
        key.expires_at
    )
    .fetch_one(connection)
    .await?;
    let environment = EnvironmentId::from_uuid(row.environment_id);
    let (id, name, is_root, hint) = (row.id, row.name, row.is_root, row.hint);
    Ok((environment, Row { id, name, is_root, hint, created_at: row.created_at, expires_at: row.expires_at }.into()))
}

/// How many keys of a kind are good.
///
/// # Errors
/// If the database does not answer.
pub async fn count(connection: &mut PgConnection, environment: EnvironmentId, kind: ApiKeyKind) -> Result<u64, StoreError> {
    let count = query_scalar!(
        r#"
        select count(*) as "count!" from api_keys
        where environment_id = $1 and (root_secret is not null) = $2 and (expires_at is null or expires_at > clock_now())
        "#,
        environment.uuid(),
        kind == ApiKeyKind::Root
    )
    .fetch_one(connection)
    .await?;
    Ok(rows::count(count))
}

/// Lets every root key of an environment end after `grace` that does not end before. Returns when.
///
/// # Errors
/// If the database does not answer.
pub async fn end_roots(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    grace: Duration,
) -> Result<DateTime<Utc>, StoreError> {
    Ok(query_scalar!(
        r#"
        with ended as (
            update api_keys set expires_at = least(expires_at, clock_now() + $2::interval)
            where environment_id = $1 and root_secret is not null and (expires_at is null or expires_at > clock_now())
        )
        select clock_now() + $2::interval as "at!"
        "#,
        environment.uuid(),
        interval(grace)
    )
    .fetch_one(connection)
    .await?)
}

/// A good key of an environment, locked.
///
/// # Errors
/// If the database does not answer.
pub async fn find(connection: &mut PgConnection, environment: EnvironmentId, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
    let row = query_as!(
        Row,
        r#"
        select id, name, root_secret is not null as "is_root!", hint, created_at, expires_at from api_keys
        where environment_id = $1 and id = $2 and (expires_at is null or expires_at > clock_now())
        for no key update
        "#,
        environment.uuid(),
        id.uuid()
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(ApiKey::from))
}

/// Lets a key open nothing any more.
///
/// # Errors
/// If the database does not answer.
pub async fn end(connection: &mut PgConnection, id: ApiKeyId) -> Result<(), StoreError> {
    query!("update api_keys set expires_at = clock_now() where id = $1", id.uuid()).execute(connection).await?;
    Ok(())
}
