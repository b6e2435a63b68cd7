//! What belongs to one instance of a component: its handles, its clocks, its output, and the wait it is in.
//!
//! A suspended instance is this state plus memories and call stack. [`HostState::save`] puts it into bytes;
//! [`HostState::rebuild`] makes it again in a fresh instance, in which the same handle numbers mean the same things.

use std::{any::Any, mem, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView};

use super::{
    Caller, HostError, HostErrorCode, WaitDecision,
    http::{Egress, Http},
    limits::{Account, MAX_RANDOM_BYTES, MAX_RESOURCES, MemoryLimiter},
    wasi::{
        clock::{GuestClock, GuestWallClock, SavedClock},
        files::OpenFiles,
        ids::{Ids, Reopen, SavedIds},
        reopen,
        stdio::LineLog,
    },
};
use crate::model::{
    context::RunContext,
    machine::Machine,
    price::Prices,
    waitpoint::{Completion, WaitRequest},
};

/// Where a guest finds its scratch directory.
const SCRATCH_IN_GUEST: &str = "/";

/// CPU time of the attempt so far, its earlier instances included.
pub type CpuMeter = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What an instance is made for.
pub struct Setup {
    /// Bounds its memory.
    pub machine: Machine,
    /// What `context.get-usage` reads.
    pub cpu: CpuMeter,
    /// The run; none: the instance is asked what its bundle declares, and nothing else.
    pub run: Option<Run>,
    /// How the instance begins.
    pub begin: Begin,
}

/// One attempt at a run.
pub struct Run {
    /// What `context.current` answers.
    pub context: RunContext,
    /// Where the guest's wishes go.
    pub caller: Arc<dyn Caller>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
    /// An existing directory of this run alone; the guest sees it as its root.
    pub scratch: PathBuf,
    /// Those of its files that are open, for whoever counts them.
    pub open_files: OpenFiles,
    /// How long a wait through WASI stays in memory before the run is suspended.
    pub grace: Duration,
    /// What its HTTP requests are sent with.
    pub egress: Egress,
    /// What it costs, if it asks.
    pub prices: Prices,
}

/// How an instance begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// From nothing: its start functions run for the first time.
    Fresh,
    /// From a snapshot: what its start functions do has been done before, so until [`HostState::rebuild`] nothing is
    /// written or asked in the run's name.
    Restored,
}

/// The data of one wasmtime store.
pub struct HostState {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) ids: Ids,
    pub(super) clock: GuestClock,
    pub(super) http: Http,
    pub(super) run: Option<Run>,
    pub(super) cpu: CpuMeter,
    /// Handles that the poll in progress is about.
    pub(super) polling: Vec<u32>,
    /// What the interface `ckpt:host/memory` works on while memories are saved or loaded; whoever links it knows its type.
    pub memory_transfer: Option<Box<dyn Any + Send>>,
    limiter: MemoryLimiter,
    begin: Begin,
    stdout: LineLog,
    stderr: LineLog,
    wait: Wait,
    /// The scratch directory is there, and open.
    has_scratch: bool,
}

/// The wait an instance is in.
enum Wait {
    None,
    /// A start function answered 1: the instance unwinds, or is unwound.
    Suspended(WaitRequest),
    /// What the next finish function returns.
    Over(Result<Vec<Completion>, HostError>),
}

/// What [`HostState::save`] writes.
#[derive(Serialize, Deserialize)]
struct Saved {
    clock: SavedClock,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    polling: Vec<u32>,
    ids: SavedIds,
}

/// Why a state could not be made again.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The bytes are not what [`HostState::save`] writes.
    #[error("the saved host state is damaged: {0}")]
    Damaged(String),
}

