//! The HTTP API: Trigger.dev's paths, bodies, headers and status codes, because its clients are our clients, and in the same
//! style what has no counterpart there. `routes` is the table of contents; a file per resource holds its handlers with their
//! requests and responses. Source: facts 2-7.
//!
//! A handler reads from top to bottom: who asks, what exactly is asked, one verb of `engine` or one look into `store`, the
//! answer. Everything that is refused is refused as an [`Error`].

mod api_keys;
mod auth;
mod batch_items;
mod batches;
mod body;
mod bulk_actions;
mod concurrency_limits;
mod deployments;
mod environment;
mod error;
mod health;
mod idempotency_keys;
mod known;
mod layers;
mod notes;
mod openapi;
mod packets;
mod pagination;
mod queues;
mod rates;
mod reads;
mod realtime;
mod replays;
mod results;
mod run_object;
mod runs;
mod schedules;
mod scopes;
mod shape;
mod span_object;
mod stream_writes;
mod streams;
mod tasks;
mod tokens;
mod traces;
mod variables;
mod waitpoints;
mod when;

use std::{ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    blobs::Blobs,
    config::Limits,
    engine::intake::Intake,
    model::{
        deployment::{Deployment, Promotion},
        environment::Environment,
        price::Prices,
    },
    realtime::Hub,
    store::Store,
};
pub use error::Error;
use rates::Rates;

/// What handlers work with. Cheap to clone: each request does several times.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts of an [`AppState`].
#[derive(Clone)]
pub struct Parts {
    /// The rows.
    pub store: Store,
    /// What is too large for rows.
    pub blobs: Blobs,
    /// Makes runs.
    pub intake: Intake,
    /// Reads runs.
    reads: reads::Reads,
    /// Turns uploaded bytes into a deployment.
    pub deployer: Arc<dyn Deployer>,
    /// How much is let in.
    pub limits: Limits,
    /// What runs cost.
    pub prices: Prices,
    /// Where subscribers hear of changes.
    pub hub: Hub,
    /// How clients reach this API, without a slash at the end.
    pub public_url: Arc<str>,
    /// How often may be asked.
    rates: Arc<Rates>,
    /// Uploads that may be held in memory and compiled at a time.
    deploys: Arc<Semaphore>,
    /// Who has asked just now.
    known: known::Known,
    /// How long a subscriber's request is held; none: as long as clients expect.
    hold: Option<Duration>,
    /// Tells this server's feeds from those of others, and of before.
    feeds: u64,
}

impl AppState {
    /// The state of one server.
    pub fn new(
        store: Store,
        blobs: Blobs,
        intake: Intake,
        deployer: Arc<dyn Deployer>,
        limits: Limits,
        public_url: impl Into<Arc<str>>,
    ) -> AppState {
        let rates = Arc::new(Rates::new(&limits));
        let deploys = Arc::new(Semaphore::new(limits.concurrent_deploys.max(1)));
        let known = known::Known::new(limits.keys_known_for);
        let prices = Prices::default();
        let reads = reads::Reads::new(store.clone());
        let hub = hub(&store, &limits, prices);
        let (public_url, hold, feeds) = (public_url.into(), None, rand::random());
        let parts =
            Parts { store, blobs, intake, reads, deployer, limits, prices, hub, public_url, rates, deploys, known, hold, feeds };
        AppState(Arc::new(parts))
    }

