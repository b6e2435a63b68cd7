//! The composition root: builds database, blobs, runtime, worker, sweeps and API once and wires them; the only place that
//! knows all of them.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use axum::{Router, serve::ListenerExt as _};
use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    api::{self, AppState, DeployError, DeployOptions, Deployed, Deployer, Reason},
    auth,
    blobs::{Area, Blobs},
    config::{self, Config},
    engine::{
        self,
        intake::{Intake, Workplace},
    },
    export::Exporter,
    host::{Egress, HttpLimits},
    model::{
        context::EnvironmentKind,
        deployment::NewDeployment,
        egress::EgressPolicy,
        environment::{ApiKeyKind, Environment, NewApiKey, NewProject},
        id::WorkerId,
    },
    postgres::PrivatePostgres,
    reconcile::{self, driver::Intervals},
    rewrite,
    runtime::{Part, PrepareError, Runtime, RuntimeConfig},
    shutdown::{Phase, Shutdown},
    store::{
        Store,
        listen::{self, Listening},
        room::Sizes,
        seal::Keyring,
    },
    worker::{self, Worker, rewritings::Rewritings, scratch::Home},
};

/// Bytes of compiled components kept in memory.
const COMPONENTS_IN_MEMORY: u64 = 1 << 30;
/// How long each phase of the end may take.
const WIND_DOWN: Duration = Duration::from_secs(10);

/// What is known once the server answers.
#[derive(Debug)]
pub struct Ready {
    /// How clients on this machine reach it.
    pub api_url: String,
    /// The environments of the settings, each once, with their present root keys.
    pub environments: Vec<Environment>,
    /// Reference of the project.
    pub project_ref: String,
    /// Lines the user should see.
    pub notices: Vec<String>,
}

/// Runs a server until it is told to stop. `announce` is called once, when it answers.
///
/// # Errors
/// What keeps the server from starting, with the way out where there is one.
pub async fn run(config: Config, announce: impl FnOnce(&Ready) -> anyhow::Result<()>) -> anyhow::Result<()> {
    raise_open_files();
    std::fs::create_dir_all(&config.data_dir).with_context(|| format!("could not make {}", config.data_dir.display()))?;
    let data_dir = config.data_dir.canonicalize()?;
    let private = match &config.database.url {
        Some(_) => None,
        None => Some(PrivatePostgres::start(&data_dir).await?),
    };
    let ended = serve(&config, &data_dir, private.as_ref(), announce).await;
    // Last of all, whatever happened: nothing of ours asks the database any more.
    if let Some(private) = private {
        private.stop().await;
    }
    ended
}

/// Takes as many file descriptors as may be had: every connection, request and open file of a task has one, and the limit that a
/// process begins with is often 1,024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    debug!(before = ?limit.current, at_most = ?limit.maximum, is_raised = raised.is_ok(), "file descriptors");
}

