//! One attempt at a run, live: entered once, suspended and resumed any number of times, ended once.
//!
//! ```text
//!   start ──► ready ──call──► ended
//!               │  ▲            ▲
//!               │  └ ─ ─ ─ ─ ─ ─│─ ─ ─ ─ ─ ─ ┐
//!              call             resume        │ (another process, another day)
//!               ▼               │             │
//!           suspended ──────────┤             │
//!               │  └──resume──► suspended     │
//!             capture ─ ─ ─ snapshot ─ ─ ─ restore
//! ```
//!
//! Dropping an execution at any point ends it and leaves nothing behind. What the guest does wrong is a [`Step`]; what we
//! do wrong is a [`RunFault`].

use std::{mem, path::PathBuf, sync::Arc, time::Duration};

use super::{
    PackError, Snapshot, TaskFailure,
    checkpoint::{self, packs::Packs},
    component::{LoadedComponent, Part},
    cpu::{Meter, Throttle},
    host_fault,
    instance::Live,
};
use crate::{
    host::{
        self, Begin, Caller,
        task::bindings::{dormouse::task::types, exports::dormouse::task::tasks::TaskError},
        task::check::MAX_CONTENT_TYPE_CHARS,
    },
    model::{
        attempt::RetryDecision,
        context::RunContext,
        error::{ErrorCode, RunError},
        id::RunId,
        machine::Machine,
        payload::{MAX_OUTPUT_BYTES, Packet, STORE},
        price::Prices,
        rewriting::Rewriting,
        waitpoint::{Completion, WaitRequest},
    },
};

/// What an attempt is run with.
#[derive(Debug, Clone)]
pub struct RunSetup {
    /// What `context.current` answers.
    pub context: RunContext,
    /// Memory and share of a core.
    pub machine: Machine,
    /// CPU time the attempt may use in all; none: no limit.
    pub cpu_limit: Option<Duration>,
    /// CPU time it used before its snapshot.
    pub used_cpu: Duration,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
    /// An existing folder of this run alone, which the guest sees as its root.
    pub scratch: PathBuf,
    /// Those of its files that are open, for whoever counts them.
    pub open_files: host::OpenFiles,
    /// How long a wait through WASI stays in memory before the run is suspended.
    pub grace: Duration,
    /// What its HTTP requests are sent with.
    pub egress: host::Egress,
    /// What it costs, if it asks.
    pub prices: Prices,
}

/// What an attempt came to, for now.
#[derive(Debug)]
pub enum Step {
    /// The task returned, with an output or an error.
    Returned(Result<Packet, TaskFailure>),
    /// It waits, and its stack is unwound: capture it, or resume it in place, which takes a whole component.
    Suspended(WaitRequest),
    /// The guest stopped for good: trap, exit, out of memory, out of CPU time.
    Ended(RunError),
}

/// Why an attempt cannot be run or captured, which is not its fault.
#[derive(Debug, thiserror::Error)]
pub enum RunFault {
    /// The snapshot is not one of this run, or it, or what it needs, is damaged or gone.
    #[error("{0}")]
    Damaged(String),
    /// What a snapshot needs beside its own bytes cannot be stored now. The execution can still be captured, or resumed in place.
    #[error("{0:#}")]
    NotStored(anyhow::Error),
    /// What a snapshot needs beside its own bytes cannot be had now.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
    /// A fault of the host.
    #[error("{0:#}")]
    Host(anyhow::Error),
}

impl From<PackError> for RunFault {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Lost(reason) => RunFault::Damaged(reason),
            PackError::Unavailable(error) => RunFault::Unavailable(error),
        }
    }
}

impl From<wasmtime::Error> for RunFault {
    fn from(error: wasmtime::Error) -> Self {
        RunFault::Host(host_fault(error))
    }
}

/// One attempt, live.
pub struct Execution {
    component: Arc<LoadedComponent>,
    run: RunId,
    meter: Arc<Meter>,
    throttle: Throttle,
    /// The packs that it was restored from; none: it was not restored.
    layers: Option<checkpoint::Layers>,
    state: State,
}

