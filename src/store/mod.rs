//! All SQL. One file per aggregate; functions take a connection and decide nothing, the verbs of `engine` do.
//!
//! [`Store::tx`], and [`Store::single`] for what is one statement, are the only ways to write: they run it in a task of its own, so
//! that a caller who goes away (an HTTP client that hangs up) can neither leave a half-done verb nor an open transaction behind.

#[cfg(debug_assertions)]
mod abort;
pub mod api_keys;
pub mod batch_items;
pub mod batches;
mod borrowed;
pub mod bulk_actions;
pub mod checkpoints;
pub mod children;
pub mod clock;
pub mod debounce;
pub mod deployments;
pub mod edges;
pub mod endings;
pub mod environments;
pub mod events;
pub mod feeds;
pub mod gates;
pub mod journal;
pub mod lanes;
pub mod leases;
pub mod limits;
pub mod line;
pub mod listen;
pub mod logs;
pub mod many;
pub mod notes;
pub(crate) mod notify;
pub mod one_time_tokens;
pub mod packets;
mod page;
pub mod pins;
pub mod queues;
pub mod repeats;
pub mod retention;
pub mod rewritings;
pub mod room;
mod rows;
pub mod runs;
pub mod schedules;
pub mod seal;
pub mod spans;
pub mod stages;
pub mod streams;
pub mod sweep;
pub mod trace_exports;
pub mod traces;
pub mod variables;
pub mod waitpoints;

use std::{io, str::FromStr, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{runtime::Handle, time::timeout};

pub use borrowed::Borrowed;
use borrowed::{Connections, TRUSTED_FOR};
pub use page::{Listing, Page, Start};

/// A transaction that waits this long between two statements has lost its owner; Postgres ends it. No longer than a lease, so that the
/// rows that a frozen worker holds locked are free when its runs are taken over.
const IDLE_IN_TRANSACTION: &str = "8s";
/// Lets the server find out after a minute that this process, or its machine, is gone without a word: until then its sessions take
/// the places of new ones. The system's own settings mean hours. On a Unix socket they have no effect.
const KEEPALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "60000"),
];
/// How long a statement waits for a row that another transaction holds.
const LOCK_TIMEOUT: &str = "10s";

/// How long an answer of the database may take. Nothing that it is asked for takes as long, so the server, or the way to it, is gone
/// without a word: a machine that vanished, a firewall that forgot the connection. The system would find that out after a quarter of
/// an hour, or never. Less than a guest's call is tried for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// How long an answer may take that needs nothing but a server that is there: to a ping, and to the beginning of a transaction, which is
/// where most find out that a connection leads nowhere.
const PING_WITHIN: Duration = Duration::from_secs(5);

