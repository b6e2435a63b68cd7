//! HTTP requests of a guest to the world outside: `wasi:http/outgoing-handler`.
//!
//! A request is sent by `send` and by nothing else. What it may reach is decided by [`EgressPolicy`], address by address;
//! what it may take is decided by [`HttpLimits`]. Every request has a connection of its own, which ends with it: nothing of one
//! run is ever seen by another, and no request goes out on a connection that was opened under other rules.
//!
//! An *exchange* is a request and its answer. It is over when the guest has read the answer to its end, or dropped all of
//! it; until then the run stays in memory while it waits ([`super::wasi::reopen::warm_reason`]).

mod body;
mod connect;
mod send;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Resource;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::{
        HttpResult,
        bindings::http::{outgoing_handler::Host as _, types::ErrorCode},
        types::{HostFutureIncomingResponse, HostOutgoingRequest},
    },
};

use self::connect::Tls;
use super::{Caller, HostState, Run, wasi::ids::Reopen};
use crate::{
    model::{
        egress::EgressPolicy,
        id::EnvironmentId,
        log::{Level, LogRecord, Source},
    },
    wall_clock,
};

/// Bytes of header fields in one resource, roughly as they are in memory: those a guest sets. A guest that sets more traps.
pub const MAX_FIELDS_BYTES: usize = 32 << 10;
/// Bytes of an answer's status line and header fields.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Fields of an answer.
const MAX_FIELDS: usize = 200;
/// Bytes of a request's body that a guest may write at once; two such pieces lie between guest and connection.
const BODY_CHUNK_BYTES: usize = 64 << 10;
/// Exchanges of all runs of a process: each has a file descriptor, of which a process has few by default.
const MAX_EXCHANGES_OF_PROCESS: usize = 512;
/// Names that are looked up at a time: each takes one of the threads on which files are read too.
const MAX_LOOKUPS_OF_PROCESS: usize = 128;
/// Names that one run looks up at a time.
const MAX_LOOKUPS_OF_RUN: usize = 4;
/// What the runs of one environment may have of a process's exchanges and lookups: one in so many.
const SHARE_OF_ENVIRONMENT: usize = 4;

/// How much one run's requests may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Exchanges of a run at a time; one more is answered `connection-limit-reached`.
    pub concurrent: usize,
    /// Bytes of one answer's body, and of one request's: more is `HTTP-response-body-size`, `HTTP-request-body-size`.
    pub body_bytes: u64,
    /// Longest wait for name, connection and TLS, and the one if the guest names none: then `DNS-timeout` or
    /// `connection-timeout`.
    pub connect: Duration,
    /// Longest wait for the answer's head after that, and the one if the guest names none: then `HTTP-response-timeout`.
    pub first_byte: Duration,
    /// Longest wait for more of the answer's body, and the one if the guest names none: then `connection-read-timeout`.
    pub between_bytes: Duration,
}

impl HttpLimits {
    /// Longest time in which nobody asks for more of an answer: then its connection is closed. A guest
    /// that waits for more asks again within `between_bytes`.
    fn unread(&self) -> Duration {
        self.first_byte.max(self.between_bytes * 2)
    }
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            concurrent: 16,
            body_bytes: 128 << 20,
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            between_bytes: Duration::from_secs(120),
        }
    }
}

/// What all runs of a process send their requests with. Cheap to clone.
#[derive(Clone)]
pub struct Egress(Arc<Shared>);

struct Shared {
    policy: EgressPolicy,
    limits: HttpLimits,
    tls: Tls,
    of_process: Places,
    /// By environment, for as long as a run of it is in memory.
    of_environments: Mutex<HashMap<EnvironmentId, Weak<Places>>>,
}

/// How many exchanges and lookups there may be at a time.
struct Places {
    exchanges: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

impl Places {
    fn new(exchanges: usize, lookups: usize) -> Places {
        Places { exchanges: Arc::new(Semaphore::new(exchanges)), lookups: Arc::new(Semaphore::new(lookups)) }
    }
}

/// Places that are held until they are dropped: of a run, its environment and the process.
type Held = Vec<OwnedSemaphorePermit>;

/// Whose requests they are.
#[derive(Clone)]
struct Shares {
    run: Arc<Places>,
    environment: Arc<Places>,
}

impl Egress {
    /// A sender that keeps to these rules.
    pub fn new(policy: EgressPolicy, limits: HttpLimits) -> Egress {
        let of_process = Places::new(MAX_EXCHANGES_OF_PROCESS, MAX_LOOKUPS_OF_PROCESS);
        Egress(Arc::new(Shared { policy, limits, tls: Tls::default(), of_process, of_environments: Mutex::default() }))
    }