enum State {
    /// Not yet entered.
    Ready(Live),
    /// Unwound, or restored.
    Suspended(Live, WaitRequest),
    /// Its start functions failed: what the next step says.
    Failed(RunError),
    /// Over, or a call was dropped half way.
    Over,
}

impl Execution {
    /// An attempt from the beginning.
    ///
    /// # Errors
    /// [`RunFault::Host`], as when the scratch folder cannot be opened. What start functions do wrong is said by [`Self::call`].
    pub async fn start(
        component: &Arc<LoadedComponent>,
        setup: RunSetup,
        caller: Arc<dyn Caller>,
    ) -> Result<Execution, RunFault> {
        let (mut execution, live) = Self::instantiate(component, setup, caller, Begin::Fresh).await?;
        execution.state = live.map_or_else(State::Failed, State::Ready);
        Ok(execution)
    }

    /// An attempt from where a snapshot was taken; [`Self::resume`] goes on from there. Takes a whole component.
    ///
    /// # Errors
    /// [`RunFault::Damaged`] if the snapshot is refused, [`RunFault::Unavailable`], [`RunFault::Host`] otherwise.
    pub async fn restore(
        component: &Arc<LoadedComponent>,
        snapshot: &[u8],
        setup: RunSetup,
        caller: Arc<dyn Caller>,
    ) -> Result<Execution, RunFault> {
        if component.part() != Part::Whole {
            return Err(RunFault::Host(anyhow::anyhow!("a run was to go on in the beginning of a component")));
        }
        let identity = component.identity(setup.context.run);
        let contents = checkpoint::decode(snapshot, identity, setup.machine).await?;
        let layers = component.packs().load(&contents.packs, identity).await?;
        let (mut execution, live) = Self::instantiate(component, setup, caller, Begin::Restored).await?;
        execution.state = match live {
            Ok(mut live) => {
                let wait = checkpoint::load(&mut live, component.exports.load, contents, &layers).await?;
                State::Suspended(live, wait)
            }
            Err(error) => State::Failed(error),
        };
        execution.layers = Some(layers);
        Ok(execution)
    }

    async fn instantiate(
        component: &Arc<LoadedComponent>,
        setup: RunSetup,
        caller: Arc<dyn Caller>,
        begin: Begin,
    ) -> Result<(Execution, Result<Live, RunError>), RunFault> {
        let meter = Meter::new(setup.used_cpu, setup.cpu_limit);
        let mut throttle = Throttle::new(setup.machine.cpu());
        let read_meter = meter.clone();
        let id = setup.context.run;
        let run = host::Run {
            context: setup.context,
            caller,
            variables: setup.variables,
            scratch: setup.scratch,
            open_files: setup.open_files,
            grace: setup.grace,
            egress: setup.egress,
            prices: setup.prices,
        };
        let cpu: host::CpuMeter = Arc::new(move || read_meter.used());
        let setup = host::Setup { machine: setup.machine, cpu, run: Some(run), begin };
        let live = Live::new(component, setup, &meter, &mut throttle).await?;
        let component = component.clone();
        Ok((Execution { component, run: id, meter, throttle, layers: None, state: State::Over }, live))
    }

    /// Enters the task. Only once, and not after [`Self::restore`].
    pub async fn call(&mut self, task: &str, payload: &Packet) -> Step {
        let mut live = match mem::replace(&mut self.state, State::Over) {
            State::Ready(live) => live,
            State::Failed(error) => return Step::Ended(error),
            State::Suspended(..) | State::Over => return misused("called twice"),
        };
        let payload = types::Packet::from(payload.clone());
        let returned = live.call(self.component.exports.run, (task, &payload), &self.meter, &mut self.throttle).await;
        self.after(live, returned).await
    }

    /// Goes on after [`Step::Suspended`], in place or restored, with what the wait came to; nothing for a sleep.
    pub async fn resume(&mut self, completions: Vec<Completion>) -> Step {
        let mut live = match mem::replace(&mut self.state, State::Over) {
            State::Suspended(live, _) => live,
            State::Failed(error) => return Step::Ended(error),
            State::Ready(_) | State::Over => return misused("resumed without being suspended"),
        };
        live.store.data_mut().answer(completions);
        let returned = live.call(self.component.exports.resume, (), &self.meter, &mut self.throttle).await;
        self.after(live, returned).await
    }

