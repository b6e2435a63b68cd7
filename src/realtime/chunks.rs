//! Readers of streams of runs. Those of one stream share a channel: what is appended is read once and handed to all of them, from a
//! window over the stream's end. Who is further back reads for itself until it has caught up.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Instant,
};

use futures_util::StreamExt as _;
use tokio::sync::{broadcast::error::RecvError, watch};
use tracing::warn;

use super::{
    Hub,
    hear::{AFTER_FAILURE, LOOK_AGAIN, drain},
};
use crate::{
    model::{
        id::{EnvironmentId, RunId},
        stream::{Chunk, StreamId},
    },
    store::{Store, StoreError, in_time, listen::Signals, streams},
};

/// Bytes that a channel keeps of its stream's end.
const MAX_WINDOW_BYTES: usize = 1 << 20;
/// Bytes that are read at once.
const READ_BYTES: u64 = 1 << 20;
/// Channels that are read for at the same time.
const READ_AT_ONCE: usize = 8;

/// The channels that somebody reads from, by the run.
#[derive(Default)]
pub(super) struct Channels(Mutex<HashMap<RunId, Vec<Weak<Channel>>>>);

/// One stream as its readers of this server see it.
struct Channel {
    environment: EnvironmentId,
    stream: StreamId,
    window: Mutex<Window>,
    /// One at a time fills the window.
    filling: tokio::sync::Mutex<()>,
    standing: watch::Sender<Standing>,
}

/// How far a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// The index of what comes next; none: not known yet.
    next: Option<u64>,
    /// The run is over: nothing comes any more.
    is_over: bool,
}

#[derive(Default)]
struct Window {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
}

/// A reader of a stream.
pub struct Reader {
    store: Store,
    channel: Arc<Channel>,
    position: u64,
}

/// What a reader gets.
#[derive(Debug)]
pub enum Read {
    /// One chunk at least, one after the other.
    Chunks(Vec<Arc<Chunk>>),
    /// The run is over, and all has been read.
    Ended,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At this index.
    At(u64),
    /// With what comes next.
    Latest,
}

impl Hub {
    /// A reader of a stream of a run that is there. A stream that was never written to is empty.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn reader(&self, environment: EnvironmentId, stream: StreamId, begin: Begin) -> Result<Reader, StoreError> {
        let channel = self.0.channels.enter(environment, stream);
        if channel.standing.borrow().next.is_none() {
            channel.fill(&self.0.store).await?;
        }
        let position = match begin {
            Begin::At(index) => index,
            Begin::Latest => channel.standing.borrow().next.unwrap_or(0),
        };
        Ok(Reader { store: self.0.store.clone(), channel, position })
    }

    pub(super) async fn hear_chunks(&self, mut signals: Signals) {
        let (mut streams, mut ends) = (signals.streams.subscribe(), signals.runs.subscribe());
        let mut look_at = Instant::now() + LOOK_AGAIN;
        loop {
            let mut changed = HashSet::new();
            let mut look_at_all = false;
            tokio::select! {
                heard = streams.recv() => look_at_all |= note(heard, &mut changed),
                heard = ends.recv() => look_at_all |= note(heard, &mut changed),
                Ok(()) = signals.reconnected.changed() => look_at_all = true,
                () = tokio::time::sleep_until(look_at.into()) => look_at_all = true,
            }
            for news in [&mut streams, &mut ends] {
                look_at_all |= drain(news, &mut changed);
            }
            let channels = self.0.channels.of(if look_at_all { None } else { Some(&changed) });
            let filled = futures_util::stream::iter(channels)
                .map(async |channel| channel.fill(&self.0.store).await)
                .buffer_unordered(READ_AT_ONCE)
                .fold(Ok(()), async |all: Result<(), StoreError>, one| all.and(one))
                .await;
            match filled {
                Ok(()) if look_at_all => look_at = Instant::now() + LOOK_AGAIN,
                Ok(()) => {}
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "could not read streams that are followed");
                    look_at = Instant::now() + AFTER_FAILURE;
                }
            }
        }
    }
}

/// True: something was missed.
fn note(heard: Result<RunId, RecvError>, changed: &mut HashSet<RunId>) -> bool {
    match heard {
        Ok(run) => !changed.insert(run),
        Err(_missed) => true,
    }
}

impl Channels {
    fn all(&self) -> MutexGuard<'_, HashMap<RunId, Vec<Weak<Channel>>>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }

    fn enter(&self, environment: EnvironmentId, stream: StreamId) -> Arc<Channel> {
        let mut all = self.all();
        let of_run = all.entry(stream.run).or_default();
        let is_it = |channel: &Arc<Channel>| channel.stream == stream && channel.environment == environment;
        if let Some(channel) = of_run.iter().filter_map(Weak::upgrade).find(is_it) {
            return channel;
        }
        let channel = Arc::new(Channel {
            environment,
            stream,
            window: Mutex::default(),
            filling: tokio::sync::Mutex::default(),
            standing: watch::Sender::new(Standing { next: None, is_over: false }),
        });
        of_run.push(Arc::downgrade(&channel));
        channel
    }

