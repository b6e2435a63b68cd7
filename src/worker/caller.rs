//! What a running guest asks of the platform, answered with the verbs of the engine under the attempt's lease.
//!
//! A wait that ends within the grace time never leaves memory and writes nothing. Effectful calls are numbered from the
//! last checkpoint on, so that a run that is resumed after a crash and makes the same call again gets the same answer.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::watch;

use super::{Context, logs::LogBuffer};
use crate::{
    auth,
    engine::{self, children, input, journal::Call, metadata, stream, tags, timer, token, wait},
    host::{Caller, HostError, HostErrorCode, WaitDecision},
    model::{
        attempt::{Cancellation, Claimed, Lease},
        batch::{BatchTriggered, Item},
        child::Intent,
        id::{EnvironmentId, RunId, WaitpointId},
        log::{Level, LogRecord},
        metadata::{Operation, Target},
        payload::Packet,
        stream::{InputCursor, InputValue, StreamPage, StreamTarget},
        token::{NewToken, TokenHandle},
        trace::{Record, SpanBegin, SpanEnd, SpanId},
        trigger::{NewRun, RunIdempotency, Triggered},
        waitable::Waitable,
        waitpoint::{Completion, Idempotency, Resolution, WaitRequest},
    },
    store::{self, environments},
    wall_clock,
};

/// How long a call of the guest goes on to be tried while the database is away, before the guest is told.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pauses between two tries: the first, and the longest.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often a run that waits in memory looks whether it may stay.
const GRACE_AGAIN: Duration = Duration::from_millis(20);
/// How often waitpoints are looked at while a run waits for them in memory and no news comes: the net under lost notifications.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a browser may complete a token with the access token it got. Source: facts 2.2.
const TOKEN_ACCESS: chrono::Duration = chrono::Duration::hours(24);
/// How long a browser may read a run or batch with the access token it got. Source: facts 2.2.
const READ_ACCESS: chrono::Duration = chrono::Duration::hours(1);

/// The port of one attempt.
pub struct EngineCaller {
    pub(super) context: Arc<Context>,
    pub(super) lease: Lease,
    pub(super) environment: EnvironmentId,
    logs: Arc<LogBuffer>,
    /// Sequence of the checkpoint that the attempt went on from; 0: from the start.
    checkpoint: u64,
    calls: AtomicU32,
    /// Spans begun since then.
    spans: AtomicU64,
    /// The request to cancel the run, once its guest is to know of it.
    cancellation: watch::Sender<Option<Cancellation>>,
    /// A metadata update that had to be dropped since the last flush.
    dropped: std::sync::Mutex<Option<HostError>>,
}

impl EngineCaller {
    /// The port of the attempt that was claimed.
    pub fn new(context: Arc<Context>, claimed: &Claimed, logs: Arc<LogBuffer>) -> EngineCaller {
        EngineCaller {
            context,
            lease: claimed.lease,
            environment: claimed.context.environment,
            logs,
            checkpoint: claimed.resume.as_ref().map_or(0, |resume| resume.checkpoint.sequence),
            calls: AtomicU32::new(0),
            spans: AtomicU64::new(0),
            cancellation: watch::Sender::new(None),
            dropped: std::sync::Mutex::default(),
        }
    }

    /// Tells the guest that its run is being cancelled, and ends the wait that it is in.
    pub fn cancel(&self, cancellation: Cancellation) {
        self.cancellation.send_replace(Some(cancellation));
    }

    /// The sequence that this attempt's next checkpoint gets.
    pub fn next_checkpoint(&self) -> u64 {
        self.checkpoint + 1
    }

    /// Stays until the wait is over, also while the database is away.
    ///
    /// # Errors
    /// What is waited for does not exist.
    pub async fn wait_in_memory(&self, request: &WaitRequest) -> Result<Vec<Completion>, HostError> {
        match request {
            WaitRequest::Sleep { at } => {
                self.sleep_until(*at).await;
                Ok(Vec::new())
            }
            WaitRequest::Timer { at, idempotency: None } => {
                self.sleep_until(*at).await;
                Ok(vec![Completion { index: 0, resolution: Resolution::Elapsed }])
            }
            // Its row tells what another wait with the key has come to, and tells a later one of this. Source: facts F9.
            WaitRequest::Timer { at, idempotency: Some(key) } => {
                let timer =
                    patiently(|| timer::with_key(&self.context.store, self.environment, self.lease.run, *at, key.clone()))
                        .await?;
                self.wait_for_news(&[timer.into()]).await
            }
            WaitRequest::Any { waitables } => self.wait_for_news(waitables).await,
        }
    }

