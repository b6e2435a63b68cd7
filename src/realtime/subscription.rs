//! What a subscriber asks a hub.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Hub, MAX_KEPT_BYTES, Shown,
    topic::{News, Stale, Topic},
};
use crate::{
    model::id::{EnvironmentId, RunId},
    store::{StoreError, feeds, in_time},
};

/// A subscriber's hold on its topic, for as long as it asks.
pub struct Subscription {
    pub(super) hub: Hub,
    pub(super) topic: Arc<Topic>,
}

impl Subscription {
    /// The selection's run as it is now. None: there is none in the environment, or it is about several.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn run_now(&self) -> Result<Option<Arc<Shown>>, StoreError> {
        let Some(run) = self.topic.run() else { return Ok(None) };
        let rows = in_time(feeds::runs(&self.hub.0.store, &[run])).await?;
        let Some(row) = rows.into_iter().next().filter(|row| row.environment == self.topic.environment) else {
            return Ok(None);
        };
        // The hub may have heard of a later change meanwhile.
        let shown = Arc::new(self.hub.show(row.clone(), MAX_KEPT_BYTES));
        self.hub.hand_on(row);
        Ok(Some(shown))
    }

    /// The selection's run as this server knows it, which may be a moment ago.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn run(&self) -> Result<Option<Arc<Shown>>, StoreError> {
        match self.topic.newest() {
            Some(shown) => Ok(Some(shown)),
            None => self.run_now().await,
        }
    }

    /// The run once it has changed after this number. Cancelling it loses nothing.
    pub async fn run_after(&self, seq: i64) -> Arc<Shown> {
        let mut news = self.topic.follow();
        loop {
            if let Some(shown) = self.topic.newest().filter(|shown| shown.seq > seq) {
                return shown;
            }
            // The hub holds the sender.
            let _ = news.changed().await;
        }
    }

    /// Whose runs these are.
    pub fn environment(&self) -> EnvironmentId {
        self.topic.environment
    }

    /// Where a snapshot that is taken from here on goes on.
    pub fn position(&self) -> u64 {
        self.topic.position()
    }

    /// Runs that were in the subscriber's snapshot, which began at this position. Returns the one that it has reached.
    pub fn told(&self, position: u64, runs: &[(RunId, i64)], made_after: DateTime<Utc>) -> u64 {
        self.topic.told(position, runs, made_after)
    }

    /// What came after a position, once there is something. Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`Stale`] if it is not known here what came after that position.
    pub async fn runs_after(&self, position: u64, made_after: DateTime<Utc>) -> Result<News, Stale> {
        let mut signal = self.topic.follow();
        loop {
            let news = self.topic.after(position, made_after)?;
            if !news.runs.is_empty() {
                return Ok(news);
            }
            let _ = signal.changed().await;
        }
    }

    /// Whether it is known here what came after that position.
    pub fn knows(&self, position: u64) -> bool {
        self.topic.after(position, DateTime::<Utc>::MIN_UTC).is_ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.leave();
    }
}