    /// What a new run of an environment may take.
    fn shares(&self, environment: EnvironmentId) -> Shares {
        let run = Places::new(self.0.limits.concurrent.min(Semaphore::MAX_PERMITS), MAX_LOOKUPS_OF_RUN);
        let mut all = self.0.of_environments.lock().expect("nobody panics with it");
        all.retain(|_, places| places.strong_count() > 0);
        let known = all.get(&environment).and_then(Weak::upgrade);
        let environment = known.unwrap_or_else(|| {
            let (exchanges, lookups) = (MAX_EXCHANGES_OF_PROCESS, MAX_LOOKUPS_OF_PROCESS);
            let places = Arc::new(Places::new(exchanges / SHARE_OF_ENVIRONMENT, lookups / SHARE_OF_ENVIRONMENT));
            all.insert(environment, Arc::downgrade(&places));
            places
        });
        Shares { run: Arc::new(run), environment }
    }
}

impl Default for Egress {
    /// Public addresses only, with the default limits.
    fn default() -> Egress {
        Egress::new(EgressPolicy::default(), HttpLimits::default())
    }
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("policy", &self.0.policy).field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

/// One instance's side of HTTP.
pub struct Http {
    context: WasiHttpCtx,
    hooks: Hooks,
    /// Exchanges that are not known to be over.
    open: BTreeMap<u64, Arc<AtomicBool>>,
}

/// What wasmtime-wasi-http asks of the host.
struct Hooks {
    /// None: there is no run in whose name anything could be sent.
    egress: Option<(Egress, Shares)>,
    caller: Option<Arc<dyn Caller>>,
    /// The number of the exchange that is begun, and what becomes true when it is over.
    next: (u64, Arc<AtomicBool>),
}

impl Http {
    /// An instance that has sent nothing yet. Without a run it never will.
    pub fn new(run: Option<&Run>) -> Http {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_FIELDS_BYTES);
        let egress = run.map(|run| (run.egress.clone(), run.egress.shares(run.context.environment)));
        let hooks = Hooks { egress, caller: run.map(|run| run.caller.clone()), next: Default::default() };
        Http { context, hooks, open: BTreeMap::new() }
    }

    /// Whether all of the exchange that can be read was read.
    pub fn is_over(&self, exchange: u64) -> bool {
        self.open.get(&exchange).is_none_or(|is_over| is_over.load(Relaxed))
    }
}

impl HostState {
    /// A number for the exchange that is about to begin; those that no handle is part of any more are forgotten.
    pub(super) fn begin_exchange(&mut self) -> Reopen {
        let (ids, open) = (&self.ids, &mut self.http.open);
        open.retain(|number, _| ids.iter().any(|(_, entry)| entry.reopen == Reopen::Exchange(*number)));
        let number = self.http.hooks.next.0 + 1;
        self.http.hooks.next = (number, Arc::default());
        open.insert(number, self.http.hooks.next.1.clone());
        Reopen::Exchange(number)
    }
}

/// `wasi:http/outgoing-handler.handle`: sends a request in the run's name.
pub(super) fn handle(
    state: &mut HostState,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> HttpResult<Resource<HostFutureIncomingResponse>> {
    let given = options.as_ref().map(Resource::rep);
    let answer = match state.acting() {
        Ok(_) => state.http().handle(request, options),
        Err(error) => {
            state.table.delete(request)?;
            Err(ErrorCode::InternalError(Some(error.message)).into())
        }
    };
    // They were given away, which wasmtime-wasi-http 48 leaves at that.
    if let Some(place) = given {
        state.table.delete(Resource::<RequestOptions>::new_own(place))?;
    }
    answer
}

/// `wasi:http/types.http-error-code`: what became of an answer, once reading it failed. wasmtime-wasi-http 48 knows its own
/// error codes only, not the errors that bodies fail with.
pub(super) fn error_code(state: &mut HostState, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
    let error = state.table.get(&error)?;
    Ok(match error.downcast_ref::<Error>() {
        Some(Error::Hyper(error)) => Some(send::code_of(error)),
        Some(Error::HttpResponseBodySize(size)) => Some(ErrorCode::HttpResponseBodySize(*size)),
        Some(Error::ConnectionReadTimeout) => Some(ErrorCode::ConnectionReadTimeout),
        Some(Error::ConnectionTerminated) => Some(ErrorCode::ConnectionTerminated),
        _ => error.downcast_ref::<ErrorCode>().cloned(),
    })
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.hooks, table: &mut self.table, ctx: &mut self.http.context }
    }
}

/// Says in the run's log what an error code of WASI has no room for.
type Explain = Arc<dyn Fn(String) + Send + Sync>;
type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let Some((egress, shares)) = self.egress.clone() else { return Box::new(async { Err(Error::HttpRequestDenied) }) };
        let slot = shares.run.exchanges.clone().try_acquire_owned();
        let (is_over, caller) = (self.next.1.clone(), self.caller.clone());
        Box::new(async move {
            let explain: Explain = Arc::new(move |message| tell(caller.as_deref(), message));
            let Ok(slot) = slot else {
                let limit = egress.0.limits.concurrent;
                explain(format!("A request was not sent: at most {limit} may be open at a time in one run"));
                return Err(Error::ConnectionLimitReached);
            };
            let (answer, connection) =
                send::send(&egress.0, &shares, request, options.unwrap_or_default(), slot, is_over, explain).await?;
            Ok((answer, Box::new(connection) as _))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        send::code_of(error)
    }
}

fn tell(caller: Option<&dyn Caller>, message: String) {
    if let Some(caller) = caller {
        let attributes = serde_json::Value::Null;
        caller.log(LogRecord {
            at: wall_clock::now(),
            level: Level::Warn,
            source: Source::Host,
            message,
            attributes,
            span: None,
        });
    }
}
