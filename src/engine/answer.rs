//! What waits come to: how everything that is waited for stands, and what those that are complete came to.
//!
//! One answer is bounded: sizes are looked at first, and outputs are read only as far as they fit. What does not fit is left
//! out, for a guest that asks again gets it at once; only a batch is answered as a whole or not at all.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::Error,
    model::{
        child::{BatchEnd, RunEnd},
        id::{BatchId, EnvironmentId, RunId, WaitpointId},
        waitable::Waitable,
        waitpoint::{Completion, Resolution, WaitRequest},
    },
    store::{
        batches::{self, BatchStanding},
        children::{self, Standing},
        waitpoints,
    },
};

/// Most bytes of values and outputs that one wait answers, in all; a single one may have as many by itself.
pub const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// What waits that are over came to, in their order; read at once for all of them. What they name was checked when their
/// runs were suspended.
pub(super) async fn of_waits(tx: &mut PgConnection, waits: &[&WaitRequest]) -> Result<Vec<Vec<Completion>>, Error> {
    let named = waits.iter().flat_map(|wait| match wait {
        WaitRequest::Any { waitables } => waitables.as_slice(),
        WaitRequest::Sleep { .. } | WaitRequest::Timer { .. } => &[],
    });
    let named: Vec<Waitable> = named.copied().collect();
    let standings = standings(tx, None, &named).await?;
    let chosen = waits.iter().map(|wait| match wait {
        // What is not there any more is left out: of all that stands in line, one run that cannot be answered must not keep the
        // others from being claimed. Its guest is told.
        WaitRequest::Any { waitables } => {
            let there = |(_, waitable): &(u32, Waitable)| matches!(standings.get(waitable), Some(BatchStanding::Made(_)));
            choose(&standings, (0..).zip(waitables.iter().copied()).filter(there))
        }
        WaitRequest::Sleep { .. } | WaitRequest::Timer { .. } => Ok(Vec::new()),
    });
    let chosen = chosen.collect::<Result<Vec<_>, _>>()?;
    let read = Read::of(tx, chosen.iter().flatten()).await?;
    let of = |(wait, chosen): (&&WaitRequest, Vec<Chosen>)| match wait {
        WaitRequest::Sleep { .. } => Vec::new(),
        WaitRequest::Timer { .. } => vec![Completion { index: 0, resolution: Resolution::Elapsed }],
        WaitRequest::Any { .. } => read.completions(chosen),
    };
    Ok(waits.iter().zip(chosen).map(of).collect())
}

/// What is complete already of these, each with its place in the list.
pub(super) async fn of_waitables(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    waitables: &[Waitable],
) -> Result<Vec<Completion>, Error> {
    let standings = standings(connection, Some(environment), waitables).await?;
    let chosen = choose(&standings, (0..).zip(waitables.iter().copied()))?;
    Ok(Read::of(connection, chosen.iter()).await?.completions(chosen))
}

async fn standings(
    connection: &mut PgConnection,
    environment: Option<EnvironmentId>,
    waitables: &[Waitable],
) -> Result<HashMap<Waitable, BatchStanding>, Error> {
    let mut standings = HashMap::new();
    let ids = Ids::of(waitables.iter());
    if !ids.waitpoints.is_empty() {
        let found = waitpoints::standing(connection, environment, &ids.waitpoints).await?;
        standings.extend(found.into_iter().map(|(id, standing)| (Waitable::from(id), BatchStanding::Made(standing))));
    }
    if !ids.runs.is_empty() {
        let found = children::standing(connection, environment, &ids.runs).await?;
        standings.extend(found.into_iter().map(|(id, standing)| (Waitable::from(id), BatchStanding::Made(standing))));
    }
    if !ids.batches.is_empty() {
        let found = batches::standing(connection, environment, &ids.batches).await?;
        standings.extend(found.into_iter().map(|(id, standing)| (Waitable::from(id), standing)));
    }
    Ok(standings)
}

/// Ids by what they name.
#[derive(Default)]
struct Ids {
    waitpoints: Vec<WaitpointId>,
    runs: Vec<RunId>,
    batches: Vec<BatchId>,
}

impl Ids {
    fn of<'a>(waitables: impl Iterator<Item = &'a Waitable>) -> Ids {
        let mut ids = Ids::default();
        for waitable in waitables {
            match waitable {
                Waitable::Waitpoint(id) => ids.waitpoints.push(*id),
                Waitable::Run(id) => ids.runs.push(*id),
                Waitable::Batch(id) => ids.batches.push(*id),
            }
        }
        ids
    }
}

/// A waitable that is complete and whose answer is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chosen {
    index: u32,
    waitable: Waitable,
    /// It is a batch, and what it came to is more than one wait answers.
    too_large: Option<u64>,
}

