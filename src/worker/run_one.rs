//! One leased attempt, from its start or its last checkpoint to the next suspension or its end.
//!
//! Whatever happens here, the run keeps an owner: it ends in `finish`, in `suspend`, back in the queue, or, if this process
//! dies at any line, its lease runs out and another worker goes on from the last checkpoint. The instance is dropped only after
//! the transaction that makes it unnecessary; a snapshot that cannot be stored leaves the run alive in memory.

mod sleep;

use std::{
    borrow::Cow,
    convert::Infallible,
    io,
    pin::pin,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use tracing::{Instrument, debug, error, info_span, warn};

use self::sleep::Sleep;
use super::{
    CROWDED_GRACE, Context,
    caller::EngineCaller,
    leases::{Hold, Stop},
    logs::LogBuffer,
    scratch::Scratch,
};
use crate::{
    blobs::{self, Area},
    engine::{self, finish, lease},
    host::CpuMeter,
    model::{
        attempt::{Cancellation, Claimed, Outcome, Resume, RetryDecision},
        checkpoint::{Checkpoint, Stored},
        error::{ErrorCode, RunError},
        log::Level,
        payload::{Packet, StoredPacket},
        rewriting::Rewriting,
    },
    runtime::{Execution, LoadedComponent, Part, PrepareError, RunFault, RunSetup, Step},
    store::{endings::Completed, runs},
    wall_clock,
};

/// How often buffered log lines are written.
const WRITE_LOGS: Duration = Duration::from_millis(250);
/// Longest pause between two tries to report an end while the database is away.
const REPORT_AGAIN: Duration = Duration::from_secs(2);
/// Times that reporting an end may fail although the database answers.
const MAX_REFUSALS: u32 = 5;
/// Longest time to ask when a run was cancelled.
const ASK_FOR: Duration = Duration::from_secs(1);
/// Pause before a run that could not even be loaded goes back to the queue.
const BEFORE_HANDING_BACK: Duration = Duration::from_secs(1);

/// Runs the attempt until it is suspended, ended, or taken away.
pub async fn run_one(context: &Arc<Context>, claimed: Claimed, hold: &Hold) {
    let span = info_span!("attempt", run.id = %claimed.lease.run, attempt.number = claimed.lease.attempt, attempt.epoch = claimed.lease.epoch, task.id = %claimed.task);
    let attempt = Attempt::new(context.clone(), claimed);
    match attempt.run_until_stopped(hold).instrument(span).await {
        None => {}
        // Somebody else has the run: whatever is still buffered here is theirs to write again.
        Some(Stop::Lost) => {}
        Some(Stop::Cancelled) => attempt.end_cancelled().await,
        Some(Stop::HandBack) => attempt.hand_back("the server is going down").await,
    }
    // Whatever became of the run: whoever has it next, this process included, makes a directory of their own.
    attempt.scratch.remove().await;
}

struct Attempt {
    context: Arc<Context>,
    claimed: Claimed,
    /// What the instance has used, once there is one.
    meter: Mutex<Option<CpuMeter>>,
    logs: Arc<LogBuffer>,
    caller: Arc<EngineCaller>,
    scratch: Scratch,
    /// Microseconds from the claim until the instance was restored, once it is.
    restored_us: OnceLock<u64>,
}

/// Why an attempt went no further.
enum Fault {
    /// The run ends with this error.
    Ends(RunError),
    /// Not the run's fault, and may pass: back to the queue.
    Passing(anyhow::Error),
    /// Ours, and perhaps there every time: the lease is left to run out, which is counted, so that the run does not go
    /// round for ever.
    Ours(anyhow::Error),
}

impl Attempt {
    fn new(context: Arc<Context>, claimed: Claimed) -> Attempt {
        let logs = Arc::new(LogBuffer::default());
        let scratch = Scratch::of(context.scratch.path(), &claimed.lease);
        let caller = Arc::new(EngineCaller::new(context.clone(), &claimed, logs.clone()));
        Attempt { context, claimed, meter: Mutex::default(), logs, caller, scratch, restored_us: OnceLock::new() }
    }

    /// Why it had to stop; none: it came to its end by itself.
    async fn run_until_stopped(&self, hold: &Hold) -> Option<Stop> {
        let mut running = pin!(self.run());
        tokio::select! {
            biased;
            stop = hold.signal.raised() => match stop {
                Stop::Cancelled if self.claimed.on_cancel => {}
                stop => return Some(stop),
            },
            () = &mut running => return None,
        }
        // Whatever it comes to now, the run becomes `CANCELED`.
        let left = self.announce_cancellation().await;
        tokio::select! {
            biased;
            stop = hold.signal.taken_away() => Some(stop),
            () = running => None,
            () = tokio::time::sleep(left) => Some(Stop::Cancelled),
        }
    }

    /// Tells the guest that its run is being cancelled, and returns how long it may go on. Source: facts O4.
    async fn announce_cancellation(&self) -> Duration {
        let Claimed { lease, context, .. } = &self.claimed;
        let asked = tokio::time::timeout(ASK_FOR, runs::get(&self.context.store, context.environment, lease.run)).await;
        let now = wall_clock::now();
        // Not knowing when it was asked for, it has as long from now.
        let requested_at = asked.ok().and_then(Result::ok).flatten().and_then(|run| run.cancel_requested_at);
        let cancellation = Cancellation::requested(requested_at.unwrap_or(now).min(now));
        self.caller.cancel(cancellation);
        (cancellation.deadline - now).to_std().unwrap_or_default()
    }

    /// What the attempt has used, or is known to have used.
    fn used_cpu_ms(&self) -> u64 {
        let meter = self.meter.lock().expect("no code panics while it holds this lock");
        meter.as_ref().map_or(0, |used| used().as_millis() as u64).max(self.claimed.used_cpu_ms)
    }

    fn watch(&self, execution: &Execution) {
        *self.meter.lock().expect("no code panics while it holds this lock") = Some(execution.cpu_meter());
    }

    async fn run(&self) {
        // Beside each other: a guest does not stand still while the database takes its lines.
        let ended = tokio::select! {
            ended = self.execute() => ended,
            never = self.write_logs_now_and_then() => match never {},
            message = self.scratch.overflow() => Err(Fault::Ends(RunError::internal(ErrorCode::TaskRunCrashed, message))),
        };
        match ended {
            Ok(()) => {}
            Err(Fault::Ends(error)) => {
                self.finish(Outcome::Failed { error, retry: RetryDecision::Policy }, self.used_cpu_ms()).await
            }
            Err(Fault::Passing(error)) => {
                warn!(error = format!("{error:#}"), "the run could not be loaded");
                tokio::time::sleep(BEFORE_HANDING_BACK).await;
                self.hand_back(&format!("{error:#}")).await;
            }
            Err(Fault::Ours(error)) => {
                error!(error = format!("{error:#}"), "the run could not be gone on with; its lease will run out");
                self.logs.host(Level::Error, format!("The host could not go on with the run: {error:#}"));
                self.write_logs().await;
            }
        }
    }

    /// Starts or restores the instance, and runs it until nothing is left to do here.
    async fn execute(&self) -> Result<(), Fault> {
        let begun = Instant::now();
        let part = if self.claimed.resume.is_none() { Part::Beginning } else { Part::Whole };
        let component = self.load(part).await?;
        self.bring_files().await?;
        let (mut execution, mut step) = match &self.claimed.resume {
            None => {
                let payload = self.payload().await?;
                let mut execution = Execution::start(&component, self.setup(), self.caller.clone()).await.map_err(fault)?;
                self.watch(&execution);
                let step = execution.call(&self.claimed.task, &payload).await;
                (execution, step)
            }
            Some(resume) => {
                let mut execution = self.restore(&component, resume).await?;
                self.watch(&execution);
                let _ = self.restored_us.set(begun.elapsed().as_micros() as u64);
                let step = execution.resume(resume.completions.clone()).await;
                (execution, step)
            }
        };
        loop {
            let used_cpu_ms = execution.used_cpu().as_millis() as u64;
            let outcome = match step {
                Step::Returned(Ok(output)) => Outcome::Completed(output),
                Step::Returned(Err(failure)) => Outcome::Failed { error: failure.error, retry: failure.retry },
                Step::Ended(error) => Outcome::Failed { error, retry: RetryDecision::Policy },
                Step::Suspended(wait) => match self.put_to_sleep(&mut execution, &wait).await? {
                    Sleep::Asleep => {
                        self.context.rewritings.expect_resuming(component.rewriting());
                        return Ok(());
                    }
                    Sleep::Over(completions) => {
                        execution = self.able_to_resume(execution).await?;
                        self.watch(&execution);
                        step = execution.resume(completions).await;
                        continue;
                    }
                },
            };
            drop(execution);
            self.finish(outcome, used_cpu_ms).await;
            return Ok(());
        }
    }

    /// What the run begins with, from the blob store if it is there.
    async fn payload(&self) -> Result<Cow<'_, Packet>, Fault> {
        let Some(stored) = StoredPacket::of(&self.claimed.payload) else { return Ok(Cow::Borrowed(&self.claimed.payload)) };
        match self.context.blobs.get(Area::Packets, &stored.digest).await {
            Ok(bytes) => Ok(Cow::Owned(Packet { data: bytes.into(), content_type: stored.content_type })),
            Err(error @ blobs::Error::Unavailable(_)) => Err(Fault::Passing(error.into())),
            Err(error) => {
                Err(Fault::Ends(RunError::internal(ErrorCode::TaskInputError, format!("the payload is lost: {error}"))))
            }
        }
    }

    async fn load(&self, part: Part) -> Result<Arc<LoadedComponent>, Fault> {
        let rewritings = &self.context.rewritings;
        let rewriting = match &self.claimed.rewriting {
            Some(kept) => kept.clone(),
            None => rewritings.ensure(&self.claimed.component).await.map_err(|error| unloadable(error, None))?,
        };
        rewritings.load(&rewriting, part).await.map_err(|error| unloadable(error, Some(&rewriting)))
    }

    fn setup(&self) -> RunSetup {
        RunSetup {
            context: self.claimed.context.clone(),
            machine: self.claimed.machine,
            cpu_limit: self.claimed.max_duration_ms.map(Duration::from_millis),
            used_cpu: Duration::from_millis(self.claimed.used_cpu_ms),
            variables: self.claimed.variables.clone(),
            scratch: self.scratch.path().to_owned(),
            open_files: self.scratch.open_files(),
            // Of what is longer the caller decides, each time.
            grace: self.context.config.grace.min(CROWDED_GRACE),
            egress: self.context.egress.clone(),
            prices: self.context.prices,
        }
    }

    /// Makes the scratch directory as the run left it, wherever that was. A run without files gets its directory when it asks for it.
    async fn bring_files(&self) -> Result<(), Fault> {
        let Some((resume, files)) =
            self.claimed.resume.as_ref().and_then(|resume| Some((resume, resume.checkpoint.files.clone()?)))
        else {
            return Ok(());
        };
        let damaged = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => Fault::Ends(lost_checkpoint(resume, &error.to_string())),
            _ => Fault::Passing(error.into()),
        };
        // Before the packs are there, so that they are not in memory while they wait for it.
        let room = Scratch::room_for(&files).await.map_err(damaged)?;
        let mut packs = vec![];
        for digest in &files.packs {
            packs.push(match self.context.blobs.get(Area::Files, digest).await {
                Ok(pack) => pack,
                Err(error @ blobs::Error::Unavailable(_)) => return Err(Fault::Passing(error.into())),
                Err(error) => return Err(Fault::Ends(lost_checkpoint(resume, &error.to_string()))),
            });
        }
        self.scratch.restore(files, packs, room).await.map_err(damaged)
    }

    async fn restore(&self, component: &Arc<LoadedComponent>, resume: &Resume) -> Result<Execution, Fault> {
        let snapshot = match &resume.checkpoint.snapshot {
            Stored::Row(bytes) => bytes.clone(),
            Stored::Blob(digest) => match self.context.blobs.get(Area::Checkpoints, digest).await {
                Ok(snapshot) => snapshot,
                Err(error @ blobs::Error::Unavailable(_)) => return Err(Fault::Passing(error.into())),
                Err(error) => return Err(Fault::Ends(lost_checkpoint(resume, &error.to_string()))),
            },
        };
        match Execution::restore(component, &snapshot, self.setup(), self.caller.clone()).await {
            Err(RunFault::Damaged(reason)) => Err(Fault::Ends(lost_checkpoint(resume, &reason))),
            other => other.map_err(fault),
        }
    }

    /// An instance that could not be put to sleep goes on in a whole component, as it would after its sleep.
    async fn able_to_resume(&self, mut execution: Execution) -> Result<Execution, Fault> {
        if execution.part() == Part::Whole {
            return Ok(execution);
        }
        let snapshot = execution.capture_here().await.map_err(fault)?;
        let setup = RunSetup { used_cpu: execution.used_cpu(), ..self.setup() };
        drop(execution);
        let component = self.load(Part::Whole).await?;
        Execution::restore(&component, &snapshot.bytes, setup, self.caller.clone()).await.map_err(fault)
    }

    /// Reports the end until it is durable or another worker has the run: a result is never lost to a database that is away
    /// for a moment. One that the database refuses again and again is given up: the lease runs out, and that is counted.
    async fn finish(&self, outcome: Outcome, used_cpu_ms: u64) {
        let (mut pause, mut refusals) = (Duration::from_millis(50), 0);
        loop {
            self.write_logs().await;
            if self.complete_with_others(&outcome, used_cpu_ms).await {
                break;
            }
            let error = match finish::finish(&self.context.store, &self.claimed.lease, outcome.clone(), used_cpu_ms).await {
                Ok(finished) => {
                    debug!(?finished, "attempt ended");
                    break;
                }
                // An earlier try was made though its answer was lost, or somebody else has ended the run.
                Err(engine::Error::Conflict(_) | engine::Error::NotFound { .. }) => break,
                Err(engine::Error::LostLease) => return,
                Err(error) => error,
            };
            if !matches!(error, engine::Error::Unavailable(_)) {
                refusals += 1;
            }
            if refusals >= MAX_REFUSALS {
                return error!(
                    error = &error as &dyn std::error::Error,
                    "the end of an attempt is refused; its lease will run out"
                );
            }
            warn!(error = &error as &dyn std::error::Error, "the end of an attempt could not be reported; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REPORT_AGAIN);
        }
        let blob = self.claimed.resume.as_ref().and_then(|resume| resume.checkpoint.snapshot.blob());
        self.forget_checkpoint(blob.map(ToOwned::to_owned)).await;
        self.forget_packs(&Packs::default()).await;
    }

    /// Completes the run in a transaction that others share. False if it is not that simple, or did not work.
    async fn complete_with_others(&self, outcome: &Outcome, cpu_ms: u64) -> bool {
        match outcome {
            Outcome::Completed(output) if output.data.len() <= finish::MOST_OUTPUT_TOGETHER => {
                let Claimed { lease, machine, .. } = self.claimed;
                let restored_us = self.restored_us.get().copied();
                let parent_waits = self.claimed.context.trace != lease.run;
                let completed = Completed { lease, output: output.clone(), cpu_ms, machine, restored_us, parent_waits };
                self.context.completions.ask(completed).await == Some(true)
            }
            Outcome::Completed(_) | Outcome::Failed { .. } => false,
        }
    }

    async fn hand_back(&self, why: &str) {
        self.logs.host(Level::Info, format!("Handed back to the queue: {why}"));
        self.write_logs().await;
        if let Err(error) = lease::give_back(&self.context.store, &self.claimed.lease).await {
            warn!(error = &error as &dyn std::error::Error, "a run could not be handed back; its lease will run out");
        }
    }

    async fn end_cancelled(&self) {
        let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run was cancelled");
        self.finish(Outcome::Failed { error, retry: RetryDecision::Abort }, self.used_cpu_ms()).await;
    }

    async fn write_logs_now_and_then(&self) -> Infallible {
        let mut beat = tokio::time::interval(WRITE_LOGS);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.write_logs().await;
        }
    }

    async fn write_logs(&self) {
        match self.logs.write(&self.context.store, &self.claimed.lease).await {
            Ok(()) | Err(engine::Error::LostLease) => {}
            Err(error) => warn!(error = &error as &dyn std::error::Error, "log lines could not be written"),
        }
    }

    /// The blob of a checkpoint that no row names any more. If this fails the sweep deletes it.
    async fn forget_checkpoint(&self, digest: Option<String>) {
        if let Some(digest) = digest
            && let Err(error) = self.context.blobs.delete(Area::Checkpoints, &digest).await
        {
            debug!(error = &error as &dyn std::error::Error, "an old checkpoint is left to the sweep");
        }
    }

    /// The packs of the checkpoint that the run went on from, but for those still needed. What is left here the sweep deletes.
    async fn forget_packs(&self, needed: &Packs) {
        let Some(before) = self.claimed.resume.as_ref().map(|resume| Packs::of(&resume.checkpoint)) else { return };
        for (area, digest) in before.0.iter().filter(|pack| !needed.0.contains(pack)) {
            if let Err(error) = self.context.blobs.delete(*area, digest).await {
                debug!(error = &error as &dyn std::error::Error, "an old pack is left to the sweep");
            }
            if *area == Area::Pages {
                self.context.runtime.forget_pack(digest);
            }
        }
    }
}