    /// The suspended attempt as bytes. It can still be resumed in place afterwards.
    ///
    /// # Errors
    /// [`RunFault::NotStored`]; [`RunFault::Host`] if it is not suspended or cannot be saved.
    pub async fn capture(&mut self) -> Result<Snapshot, RunFault> {
        let component = self.component.clone();
        self.capture_with(Some(component.packs())).await
    }

    /// The same for this process alone: nothing is stored, and the snapshot is as large as the memory that was written to.
    ///
    /// # Errors
    /// [`RunFault::Host`] if it is not suspended or cannot be saved.
    pub async fn capture_here(&mut self) -> Result<Snapshot, RunFault> {
        self.capture_with(None).await
    }

    async fn capture_with(&mut self, packs: Option<&Arc<Packs>>) -> Result<Snapshot, RunFault> {
        let State::Suspended(live, wait) = &mut self.state else {
            return Err(RunFault::Host(anyhow::anyhow!("a run was captured that is not suspended")));
        };
        checkpoint::capture(live, &self.component, self.layers.as_ref(), packs, self.run, wait).await
    }

    /// The rewritten component that it runs, and that its snapshots fit.
    pub fn rewriting(&self) -> &Rewriting {
        self.component.rewriting()
    }

    /// How much of the component it runs.
    pub fn part(&self) -> Part {
        self.component.part()
    }

    /// Reads [`Self::used_cpu`] also when the execution has been dropped: then it is what it came to.
    pub fn cpu_meter(&self) -> host::CpuMeter {
        let meter = self.meter.clone();
        Arc::new(move || meter.used())
    }

    /// CPU time of the attempt so far, what it used before its snapshot included.
    pub fn used_cpu(&self) -> Duration {
        self.meter.used()
    }

    /// After `ckpt-run` or `ckpt-resume`: 0 says that the task returned, 1 that its stack is unwound.
    async fn after(&mut self, mut live: Live, returned: wasmtime::Result<(u32,)>) -> Step {
        match returned {
            Ok((0,)) => {
                let result = live.call(self.component.exports.take, (), &self.meter, &mut self.throttle).await;
                finished(&live, result)
            }
            Ok((_,)) => match live.store.data_mut().take_suspended() {
                Some(request) => {
                    self.state = State::Suspended(live, request.clone());
                    Step::Suspended(request)
                }
                None => misused("suspended without a wait"),
            },
            Err(error) => Step::Ended(live.ended(&error)),
        }
    }
}

/// The task returned, or stopped on the way out.
fn finished(live: &Live, result: wasmtime::Result<(Result<types::Packet, TaskError>,)>) -> Step {
    match result {
        Ok((result,)) => {
            live.store.data().finish_output();
            Step::Returned(result.map_err(TaskFailure::from).and_then(checked))
        }
        Err(error) => Step::Ended(live.ended(&error)),
    }
}

/// An output as it may be stored. Source: facts L3.
fn checked(output: types::Packet) -> Result<Packet, TaskFailure> {
    if output.data.len() > MAX_OUTPUT_BYTES {
        let message = format!("the output has {} bytes, the limit is {MAX_OUTPUT_BYTES}", output.data.len());
        return Err(bad_output(message));
    }
    if output.content_type == STORE {
        return Err(bad_output(format!("an output cannot have the content type {STORE}")));
    }
    let length = output.content_type.chars().count();
    if length > MAX_CONTENT_TYPE_CHARS || output.content_type.chars().any(char::is_control) {
        return Err(bad_output(format!(
            "the output's content type has {length} characters; it takes at most {MAX_CONTENT_TYPE_CHARS}, such as application/json"
        )));
    }
    Ok(output.into())
}

fn bad_output(message: String) -> TaskFailure {
    TaskFailure { error: RunError::internal(ErrorCode::TaskOutputError, message), retry: RetryDecision::Policy }
}

fn misused(how: &str) -> Step {
    Step::Ended(RunError::internal(ErrorCode::UnspecifiedError, format!("the host's own error: an execution was {how}")))
}
