//! Leases: who runs what, for how long, and what happens when somebody is not heard of in time.
//!
//! A lease is a row's worker, epoch and end. Every write of a worker names all but the end, so a worker that was given up
//! too early writes nothing. A run whose lease is over goes on from its last checkpoint, in the same attempt.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::Deserialize as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{Error, answer, finish},
    model::{
        attempt::{Claimed, Lease, Outcome, Resume, RetryDecision},
        checkpoint::{Checkpoint, KeptFiles, Stored},
        context::{EnvironmentKind, RunContext},
        error::{ErrorCode, RunError},
        event::EventKind,
        id::{BatchId, DeploymentId, EnvironmentId, ProjectId, QueueId, RunId, WorkerId},
        machine::Machine,
        payload::Packet,
        rewriting::Rewriting,
        run::Happening,
        task::TaskDefinition,
        trigger::MIN_MAX_DURATION_MS,
        waitpoint::WaitRequest,
    },
    store::{
        Store, events,
        leases::{self, Granted, InLine},
        line, notify,
        places::{self, Pool},
        seal::Keyring,
        variables,
    },
};

/// Most runs of one claim.
const MAX_CLAIM: u32 = 200;
/// A claim that finds only full queues looks this often for others; what it parked on the way stays parked.
const MAX_ROUNDS: u32 = 10;
/// Leases that a run may lose without getting on: then it is the run that brings its hosts down.
pub(crate) const MAX_STALLS: u32 = 30;

/// What became of leases that were to be renewed. Runs in neither list were renewed and go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Somebody else has them, or nobody: drop the instance, write nothing.
    pub lost: Vec<RunId>,
    /// Renewed, but to be ended: `finish` them; whatever the outcome, they become `CANCELED`.
    pub cancel: Vec<RunId>,
}

/// Leases at most `max` (and 200) runs, first in line first, whose queues have a place. Those that begin get the component as
/// version `rewriter` of the rewriter made it, those that go on as their checkpoints need it.
///
/// # Errors
/// If the database does not answer.
pub async fn claim(store: &Store, worker: WorkerId, max: u32, lease_for: Duration, rewriter: u32) -> Result<Vec<Claimed>, Error> {
    let keys = store.keys().clone();
    store.tx(move |tx| Box::pin(async move { claim_in(tx, worker, max, lease_for, rewriter, &keys).await })).await
}

/// [`claim`], as part of another transaction.
pub(super) async fn claim_in(
    tx: &mut PgConnection,
    worker: WorkerId,
    max: u32,
    lease_for: Duration,
    rewriter: u32,
    keys: &Keyring,
) -> Result<Vec<Claimed>, Error> {
    let max = max.min(MAX_CLAIM);
    let mut admitted: Vec<InLine> = Vec::new();
    let mut variables = Variables::new();
    let mut unreadable: HashSet<Uuid> = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let room = i64::from(max) - admitted.len() as i64;
        if room <= 0 {
            break;
        }
        // Those admitted or passed over in an earlier round are still in line: they are picked again and left out below.
        let picked = leases::pick(tx, room + (admitted.len() + unreadable.len()) as i64).await?;
        let seen: HashSet<Uuid> = admitted.iter().map(|run| run.id).collect();
        let new: Vec<Uuid> = picked.into_iter().filter(|id| !seen.contains(id) && !unreadable.contains(id)).collect();
        if new.is_empty() {
            break;
        }
        let loaded = leases::load(tx, &new, rewriter).await?;
        let (deployed, undeployed): (Vec<_>, Vec<_>) = loaded.into_iter().partition(|run| run.definition.is_some());
        let undeployed: Vec<Uuid> = undeployed.iter().map(|run| run.id).collect();
        if !undeployed.is_empty() {
            let changed = line::back_to_pending(tx, &undeployed).await?;
            events::record(tx, EventKind::Undeployed, &changed).await?;
        }
        look_up(tx, keys, &deployed, &mut variables).await?;
        let (opened, sealed): (Vec<_>, Vec<_>) =
            deployed.into_iter().partition(|run| variables.contains_key(&run.environment_id));
        unreadable.extend(sealed.iter().map(|run| run.id));
        let (readable, passed_over): (Vec<_>, Vec<_>) = opened.into_iter().partition(|run| is_readable(run, rewriter));
        for run in &passed_over {
            tracing::error!(run.id = %RunId::from_uuid(run.id), "a run holds what this version does not know; it stays in line");
            unreadable.insert(run.id);
        }
        let Admission { admitted: more, parked, all_answered } = admit(tx, &admitted, readable).await?;
        admitted.extend(more);
        // If nothing left the line, the next round would find the same runs again.
        if !all_answered || (parked == 0 && undeployed.is_empty() && passed_over.is_empty() && sealed.is_empty()) {
            break;
        }
    }
    if admitted.is_empty() {
        return Ok(Vec::new());
    }
    grant(tx, worker, lease_for, admitted, &variables).await
}