/// What a checkpoint needs beside its snapshot.
#[derive(Default)]
struct Packs(Vec<(Area, String)>);

impl Packs {
    fn of(checkpoint: &Checkpoint) -> Packs {
        let files = checkpoint.files.iter().flat_map(|files| &files.packs).map(|digest| (Area::Files, digest.clone()));
        Packs(files.chain(checkpoint.pages.iter().map(|digest| (Area::Pages, digest.clone()))).collect())
    }
}

/// Why a component could not be had. `rewriting`: which, if it was rewritten at all.
fn unloadable(error: PrepareError, rewriting: Option<&Rewriting>) -> Fault {
    let ends = |reason: String| {
        let which = rewriting.map(|rewriting| format!(", as version {} of the rewriter made it,", rewriting.rewriter));
        let message = format!("the component{} cannot be loaded: {reason}", which.unwrap_or_default());
        Fault::Ends(RunError::internal(ErrorCode::CouldNotImportTask, message))
    };
    let PrepareError::Host(error) = error else { return ends(error.to_string()) };
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(gone @ (blobs::Error::NotFound(_) | blobs::Error::Damaged(_))), _) => ends(gone.to_string()),
        (Some(blobs::Error::Unavailable(_)), _) | (_, Some(engine::Error::Unavailable(_))) => {
            Fault::Passing(anyhow::anyhow!(error))
        }
        _ => Fault::Ours(anyhow::anyhow!(error)),
    }
}

fn fault(fault: RunFault) -> Fault {
    match fault {
        RunFault::Damaged(reason) => Fault::Ends(RunError::internal(ErrorCode::UnspecifiedError, reason)),
        RunFault::Unavailable(error) => Fault::Passing(error),
        RunFault::NotStored(error) | RunFault::Host(error) => Fault::Ours(error),
    }
}

fn lost_checkpoint(resume: &Resume, reason: &str) -> RunError {
    let message = format!("checkpoint {} cannot be restored: {reason}", resume.checkpoint.sequence);
    RunError::internal(ErrorCode::UnspecifiedError, message)
}
