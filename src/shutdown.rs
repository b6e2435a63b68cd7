//! Ending in order: stop intake, hand back runs, close.
//!
//! Every long-lived task of the process belongs to one phase and is spawned here, so that it is awaited and a panic in it is
//! seen. Winding down goes phase by phase: its token is cancelled, and the next phase begins when its tasks have ended (or
//! overrun their time). A later phase's token is the parent of an earlier one's, so an earlier phase is never left running.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The order of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Takes work in: HTTP connections, the claiming of runs.
    Intake,
    /// Holds work: runs in progress, which are suspended or handed back, and their heartbeats.
    Runs,
    /// What the others need to the last: timers, sweeps, listeners, caches.
    Background,
}

impl Phase {
    const ALL: [Phase; 3] = [Phase::Intake, Phase::Runs, Phase::Background];
}

/// The tokens and tasks of all phases. Clones are the same shutdown.
#[derive(Debug, Clone)]
pub struct Shutdown {
    tokens: [CancellationToken; 3],
    tasks: [TaskTracker; 3],
}

impl Default for Shutdown {
    fn default() -> Self {
        let background = CancellationToken::new();
        let runs = background.child_token();
        Self { tokens: [runs.child_token(), runs, background], tasks: Default::default() }
    }
}

impl Shutdown {
    /// Nothing runs and nothing ends yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Cancelled when this phase's work shall end.
    pub fn token(&self, phase: Phase) -> CancellationToken {
        self.tokens[phase as usize].clone()
    }

    /// Runs a task that belongs to `phase` and ends by itself once the phase's token is cancelled. If it fails or panics, that
    /// is logged and the whole process winds down: half a server is worse than one that its supervisor starts again.
    pub fn spawn<F>(&self, phase: Phase, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let intake = self.token(Phase::Intake);
        let task = tokio::spawn(task);
        self.tasks[phase as usize].spawn(async move {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(task.name = name, "{name} failed: {error:#}");
                    intake.cancel();
                }
                Err(panic) => {
                    tracing::error!(task.name = name, "{name} panicked: {panic}");
                    intake.cancel();
                }
            }
        });
    }

    /// Begins the end. Also what a failed task does.
    pub fn begin(&self) {
        self.tokens[Phase::Intake as usize].cancel();
    }

    /// Waits until the end has begun: by ctrl-c, SIGTERM or [`Shutdown::begin`]. A second signal ends the process at once.
    pub async fn requested(&self) {
        let begun = self.token(Phase::Intake);
        tokio::select! {
            () = begun.cancelled() => {}
            name = signal() => {
                tracing::info!("{name}: shutting down; once more to end at once");
                self.begin();
            }
        }
        tokio::spawn(async {
            let name = signal().await;
            tracing::warn!("{name} again: ending at once; runs go on from their last checkpoints at the next start");
            std::process::exit(130);
        });
    }

    /// Ends every phase in turn, each within `limit`. Returns whether all tasks ended in time.
    pub async fn wind_down(&self, limit: Duration) -> bool {
        let mut in_time = true;
        for phase in Phase::ALL {
            self.tokens[phase as usize].cancel();
            let tasks = &self.tasks[phase as usize];
            tasks.close();
            if tokio::time::timeout(limit, tasks.wait()).await.is_err() {
                tracing::warn!(?phase, tasks = tasks.len(), "still running after {limit:?}; going on without");
                in_time = false;
            }
        }
        in_time
    }
}

/// Waits for ctrl-c or SIGTERM and names it.
async fn signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    match (interrupt, terminate) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => "ctrl-c",
            _ = terminate.recv() => "SIGTERM",
        },
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be heard; only SIGKILL ends this process");
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn phases_end_one_after_the_other() {
        let (shutdown, ended) = (Shutdown::new(), Arc::new(Mutex::new(Vec::new())));
        for phase in [Phase::Background, Phase::Intake, Phase::Runs] {
            let (token, ended, runs) = (shutdown.token(phase), ended.clone(), shutdown.token(Phase::Runs));
            shutdown.spawn(phase, "a task", async move {
                token.cancelled().await;
                // Intake takes its time; the runs must not have been told to end meanwhile.
                tokio::task::yield_now().await;
                assert_eq!(runs.is_cancelled(), phase != Phase::Intake);
                ended.lock().unwrap().push(phase);
                Ok(())
            });
        }
        shutdown.begin();
        shutdown.requested().await;
        assert!(shutdown.wind_down(Duration::from_secs(10)).await);
        assert_eq!(*ended.lock().unwrap(), Phase::ALL);
    }

    #[tokio::test]
    async fn a_task_that_fails_or_panics_ends_the_process_in_order() {
        let failed = Shutdown::new();
        failed.spawn(Phase::Background, "a failing task", async { anyhow::bail!("on purpose") });
        failed.requested().await;
        let panicked = Shutdown::new();
        panicked.spawn(Phase::Background, "a panicking task", async { panic!("on purpose") });
        panicked.requested().await;
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_does_not_hold_up_the_others() {
        let shutdown = Shutdown::new();
        shutdown.spawn(Phase::Runs, "a stuck task", std::future::pending());
        assert!(!shutdown.wind_down(Duration::from_millis(10)).await);
        assert!(shutdown.token(Phase::Background).is_cancelled());
    }
}
