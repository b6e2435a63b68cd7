//! Begins runs in the transaction that makes them, where nothing stands in their way. Part of [`intake`](super::intake).
//!
//! That is so while no run is in line and nothing is limited or paused. Then a claim would find these very runs, and to put them into
//! line and take them out again would be most of what a short run costs.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{
        Error, claim,
        claim::Terms,
        grant::{self, Variables},
    },
    model::{
        attempt::{Claimed, Lease},
        id::{DeploymentId, EnvironmentId, QueueId, RunId},
        run::RunStatus,
    },
    store::{
        leases::{Granted, InLine},
        line::Decided,
        many::Made,
        seal::Keyring,
        stages::Stage,
    },
};

/// Runs that begin at once.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    runs: HashMap<RunId, InLine>,
    variables: Variables,
}

impl Beginning {
    /// Decides which of the runs begin at once, at most as many as there is room for, and notes it in them. `stages` are the places where
    /// they may.
    ///
    /// # Errors
    /// If the database does not answer.
    pub(super) async fn decide(
        tx: &mut PgConnection,
        decided: &mut [Decided<'_>],
        stages: HashMap<(EnvironmentId, &str, QueueId), Stage>,
        terms: &Terms,
        keys: &Keyring,
    ) -> Result<Beginning, Error> {
        let may_begin = |run: &Decided<'_>| run.status == RunStatus::Queued && run.limits.is_empty();
        if stages.is_empty() || !decided.iter().any(may_begin) {
            return Ok(Beginning::default());
        }
        let mut beginning = Beginning { variables: variables(tx, keys, &stages).await?, ..Beginning::default() };
        for run in decided.iter_mut().filter(|run| may_begin(run)) {
            if beginning.runs.len() >= terms.most() {
                break;
            }
            let Some(stage) = stages.get(&place_of(run)) else { continue };
            let whole = in_line(run, stage);
            if beginning.variables.contains_key(&whole.environment_id) && claim::is_readable(&whole, terms.rewriter) {
                beginning.runs.insert(run.id, whole);
                (run.status, run.deployment, run.due_at) =
                    (RunStatus::Executing, Some(DeploymentId::from_uuid(stage.deployment)), None);
            }
        }
        Ok(beginning)
    }

    /// What the worker gets of those that were made.
    ///
    /// # Errors
    /// If what is known of a run makes no sense.
    pub(super) fn claimed(mut self, made: &[Made], terms: &Terms) -> Result<Vec<Claimed>, Error> {
        let mut claimed = Vec::with_capacity(self.runs.len());
        for made in made {
            let Some(run) = self.runs.remove(&made.id) else { continue };
            let lease = Lease { run: made.id, worker: terms.worker, epoch: 1, attempt: 1 };
            let granted = Granted { lease, started_at: made.at, attempt_started_at: made.at };
            let variables = self.variables.get(&run.environment_id).cloned().unwrap_or_default();
            claimed.push(grant::assemble(InLine { created_at: made.at, ..run }, granted, variables, None)?);
        }
        Ok(claimed)
    }
}

fn place_of<'a>(run: &Decided<'a>) -> (EnvironmentId, &'a str, QueueId) {
    (run.environment, run.new.task.as_str(), run.queue)
}

/// What runs in these places see, as far as it can be decrypted here.
async fn variables(
    tx: &mut PgConnection,
    keys: &Keyring,
    stages: &HashMap<(EnvironmentId, &str, QueueId), Stage>,
) -> Result<Variables, Error> {
    let with = |has: bool| stages.iter().filter(move |(_, stage)| stage.has_variables == has).map(|((id, ..), _)| id.uuid());
    let mut variables: Variables = with(false).map(|id| (id, Vec::new())).collect();
    claim::look_up(tx, keys, &with(true).collect::<Vec<Uuid>>(), &mut variables).await?;
    Ok(variables)
}

/// The run as a claim would find it in line.
fn in_line(run: &Decided<'_>, stage: &Stage) -> InLine {
    let (new, rewriting) = (run.new, stage.rewriting.clone().unzip());
    InLine {
        id: run.id.uuid(),
        environment_id: run.environment.uuid(),
        environment_kind: stage.environment_kind.clone(),
        project_id: stage.project_id,
        project_ref: stage.project_ref.clone(),
        project_name: stage.project_name.clone(),
        queue_id: run.queue.uuid(),
        queue_name: stage.queue_name.clone(),
        limit_ids: Vec::new(),
        position: run.position.unwrap_or_default(),
        concurrency_key: new.concurrency_key.clone().unwrap_or_default(),
        task: new.task.clone(),
        deployment_id: Some(stage.deployment),
        version: Some(stage.version.clone()),
        component: Some(stage.component.clone()),
        definition: Some(stage.definition.clone()),
        payload: new.payload.data.clone(),
        payload_type: new.payload.content_type.clone(),
        tags: new.tags.clone(),
        is_test: run.ancestry.is_test,
        replay_of: new.replay_of.map(|id| id.uuid()),
        parent_id: new.parent.map(|id| id.uuid()),
        root_id: run.ancestry.root.uuid(),
        trace_id: run.ancestry.trace.map(|trace| trace.uuid()),
        depth: run.ancestry.depth,
        batch_id: new.batch.map(|id| id.uuid()),
        idempotency_key: new.idempotency.as_ref().map(|key| key.shown.clone().unwrap_or_else(|| key.key.clone())),
        max_attempts: new.max_attempts.map(|most| i32::try_from(most).unwrap_or(i32::MAX)),
        max_duration_ms: new.max_duration_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        machine: new.machine.map(|machine| machine.as_str().to_owned()),
        attempt_cpu_ms: 0,
        created_at: run.position.unwrap_or_default(),
        checkpoint_sequence: None,
        checkpoint_digest: None,
        checkpoint_snapshot: None,
        checkpoint_stored_bytes: None,
        checkpoint_raw_bytes: None,
        checkpoint_wait: None,
        checkpoint_files: None,
        checkpoint_packs: None,
        checkpoint_pages: None,
        checkpoint_rewritten: None,
        rewritten: rewriting.0,
        rewriter: rewriting.1,
    }
}