    /// The same with runs that cost something.
    pub fn with_prices(self, prices: Prices) -> AppState {
        let hub = hub(&self.store, &self.limits, prices);
        AppState(Arc::new(Parts { prices, hub, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same with requests of subscribers held for so long, for tests.
    #[cfg(test)]
    fn holding(self, hold: Duration) -> AppState {
        AppState(Arc::new(Parts { hold: Some(hold), ..Arc::unwrap_or_clone(self.0) }))
    }

    /// What the handles of this server's feeds of a selection begin with.
    fn feed_prefix(&self, selection: &str) -> String {
        let digest = blake3::hash(selection.as_bytes()).to_hex();
        format!("{:016x}{}", self.feeds, &digest[..16])
    }

    /// What time it is, by the clock that everything is compared with.
    async fn now(&self) -> Result<DateTime<Utc>, Error> {
        Ok(crate::store::clock::now(&mut *self.store.read().await?).await?)
    }
}

fn hub(store: &Store, limits: &Limits, prices: Prices) -> Hub {
    Hub::new(store.clone(), limits.subscribers, move |run| shape::columns(run, &prices))
}

/// Checks, compiles and stores a bundle, and makes the deployment.
#[async_trait]
pub trait Deployer: Send + Sync + 'static {
    /// Deploys the component `bytes` in an environment.
    async fn deploy(&self, environment: &Environment, bytes: Bytes, options: DeployOptions) -> Result<Deployed, DeployError>;
}

/// How a bundle shall be deployed.
#[derive(Debug, Clone)]
pub struct DeployOptions {
    /// The user's own name for the deployment, at most 128 characters.
    pub external_id: Option<String>,
    /// Whether new runs start on it.
    pub promotion: Promotion,
}

/// A bundle that was deployed.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The deployment.
    pub deployment: Deployment,
    /// What the author should know.
    pub warnings: Vec<String>,
}

/// Why a bundle was not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// It is at fault itself; every reason, not the first.
    #[error("{message}")]
    Refused {
        /// In one sentence.
        message: String,
        /// One by one.
        reasons: Vec<Reason>,
    },
    /// The deployment could not be made.
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
    /// A fault of ours.
    #[error("the bundle could not be processed")]
    Internal(#[source] anyhow::Error),
}

/// One reason against a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// The core module concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The function concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

/// The whole API.
pub fn router(state: AppState) -> axum::Router {
    let limits = state.limits.clone();
    let (browser, mut api) = layers::timeout(routes(), limits.request).split_for_parts();
    let (uploads, upload_api) = layers::timeout(uploads(), limits.deploy).split_for_parts();
    // A callback address is for servers: a browser that could use it from another page would be a hole.
    let (callbacks, callback_api) =
        layers::timeout(OpenApiRouter::new().routes(routes!(waitpoints::callback)), limits.request).split_for_parts();
    api.merge(upload_api);
    api.merge(callback_api);
    let (waiting, waiting_api) = waiting().split_for_parts();
    api.merge(waiting_api);
    let api = openapi::with_description(api);

    let browser = browser.merge(uploads).route("/api/v1/openapi.json", openapi::serve(&api));
    // The refusal of other methods comes first: set later, it would take the place of the answer to a browser's preflight.
    let [browser, waiting, callbacks] = [browser, waiting, callbacks].map(layers::only_known_methods);
    layers::around(layers::cors(browser).merge(layers::cors_of_feeds(waiting)).merge(callbacks)).with_state(state)
}

/// The description of the API, as `GET /api/v1/openapi.json` serves it.
pub fn description() -> utoipa::openapi::OpenApi {
    let all = routes().merge(uploads()).merge(waiting()).routes(routes!(waitpoints::callback));
    openapi::with_description(all.into_openapi())
}

/// Those that wait for something to happen, each with a limit of its own.
fn waiting() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(realtime::run))
        .routes(routes!(realtime::tagged))
        .routes(routes!(realtime::batch))
        .routes(routes!(streams::read))
        .routes(routes!(stream_writes::create, stream_writes::append_lines, stream_writes::last_line))
        .routes(routes!(stream_writes::append))
        .routes(routes!(streams::read_input, stream_writes::send))
}

/// Those whose bodies may take long to come.
fn uploads() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(deployments::create))
        .routes(routes!(batch_items::add))
        .routes(routes!(packets::upload, packets::download))
}

fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health::check))
        .routes(routes!(deployments::list))
        .routes(routes!(deployments::current))
        .routes(routes!(deployments::promote))
        .routes(routes!(deployments::rollback))
        .routes(routes!(tasks::trigger))
        .routes(routes!(batches::create))
        .routes(routes!(batches::trigger))
        .routes(routes!(batches::retrieve))
        .routes(routes!(results::batch_results))
        .routes(routes!(runs::retrieve))
        .routes(routes!(runs::list))
        .routes(routes!(runs::list_of_project))
        .routes(routes!(runs::cancel))
        .routes(routes!(bulk_actions::create, bulk_actions::list))
        .routes(routes!(bulk_actions::retrieve))
        .routes(routes!(bulk_actions::abort))
        .routes(routes!(replays::replay))
        .routes(routes!(replays::reschedule))
        .routes(routes!(notes::add_tags))
        .routes(routes!(notes::metadata, notes::update_metadata))
        .routes(routes!(results::run_result))
        .routes(routes!(runs::logs))
        .routes(routes!(runs::events))
        .routes(routes!(traces::trace))
        .routes(routes!(traces::span))
        .routes(routes!(packets::upload_address))
        .routes(routes!(packets::download_address))
        .routes(routes!(packets::run_address))
        .routes(routes!(packets::of_run))
        .routes(routes!(idempotency_keys::reset))
        .routes(routes!(queues::list))
        .routes(routes!(queues::retrieve))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::set_limit))
        .routes(routes!(queues::reset_limit))
        .routes(routes!(concurrency_limits::list))
        .routes(routes!(concurrency_limits::retrieve))
        .routes(routes!(concurrency_limits::set_by_hand))
        .routes(routes!(concurrency_limits::reset))
        .routes(routes!(concurrency_limits::pause))
        .routes(routes!(environment::retrieve, environment::update))
        .routes(routes!(schedules::create, schedules::list))
        .routes(routes!(schedules::retrieve, schedules::update, schedules::delete))
        .routes(routes!(schedules::activate))
        .routes(routes!(schedules::deactivate))
        .routes(routes!(schedules::timezones))
        .routes(routes!(waitpoints::create, waitpoints::list))
        .routes(routes!(waitpoints::retrieve))
        .routes(routes!(waitpoints::complete))
        .routes(routes!(variables::list, variables::create))
        .routes(routes!(variables::retrieve, variables::update, variables::delete))
        .routes(routes!(variables::import))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::revoke))
        .routes(routes!(api_keys::rotate))
        .routes(routes!(tokens::claims))
        .routes(routes!(tokens::sign))
        .routes(routes!(tokens::whoami))
}

#[cfg(test)]
mod tests;