/// What the runs of an environment see, for those whose values could be decrypted.
type Variables = HashMap<Uuid, Vec<(String, String)>>;

/// Reads the variables of the environments of these runs. An environment whose variables were encrypted with a key that this
/// process does not have is left out: its runs must stay in line, for a process that has it. That is so while servers get a
/// new key one after the other.
async fn look_up(tx: &mut PgConnection, keys: &Keyring, runs: &[InLine], into: &mut Variables) -> Result<(), Error> {
    let unknown = runs.iter().map(|run| run.environment_id).filter(|id| !into.contains_key(id));
    let unknown: Vec<Uuid> = unknown.collect::<HashSet<_>>().into_iter().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    for (id, opened) in variables::of_runs(tx, keys, &unknown).await? {
        match opened {
            Ok(variables) => drop(into.insert(id, variables)),
            Err(error) => {
                tracing::error!(environment.id = %EnvironmentId::from_uuid(id), "variables: {error}; its runs stay in line");
            }
        }
    }
    Ok(())
}

/// Whether this version understands the run. One that it does not, as when a newer version wrote it, must not keep the runs
/// behind it from being claimed; it is left for a version that does. So is one that sleeps in what a later rewriter made, which
/// may need of its host what this one does not have: while servers are upgraded one after the other, the new ones take it.
fn is_readable(run: &InLine, rewriter: u32) -> bool {
    run.rewriter.is_none_or(|of_run| of_run.unsigned_abs() <= rewriter)
        && run.definition.as_ref().is_some_and(|definition| TaskDefinition::deserialize(definition).is_ok())
        && run.machine.as_deref().is_none_or(|name| Machine::parse(name).is_some())
        && EnvironmentKind::from_slug(&run.environment_kind).is_some()
        && suspended(run).is_ok()
}

struct Admission {
    admitted: Vec<InLine>,
    parked: usize,
    /// No queue was locked by somebody else.
    all_answered: bool,
}

/// Lets in as many runs of each limited queue as it has places, and parks the others. Runs of a queue that another claim is
/// looking at stay where they are.
async fn admit(tx: &mut PgConnection, already: &[InLine], runs: Vec<InLine>) -> Result<Admission, Error> {
    let limited: HashSet<QueueId> =
        runs.iter().filter(|run| run.is_limited).map(|run| QueueId::from_uuid(run.queue_id)).collect();
    if limited.is_empty() {
        return Ok(Admission { admitted: runs, parked: 0, all_answered: true });
    }
    let limited: Vec<QueueId> = limited.into_iter().collect();
    let limits: HashMap<QueueId, Option<u32>> = places::lock_free(tx, &limited).await?.into_iter().collect();
    let mut taken: HashMap<Pool, u64> = places::taken(tx, &limited).await?.into_iter().collect();
    for run in already {
        *taken.entry(pool(run)).or_default() += 1;
    }
    let (mut admitted, mut parked) = (Vec::new(), Vec::new());
    let all_answered = limits.len() == limited.len();
    for run in runs {
        if !run.is_limited {
            admitted.push(run);
            continue;
        }
        let places = taken.entry(pool(&run)).or_default();
        match limits.get(&QueueId::from_uuid(run.queue_id)) {
            Some(limit) if limit.is_none_or(|limit| *places < u64::from(limit)) => {
                *places += 1;
                admitted.push(run);
            }
            Some(_) => parked.push(run.id),
            None => {}
        }
    }
    places::park(tx, &parked).await?;
    Ok(Admission { admitted, parked: parked.len(), all_answered })
}

fn pool(run: &InLine) -> Pool {
    Pool { queue: QueueId::from_uuid(run.queue_id), key: run.concurrency_key.clone() }
}

async fn grant(
    tx: &mut PgConnection,
    worker: WorkerId,
    lease_for: Duration,
    admitted: Vec<InLine>,
    variables: &Variables,
) -> Result<Vec<Claimed>, Error> {
    let runs: Vec<Uuid> = admitted.iter().map(|run| run.id).collect();
    let deployments: Vec<Uuid> = admitted.iter().filter_map(|run| run.deployment_id).collect();
    let granted = leases::grant(tx, worker, lease_for, &runs, &deployments).await?;
    let mut granted: HashMap<Uuid, Granted> = granted.into_iter().map(|granted| (granted.lease.run.uuid(), granted)).collect();
    let resumes = resumes(tx, &admitted).await?;
    let mut claimed = Vec::with_capacity(admitted.len());
    for (run, resume) in admitted.into_iter().zip(resumes) {
        let granted = granted.remove(&run.id).ok_or_else(|| Error::Internal(anyhow::anyhow!("a locked run was not granted")))?;
        let own = variables.get(&run.environment_id).cloned().unwrap_or_default();
        claimed.push(assemble(run, granted, own, resume)?);
    }
    Ok(claimed)
}