async fn serve(
    config: &Config,
    data_dir: &Path,
    private: Option<&PrivatePostgres>,
    announce: impl FnOnce(&Ready) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let url = match (&config.database.url, private) {
        (Some(url), _) => url.expose_secret(),
        (None, Some(private)) => private.database_url(),
        (None, None) => anyhow::bail!("there is no database"),
    };
    let store = Store::connect(url, config.database.max_connections).await.context("could not use the database")?;
    let store = store.with_keys(keyring(&config.encryption)?).with_queue_sizes(queue_sizes(&config.limits));
    let store = store.with_environment_limit(config.limits.environment);
    reconcile::wall_clock::tick(&store).await.context("could not ask the database for the time")?;
    encrypt(&store).await?;
    let folder = data_dir.join("blobs");
    let location = config.blobs.url.clone().unwrap_or_else(|| folder.display().to_string());
    let blobs = Blobs::open(&location)?;
    let runtime = Arc::new(Runtime::new(RuntimeConfig {
        cache: data_dir.join("components"),
        pages: data_dir.join("pages"),
        packs: Arc::new(blobs.clone()),
        cached_bytes: COMPONENTS_IN_MEMORY,
        limits: rewrite::Limits::default(),
        rewriter: config.rewriter.version.unwrap_or(rewrite::VERSION),
    })?);
    let rewritings = Arc::new(Rewritings::new(store.clone(), blobs.clone(), runtime.clone()));
    let environments = environments(config, &store).await?;
    if private.is_some() {
        // The cluster is locked for this process: what is leased was leased by one that was killed.
        engine::lease::end_all(&store).await.context("could not take back the runs of an earlier process")?;
    }

    let shutdown = Shutdown::new();
    let (background, stop) = (TaskTracker::new(), shutdown.token(Phase::Background));
    let signals = listen::listen(&store, Listening::On, &background, stop.clone());
    let listener = match config.role.serves() {
        true => Some(listen_on(config.http.listen).await?),
        false => None,
    };
    let address = listener.as_ref().map_or(Ok(config.http.listen), TcpListener::local_addr)?;
    let api_url = format!("http://{address}");
    let public_url = config.http.public_url.clone().unwrap_or_else(|| api_url.clone());

    let mut workplace = None;
    if config.role.works() {
        let id = WorkerId::new();
        let scratch = Home::open(&data_dir.join("scratch"), id).context("cannot make the folder for scratch files")?;
        if !scratch.killed().is_empty() {
            // Else their runs would wait for their leases to run out.
            engine::lease::end_of(&store, scratch.killed()).await.context("could not take back the runs of a killed process")?;
        }
        let context = worker::Context {
            store: store.clone(),
            blobs: blobs.clone(),
            runtime: runtime.clone(),
            rewritings: rewritings.clone(),
            completions: worker::completions(&store),
            suspensions: worker::suspensions(&store),
            signals: signals.clone(),
            config: config.worker.clone(),
            permits: worker::permits(&config.worker),
            egress: egress(&config.egress),
            scratch,
            public_url: public_url.clone(),
            prices: config.prices.table(),
        };
        let worker = Worker::new(id, context, shutdown.token(Phase::Intake)).context("cannot start threads for guests")?;
        let worker = Arc::new(worker);
        workplace = Some(Arc::new(worker.clone()) as Arc<dyn Workplace>);
        shutdown.spawn(Phase::Runs, "the worker", async move {
            worker.run().await;
            Ok(())
        });
    }
    // Whatever the role: time goes on, and what the dead held is taken back, also while no worker is there.
    let intervals = Intervals { keep_runs: config.retention.runs.limit(), ..Intervals::default() };
    reconcile::driver::start(&store, &blobs, &signals, runtime.rewriter(), intervals, &background, &stop);
    if let Some(exporter) = Exporter::of(&config.export, &store)? {
        background.spawn(exporter.run(stop.clone()));
    }
    // A process that only works leaves the address alone: who asked there would wait for ever.
    if let Some(listener) = listener {
        let deployer = Arc::new(ComponentDeployer { store: store.clone(), blobs: blobs.clone(), runtime, rewritings });
        let intake = Intake::new(store.clone(), workplace);
        let state = AppState::new(store, blobs, intake, deployer, config.limits.clone(), public_url);
        let state = state.with_prices(config.prices.table());
        state.hub.start(&signals, &background, shutdown.token(Phase::Intake), stop.clone());
        let router = api::router(state);
        let stop = shutdown.token(Phase::Intake);
        shutdown.spawn(Phase::Intake, "the API", answer(listener, router, stop));
    }
    shutdown.spawn(Phase::Background, "the sweeps", async move {
        stop.cancelled().await;
        background.close();
        background.wait().await;
        Ok(())
    });
    announce(&Ready {
        api_url,
        environments,
        project_ref: config.auth.project_ref.clone(),
        notices: private.and_then(PrivatePostgres::notice).map(ToOwned::to_owned).into_iter().collect(),
    })?;
    shutdown.requested().await;
    let in_time = shutdown.wind_down(WIND_DOWN).await;
    info!(in_time, "stopped");
    Ok(())
}

/// Answers requests until `stop` is cancelled.
async fn answer(listener: TcpListener, router: Router, stop: CancellationToken) -> anyhow::Result<()> {
    // Chunks of a stream are small, and none shall wait until the one before it was acknowledged.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    // Made once: given the router itself, every connection would have a copy of all routes, which is 100 KiB.
    let serving = axum::serve(listener, router.into_make_service()).with_graceful_shutdown(stop.cancelled_owned());
    serving.await.context("the API ended")
}

fn queue_sizes(limits: &config::Limits) -> Sizes {
    let most = |size: u64| (size > 0).then_some(size);
    Sizes { deployed: most(limits.queued), development: most(limits.queued_dev.unwrap_or(limits.queued)) }
}

fn egress(config: &config::Egress) -> Egress {
    let limits = HttpLimits {
        concurrent: config.concurrent,
        body_bytes: config.body_bytes,
        connect: config.connect,
        first_byte: config.first_byte,
        between_bytes: config.between_bytes,
    };
    Egress::new(EgressPolicy::new(config.allow.clone()), limits)
}

fn keyring(config: &config::Encryption) -> anyhow::Result<Keyring> {
    // A variable that is set to nothing is as good as none.
    let is_given = |key: &&SecretString| !key.expose_secret().trim().is_empty();
    let others: Vec<&SecretString> = config.decryption_keys.iter().filter(is_given).collect();
    match config.key.as_ref().filter(is_given) {
        Some(key) => Keyring::new(key, others).context("--encryption-key and --decryption-keys"),
        None if others.is_empty() => Ok(Keyring::default()),
        None => anyhow::bail!("--decryption-keys needs --encryption-key, the key that values are encrypted with from now on"),
    }
}

/// Brings the values in rows to the current key, or refuses to start: without their keys no run that needs them can go on.
async fn encrypt(store: &Store) -> anyhow::Result<()> {
    let hint = "give --encryption-key, and --decryption-keys if it has changed; if a key is lost for ever, delete the rows of \
                the table `variables` with its id in key_id, and set them anew";
    match engine::variables::seal(store).await {
        Ok(0) => Ok(()),
        Ok(count) => {
            info!(count, "environment variables are encrypted with the current key now");
            Ok(())
        }
        Err(error @ engine::Error::Conflict(_)) => Err(error).context(hint),
        Err(error) => Err(error).context("could not encrypt environment variables"),
    }
}