    /// The channels of these runs, or all of them; those without readers are forgotten then.
    fn of(&self, runs: Option<&HashSet<RunId>>) -> Vec<Arc<Channel>> {
        let mut all = self.all();
        match runs {
            Some(runs) if runs.len() < all.len() => {
                runs.iter().filter_map(|run| all.get(run)).flatten().filter_map(Weak::upgrade).collect()
            }
            Some(runs) => {
                let named = all.iter().filter(|(run, _)| runs.contains(run));
                named.flat_map(|(_, channels)| channels).filter_map(Weak::upgrade).collect()
            }
            None => {
                all.retain(|_, channels| {
                    channels.retain(|channel| channel.strong_count() > 0);
                    !channels.is_empty()
                });
                all.values().flatten().filter_map(Weak::upgrade).collect()
            }
        }
    }
}

impl Channel {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().expect("no code panics while it holds this lock")
    }

    /// Reads what came since, and whether more may come.
    async fn fill(&self, store: &Store) -> Result<(), StoreError> {
        let _turn = self.filling.lock().await;
        let known = *self.standing.borrow();
        if known.is_over {
            return Ok(());
        }
        // In this order: once the run is over nothing comes any more. One that was deleted is over, too.
        let now = in_time(streams::standing(store, self.environment, &self.stream)).await?;
        let (next, is_over) = now.unwrap_or((known.next.unwrap_or(0), true));
        // Before the channel was there is for readers to look up.
        let mut position = known.next.unwrap_or(next);
        while position < next {
            let read = in_time(async { streams::read(&mut *store.read().await?, &self.stream, position, READ_BYTES).await });
            let chunks = read.await?;
            let Some(last) = chunks.last() else { break };
            position = last.index + 1;
            self.window().push(chunks);
            self.standing.send_if_modified(|standing| {
                standing.next = Some(position);
                true
            });
        }
        let is_over = is_over && position >= next;
        self.standing.send_if_modified(|standing| {
            let before = std::mem::replace(standing, Standing { next: Some(position), is_over });
            before != *standing
        });
        Ok(())
    }
}

impl Window {
    fn push(&mut self, chunks: Vec<Chunk>) {
        for chunk in chunks {
            self.bytes += chunk.data.len();
            self.chunks.push_back(Arc::new(chunk));
        }
        while self.bytes > MAX_WINDOW_BYTES
            && self.chunks.len() > 1
            && let Some(gone) = self.chunks.pop_front()
        {
            self.bytes -= gone.data.len();
        }
    }

    /// From an index on, if it is in the window.
    fn from(&self, index: u64) -> Option<Vec<Arc<Chunk>>> {
        let first = self.chunks.front()?.index;
        let skip = usize::try_from(index.checked_sub(first)?).ok()?;
        (skip < self.chunks.len()).then(|| self.chunks.iter().skip(skip).cloned().collect())
    }
}

impl Reader {
    /// The index of what it reads next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What comes next, once it is there. Cancelling it loses nothing.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn next(&mut self) -> Result<Read, StoreError> {
        let mut standing = self.channel.standing.subscribe();
        loop {
            let Standing { next, is_over } = *standing.borrow_and_update();
            if next.is_some_and(|next| self.position < next) {
                let chunks = self.take().await?;
                if let Some(last) = chunks.last() {
                    self.position = last.index + 1;
                    return Ok(Read::Chunks(chunks));
                }
            }
            if is_over {
                return Ok(Read::Ended);
            }
            // The channel holds the sender.
            let _ = standing.changed().await;
        }
    }

    async fn take(&self) -> Result<Vec<Arc<Chunk>>, StoreError> {
        if let Some(chunks) = self.channel.window().from(self.position) {
            return Ok(chunks);
        }
        let stream = &self.channel.stream;
        let read = in_time(async { streams::read(&mut *self.store.read().await?, stream, self.position, READ_BYTES).await });
        Ok(read.await?.into_iter().map(Arc::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(index: u64, bytes: usize) -> Chunk {
        let at = chrono::DateTime::UNIX_EPOCH;
        Chunk { index, at, data: "x".repeat(bytes), content_type: None }
    }

    #[test]
    fn a_window_has_the_end_of_a_stream_and_says_what_it_has_not() {
        let mut window = Window::default();
        assert!(window.from(0).is_none());
        window.push((5..8).map(|index| chunk(index, 10)).collect());
        let indexes =
            |window: &Window, from| window.from(from).map(|chunks| chunks.iter().map(|chunk| chunk.index).collect::<Vec<_>>());
        assert_eq!(indexes(&window, 5), Some(vec![5, 6, 7]));
        assert_eq!(indexes(&window, 7), Some(vec![7]));
        assert_eq!((indexes(&window, 4), indexes(&window, 8)), (None, None));
        window.push(vec![chunk(8, MAX_WINDOW_BYTES)]);
        assert_eq!((indexes(&window, 7), indexes(&window, 8)), (None, Some(vec![8])), "one always stays");
        assert_eq!(window.bytes, MAX_WINDOW_BYTES);
    }
}
