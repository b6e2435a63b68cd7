//! Leases the runs that a claim admits, and puts together what a worker needs of each. Part of [`claim`](super::claim).

use std::{collections::HashMap, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{Error, answer, finish},
    model::{
        attempt::{Claimed, Resume},
        checkpoint::{Checkpoint, KeptFiles, Stored},
        context::{EnvironmentKind, RunContext},
        id::{BatchId, DeploymentId, EnvironmentId, ProjectId, QueueId, RunId, WorkerId},
        machine::Machine,
        payload::Packet,
        rewriting::Rewriting,
        task::TaskDefinition,
        trigger::MIN_MAX_DURATION_MS,
        waitpoint::WaitRequest,
    },
    store::leases::{self, Granted, InLine},
};

/// What the runs of an environment see, for those whose values could be decrypted.
pub(super) type Variables = HashMap<Uuid, Vec<(String, String)>>;

pub(super) async fn grant(
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
pub(super) fn suspended(run: &InLine) -> Result<Option<Resume>, Error> {
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

/// What a worker gets of a run that was leased.
pub(super) fn assemble(
    run: InLine,
    granted: Granted,
    variables: Vec<(String, String)>,
    resume: Option<Resume>,
) -> Result<Claimed, Error> {
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
        trace: RunId::from_uuid(run.trace_id.unwrap_or(run.id)),
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