/// Statements are planned once for each connection, not each time with what they are asked for: planning takes longer than most of
/// them, and but for lists none has a better plan for some values than for others. A plan made while a table is still empty must
/// be right when it is large, so no table is scanned that has an index for the question. To compile a statement takes longer than to run it,
/// and a scan that is unavoidable looks so dear that it would be compiled.
const PLANS: [(&str, &str); 3] = [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off")];

/// One in so many connections may be kept from the pool while it is warm.
const KEPT: usize = 4;

/// Connections for lists.
const LISTS: u32 = 4;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/store/migrations");

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    connections: Connections,
    /// For lists, so that no page that somebody leafs to keeps a run waiting.
    lists: Connections,
    keys: seal::Keyring,
    rooms: room::Rooms,
    environment_limit: Option<u32>,
    /// Where transactions run, whoever asks for them: on the threads of guests they would wait with their locks held.
    runtime: Handle,
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
    /// A value cannot be encrypted, or not be read again.
    #[error("a value could not be encrypted or decrypted")]
    Sealed(#[from] seal::Error),
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
            .options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION)])
            .options(KEEPALIVE);
        // On a connection of its own: another process may take longer to migrate than a verb may wait for a lock.
        let mut connection = in_time(async { PgConnection::connect_with(&options).await.map_err(StoreError::from) }).await?;
        MIGRATIONS.run(&mut connection).await?;
        connection.close().await?;
        let pool = |max| {
            PgPoolOptions::new()
                .max_connections(max)
                .acquire_timeout(Duration::from_secs(10))
                // Asking every time would cost each transaction a round trip; one that was used just now is there still.
                .test_before_acquire(false)
                .before_acquire(|connection, used| Box::pin(is_alive(connection, used.idle_for)))
        };
        let options = options.options([("lock_timeout", LOCK_TIMEOUT)]);
        let lists = pool(LISTS.min(max_connections)).connect_lazy_with(options.clone());
        let pool = pool(max_connections).connect_with(options.options(PLANS)).await?;
        let runtime = Handle::current();
        let connections = Connections::of(pool.clone(), max_connections as usize / KEPT, runtime.clone());
        Ok(Store { connections, lists: Connections::of(lists, 0, runtime), ..Store::over(pool) })
    }

    /// The store of a pool whose schema is up to date, in the runtime that this is called in. For tests, which get their pool from
    /// `#[sqlx::test]`.
    pub fn over(pool: PgPool) -> Store {
        let (keys, rooms, runtime) = (seal::Keyring::default(), room::Rooms::default(), Handle::current());
        let connections = Connections::of(pool, 0, runtime.clone());
        Store { lists: connections.clone(), connections, keys, rooms, environment_limit: None, runtime }
    }

    /// The same with keys for what is encrypted in rows.
    pub fn with_keys(self, keys: seal::Keyring) -> Store {
        Store { keys, ..self }
    }

    /// What values in rows are encrypted with.
    pub fn keys(&self) -> &seal::Keyring {
        &self.keys
    }

    /// The same with queues of these sizes; without, they take any number of runs.
    pub fn with_queue_sizes(self, sizes: room::Sizes) -> Store {
        Store { rooms: room::Rooms::new(sizes), ..self }
    }

    /// The same where environments are made with this limit on the runs that execute at a time.
    pub fn with_environment_limit(self, environment_limit: Option<u32>) -> Store {
        Store { environment_limit, ..self }
    }

    /// With what limit environments are made. Source: facts K1, without its default.
    pub fn environment_limit(&self) -> Option<u32> {
        self.environment_limit
    }

    /// How much room queues have.
    pub fn rooms(&self) -> &room::Rooms {
        &self.rooms
    }

    /// The pool, for what is not a verb: a LISTEN connection, a health check.
    pub fn pool(&self) -> &PgPool {
        self.connections.pool()
    }

    /// A connection to read with.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if none is free in time.
    pub async fn read(&self) -> Result<Borrowed, StoreError> {
        Ok(self.connections.borrow().await?)
    }

    /// A connection to read a list with, whose statement is planned each time: what makes a good plan is which filters it has.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if none is free in time.
    pub async fn browse(&self) -> Result<Borrowed, StoreError> {
        Ok(self.lists.borrow().await?)
    }

    /// Runs `work` in one transaction, to its end whatever becomes of the caller: committed if it returns `Ok`, undone
    /// otherwise.
    ///
    /// # Errors
    /// What `work` returns, and a [`StoreError`] if the transaction itself fails. After [`StoreError::Unavailable`] it may have been
    /// committed all the same: its answer may be what was lost.
    pub async fn tx<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        self.run(move |connection| Box::pin(transact(connection, work))).await
    }

    /// Runs `work`, whose last statement writes and no other, to its end whatever becomes of the caller. That statement is a transaction
    /// of its own; it saves the others two answers.
    ///
    /// # Errors
    /// The same as those of [`tx`](Store::tx).
    pub async fn single<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        // Only in a transaction can be asked whether anything was written.
        #[cfg(debug_assertions)]
        if abort::is_planned() {
            return self.tx(work).await;
        }
        self.run(move |connection| {
            Box::pin(async move {
                let answer = work(connection).await;
                let is_over = answer.is_ok();
                (answer, is_over)
            })
        })
        .await
    }

    /// Runs `work` in a task of its own. It says whether the connection is as it was; if not, that is closed.
    async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, (Result<T, E>, bool)> + Send + 'static,
    {
        let connections = self.connections.clone();
        let task = self.runtime.spawn(async move {
            let mut connection = connections.borrow().await.map_err(StoreError::from)?;
            let ended = timeout(ANSWERS_WITHIN, work(&mut connection)).await;
            let (answer, is_well) = ended.unwrap_or_else(|_elapsed| (Err(StoreError::no_answer().into()), false));
            // Nobody else shall find themselves inside a transaction that is not over, and its locks go with the connection.
            if is_well {
                connection.done()
            } else {
                connection.close()
            }
            answer
        });
        task.await.map_err(StoreError::from)?
    }

    /// Whether the database answers, within a few seconds: who asks wants to know that it does not, too.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let pinging = async { Ok(self.read().await?.ping().await?) };
        timeout(PING_WITHIN, pinging).await.unwrap_or_else(|_elapsed| Err(StoreError::no_answer()))
    }
}