/// Where each of these runs goes on.
async fn resumes(tx: &mut PgConnection, runs: &[InLine]) -> Result<Vec<Option<Resume>>, Error> {
    let mut resumes = runs.iter().map(suspended).collect::<Result<Vec<_>, _>>()?;
    let waits: Vec<&WaitRequest> = resumes.iter().flatten().map(|resume| &resume.wait).collect();
    let completions = answer::of_waits(tx, &waits).await?;
    for (resume, completions) in resumes.iter_mut().flatten().zip(completions) {
        resume.completions = completions;
    }
    Ok(resumes)
}

/// Where the run goes on, without what its wait came to.
fn suspended(run: &InLine) -> Result<Option<Resume>, Error> {
    let (Some(sequence), Some(wait)) = (run.checkpoint_sequence, run.checkpoint_wait.clone()) else {
        return Ok(None);
    };
    let snapshot = match (run.checkpoint_snapshot.clone(), &run.checkpoint_digest) {
        (Some(bytes), _) => Stored::Row(bytes.into()),
        (None, Some(digest)) => Stored::Blob(digest.clone()),
        (None, None) => return Err(Error::Internal(anyhow::anyhow!("a checkpoint has no snapshot"))),
    };
    let wait: WaitRequest = serde_json::from_value(wait).map_err(|error| Error::Internal(error.into()))?;
    let checkpoint = Checkpoint {
        sequence: sequence.unsigned_abs(),
        snapshot,
        stored_bytes: run.checkpoint_stored_bytes.unwrap_or_default().unsigned_abs(),
        raw_bytes: run.checkpoint_raw_bytes.unwrap_or_default().unsigned_abs(),
        rewritten: run.checkpoint_rewritten.clone(),
        files: run
            .checkpoint_files
            .clone()
            .map(|manifest| KeptFiles { manifest: manifest.into(), packs: run.checkpoint_packs.clone().unwrap_or_default() }),
        pages: run.checkpoint_pages.clone().unwrap_or_default(),
    };
    Ok(Some(Resume { checkpoint, wait, completions: Vec::new() }))
}

fn assemble(run: InLine, granted: Granted, variables: Vec<(String, String)>, resume: Option<Resume>) -> Result<Claimed, Error> {
    let corrupt = |what: &'static str| Error::Internal(anyhow::anyhow!("a claimed run has no {what}"));
    let definition = run.definition.ok_or(corrupt("task"))?;
    let task: TaskDefinition = serde_json::from_value(definition).map_err(|error| Error::Internal(error.into()))?;
    let machine = match &run.machine {
        Some(name) => Machine::parse(name).ok_or(corrupt("known machine"))?,
        None => task.machine.unwrap_or_default(),
    };
    let max_duration_ms = run.max_duration_ms.map(i64::unsigned_abs).or(task.max_duration_ms);
    let max_duration_ms = max_duration_ms.filter(|ms| *ms > 0).map(|ms| ms.max(MIN_MAX_DURATION_MS));
    let max_attempts = finish::max_attempts(run.max_attempts.map(i32::unsigned_abs), task.retry.as_ref());
    let context = RunContext {
        run: granted.lease.run,
        tags: run.tags,
        is_test: run.is_test,
        is_replay: run.replay_of.is_some(),
        created_at: run.created_at,
        started_at: granted.started_at,
        parent: run.parent_id.map(RunId::from_uuid),
        root: RunId::from_uuid(run.root_id),
        depth: run.depth.unsigned_abs(),
        batch: run.batch_id.map(BatchId::from_uuid),
        idempotency_key: run.idempotency_key,
        max_attempts,
        max_duration_ms,
        attempt: granted.lease.attempt,
        attempt_started_at: granted.attempt_started_at,
        task: run.task.clone(),
        queue: QueueId::from_uuid(run.queue_id),
        queue_name: run.queue_name,
        concurrency_key: Some(run.concurrency_key).filter(|key| !key.is_empty()),
        environment: EnvironmentId::from_uuid(run.environment_id),
        environment_kind: EnvironmentKind::from_slug(&run.environment_kind).ok_or(corrupt("known environment"))?,
        project: ProjectId::from_uuid(run.project_id),
        project_ref: run.project_ref,
        project_name: run.project_name,
        deployment: DeploymentId::from_uuid(run.deployment_id.ok_or(corrupt("deployment"))?),
        version: run.version.ok_or(corrupt("version"))?,
        machine,
    };
    let component = run.component.ok_or(corrupt("component"))?;
    let rewriting = run.rewritten.zip(run.rewriter);
    let rewriting =
        rewriting.map(|(digest, rewriter)| Rewriting { component: component.clone(), rewriter: rewriter.unsigned_abs(), digest });
    Ok(Claimed {
        lease: granted.lease,
        component,
        rewriting,
        task: run.task,
        payload: Packet { data: run.payload, content_type: run.payload_type },
        context,
        machine,
        max_duration_ms,
        used_cpu_ms: run.attempt_cpu_ms.unsigned_abs(),
        on_cancel: task.on_cancel,
        variables,
        resume,
    })
}

