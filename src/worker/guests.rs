//! The threads on which guests execute: their own, as many as there are cores. A guest that computes gives its thread up only every
//! few milliseconds; a few of them would keep requests, transactions and the renewal of leases waiting for seconds, if those had to
//! wait in the same line. So the system divides the cores.

use std::{io, thread};

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime for guests. Whatever still executes on it when it is dropped is broken off at its next pause.
#[derive(Debug)]
pub struct Guests {
    /// None: dropped.
    runtime: Option<Runtime>,
}

impl Guests {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system has no threads left.
    pub fn start() -> io::Result<Guests> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread().worker_threads(cores).thread_name("guests").enable_all().build()?;
        Ok(Guests { runtime: Some(runtime) })
    }

    /// Where to spawn a guest's task.
    pub fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("it is there until it is dropped").handle()
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        // A runtime that is dropped waits for its threads, which a task must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
