//! A router over a test's own database, and how to ask it.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use chrono::{TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sqlx::PgPool;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower::ServiceExt;

use crate::{
    api::{AppState, DeployError, DeployOptions, Deployed, Deployer, Reason, router},
    auth::{self, Claims},
    blobs::Blobs,
    config::Limits,
    engine::{self, claim::Terms, intake::Intake, project},
    model::{
        attempt::{Claimed, Outcome},
        deployment::NewDeployment,
        environment::{ApiKeyKind, Environment, EnvironmentKind, NewApiKey, NewProject},
        id::WorkerId,
        limit,
        price::Prices,
        task::{BundleDefinition, LimitDefinition, ScheduleDefinition, TaskDefinition, TaskKind},
    },
    store::{
        Store,
        lanes::Turn,
        listen::{self, Listening},
        seal::{self, Keyring},
    },
};

pub(super) struct TestApi {
    router: Router,
    pub(super) store: Store,
    pub(super) environment: Environment,
    pub(super) key: SecretString,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

/// Takes bundles whose bytes are `ok:<task>`; what a component is belongs to the runtime. A task in `cron/` is a scheduled one, and
/// declares the expression that stands after it; one in `limited/` shares the limit `openai` and has one of its own.
struct BundlesByName(Store);

#[async_trait::async_trait]
impl Deployer for BundlesByName {
    async fn deploy(
        &self,
        environment: &Environment,
        bytes: bytes::Bytes,
        options: DeployOptions,
    ) -> Result<Deployed, DeployError> {
        let Some(task) = bytes.strip_prefix(b"ok:") else {
            let reason = |reason: &str| Reason { module: Some("m".into()), function: None, reason: reason.into() };
            let reasons = vec![reason("not a component"), reason("no tasks")];
            return Err(DeployError::Refused { message: "The bundle cannot be deployed".into(), reasons });
        };
        let definition = definition(std::str::from_utf8(task).unwrap());
        let component = blake3::hash(&bytes).to_hex().to_string();
        let new = NewDeployment { component, definition, external_id: options.external_id, promotion: options.promotion };
        let deployment = engine::deploy::deploy(&self.0, environment.id, new).await?;
        Ok(Deployed { deployment, warnings: vec!["a warning".into()] })
    }
}

fn definition(text: &str) -> BundleDefinition {
    let is_scheduled = text.starts_with("cron/");
    let (id, cron) = text.split_once(' ').filter(|_| is_scheduled).unwrap_or((text, ""));
    let declared = ScheduleDefinition { cron: cron.into(), timezone: "UTC".into(), environments: Vec::new(), window: None };
    let limit = |name: &str, total, per_key| LimitDefinition { name: name.into(), total: Some(total), per_key };
    let own = limit::own_name(id);
    let concurrency_limits = match id.starts_with("limited/") {
        true => vec![limit("openai", 5, Some(2)), limit(&own, 1, None)],
        false => Vec::new(),
    };
    let task = TaskDefinition {
        id: id.into(),
        description: Some("says hello".into()),
        source: None,
        retry: None,
        queue: None,
        concurrency_limits: concurrency_limits.iter().map(|limit| limit.name.clone()).collect(),
        machine: None,
        max_duration_ms: None,
        ttl_ms: None,
        payload_schema: None,
        on_cancel: false,
        kind: if is_scheduled { TaskKind::Scheduled } else { TaskKind::Standard },
        schedule: (!cron.is_empty()).then_some(declared),
    };
    BundleDefinition { sdk: "rust/0.1.0".into(), tasks: vec![task], queues: Vec::new(), concurrency_limits }
}

/// A folder of the test's own process.
fn blobs() -> Blobs {
    static FOLDER: std::sync::LazyLock<tempfile::TempDir> = std::sync::LazyLock::new(|| tempfile::tempdir().unwrap());
    Blobs::open(FOLDER.path().to_str().unwrap()).unwrap()
}

fn doors(store: &Store, limits: Limits) -> Router {
    router(state(store, limits))
}

fn state(store: &Store, limits: Limits) -> AppState {
    let limits = Limits { bundle_bytes: 1 << 20, ..limits };
    let deployer = std::sync::Arc::new(BundlesByName(store.clone()));
    let state = AppState::new(store.clone(), blobs(), Intake::new(store.clone(), None), deployer, limits, "http://api.test");
    let prices = Prices { per_vcpu_second: 100.0, per_gb_second: 0.0, per_run: 0.25 };
    state.with_prices(prices)
}

impl TestApi {
    pub(super) async fn new(pool: PgPool) -> TestApi {
        let keys = Keyring::new(&seal::new_key(), []).unwrap();
        Self::of_project(Store::over(pool).with_keys(keys), "proj_test").await
    }

    /// The doors of another environment of the same project.
    pub(super) async fn of_environment(&self, kind: EnvironmentKind) -> TestApi {
        Self::of(self.store.clone(), &self.environment.project_ref, kind).await
    }

    /// Another project's doors to the same database.
    pub(super) async fn stranger(&self) -> TestApi {
        Self::of_project(self.store.clone(), "proj_stranger").await
    }