impl HostState {
    /// The state of a new instance.
    pub fn new(setup: Setup) -> HostState {
        let Setup { machine, cpu, run, begin } = setup;
        let caller = run.as_ref().map(|run| run.caller.clone());
        let (stdout, stderr) = (LineLog::stdout(caller.clone()), LineLog::stderr(caller));
        let mut limiter = MemoryLimiter::new(machine);
        if begin == Begin::Restored {
            stdout.mute();
            stderr.mute();
            limiter.charge(Account::Loading);
        }
        let clock = GuestClock::start();
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout.clone()).stderr(stderr.clone()).max_random_size(MAX_RANDOM_BYTES);
        wasi.monotonic_clock(clock.clone()).wall_clock(GuestWallClock);
        if let Some(run) = &run {
            wasi.envs(&run.variables);
        }
        HostState {
            wasi: wasi.build(),
            table: HostState::empty_table(),
            ids: Ids::default(),
            clock,
            http: Http::new(run.as_ref()),
            run,
            cpu,
            polling: Vec::new(),
            memory_transfer: None,
            limiter,
            begin,
            stdout,
            stderr,
            wait: Wait::None,
            has_scratch: false,
        }
    }

    /// The scratch directory, made when the guest first asks what directories it has: most never do.
    ///
    /// # Errors
    /// If it cannot be made or opened.
    pub(super) fn preopen(&mut self) -> wasmtime::Result<Reopen> {
        if let (false, Some(run)) = (self.has_scratch, &self.run) {
            std::fs::create_dir_all(&run.scratch)?;
            let mut with_directory = WasiCtx::builder();
            with_directory.preopened_dir(&run.scratch, SCRATCH_IN_GUEST, FsPerms::ReadWrite)?;
            mem::swap(self.wasi.filesystem(), with_directory.build().filesystem());
            self.has_scratch = true;
        }
        Ok(Reopen::preopen())
    }

    /// For `Store::limiter`.
    pub fn limiter(&mut self) -> &mut MemoryLimiter {
        &mut self.limiter
    }

    /// Whether a memory was refused to grow because of the machine preset: a trap or abort that follows means out of memory.
    pub fn memory_denied(&self) -> bool {
        self.limiter.denied()
    }

    /// What the instance waits for, once after a start function has answered 1.
    pub fn take_suspended(&mut self) -> Option<WaitRequest> {
        match mem::replace(&mut self.wait, Wait::None) {
            Wait::Suspended(request) => Some(request),
            other => {
                self.wait = other;
                None
            }
        }
    }

    /// What the wait came to; before the unwound stack is resumed. Empty for a sleep.
    pub fn answer(&mut self, completions: Vec<Completion>) {
        self.limiter.charge(Account::Guest);
        self.wait = Wait::Over(Ok(completions));
    }

    /// Whether a wait is over whose answer the guest has not taken: it is being resumed.
    pub fn is_answer_pending(&self) -> bool {
        matches!(self.wait, Wait::Over(_))
    }

    /// Whether a wait has begun whose instance has not come to rest: it is being unwound.
    pub fn is_suspending(&self) -> bool {
        matches!(self.wait, Wait::Suspended(_))
    }

    /// Logs a last line without a newline; at the end of an attempt, not before a suspension.
    pub fn finish_output(&self) {
        self.stdout.finish();
        self.stderr.finish();
    }

    /// Everything of this state that a restored instance needs.
    pub async fn save(&mut self) -> Vec<u8> {
        let ids = reopen::save(self).await;
        let saved = Saved {
            clock: self.clock.save(),
            stdout: self.stdout.open_line(),
            stderr: self.stderr.open_line(),
            polling: self.polling.clone(),
            ids,
        };
        postcard::to_stdvec(&saved).expect("numbers and byte strings can always be written")
    }

    /// Goes on from what [`HostState::save`] wrote, after the instance's start functions have run.
    ///
    /// # Errors
    /// [`RebuildError::Damaged`] if the bytes are not what `save` writes.
    pub async fn rebuild(&mut self, saved: &[u8]) -> Result<(), RebuildError> {
        let saved: Saved = postcard::from_bytes(saved).map_err(|error| RebuildError::Damaged(error.to_string()))?;
        self.clock.go_on(&saved.clock);
        self.stdout.go_on(saved.stdout);
        self.stderr.go_on(saved.stderr);
        self.polling = saved.polling;
        reopen::rebuild(self, saved.ids).await.map_err(RebuildError::Damaged)?;
        self.begin = Begin::Fresh;
        Ok(())
    }

    /// A table for what is behind the handles.
    pub(super) fn empty_table() -> ResourceTable {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        table
    }

    /// The run in whose name something may be done now.
    pub(super) fn acting(&self) -> Result<&Run, HostError> {
        match (&self.run, self.begin) {
            (Some(run), Begin::Fresh) => Ok(run),
            (Some(_), Begin::Restored) => Err(unavailable("while an instance is being restored")),
            (None, _) => Err(unavailable("while a bundle is being described: there is no run")),
        }
    }

    /// Asks what becomes of a wait. True: the instance is to unwind. False: the finish function has its answer.
    pub(super) async fn begin_wait(&mut self, request: WaitRequest, warm_only: Option<&str>) -> bool {
        let caller = match self.acting() {
            Ok(run) => run.caller.clone(),
            Err(error) => return self.over(Err(error)),
        };
        match caller.wait(&request, warm_only).await {
            Ok(WaitDecision::Suspend) => {
                self.limiter.charge(Account::Saving);
                self.wait = Wait::Suspended(request);
                true
            }
            Ok(WaitDecision::Ready(completions)) => self.over(Ok(completions)),
            Err(error) => self.over(Err(error)),
        }
    }

    /// The wait needs no decision. Always false, for the start function to return.
    pub(super) fn over(&mut self, result: Result<Vec<Completion>, HostError>) -> bool {
        self.wait = Wait::Over(result);
        false
    }

    /// A sleep is over, whatever it was decided on: the guest asks again what is ready.
    pub(super) fn end_sleep(&mut self) {
        self.wait = Wait::None;
    }

    /// What the wait came to, for the finish function.
    pub(super) fn take_over(&mut self) -> wasmtime::Result<Result<Vec<Completion>, HostError>> {
        match mem::replace(&mut self.wait, Wait::None) {
            Wait::Over(result) => Ok(result),
            Wait::None | Wait::Suspended(_) => wasmtime::bail!("a wait was finished that is not over"),
        }
    }
}

fn unavailable(when: &str) -> HostError {
    HostError::new(HostErrorCode::Unavailable, format!("not available {when}"))
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The code a guest left with, if that is why it stopped.
pub fn exit_code(error: &wasmtime::Error) -> Option<i32> {
    error.downcast_ref::<I32Exit>().map(|exit| exit.0)
}
