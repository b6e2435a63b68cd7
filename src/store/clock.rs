//! The database's clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, query_scalar};

use super::StoreError;

/// What time it is.
///
/// # Errors
/// If the database does not answer.
pub async fn now(connection: &mut PgConnection) -> Result<DateTime<Utc>, StoreError> {
    Ok(query_scalar!(r#"select clock_now() as "now!""#).fetch_one(connection).await?)
}

/// Makes the database's clock run ahead of the real time. For tests, each of which has a database of its own.
///
/// # Errors
/// If the database does not answer.
pub async fn set_ahead(pool: &PgPool, ahead: Duration) -> Result<(), StoreError> {
    let statement = format!(
        "create or replace function clock_now() returns timestamptz language sql stable
         as $$ select now() + interval '{} microseconds' $$",
        ahead.as_micros()
    );
    sqlx::query(AssertSqlSafe(statement)).execute(pool).await?;
    Ok(())
}
