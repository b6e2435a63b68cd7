//! One LISTEN connection for the whole process, and who hears it.
//!
//! The connection is its own and always drained: a session that does not read what it is told would hold up the server's
//! vacuum. When it is lost it is made again, and everybody is told to look, for nobody knows what was missed. One that says nothing
//! for a while is asked whether it is there still: who only listens never learns that the other end is gone.

use std::time::Duration;

use sqlx::{
    Executor as _,
    postgres::{PgListener, PgNotification, PgPoolOptions},
};
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Store, StoreError, in_time, notify};
use crate::model::id::{RunId, WaitpointId};

/// Messages that a slow hearer may leave behind before it is told that it lags.
const BACKLOG: usize = 4096;
/// Pause before the connection is made again.
const RECONNECT: Duration = Duration::from_secs(1);
/// How long it may be silent before it is asked whether it is there.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// How long the answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What the database says: "look". Rows are the truth, so whoever misses a signal must look again after a while.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Changes when a run may have come into line.
    pub line: watch::Receiver<u64>,
    /// Changes when something may be due earlier than before.
    pub timers: watch::Receiver<u64>,
    /// Changes when a schedule may be due earlier than before.
    pub schedules: watch::Receiver<u64>,
    /// Runs that changed. Who lags looks at all it cares about.
    pub runs: broadcast::Sender<RunId>,
    /// Waitpoints that completed. Who lags looks at all it cares about.
    pub waitpoints: broadcast::Sender<WaitpointId>,
    /// Runs whose streams have something new. Who lags looks at all it cares about.
    pub streams: broadcast::Sender<RunId>,
    /// Changes when the connection was made again: look at everything.
    pub reconnected: watch::Receiver<u64>,
}

/// Whether to listen at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Hold one connection.
    On,
    /// Hold none: everybody polls.
    Off,
}

struct Heard {
    line: watch::Sender<u64>,
    timers: watch::Sender<u64>,
    schedules: watch::Sender<u64>,
    reconnected: watch::Sender<u64>,
    runs: broadcast::Sender<RunId>,
    waitpoints: broadcast::Sender<WaitpointId>,
    streams: broadcast::Sender<RunId>,
}

/// Listens in a task of `tasks` until `stop` is cancelled.
pub fn listen(store: &Store, listening: Listening, tasks: &TaskTracker, stop: CancellationToken) -> Signals {
    let heard = Heard {
        line: watch::Sender::new(0),
        timers: watch::Sender::new(0),
        schedules: watch::Sender::new(0),
        reconnected: watch::Sender::new(0),
        runs: broadcast::Sender::new(BACKLOG),
        waitpoints: broadcast::Sender::new(BACKLOG),
        streams: broadcast::Sender::new(BACKLOG),
    };
    let signals = Signals {
        line: heard.line.subscribe(),
        timers: heard.timers.subscribe(),
        schedules: heard.schedules.subscribe(),
        runs: heard.runs.clone(),
        waitpoints: heard.waitpoints.clone(),
        streams: heard.streams.clone(),
        reconnected: heard.reconnected.subscribe(),
    };
    let store = store.clone();
    tasks.spawn(async move {
        match listening {
            Listening::On => {
                stop.run_until_cancelled(heard.for_ever(&store)).await;
            }
            // The senders live as long as the process listens to nothing, so that waiting for a signal waits.
            Listening::Off => stop.cancelled().await,
        }
    });
    signals
}

impl Heard {
    async fn for_ever(&self, store: &Store) {
        loop {
            if let Err(error) = self.once(store).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the LISTEN connection was lost");
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// Listens until the connection is lost.
    async fn once(&self, store: &Store) -> Result<(), StoreError> {
        let options = store.pool().connect_options();
        let own = PgPoolOptions::new().max_connections(1).connect_lazy_with((*options).clone());
        let mut listener = in_time(async {
            let mut listener = PgListener::connect_with(&own).await?;
            // Made again here alone, where everybody is told.
            listener.eager_reconnect(false);
            let channels = [notify::LINE, notify::TIMERS, notify::SCHEDULES, notify::RUNS, notify::WAITPOINTS, notify::STREAMS];
            listener.listen_all(channels).await?;
            Ok::<_, StoreError>(listener)
        })
        .await?;
        for all in [&self.line, &self.timers, &self.schedules, &self.reconnected] {
            all.send_modify(|count| *count += 1);
        }
        loop {
            match timeout(SILENT_FOR, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => self.pass_on(&notification),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_silent) => {
                    let asked = timeout(ANSWERS_WITHIN, listener.execute("select 1")).await;
                    asked.map_err(|_elapsed| StoreError::no_answer())??;
                }
            }
        }
    }

    fn pass_on(&self, notification: &PgNotification) {
        let payload = notification.payload();
        // Sending to nobody fails, which is fine.
        match notification.channel() {
            notify::LINE => self.line.send_modify(|count| *count += 1),
            notify::TIMERS => self.timers.send_modify(|count| *count += 1),
            notify::SCHEDULES => self.schedules.send_modify(|count| *count += 1),
            notify::RUNS => notify::ids(payload).for_each(|id| drop(self.runs.send(RunId::from_uuid(id)))),
            notify::STREAMS => notify::ids(payload).for_each(|id| drop(self.streams.send(RunId::from_uuid(id)))),
            notify::WAITPOINTS => {
                notify::ids(payload).for_each(|id| drop(self.waitpoints.send(WaitpointId::from_uuid(id))));
            }
            _ => {}
        }
    }
}