/// Puts off the end of these leases, each a run and the epoch it was claimed with.
///
/// # Errors
/// If the database does not answer: then nothing is known, and the leases run on.
pub async fn renew(store: &Store, worker: WorkerId, leases: &[(RunId, i64)], lease_for: Duration) -> Result<Renewed, Error> {
    let leases = leases.to_vec();
    let asked = leases.clone();
    let held: HashMap<RunId, bool> = store
        .tx(move |tx| Box::pin(async move { leases::renew(tx, worker, &leases, lease_for).await }))
        .await?
        .into_iter()
        .collect();
    let mut renewed = Renewed::default();
    for (run, _) in asked {
        match held.get(&run) {
            None => renewed.lost.push(run),
            Some(true) => renewed.cancel.push(run),
            Some(false) => {}
        }
    }
    Ok(renewed)
}

/// Gives a run back at a graceful shutdown: it goes on from its last checkpoint, elsewhere, and this counts against nothing.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::Conflict`] if the run is over; [`Error::NotFound`].
pub async fn give_back(store: &Store, lease: &Lease) -> Result<(), Error> {
    let lease = *lease;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let held = finish::held_by(tx, &lease).await?;
                if held.cancel_requested {
                    let outcome = canceled();
                    finish::end_attempt(tx, &held, outcome, held.attempt_cpu_ms).await?;
                    return Ok(());
                }
                held.status.on(Happening::Requeue)?;
                let changed = leases::requeue(tx, held.id, held.stalls).await?;
                events::record(tx, EventKind::GivenBack, &[changed]).await?;
                places::place_freed(tx, &[held.pool]).await?;
                notify::line(tx).await?;
                Ok(())
            })
        })
        .await
}

fn canceled() -> Outcome {
    let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run was cancelled");
    Outcome::Failed { error, retry: RetryDecision::Abort }
}

/// Ends all leases, so that [`expire`] takes every run back at once. Only for a process that knows that it is the only one
/// to use the database, before it claims anything: with a private cluster, whoever held a lease was killed.
///
/// # Errors
/// If the database does not answer.
pub async fn end_all(store: &Store) -> Result<u64, Error> {
    Ok(store.tx(|tx| Box::pin(leases::end_all(tx))).await?)
}

/// Takes back at most `max` runs whose worker was not heard of in time, and returns how many: they go on from their last
/// checkpoint, at no cost. One that was to be cancelled is; one that loses its worker again and again fails its attempt.
///
/// # Errors
/// If the database does not answer.
pub async fn expire(store: &Store, max: u32) -> Result<u32, Error> {
    store
        .tx(move |tx| {
            Box::pin(async move {
                let expired = leases::pick_expired(tx, max).await?;
                for run in &expired {
                    let Some(held) = leases::hold(tx, *run).await? else { continue };
                    take_back(tx, held).await?;
                }
                if !expired.is_empty() {
                    notify::line(tx).await?;
                }
                Ok(expired.len() as u32)
            })
        })
        .await
}

async fn take_back(tx: &mut PgConnection, held: leases::Held) -> Result<(), Error> {
    if held.cancel_requested {
        finish::end_attempt(tx, &held, canceled(), held.attempt_cpu_ms).await?;
    } else if held.stalls >= MAX_STALLS {
        let message = format!("the run lost its worker {} times without getting on", held.stalls + 1);
        let error = RunError::internal(ErrorCode::TaskRunStalledExecuting, message);
        let outcome = Outcome::Failed { error, retry: RetryDecision::Policy };
        finish::end_attempt(tx, &held, outcome, held.attempt_cpu_ms).await?;
    } else {
        held.status.on(Happening::Requeue)?;
        let changed = leases::requeue(tx, held.id, held.stalls + 1).await?;
        events::record(tx, EventKind::LeaseLost, &[changed]).await?;
        places::place_freed(tx, &[held.pool]).await?;
    }
    Ok(())
}