async fn listen_on(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))
}

/// The environments that the settings have keys of, made on a new database and found again on an old one.
async fn environments(config: &Config, store: &Store) -> anyhow::Result<Vec<Environment>> {
    let project = NewProject {
        project_ref: config.auth.project_ref.clone(),
        name: config.auth.project_ref.trim_start_matches("proj_").to_owned(),
    };
    let root = |secret| NewApiKey { name: "root".into(), secret, kind: ApiKeyKind::Root, expires_at: None };
    if config.auth.secret_keys.is_empty() {
        let kind = EnvironmentKind::Production;
        let made = engine::project::ensure_some_key(store, project, kind, root(auth::new_secret_key(kind))).await;
        return Ok(vec![made.context("could not set up the first environment")?]);
    }
    let mut environments: Vec<Environment> = Vec::new();
    for key in &config.auth.secret_keys {
        let kind = auth::environment_kind(key.expose_secret()).context("a secret key is not of any environment")?;
        let made = engine::project::ensure(store, project.clone(), kind, root(key.clone())).await;
        let made = made.with_context(|| format!("could not set up the environment {}", kind.slug()))?;
        if !made.root_keys().any(|good| auth::is_same(key.expose_secret(), good)) {
            warn!(environment = kind.slug(), "the secret key of the settings was rotated or revoked: it opens nothing");
        }
        environments.retain(|known| known.id != made.id);
        environments.push(made);
    }
    Ok(environments)
}

/// Deploys uploaded components: rewrites, checks and compiles, stores the bytes, then writes the rows. What was deployed
/// before is neither rewritten nor compiled again.
struct ComponentDeployer {
    store: Store,
    blobs: Blobs,
    runtime: Arc<Runtime>,
    rewritings: Arc<Rewritings>,
}

#[async_trait]
impl Deployer for ComponentDeployer {
    async fn deploy(&self, environment: &Environment, bytes: Bytes, options: DeployOptions) -> Result<Deployed, DeployError> {
        let component = Blobs::digest(&bytes);
        let described = match self.rewritings.find(&component).await? {
            Some(kept) => {
                let loaded = self.rewritings.load(&kept, Part::Beginning).await.map_err(refused)?;
                self.runtime.describe(&loaded).await.map_err(refused)?
            }
            None => {
                let rewritten = self.runtime.rewrite(bytes.clone()).await.map_err(refused)?;
                let fetch = async || Ok(rewritten.bytes.clone());
                let loaded = self.runtime.load(&rewritten.rewriting, Part::Beginning, fetch).await;
                let described = self.runtime.describe(&*loaded.map_err(refused)?).await.map_err(refused)?;
                // Not before it has shown that it can be run.
                self.rewritings.keep(&rewritten).await.map_err(DeployError::Internal)?;
                described
            }
        };
        self.blobs.put(Area::Components, bytes).await.map_err(|error| DeployError::Internal(error.into()))?;
        let new = NewDeployment {
            component,
            definition: described.definition,
            external_id: options.external_id,
            promotion: options.promotion,
        };
        let deployment = engine::deploy::deploy(&self.store, environment.id, new).await?;
        Ok(Deployed { deployment, warnings: described.warnings })
    }
}

fn refused(error: PrepareError) -> DeployError {
    let message = error.to_string();
    match error {
        PrepareError::Refused(refusals) => DeployError::Refused {
            message,
            reasons: refusals
                .into_iter()
                .map(|refusal| Reason { module: refusal.module, function: refusal.function, reason: refusal.reason })
                .collect(),
        },
        PrepareError::Host(error) => DeployError::Internal(anyhow::anyhow!(error)),
        _ => DeployError::Refused { reasons: vec![Reason { module: None, function: None, reason: message.clone() }], message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::seal;

    #[test]
    fn a_key_that_is_no_key_keeps_the_server_from_starting_and_an_empty_setting_is_none() {
        let (key, other) = (seal::new_key(), seal::new_key());
        let of = |key: Option<&str>, others: &[&str]| {
            let decryption_keys = others.iter().map(|key| (*key).into()).collect();
            keyring(&config::Encryption { key: key.map(Into::into), decryption_keys }).map(|keys| keys.ids().len())
        };
        let (key, other) = (key.expose_secret(), other.expose_secret());
        assert_eq!(of(None, &[]).unwrap(), 0);
        assert_eq!(of(Some(""), &[""]).unwrap(), 0);
        assert_eq!(of(Some(key), &["", other]).unwrap(), 2);
        for (key, others) in [(Some("short"), &[][..]), (Some(key), &["short"]), (None, &[other]), (Some(""), &[other])] {
            assert!(of(key, others).is_err(), "{key:?} {others:?}");
        }
    }
}