/// Which of those that are complete are answered: the first ones, as many as fit, but one always. Each has its place in the list.
fn choose(
    standings: &HashMap<Waitable, BatchStanding>,
    asked: impl Iterator<Item = (u32, Waitable)>,
) -> Result<Vec<Chosen>, Error> {
    let (mut chosen, mut total) = (Vec::new(), 0);
    for (index, waitable) in asked {
        let bytes = match standings.get(&waitable) {
            None => return Err(not_found(&waitable)),
            Some(BatchStanding::Unmade(stage)) => {
                let message = format!("{waitable} is {}: it can be waited for once all its runs are made", stage.as_str());
                return Err(Error::Conflict(message));
            }
            Some(BatchStanding::Made(Standing::Open)) => continue,
            Some(BatchStanding::Made(Standing::Complete { bytes })) => *bytes,
        };
        let too_large = (matches!(waitable, Waitable::Batch(_)) && bytes > MAX_ANSWER_BYTES).then_some(bytes);
        let added = if too_large.is_some() { 0 } else { bytes };
        if chosen.is_empty() || total + added <= MAX_ANSWER_BYTES {
            total += added;
            chosen.push(Chosen { index, waitable, too_large });
        }
    }
    Ok(chosen)
}

pub(super) fn not_found(waitable: &Waitable) -> Error {
    Error::not_found(match waitable {
        Waitable::Waitpoint(_) => "waitpoint",
        Waitable::Run(_) => "run",
        Waitable::Batch(_) => "batch",
    })
}

/// What was read of those that are answered.
struct Read {
    waitpoints: HashMap<WaitpointId, Resolution>,
    runs: HashMap<Uuid, RunEnd>,
    batches: HashMap<BatchId, Vec<Uuid>>,
}

impl Read {
    async fn of(connection: &mut PgConnection, chosen: impl Iterator<Item = &Chosen>) -> Result<Read, Error> {
        let wanted: Vec<Waitable> = chosen.filter(|one| one.too_large.is_none()).map(|one| one.waitable).collect();
        let ids = Ids::of(wanted.iter());
        let mut batches: HashMap<BatchId, Vec<Uuid>> = HashMap::new();
        for (batch, run) in batches::runs_of(connection, None, &ids.batches).await? {
            batches.entry(batch).or_default().push(run);
        }
        let mut runs: Vec<Uuid> = ids.runs.iter().map(|run| run.uuid()).collect();
        runs.extend(batches.values().flatten());
        let runs = if runs.is_empty() { Vec::new() } else { children::ends(connection, &runs).await? };
        let waitpoints = match ids.waitpoints.is_empty() {
            true => Vec::new(),
            false => waitpoints::resolutions(connection, &ids.waitpoints).await?,
        };
        Ok(Read {
            waitpoints: waitpoints.into_iter().collect(),
            runs: runs.into_iter().map(|end| (end.run.uuid(), end)).collect(),
            batches,
        })
    }

    fn completions(&self, chosen: Vec<Chosen>) -> Vec<Completion> {
        let completion = |one: Chosen| Some(Completion { index: one.index, resolution: self.resolution(one)? });
        chosen.into_iter().filter_map(completion).collect()
    }

    fn resolution(&self, one: Chosen) -> Option<Resolution> {
        if let Some(bytes) = one.too_large {
            return Some(Resolution::TooLarge { bytes });
        }
        match one.waitable {
            Waitable::Waitpoint(id) => self.waitpoints.get(&id).cloned(),
            Waitable::Run(id) => self.runs.get(&id.uuid()).cloned().map(Resolution::Run),
            Waitable::Batch(id) => {
                let runs = self.batches.get(&id)?.iter().map(|run| self.runs.get(run).cloned());
                Some(Resolution::Batch(BatchEnd { batch: id, runs: runs.collect::<Option<Vec<_>>>()? }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::Stage;

    fn complete(bytes: u64) -> BatchStanding {
        BatchStanding::Made(Standing::Complete { bytes })
    }

    #[test]
    fn an_answer_holds_the_first_that_fit_and_one_always() {
        let ids: Vec<Waitable> = (0..4).map(|_| RunId::new().into()).collect();
        let sizes = [complete(MAX_ANSWER_BYTES + 1), complete(1), BatchStanding::Made(Standing::Open), complete(0)];
        let standings = ids.iter().copied().zip(sizes).collect();
        let indexes = |asked: &[Waitable]| {
            let chosen = choose(&standings, (0..).zip(asked.iter().copied())).unwrap();
            chosen.iter().map(|one| one.index).collect::<Vec<_>>()
        };
        assert_eq!(indexes(&ids), [0], "the first is more than all, and given nevertheless");
        assert_eq!(indexes(&ids[1..]), [0, 2]);
        assert!(indexes(&[ids[2]]).is_empty());
    }

    #[test]
    fn a_batch_is_answered_as_a_whole_or_not_at_all() {
        let (batch, unmade): (Waitable, Waitable) = (BatchId::new().into(), BatchId::new().into());
        let standings = HashMap::from([(batch, complete(MAX_ANSWER_BYTES + 1)), (unmade, BatchStanding::Unmade(Stage::Filling))]);
        let chosen = choose(&standings, [(0, batch)].into_iter()).unwrap();
        assert_eq!(chosen[0].too_large, Some(MAX_ANSWER_BYTES + 1));
        assert!(matches!(choose(&standings, [(0, batch), (1, unmade)].into_iter()), Err(Error::Conflict(_))));
        assert!(matches!(choose(&standings, [(0, RunId::new().into())].into_iter()), Err(Error::NotFound { what: "run" })));
    }
}
