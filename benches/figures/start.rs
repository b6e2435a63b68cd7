//! What it takes to begin: from nothing to an instance whose task can be entered, and on to its first wait.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dormouse::runtime::{Execution, LoadedComponent, Part, RunSetup};

use crate::{
    cycle::{WAITING, Waiting, first_wait},
    guests::{self, Folder, Suspending},
    report::Report,
};

const WARM_UP: usize = 20;
const STARTS: usize = 300;
/// Milliseconds that a run may take to the first instruction of its task, half of the time.
const START_MS: f64 = 5.0;

/// Times of starts, in the part of a component that runs begin in.
pub async fn start(report: &mut Report) -> anyhow::Result<()> {
    for waiting in report.asked(&WAITING, |waiting| waiting.guest) {
        let folder = Folder::new()?;
        let (_runtime, component) = guests::load(waiting.guest, Part::Beginning, &folder).await?;
        let setup = guests::setup(&folder)?;
        let mut parts = vec![];
        for start in 0..WARM_UP + STARTS {
            let taken = Parts::of(&component, &setup, waiting).await?;
            if start >= WARM_UP {
                parts.push(taken);
            }
        }
        let mut part = |which: &str, target: Option<f64>, of: fn(&Parts) -> Duration| {
            report.percentiles(&format!("{}: {which}", waiting.guest), &mut parts.iter().map(of).collect::<Vec<_>>(), target);
        };
        part("to the first instruction", Some(START_MS), |parts| parts.start);
        part("from there to the first wait", None, |parts| parts.call);
        part("dropping", None, |parts| parts.drop);
    }
    Ok(())
}

/// The parts of one start.
struct Parts {
    start: Duration,
    call: Duration,
    drop: Duration,
}

impl Parts {
    async fn of(component: &Arc<LoadedComponent>, setup: &RunSetup, waiting: &Waiting) -> anyhow::Result<Parts> {
        let setup = setup.clone();
        let begun = Instant::now();
        let mut execution = Execution::start(component, setup, Arc::new(Suspending)).await?;
        let started = Instant::now();
        first_wait(&mut execution, waiting).await?;
        let waits = Instant::now();
        drop(execution);
        Ok(Parts { start: started - begun, call: waits - started, drop: waits.elapsed() })
    }
}
