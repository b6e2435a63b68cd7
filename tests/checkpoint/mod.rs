//! A run that is suspended at every wait, and restored each time in another process, ends as one that was never interrupted.
//!
//! A process is this test binary, started anew for one step: it reads the snapshot of the step before, lets the guest go on to
//! its next wait, writes a snapshot, and exits. Nothing else passes from one to the next but the compiled component.
//!
//! `CHAIN_WAITS` (`make soak`) sets how many waits each chain has, for all languages; without it, those whose engine is a component of many
//! megabytes, which every process has to map and to fill again, get fewer.

mod caller;
mod chain;
mod forks;
mod large;
mod prepared;
mod step;

use std::io::Write as _;

use chain::{Chain, Guest};
use dormouse::runtime::PrepareError;

/// Waits of each chain below the frames of a language's engine.
const ENGINE_WAITS: u32 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_guest_lives_through_500_processes_in_every_way_to_wait() {
    lives_through_all(&Guest::prepare("rust-chain").await, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_c_guest_lives_through_500_processes_in_every_way_to_wait() {
    lives_through_all(&Guest::prepare("c-chain").await, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_go_guest_lives_through_a_process_for_each_wait_in_every_way_to_wait() {
    lives_through_all(&Guest::prepare("go-chain").await, ENGINE_WAITS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_guest_lives_through_a_process_for_each_wait_in_every_way_to_wait() {
    lives_through_all(&Guest::prepare("python-chain").await, ENGINE_WAITS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_javascript_guest_lives_through_a_process_for_each_wait_in_every_way_to_wait() {
    match Guest::try_prepare("js-chain").await {
        Ok(guest) => lives_through_all(&guest, ENGINE_WAITS).await,
        Err(PrepareError::Refused(reasons)) if reasons.iter().all(|refusal| refusal.reason.contains("wasi:http")) => {
            // Not with a macro: what those print is shown only when a test fails.
            let _ = writeln!(std::io::stderr(), "\nskipped: a chain in JavaScript: the host does not offer wasi:http");
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// Of a hundred cycles: Rust, C, Go, JavaScript, Python.
const SHARES: [(&str, u32); 5] = [("rust-chain", 50), ("c-chain", 30), ("go-chain", 8), ("js-chain", 8), ("python-chain", 4)];
/// Cycles of all languages together, without `CYCLES`.
const CYCLES: u32 = 1000;

/// `CYCLES` (`make soak`) sets how many in all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_of_every_language_live_through_a_great_many_instances() {
    let cycles = std::env::var("CYCLES").map_or(CYCLES, |cycles| cycles.parse().expect("CYCLES is a number"));
    for (name, share) in SHARES {
        let guest = Guest::prepare(name).await;
        Chain { guest: &guest, mode: "wait", waits: cycles / 100 * share }.lives_through_its_waits().await;
    }
}

/// Through the functions of the contract, through the language's own sleep (`std::thread::sleep`, `nanosleep`), and by turns.
async fn lives_through_all(guest: &Guest, waits: u32) {
    let waits = std::env::var("CHAIN_WAITS").map_or(waits, |waits| waits.parse().expect("CHAIN_WAITS is a number"));
    let chain = |mode| Chain { guest, mode, waits }.lives_through_a_process_for_each_wait();
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
