//! Connections on their way out of the pool and back.
//!
//! sqlx asks each connection that is given back whether it is well: that costs as much as most statements do, and one whose other end has
//! gone without a word would keep its place for ever. So one on which all that was asked was answered stays here, for the next that
//! wants one, and the others are asked within a limit.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{PgConnection, PgPool, pool::PoolConnection, postgres::Postgres};
use tokio::{runtime::Handle, time::timeout};

/// How long a connection may take to show that it is well when it is given back; it is dropped then, and its place is free.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection counts as well after its last answer.
pub(super) const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// How long a connection may stay away from its pool, which replaces those that are old.
const AWAY_FOR: Duration = Duration::from_secs(10);

/// A pool, and those of its connections that were used just now. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pool: PgPool,
    warm: Arc<Warm>,
}

#[derive(Debug)]
struct Warm {
    state: Mutex<State>,
    /// Most that are kept.
    most: usize,
    /// Where connections are given back.
    runtime: Handle,
}

#[derive(Debug, Default)]
struct State {
    /// The last used last.
    kept: Vec<Kept>,
    /// Who waits for the pool: while somebody does, none is kept from it.
    waiting: usize,
}

#[derive(Debug)]
struct Kept {
    connection: PoolConnection<Postgres>,
    /// When the pool gave it out.
    away_since: Instant,
    used_at: Instant,
}

impl Connections {
    /// Those of this pool, of which up to `most` are kept. They are given back in `runtime`.
    pub(super) fn of(pool: PgPool, most: usize, runtime: Handle) -> Connections {
        Connections { pool, warm: Arc::new(Warm { state: Mutex::default(), most, runtime }) }
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// One that nobody else uses.
    ///
    /// # Errors
    /// If none is free in time, or the server cannot be reached.
    pub(super) async fn borrow(&self) -> Result<Borrowed, sqlx::Error> {
        let (connection, away_since) = match self.warm.take() {
            Some(kept) => (kept.connection, kept.away_since),
            None => {
                let _waiting = Waiting(&self.warm);
                // Seldom, and large: no room for it in every future that may come here.
                (Box::pin(self.pool.acquire()).await?, Instant::now())
            }
        };
        Ok(Borrowed { connection: Some(connection), away_since, warm: self.warm.clone() })
    }
}

impl Warm {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave half of anything behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that was used just now; none: the caller waits for the pool, and has to say when that is over. Those that have been here
    /// for too long go back.
    fn take(&self) -> Option<Kept> {
        let mut state = self.state();
        let fresh = state.kept.iter().position(|kept| kept.used_at.elapsed() < TRUSTED_FOR).unwrap_or(state.kept.len());
        let stale: Vec<Kept> = state.kept.drain(..fresh).collect();
        let taken = state.kept.pop();
        state.waiting += usize::from(taken.is_none());
        drop(state);
        stale.into_iter().for_each(|kept| self.give_back(kept.connection));
        taken
    }

    fn keep(&self, connection: PoolConnection<Postgres>, away_since: Instant) {
        let mut state = self.state();
        if state.waiting == 0 && state.kept.len() < self.most && away_since.elapsed() < AWAY_FOR {
            state.kept.push(Kept { connection, away_since, used_at: Instant::now() });
        } else {
            drop(state);
            self.give_back(connection);
        }
    }

    fn give_back(&self, mut connection: PoolConnection<Postgres>) {
        // The very thing that its own drop would spawn without a limit.
        self.runtime.spawn(timeout(BACK_WITHIN, connection.return_to_pool()));
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        let kept = mem::take(&mut self.state().kept);
        kept.into_iter().for_each(|kept| self.give_back(kept.connection));
    }
}

/// While somebody waits for the pool.
struct Waiting<'a>(&'a Warm);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// A connection that goes back to its pool when it is dropped.
#[derive(Debug)]
pub struct Borrowed {
    /// None: on its way.
    connection: Option<PoolConnection<Postgres>>,
    /// When the pool gave it out.
    away_since: Instant,
    warm: Arc<Warm>,
}

impl Borrowed {
    /// Gives it back, all that was asked on it having been answered.
    pub fn done(mut self) {
        if let Some(connection) = self.connection.take() {
            self.warm.keep(connection, self.away_since);
        }
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
        if let Some(connection) = self.connection.take() {
            self.warm.give_back(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{postgres::PgPoolOptions, query_scalar};

    use super::*;

    async fn backend(connection: &mut PgConnection) -> i32 {
        query_scalar("select pg_backend_pid()").fetch_one(connection).await.unwrap()
    }

    async fn connections(pool: &PgPool, places: u32) -> Connections {
        let pool = PgPoolOptions::new().max_connections(places).connect_with((*pool.connect_options()).clone()).await.unwrap();
        Connections::of(pool, 1, Handle::current())
    }

    #[sqlx::test]
    async fn a_connection_on_which_everything_was_answered_is_kept_for_the_next_and_no_other_is(pool: PgPool) {
        let connections = connections(&pool, 3).await;
        let (mut first, mut second) = (connections.borrow().await.unwrap(), connections.borrow().await.unwrap());
        let known = [backend(&mut first).await, backend(&mut second).await];
        first.done();
        drop(second);
        assert_eq!(connections.warm.state().kept.len(), 1);
        let mut again = connections.borrow().await.unwrap();
        assert_eq!(backend(&mut again).await, known[0]);
        assert_eq!(connections.warm.state().kept.len(), 0);
        again.close();
    }

    #[sqlx::test]
    async fn who_waits_for_the_pool_gets_what_would_be_kept(pool: PgPool) {
        let connections = connections(&pool, 1).await;
        let only = connections.borrow().await.unwrap();
        let others = connections.clone();
        let waiting = tokio::spawn(async move { others.borrow().await.map(Borrowed::done) });
        while connections.warm.state().waiting == 0 {
            tokio::task::yield_now().await;
        }
        only.done();
        waiting.await.unwrap().unwrap();
        let state = connections.warm.state();
        assert_eq!((state.waiting, state.kept.len()), (0, 1));
    }

    #[sqlx::test]
    async fn one_that_lay_here_too_long_goes_back_to_where_it_is_asked_whether_it_is_well(pool: PgPool) {
        let connections = connections(&pool, 2).await;
        connections.borrow().await.unwrap().done();
        connections.warm.state().kept[0].used_at -= TRUSTED_FOR;
        let fresh = connections.borrow().await.unwrap();
        assert!(fresh.away_since.elapsed() < TRUSTED_FOR && connections.warm.state().kept.is_empty());
        fresh.done();
        connections.warm.state().kept[0].away_since -= AWAY_FOR;
        connections.borrow().await.unwrap().done();
        assert!(connections.warm.state().kept.is_empty(), "it has been away for too long");
    }
}
