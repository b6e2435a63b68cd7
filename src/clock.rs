//! Time, as tests see it. In production there is one clock: the database's, through its function `clock_now()`;
//! processes learn it from there, see [`wall_clock`](crate::wall_clock).

use std::{sync::Mutex, time::Duration};

use sqlx::PgPool;

use crate::store::{self, StoreError};

/// Puts the clock of a test's own database forward. Time also goes on by itself.
#[derive(Debug, Default)]
pub struct ManualClock {
    ahead: Mutex<Duration>,
}

impl ManualClock {
    /// Lets this much time pass at once.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn advance(&self, pool: &PgPool, by: Duration) -> Result<(), StoreError> {
        let ahead = {
            let mut ahead = self.ahead.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *ahead += by;
            *ahead
        };
        store::clock::set_ahead(pool, ahead).await
    }
}
