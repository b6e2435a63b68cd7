//! A task that starts others in every way, and the task that it starts.

use std::time::Duration;

use dormouse::{TaskError, TaskResult, log, tasks, wait};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub struct Family {
    how: How,
    members: Vec<Member>,
}

/// How to start the members.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    /// One after the other, waiting for each.
    Each,
    /// All at once, waiting for all.
    Batch,
    /// All at once, waiting for the first.
    Race,
    /// All at once, waiting for none.
    Forget,
    /// The first alone; its failure is the parent's.
    Unwrap,
}

#[derive(Clone, Deserialize, Serialize)]
pub struct Member {
    name: String,
    /// Milliseconds until it ends.
    #[serde(default)]
    ms: u64,
    /// Whether it fails then.
    #[serde(default)]
    fails: bool,
    /// Members that it starts and waits for, in its turn.
    #[serde(default)]
    members: Vec<Member>,
}

/// Starts its members and says what became of them, in their order.
#[dormouse::task(id = "family")]
pub fn family(payload: Family) -> Result<Vec<String>, TaskError> {
    let Family { how, members } = payload;
    match how {
        How::Each => members.iter().map(|one| Ok(word(member::trigger_and_wait(one)?))).collect(),
        How::Batch => {
            let batch = member::batch_trigger_and_wait(&members)?;
            log::info!("all are there", batch = batch.id, runs = batch.runs.len());
            Ok(batch.runs.into_iter().map(word).collect())
        }
        How::Race => {
            let runs = members.iter().map(member::trigger).collect::<Result<Vec<_>, _>>()?;
            let ids: Vec<String> = runs.into_iter().map(|run| run.id).collect();
            let ends = wait::any(&ids)?;
            ends.iter().map(|end| Ok(word(end.task()?))).collect()
        }
        How::Forget => {
            let one = tasks::trigger("member", &members[0])?;
            let others = member::batch_trigger(&members[1..])?;
            Ok(vec![one.id, others.id])
        }
        How::Unwrap => Ok(vec![member::trigger_and_wait(&members[0])?.unwrap()?]),
    }
}

fn word(result: TaskResult<String>) -> String {
    match result {
        TaskResult::Ok { output, .. } => output,
        TaskResult::Failed { failure, .. } => format!("{:?}, {failure}", failure.status),
    }
}

/// Waits, and returns its name and those of its members.
#[dormouse::task(id = "member")]
pub fn member(payload: Member) -> Result<String, TaskError> {
    println!("{} begins", payload.name);
    wait::duration(Duration::from_millis(payload.ms))?;
    if payload.fails {
        return Err(TaskError::abort(format!("{} does not want to", payload.name)));
    }
    let mut names = vec![payload.name];
    for one in &payload.members {
        names.push(member::trigger_and_wait(one)?.unwrap()?);
    }
    Ok(names.join("+"))
}
