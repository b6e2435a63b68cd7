//! A run that is suspended at every wait, and restored each time in another process, ends as one that was never interrupted.
//!
//! A process is this test binary, started anew for one step: it reads the snapshot of the step before, lets the guest go on to
//! its next wait, writes a snapshot, and exits. Nothing else passes from one to the next but the compiled component.

mod caller;
mod chain;
mod step;

use chain::{Chain, Guest};

/// Waits of each chain, and so the processes it runs in, one more.
const WAITS: u32 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_guest_lives_through_500_processes_in_every_way_to_wait() {
    lives_through_all(&Guest::prepare("rust-chain").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_c_guest_lives_through_500_processes_in_every_way_to_wait() {
    lives_through_all(&Guest::prepare("c-chain").await).await;
}

/// Through the functions of the contract, through WASI (`std::thread::sleep`, `nanosleep`), and by turns.
async fn lives_through_all(guest: &Guest) {
    let chain = |mode| Chain { guest, mode, waits: WAITS }.lives_through_a_process_for_each_wait();
    tokio::join!(chain("wait"), chain("sleep"), chain("mixed"));
}

/// Not a test by itself: one process of a chain.
#[tokio::test]
async fn step_of_a_chain() {
    match step::Task::from_environment() {
        Some(task) => task.perform().await,
        None => println!("nothing to do: {} is not set, as it is in the processes of a chain", step::FOLDER),
    }
}