    async fn wait_for_news(&self, waitables: &[Waitable]) -> Result<Vec<Completion>, HostError> {
        let runs = patiently(|| wait::runs_in(&self.context.store, self.environment, waitables)).await?;
        if runs.contains(&self.lease.run) {
            return Err(HostError::invalid("a run that waits for itself, or for its own batch, would wait for ever"));
        }
        loop {
            // Interest first, then the look: what completes between the two is news.
            let mut waitpoints_news = self.context.signals.waitpoints.subscribe();
            let mut runs_news = self.context.signals.runs.subscribe();
            if let Some(complete) = self.look(waitables).await? {
                return Ok(complete);
            }
            // Whoever lags behind the news has missed some: a look tells.
            let told = async {
                tokio::select! {
                    () = async { while waitpoints_news.recv().await.is_ok_and(|id| !waitables.contains(&id.into())) {} } => {}
                    () = async { while runs_news.recv().await.is_ok_and(|id| !runs.contains(&id)) {} } => {}
                }
            };
            let _ = tokio::time::timeout(LOOK_AGAIN, told).await;
        }
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        while let Ok(left) = (at - wall_clock::now()).to_std()
            && !left.is_zero()
        {
            // Not all at once: the database's clock may be set, and time passes while the machine is asleep.
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
    }

    fn call(&self) -> Call {
        Call { sequence: self.checkpoint, ordinal: self.calls.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether the wait cannot end within the grace time, so that staying for it would be in vain.
    fn is_long(&self, request: &WaitRequest) -> bool {
        match request {
            WaitRequest::Sleep { at } | WaitRequest::Timer { at, .. } => {
                (*at - wall_clock::now()).to_std().is_ok_and(|left| left > self.context.grace())
            }
            WaitRequest::Any { .. } => false,
        }
    }
}

#[async_trait]
impl Caller for EngineCaller {
    async fn wait(&self, request: &WaitRequest, warm_only: Option<&str>) -> Result<WaitDecision, HostError> {
        let mut cancellation = self.cancellation.subscribe();
        if matches!(request, WaitRequest::Sleep { .. }) {
            // It cannot be told of a cancellation, and would not come back from a suspension.
            let warm_only = warm_only.or(cancellation.borrow().map(|_| "it is being cancelled"));
            return self.decide(request, warm_only).await;
        }
        tokio::select! {
            biased;
            _ = cancellation.wait_for(Option::is_some) => Err(HostError::new(HostErrorCode::Cancelled, "the run is being cancelled")),
            decision = self.decide(request, warm_only) => decision,
        }
    }

    fn cancellation(&self) -> Option<Cancellation> {
        *self.cancellation.borrow()
    }

    fn log(&self, record: LogRecord) {
        self.logs.push(record);
    }

    fn begin_span(&self, begun: SpanBegin) -> SpanId {
        let ordinal = self.spans.fetch_add(1, Ordering::Relaxed);
        let id = SpanId::guest(self.lease.run, self.lease.attempt, self.checkpoint, ordinal);
        self.logs.push(Record::Begin(id, begun));
        id
    }

    fn end_span(&self, ended: SpanEnd) {
        self.logs.push(Record::End(ended));
    }

    async fn read_metadata(&self) -> Result<Value, HostError> {
        patiently(|| metadata::get(&self.context.store, self.environment, self.lease.run)).await.map(Value::Object)
    }

    async fn update_metadata(&self, target: Target, operations: Vec<Operation>) -> Result<(), HostError> {
        let mut update = metadata::Update::default();
        match target {
            Target::This => update.own = operations,
            Target::Parent => update.parent = operations,
            Target::Root => update.root = operations,
        }
        let (store, call) = (&self.context.store, self.call());
        match patiently(|| metadata::update_in_run(store, &self.lease, call, update.clone())).await {
            Ok(()) => Ok(()),
            // Dropped and logged, the task goes on. Source: facts G5.
            Err(error) if matches!(error.code, HostErrorCode::TooLarge | HostErrorCode::Conflict) => {
                let mut dropped = self.dropped.lock().expect("no code panics while it holds this lock");
                if dropped.is_none() {
                    self.logs.host(Level::Error, format!("A metadata update was dropped: {error}"));
                }
                dropped.get_or_insert(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn flush(&self) -> Result<(), HostError> {
        match self.dropped.lock().expect("no code panics while it holds this lock").take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn create_token(&self, new: NewToken) -> Result<TokenHandle, HostError> {
        let (store, call) = (&self.context.store, self.call());
        let created = patiently(|| token::create_in_run(store, &self.lease, call, new.clone())).await?;
        let key = self.root_key().await?;
        let scopes = vec![format!("write:waitpoints:{}", created.id)];
        Ok(TokenHandle {
            id: created.id,
            is_cached: created.is_cached,
            callback_url: auth::callback_url(&self.context.public_url, created.id, &key),
            public_access_token: auth::Claims::new(self.environment, scopes, Utc::now(), TOKEN_ACCESS).sign(&key),
        })
    }

    async fn complete_token(&self, token: WaitpointId, value: Packet) -> Result<(), HostError> {
        patiently(|| wait::complete(&self.context.store, self.environment, token, value.clone())).await.map(drop)
    }

    async fn start_timer(&self, at: DateTime<Utc>, idempotency: Option<Idempotency>) -> Result<WaitpointId, HostError> {
        let call = self.call();
        patiently(|| timer::start(&self.context.store, &self.lease, call, at, idempotency.clone())).await
    }

    async fn trigger(&self, new: NewRun, intent: Intent) -> Result<Triggered, HostError> {
        let (store, call) = (&self.context.store, self.call());
        patiently(|| children::trigger(store, &self.lease, call, new.clone(), intent)).await
    }

    async fn batch_trigger(
        &self,
        items: Vec<Item>,
        idempotency: Option<RunIdempotency>,
        intent: Intent,
    ) -> Result<BatchTriggered, HostError> {
        let (store, call) = (&self.context.store, self.call());
        patiently(|| children::batch_trigger(store, &self.lease, call, items.clone(), idempotency.clone(), intent)).await
    }

    async fn access_token(&self, scopes: Vec<String>) -> Result<String, HostError> {
        let key = self.root_key().await?;
        Ok(auth::Claims::new(self.environment, scopes, Utc::now(), READ_ACCESS).sign(&key))
    }

    async fn add_tags(&self, new: Vec<String>) -> Result<(), HostError> {
        patiently(|| tags::add(&self.context.store, self.environment, self.lease.run, new.clone())).await.map(drop)
    }

    async fn append_chunks(&self, target: StreamTarget, key: String, chunks: Vec<String>) -> Result<(), HostError> {
        let (store, call) = (&self.context.store, self.call());
        let append = || stream::append_in_run(store, &self.lease, self.environment, call, target, key.clone(), chunks.clone());
        patiently(append).await.map(drop)
    }

    async fn read_chunks(
        &self,
        target: StreamTarget,
        key: String,
        start: Option<u64>,
        max: u32,
        timeout: Duration,
    ) -> Result<StreamPage, HostError> {
        self.read_page(target, key, start, max, timeout).await
    }

    async fn receive_inputs(&self, cursors: Vec<InputCursor>, max: u32, timeout: Duration) -> Result<Vec<InputValue>, HostError> {
        self.receive(cursors, max, timeout).await
    }

    async fn send_input(&self, run: RunId, stream: String, value: Packet) -> Result<(), HostError> {
        let (store, call) = (&self.context.store, self.call());
        let send = || input::send_in_run(store, &self.lease, self.environment, call, run, stream.clone(), value.clone());
        patiently(send).await.map(drop)
    }

    async fn start_input(
        &self,
        cursor: InputCursor,
        timeout_at: Option<DateTime<Utc>>,
        idempotency: Option<Idempotency>,
    ) -> Result<WaitpointId, HostError> {
        let (store, call) = (&self.context.store, self.call());
        patiently(|| input::start(store, &self.lease, call, cursor.clone(), timeout_at, idempotency.clone())).await
    }
}

impl EngineCaller {
    /// Once the run is being cancelled, with what a call in progress is told.
    pub(super) fn cancelled(&self) -> BoxFuture<'static, HostError> {
        let mut cancellation = self.cancellation.subscribe();
        Box::pin(async move {
            // Without its sender there is no caller, and nobody waits.
            let _ = cancellation.wait_for(Option::is_some).await;
            HostError::new(HostErrorCode::Cancelled, "the run is being cancelled")
        })
    }

    /// What public access tokens are signed with.
    async fn root_key(&self) -> Result<SecretString, HostError> {
        let environment = patiently(|| async { Ok(environments::get(&self.context.store, self.environment).await?) }).await?;
        let gone = || HostError::new(HostErrorCode::Internal, "the run's environment is gone");
        Ok(environment.ok_or_else(gone)?.root_key)
    }

    /// Stays for the wait, or says that the run is to be suspended for it.
    async fn decide(&self, request: &WaitRequest, warm_only: Option<&str>) -> Result<WaitDecision, HostError> {
        if let Some(reason) = warm_only {
            if self.is_long(request) {
                self.logs.host(Level::Info, format!("Kept in memory while it waits: {reason}"));
            }
            return self.wait_in_memory(request).await.map(WaitDecision::Ready);
        }
        // A timer with a key may have been waited for before, in an earlier attempt; only its row can tell.
        if self.is_long(request) || matches!(request, WaitRequest::Timer { idempotency: Some(_), .. }) {
            return Ok(WaitDecision::Suspend);
        }
        if let Some(completions) = self.stay(request).await? {
            return Ok(WaitDecision::Ready(completions));
        }
        Ok(self.complete_now(request).await?.map_or(WaitDecision::Suspend, WaitDecision::Ready))
    }

    /// What the wait comes to within the grace time, which may become shorter meanwhile.
    async fn stay(&self, request: &WaitRequest) -> Result<Option<Vec<Completion>>, HostError> {
        let begun = Instant::now();
        let mut waiting = pin!(self.wait_in_memory(request));
        loop {
            let left = self.context.grace().saturating_sub(begun.elapsed());
            match tokio::time::timeout(left.min(GRACE_AGAIN), &mut waiting).await {
                Ok(over) => return over.map(Some),
                Err(_elapsed) if left > GRACE_AGAIN => {}
                Err(_elapsed) => return Ok(None),
            }
        }
    }

    /// One last look after the grace time, so that what completed just now does not cost a suspension.
    async fn complete_now(&self, request: &WaitRequest) -> Result<Option<Vec<Completion>>, HostError> {
        match request {
            WaitRequest::Any { waitables } => self.look(waitables).await,
            WaitRequest::Sleep { .. } | WaitRequest::Timer { .. } => Ok(None),
        }
    }

    /// What is complete of these. A database that is away has no news: a wait does not fail for that.
    async fn look(&self, waitables: &[Waitable]) -> Result<Option<Vec<Completion>>, HostError> {
        match store::in_time(wait::look(&self.context.store, self.environment, waitables)).await {
            Ok(complete) => Ok((!complete.is_empty()).then_some(complete)),
            Err(engine::Error::Unavailable(_)) => Ok(None),
            Err(error) => Err(host_error(error)),
        }
    }
}

/// Does what may be done twice, again while the database is away: a guest shall not notice that it was started anew.
async fn patiently<T, F>(act: impl Fn() -> F) -> Result<T, HostError>
where
    F: Future<Output = Result<T, engine::Error>>,
{
    let give_up = Instant::now() + PATIENCE;
    let mut pause = TRY_AGAIN.0;
    loop {
        match store::in_time(act()).await {
            Err(engine::Error::Unavailable(_)) if Instant::now() < give_up => tokio::time::sleep(pause).await,
            answer => return answer.map_err(host_error),
        }
        pause = (pause * 2).min(TRY_AGAIN.1);
    }
}

/// The engine's answer in the words of the guest's contract.
pub(super) fn host_error(error: engine::Error) -> HostError {
    let code = match &error {
        engine::Error::NotFound { .. } => HostErrorCode::NotFound,
        engine::Error::Conflict(_) => HostErrorCode::Conflict,
        engine::Error::Invalid { .. } => HostErrorCode::Invalid,
        engine::Error::TooLarge { .. } => HostErrorCode::TooLarge,
        engine::Error::QueueFull { .. } => HostErrorCode::RateLimited,
        engine::Error::LostLease => HostErrorCode::Cancelled,
        engine::Error::Unavailable(_) => HostErrorCode::Unavailable,
        engine::Error::Internal(_) => HostErrorCode::Internal,
    };
    HostError::new(code, error.to_string())
}
