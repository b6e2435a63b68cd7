//! The verbs against a real Postgres: each happy, repeated, raced, late and illegal. Every test has a database of its own.

mod api_keys;
mod batch;
mod branch;
mod bulk;
mod children;
mod claim;
mod debounce;
mod deploy;
mod explain;
mod finish;
mod intake;
mod lanes;
mod lease;
mod limit;
mod metadata;
mod model;
mod once;
mod pin;
mod queue;
mod read;
mod replay;
mod reschedule;
mod retention;
mod rewriting;
mod room;
mod schedule;
mod stream;
mod suspend;
mod timer;
mod trigger;
mod variables;
mod wait;

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    clock::ManualClock,
    engine::{self, Error, claim::Terms, finish::Finished, project, suspend::Suspended},
    model::{
        attempt::{Claimed, Lease, Outcome, RetryDecision},
        checkpoint::{Checkpoint, KeptFiles, Stored},
        deployment::{Deployment, NewDeployment, Promotion},
        environment::{ApiKeyKind, EnvironmentKind, NewApiKey, NewProject},
        error::RunError,
        id::{EnvironmentId, RunId, WaitpointId, WorkerId},
        payload::Packet,
        run::{Run, RunStatus},
        task::{BundleDefinition, QueueDefinition, RetryPolicy, TaskDefinition, TaskKind},
        token::NewToken,
        trigger::NewRun,
        waitable::Waitable,
        waitpoint::WaitRequest,
    },
    store::{
        Store,
        checkpoints::Suspension,
        events,
        lanes::Turn,
        runs,
        seal::{self, Keyring},
    },
};

/// How long the leases of these tests last.
const LEASE: Duration = Duration::from_secs(30);
/// The version of the rewriter that new runs use.
const REWRITER: u32 = 2;

/// A project with one environment and one worker.
struct Scene {
    store: Store,
    pool: PgPool,
    clock: ManualClock,
    environment: EnvironmentId,
    worker: WorkerId,
}

fn terms(worker: WorkerId, max: u32, lease_for: Duration) -> Terms {
    Terms { worker, max, lease_for, rewriter: REWRITER, turn: Turn::default() }
}

impl Scene {
    async fn empty(pool: PgPool) -> Scene {
        let keys = Keyring::new(&seal::new_key(), []).unwrap();
        let store = Store::over(pool.clone()).with_keys(keys);
        let environment = environment(&store, "proj_tests").await;
        Scene { store, pool, clock: ManualClock::default(), environment, worker: WorkerId::new() }
    }

    /// With the task `hello`, which is tried three times.
    async fn new(pool: PgPool) -> Scene {
        let scene = Scene::empty(pool).await;
        scene.deploy(vec![task("hello")], vec![]).await;
        scene
    }

    async fn deploy(&self, tasks: Vec<TaskDefinition>, queues: Vec<QueueDefinition>) -> Deployment {
        engine::deploy::deploy(&self.store, self.environment, bundle(tasks, queues)).await.unwrap()
    }

    async fn trigger(&self, new: NewRun) -> RunId {
        engine::trigger::trigger(&self.store, self.environment, new).await.unwrap().id
    }

    async fn claim(&self, max: u32) -> Vec<Claimed> {
        engine::claim::claim(&self.store, terms(self.worker, max, LEASE)).await.unwrap().runs
    }

    async fn claim_one(&self) -> Claimed {
        let mut claimed = self.claim(2).await;
        assert_eq!(claimed.len(), 1, "exactly one run is in line");
        claimed.pop().unwrap()
    }

    /// A run of `hello` that this worker executes.
    async fn executing(&self) -> Lease {
        self.trigger(hello()).await;
        self.claim_one().await.lease
    }

    async fn suspend(&self, lease: &Lease, sequence: u64, wait: WaitRequest) -> Result<Suspended, Error> {
        let asked = Suspension::new(*lease, checkpoint(sequence), wait, 100 * sequence);
        engine::suspend::suspend(&self.store, asked).await
    }

