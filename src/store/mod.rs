//! All SQL. One file per aggregate; functions take a connection and decide nothing, the verbs of `engine` do.
//!
//! [`Store::tx`] is the only way to write: it runs the whole transaction in a task of its own, so that a caller who goes
//! away (an HTTP client that hangs up) can neither leave a half-done verb nor an open transaction behind.

pub mod batch_items;
pub mod batches;
pub mod checkpoints;
pub mod children;
pub mod clock;
pub mod deployments;
pub mod edges;
pub mod endings;
pub mod environments;
pub mod events;
pub mod journal;
pub mod leases;
pub mod line;
pub mod listen;
pub mod logs;
pub mod many;
pub mod notes;
pub(crate) mod notify;
mod page;
pub mod places;
pub mod queues;
pub mod rewritings;
mod rows;
pub mod runs;
pub mod sweep;
pub mod waitpoints;

use std::{str::FromStr, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    Connection, PgConnection, PgPool, Row,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, Postgres},
};

pub use page::{Listing, Page, Start};

/// A transaction that waits this long between two statements has lost its owner; Postgres ends it.
const IDLE_IN_TRANSACTION: &str = "30s";
/// How long a statement waits for a row that another transaction holds.
const LOCK_TIMEOUT: &str = "10s";

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/store/migrations");

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

/// Why the database did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or has no connection left: the same may work later.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Two transactions got into each other's way and this one was undone: the same works at once.
    #[error("the transaction was undone for another one")]
    Undone(#[source] sqlx::Error),
    /// A row holds what this version does not know.
    #[error("a row of {table} holds {what}")]
    Unknown {
        /// The table.
        table: &'static str,
        /// What was found.
        what: String,
    },
    /// Anything else.
    #[error("a query failed")]
    Query(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("a migration failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The task that ran the transaction did not end as it should.
    #[error("a transaction was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => StoreError::Unavailable(error),
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // Deadlock, serialization failure, lock timeout, cancelled by an operator.
                Some("40P01" | "40001" | "55P03" | "57014") => StoreError::Undone(error),
                // Shutting down, starting, the session idle for too long, a standby that takes no writes.
                Some("57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006") => StoreError::Unavailable(error),
                // Connection failures; out of memory, disk or connections; failures of the machine.
                Some(code) if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => StoreError::Unavailable(error),
                _ => StoreError::Query(error),
            },
            _ => StoreError::Query(error),
        }
    }
}

impl Store {
    /// Connects, and brings the schema up to date. Processes that start together take turns: migrating holds an advisory
    /// lock of the database.
    ///
    /// # Errors
    /// If the URL cannot be understood, the server cannot be reached, or a migration fails.
    pub async fn connect(url: &str, max_connections: u32) -> Result<Store, StoreError> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("dormouse")
            .options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION)]);
        // On a connection of its own: another process may take longer to migrate than a verb may wait for a lock.
        let mut connection = PgConnection::connect_with(&options).await?;
        MIGRATIONS.run(&mut connection).await?;
        connection.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(Duration::from_secs(10))
            // Asking every time would cost each transaction a round trip; one that was used just now is there still.
            .test_before_acquire(false)
            .before_acquire(|connection, used| Box::pin(is_alive(connection, used.idle_for)))
            .after_release(|connection, _| Box::pin(is_outside_a_transaction(connection)))
            .connect_with(options.options([("lock_timeout", LOCK_TIMEOUT)]))
            .await?;
        Ok(Store { pool })
    }

    /// The store of a pool whose schema is up to date. For tests, which get their pool from `#[sqlx::test]`.
    pub fn over(pool: PgPool) -> Store {
        Store { pool }
    }

    /// The pool, for what is not a verb: a LISTEN connection, a health check.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection to read with.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if none is free in time.
    pub async fn read(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.pool.acquire().await?)
    }

    /// Runs `work` in one transaction, to its end whatever becomes of the caller: committed if it returns `Ok`, undone
    /// otherwise.
    ///
    /// # Errors
    /// What `work` returns, and a [`StoreError`] if the transaction itself fails.
    pub async fn tx<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        let pool = self.pool.clone();
        let task = tokio::spawn(async move {
            let mut transaction = pool.begin().await.map_err(StoreError::from)?;
            match work(&mut transaction).await {
                Ok(answer) => {
                    transaction.commit().await.map_err(StoreError::from)?;
                    Ok(answer)
                }
                Err(error) => {
                    // Waited for, so that no lock outlives the answer. If it fails the connection is lost, and the locks too.
                    drop(transaction.rollback().await);
                    Err(error)
                }
            }
        });
        task.await.map_err(StoreError::from)?
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.read().await?.ping().await?)
    }
}

/// How long a connection may lie in the pool without being asked whether the server is still there.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// False: it is closed, and another one is opened.
async fn is_alive(connection: &mut PgConnection, idle_for: Duration) -> Result<bool, sqlx::Error> {
    Ok(idle_for < TRUSTED_FOR || connection.ping().await.is_ok())
}

/// A connection comes back to the pool only outside a transaction, else it is closed: `now()` is the transaction's start, so
/// it differs from the statement's own if somebody has begun one and not ended it. Asked in the simple protocol: in the
/// extended one, parsing begins the transaction and binding the statement.
async fn is_outside_a_transaction(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(connection).await?;
    let outside: bool = row.try_get(0)?;
    if !outside {
        tracing::warn!("a connection came back inside a transaction and is closed");
    }
    Ok(outside)
}
