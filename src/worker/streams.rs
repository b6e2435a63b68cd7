//! Reads streams and inputs for a run in memory, and stays for what is yet to come.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::{
    sync::broadcast::Receiver,
    time::{Instant, timeout_at},
};

use super::caller::{EngineCaller, host_error};
use crate::{
    engine::{self, stream},
    host::HostError,
    model::{
        id::RunId,
        payload::Packet,
        stream::{Direction, InputCursor, InputValue, MAX_APPEND_BYTES, StreamId, StreamPage, StreamTarget},
    },
    store::{self, listen::Signals},
};

/// How often is looked while no news comes: the net under lost notifications.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Longest stay: Rust's clocks do not reach as far as a guest may ask.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl EngineCaller {
    pub(super) async fn read_page(
        &self,
        target: StreamTarget,
        key: String,
        start: Option<u64>,
        max: u32,
        timeout: Duration,
    ) -> Result<StreamPage, HostError> {
        let store = &self.context.store;
        let run = store::in_time(stream::find(store, self.environment, self.lease.run, target)).await.map_err(host_error)?;
        let id = StreamId { run, direction: Direction::Out, key };
        let start = match start {
            Some(start) => start,
            None => self.look_at(&id, u64::MAX).await?.next,
        };
        let mut stay = Stay::of(self, run, timeout);
        loop {
            let news = stay.listen();
            let mut page = self.look_at(&id, start).await?;
            if page.chunks.len() > max as usize {
                page.chunks.truncate(max as usize);
                page.is_ended = false;
            }
            page.next = page.chunks.last().map_or(start, |chunk| chunk.index + 1);
            if !page.chunks.is_empty() || page.is_ended || !stay.goes_on(news).await? {
                return Ok(page);
            }
        }
    }

    pub(super) async fn receive(
        &self,
        cursors: Vec<InputCursor>,
        max: u32,
        timeout: Duration,
    ) -> Result<Vec<InputValue>, HostError> {
        let run = self.lease.run;
        let mut stay = Stay::of(self, run, timeout);
        loop {
            let news = stay.listen();
            let mut values = Vec::new();
            for cursor in &cursors {
                let id = StreamId { run, direction: Direction::In, key: cursor.stream.clone() };
                let first = cursor.after.map_or(0, |after| after.saturating_add(1));
                let chunks = self.look_at(&id, first).await?.chunks;
                for chunk in chunks.into_iter().take(max as usize - values.len()) {
                    let content_type = chunk.content_type.unwrap_or_default();
                    let value = Packet { data: chunk.data.into_bytes(), content_type };
                    values.push(InputValue { stream: cursor.stream.clone(), index: chunk.index, value });
                }
            }
            if !values.is_empty() || !stay.goes_on(news).await? {
                return Ok(values);
            }
        }
    }

    /// What there is now. A database that is away has nothing: the call goes on to stay.
    async fn look_at(&self, id: &StreamId, from: u64) -> Result<StreamPage, HostError> {
        let read = stream::read(&self.context.store, self.environment, id, from, MAX_APPEND_BYTES as u64);
        match store::in_time(read).await {
            Err(engine::Error::Unavailable(_)) => Ok(StreamPage { chunks: Vec::new(), next: from, is_ended: false }),
            answer => answer.map_err(host_error),
        }
    }
}

/// A call that stays until there is something for it.
struct Stay {
    signals: Signals,
    run: RunId,
    until: Instant,
    cancelled: BoxFuture<'static, HostError>,
}

/// What may tell that there is something.
struct News {
    streams: Receiver<RunId>,
    ends: Receiver<RunId>,
}

impl Stay {
    fn of(caller: &EngineCaller, run: RunId, timeout: Duration) -> Stay {
        let until = Instant::now() + timeout.min(LONGEST);
        Stay { signals: caller.context.signals.clone(), run, until, cancelled: caller.cancelled() }
    }

    /// Interest first, then the look: what comes between the two is news.
    fn listen(&self) -> News {
        News { streams: self.signals.streams.subscribe(), ends: self.signals.runs.subscribe() }
    }

    /// Stays until it is time to look again. False: the time is over.
    async fn goes_on(&mut self, mut news: News) -> Result<bool, HostError> {
        if Instant::now() >= self.until {
            return Ok(false);
        }
        let told = async {
            tokio::select! {
                () = named(&mut news.streams, self.run) => {}
                () = named(&mut news.ends, self.run) => {}
            }
        };
        tokio::select! {
            biased;
            error = &mut self.cancelled => Err(error),
            _ = timeout_at(self.until.min(Instant::now() + LOOK_AGAIN), told) => Ok(true),
        }
    }
}

/// Once the run is named. Whoever lags behind has missed something: a look tells.
async fn named(news: &mut Receiver<RunId>, run: RunId) {
    while news.recv().await.is_ok_and(|named| named != run) {}
}