    async fn finish(&self, lease: &Lease, outcome: Outcome) -> Result<Finished, Error> {
        engine::finish::finish(&self.store, lease, outcome, 250).await
    }

    async fn run(&self, id: RunId) -> Run {
        runs::get(&self.store, self.environment, id).await.unwrap().expect("the run is there")
    }

    async fn status(&self, id: RunId) -> RunStatus {
        self.run(id).await.status
    }

    /// What happened to the run, as words.
    async fn story(&self, id: RunId) -> Vec<&'static str> {
        let events = events::after(&self.store, id, 0, 100).await.unwrap();
        assert!((1..).zip(&events).all(|(seq, event)| event.seq == seq), "entries are numbered without gaps");
        events.iter().map(|event| event.kind.as_str()).collect()
    }

    async fn token(&self) -> WaitpointId {
        engine::token::create(&self.store, self.environment, NewToken::default()).await.unwrap().id
    }

    async fn complete(&self, token: WaitpointId, value: i64) -> bool {
        engine::wait::complete(&self.store, self.environment, token, Packet::json(&json!(value))).await.unwrap()
    }

    async fn now(&self) -> DateTime<Utc> {
        crate::store::clock::now(&mut self.store.read().await.unwrap()).await.unwrap()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(&self.pool, by).await.unwrap();
    }

    async fn fire(&self) -> u32 {
        engine::timer::fire_due(&self.store, 100).await.unwrap()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

async fn environment(store: &Store, reference: &str) -> EnvironmentId {
    let project = NewProject { project_ref: reference.into(), name: "Tests".into() };
    let secret = SecretString::from(format!("tr_dev_{reference}"));
    let key = NewApiKey { name: "root".into(), secret, kind: ApiKeyKind::Root, expires_at: None };
    project::ensure(store, project, EnvironmentKind::Development, key).await.unwrap().id
}

fn task(id: &str) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        description: None,
        source: None,
        retry: Some(RetryPolicy { randomize: false, ..RetryPolicy::default() }),
        queue: None,
        concurrency_limits: Vec::new(),
        machine: None,
        max_duration_ms: None,
        ttl_ms: None,
        payload_schema: None,
        on_cancel: false,
        kind: TaskKind::Standard,
        schedule: None,
    }
}

fn bundle(tasks: Vec<TaskDefinition>, queues: Vec<QueueDefinition>) -> NewDeployment {
    NewDeployment {
        component: "c0ffee".into(),
        definition: BundleDefinition { sdk: "tests/1".into(), tasks, queues, concurrency_limits: vec![] },
        external_id: None,
        promotion: Promotion::Promote,
    }
}

fn hello() -> NewRun {
    NewRun::of("hello", Packet::json(&json!({"name": "Ada"})))
}

fn checkpoint(sequence: u64) -> Checkpoint {
    Checkpoint {
        sequence,
        snapshot: Stored::Blob(format!("digest-{sequence}")),
        stored_bytes: 10,
        raw_bytes: 100,
        rewritten: None,
        files: Some(KeptFiles { manifest: Bytes::from_static(b"files"), packs: vec![format!("pack-{sequence}")] }),
        pages: vec![format!("pages-{sequence}")],
    }
}

fn completed() -> Outcome {
    Outcome::Completed(Packet::json(&json!("Hello, Ada")))
}

fn failed(retry: RetryDecision) -> Outcome {
    let error =
        RunError::Exception { name: "Error".into(), message: "no".into(), stack_trace: String::new(), causes: Vec::new() };
    Outcome::Failed { error, retry }
}

/// A wait for any of these.
fn any<T: Copy + Into<Waitable>>(waitables: &[T]) -> WaitRequest {
    WaitRequest::Any { waitables: waitables.iter().map(|waitable| (*waitable).into()).collect() }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