    async fn of_project(store: Store, reference: &str) -> TestApi {
        Self::of(store, reference, EnvironmentKind::Development).await
    }

    async fn of(store: Store, reference: &str, kind: EnvironmentKind) -> TestApi {
        Self::with_limits(store, reference, kind, Limits::default()).await
    }

    /// A server that lets in as much as it is told.
    pub(super) async fn limited(pool: PgPool, limits: Limits) -> TestApi {
        Self::with_limits(Store::over(pool), "proj_test", EnvironmentKind::Development, limits).await
    }

    async fn with_limits(store: Store, reference: &str, kind: EnvironmentKind, limits: Limits) -> TestApi {
        let key = auth::new_secret_key(kind);
        let new_key = NewApiKey { name: "test".into(), secret: key.clone(), kind: ApiKeyKind::Root, expires_at: None };
        let project = NewProject { project_ref: reference.into(), name: "Test".into() };
        let environment = project::ensure(&store, project, kind, new_key).await.unwrap();
        TestApi { router: doors(&store, limits), store, environment, key }
    }

    /// A server that hears what changes, holds requests for so long, and lets so many wait. It hears until the guard is dropped.
    pub(super) async fn live(pool: PgPool, hold: Duration, subscribers: usize) -> (TestApi, DropGuard) {
        let mut api = Self::new(pool).await;
        let (router, stop) = api.server(hold, subscribers);
        api.router = router;
        (api, stop)
    }

    /// Another such server of the same environment.
    pub(super) fn live_elsewhere(&self, hold: Duration) -> (TestApi, DropGuard) {
        let (router, stop) = self.server(hold, 100);
        let (store, environment, key) = (self.store.clone(), self.environment.clone(), self.key.clone());
        (TestApi { router, store, environment, key }, stop)
    }

    fn server(&self, hold: Duration, subscribers: usize) -> (Router, DropGuard) {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let state = state(&self.store, Limits { subscribers, ..Limits::default() }).holding(hold);
        let signals = listen::listen(&self.store, Listening::On, &tasks, stop.clone());
        state.hub.start(&signals, &tasks, stop.clone(), stop.clone());
        (router(state), stop.drop_guard())
    }

    /// Another server's doors to the same environment: it has seen no key yet.
    pub(super) fn elsewhere(&self) -> TestApi {
        TestApi {
            router: doors(&self.store, Limits::default()),
            store: self.store.clone(),
            environment: self.environment.clone(),
            key: self.key.clone(),
        }
    }

    /// Sends a request with these headers and nothing else.
    pub(super) async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Sends JSON text as the client does, with a key or token.
    pub(super) async fn with(&self, key: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.raw(method, path, &headers, body.to_owned()).await
    }

    /// With the secret key.
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.with(self.key.expose_secret(), "GET", path, "").await
    }

    /// With the secret key.
    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.with(self.key.expose_secret(), "POST", path, body).await
    }

    /// With the secret key.
    pub(super) async fn put(&self, path: &str, body: &str) -> Answer {
        self.with(self.key.expose_secret(), "PUT", path, body).await
    }

    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.key.expose_secret())
    }

    /// With the secret key, about a branch.
    pub(super) async fn of_branch(&self, branch: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key.expose_secret());
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("x-trigger-branch", branch)];
        self.raw(method, path, &headers, body.to_owned()).await
    }

    /// A public token of the environment.
    pub(super) fn token(&self, scopes: &[&str]) -> String {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        Claims::new(self.environment.id, scopes, Utc::now(), TimeDelta::hours(1)).sign(&self.key)
    }

    pub(super) async fn deploy(&self, bytes: &'static [u8], query: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key.expose_secret());
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/wasm")];
        self.raw("POST", &format!("/api/v1/deployments{query}"), &headers, bytes).await
    }

    /// Triggers the task and returns the run's id.
    pub(super) async fn trigger(&self, task: &str, body: &str) -> String {
        let answer = self.post(&format!("/api/v1/tasks/{task}/trigger"), body).await.ok();
        answer["id"].as_str().unwrap().to_owned()
    }

    /// What a worker would do with the next run.
    pub(super) async fn claim(&self) -> Claimed {
        let lease_for = std::time::Duration::from_secs(60);
        let terms = Terms { worker: WorkerId::new(), max: 1, lease_for, rewriter: 1, turn: Turn::default() };
        engine::claim::claim(&self.store, terms).await.unwrap().runs.remove(0)
    }

    pub(super) async fn finish(&self, claimed: &Claimed, outcome: Outcome) {
        engine::finish::finish(&self.store, &claimed.lease, outcome, 7).await.unwrap();
    }
}

impl Answer {
    /// The body of a 200.
    #[track_caller]
    pub(super) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    /// The status and the message of a refusal.
    pub(super) fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["error"].as_str().unwrap_or("?"))
    }

    /// The first thing that is wrong: where, and what.
    pub(super) fn issue(&self) -> (String, String) {
        let issue = &self.body["details"][0];
        let path: Vec<&str> = issue["path"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        (path.join("."), issue["message"].as_str().unwrap_or_default().to_owned())
    }
}
