//! A connection of the pool, and its way back. A connection whose other end has gone without a word must cost the pool nothing for
//! long: sqlx asks each that is given back whether it is well, and waits for the answer for ever.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{PgConnection, pool::PoolConnection, postgres::Postgres};
use tokio::{runtime::Handle, time::timeout};

/// How long a connection may take to show that it is well when it is given back; it is dropped then, and its place is free.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// A connection that goes back to its pool when it is dropped.
#[derive(Debug)]
pub struct Borrowed {
    /// None: on its way.
    connection: Option<PoolConnection<Postgres>>,
    /// Where it is given back.
    runtime: Handle,
}

impl Borrowed {
    pub(super) fn new(connection: PoolConnection<Postgres>, runtime: &Handle) -> Borrowed {
        Borrowed { connection: Some(connection), runtime: runtime.clone() }
    }

    /// Closes it instead.
    pub(super) fn close(mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
    }
}

impl Deref for Borrowed {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            // The very thing that its own drop would spawn without a limit.
            self.runtime.spawn(timeout(BACK_WITHIN, connection.return_to_pool()));
        }
    }
}