impl StoreError {
    /// Nothing is known of what was asked.
    pub(crate) fn no_answer() -> StoreError {
        StoreError::Unavailable(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer came in time")))
    }
}

/// What `asking` comes to, if that is in time. For whoever reads and would wait for ever: requests have a time limit of their own,
/// and [`Store::tx`] has this one.
///
/// # Errors
/// What `asking` returns, and [`StoreError::Unavailable`] if no answer comes.
pub fn in_time<T, E: From<StoreError>>(asking: impl Future<Output = Result<T, E>>) -> impl Future<Output = Result<T, E>> {
    within(ANSWERS_WITHIN, asking)
}

/// The same for what needs nothing but a server that is there: where most find out that a connection leads nowhere.
///
/// # Errors
/// The same.
pub fn soon<T, E: From<StoreError>>(asking: impl Future<Output = Result<T, E>>) -> impl Future<Output = Result<T, E>> {
    within(PING_WITHIN, asking)
}

/// What asks a database takes kilobytes: they are there while it asks, not for as long as a request is held that asked once.
fn within<T, E>(limit: Duration, asking: impl Future<Output = Result<T, E>>) -> impl Future<Output = Result<T, E>>
where
    E: From<StoreError>,
{
    let asking = Box::pin(timeout(limit, asking));
    async move { asking.await.unwrap_or_else(|_elapsed| Err(StoreError::no_answer().into())) }
}

/// `work` in one transaction, and whether that is over for certain. If `work` panics, it is rolled back on the connection's way to
/// the pool.
async fn transact<T, E, F>(connection: &mut PgConnection, work: F) -> (Result<T, E>, bool)
where
    E: From<StoreError>,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>>,
{
    let failed = |error: StoreError| (Err(error.into()), false);
    let mut transaction = match timeout(PING_WITHIN, connection.begin()).await {
        Ok(Ok(transaction)) => transaction,
        Ok(Err(error)) => return failed(error.into()),
        Err(_elapsed) => return failed(StoreError::no_answer()),
    };
    match work(&mut transaction).await {
        Ok(answer) => {
            #[cfg(debug_assertions)]
            let planned = abort::planned(&mut transaction).await;
            #[cfg(debug_assertions)]
            abort::at(abort::Moment::Before, planned);
            let committed = transaction.commit().await;
            #[cfg(debug_assertions)]
            abort::at(abort::Moment::After, planned);
            match committed {
                Ok(()) => (Ok(answer), true),
                Err(error) => failed(error.into()),
            }
        }
        // Waited for, so that no lock outlives the answer.
        Err(error) => (Err(error), transaction.rollback().await.is_ok()),
    }
}

/// How long it may take to answer that question. Several may be asked before one is found that is.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// False: it is closed, and another one is opened.
async fn is_alive(connection: &mut PgConnection, idle_for: Duration) -> Result<bool, sqlx::Error> {
    Ok(idle_for < TRUSTED_FOR || matches!(timeout(ALIVE_WITHIN, connection.ping()).await, Ok(Ok(()))))
}
