//! File systems without room, under the blobs and under the database: real ENOSPC, until there is room again.

use std::{
    cell::Cell,
    collections::BTreeSet,
    io::Write as _,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::{
    load,
    snapshots::{TOO_LARGE_FOR_A_ROW, TOO_LARGE_FOR_A_SNAPSHOT, ballast},
};
use crate::support::{
    client::Client,
    eventually,
    guests::guest,
    server::Server,
    small_disk::{Ballast, seen_by},
};

const SOON: Duration = Duration::from_secs(60);
const NOT_STORED: &str = "could not be stored";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_keeps_runs_alive_says_so_and_lets_them_sleep_once_there_is_room() {
    let server = match Server::start_on_small_disk(&["--grace", "0ms"]).await {
        Ok(server) => server,
        Err(reason) => return skip(&reason),
    };
    server.deploy(guest("rust-chain")).await;
    let blobs = seen_by(server.pid(), &server.data().join("blobs"));
    let mut ballast_on_disk = Ballast::new(&blobs);
    ballast_on_disk.fill();

    let chain = |n: u32, ms: u32, letters: usize| json!({"n": n, "mode": "wait", "ms": ms, "ballast": ballast(letters)});
    let patient = server.trigger("chain", chain(1, 30_000, TOO_LARGE_FOR_A_SNAPSHOT)).await;
    let brief = server.trigger("chain", chain(2, 700, TOO_LARGE_FOR_A_SNAPSHOT)).await;
    let modest = server.trigger("chain", chain(2, 700, TOO_LARGE_FOR_A_ROW)).await;
    for run in [&patient, &brief, &modest] {
        let line = eventually("the log says why the run is kept in memory", SOON, async || {
            let lines = server.logs(run).await;
            lines.into_iter().find(|(source, line)| source == "host" && line.contains(NOT_STORED)).map(|(_, line)| line)
        })
        .await;
        assert!(line.contains("No space left on device"), "{line}");
    }
    let log = std::fs::read_to_string(server.data().join("server.log")).unwrap();
    assert!(log.contains(&format!("kept in memory: the checkpoint {NOT_STORED}")), "{log}");
    assert_eq!(server.run(&patient).await["status"], json!("EXECUTING"));
    // A run whose waits are over before there is room ends as if nothing had been.
    for run in [&brief, &modest] {
        let ended = server.run_with_status(run, "COMPLETED", SOON).await;
        assert_eq!((&ended["output"]["waits"], &ended["attemptCount"]), (&json!(2), &json!(1)), "{ended:#}");
        let lines = server.logs(run).await;
        assert!(lines.iter().all(|(_, line)| !line.contains("could not go on")), "it went on where it was: {lines:#?}");
    }
    // What was begun and could not be finished does not stay, to take what room there will be.
    eventually("no part of a checkpoint is left", SOON, async || {
        ["checkpoints", "pages"].iter().all(|area| super::files(&blobs.join(area)).is_empty()).then_some(())
    })
    .await;

    drop(ballast_on_disk);
    server.run_with_status(&patient, "WAITING", SOON).await;
    assert_eq!(super::files(&blobs.join("pages")).len(), 1);
    let ended = server.run_with_status(&patient, "COMPLETED", SOON).await;
    assert_eq!((&ended["output"]["waits"], &ended["attemptCount"]), (&json!(1), &json!(1)), "{ended:#}");
}

fn skip(reason: &str) {
    // Not with a macro: what those print is shown only when a test fails.
    let _ = writeln!(std::io::stderr(), "\nskipped: a real full disk: nothing can be mounted here: {reason}");
}

/// Times that the disk is full, at least.
const TIMES: usize = 5;
/// Triggers at a time.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_for_blobs_that_is_full_again_and_again_in_a_storm_loses_no_run_and_ends_none_twice() {
    let server = match Server::start_on_small_disk(&["--grace", "0ms"]).await {
        Ok(server) => server,
        Err(reason) => return skip(&reason),
    };
    server.deploy(guest("rust-chain")).await;
    let blobs = seen_by(server.pid(), &server.data().join("blobs"));
    // One in four has snapshots that are blobs: together they are more than the disk, too.
    let payload = |n: usize| {
        let letters = if n.is_multiple_of(4) { TOO_LARGE_FOR_A_ROW } else { 0 };
        json!({"n": 3, "mode": "wait", "ms": 300, "ballast": ballast(letters)})
    };
    storm(&server, "blobs", Ballast::new(&blobs), payload).await;
    eventually("no part of a checkpoint is left", SOON, async || {
        ["checkpoints", "pages"].iter().all(|area| super::files(&blobs.join(area)).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_for_the_database_that_is_full_again_and_again_in_a_storm_loses_no_run_and_ends_none_twice() {
    let server = match Server::start_on_small_database(&["--grace", "20ms"]).await {
        Ok(server) => server,
        Err(reason) => return skip(&reason),
    };
    server.deploy(guest("rust-chain")).await;
    let cluster = seen_by(server.pid(), &server.data().join("postgres"));
    // Rows that grow, so that there is something to find no room for.
    storm(
        &server,
        "database",
        Ballast::new(&cluster),
        |_| json!({"n": 3, "mode": "mixed", "ms": 150, "ballast": ballast(20_000)}),
    )
    .await;
    let log = std::fs::read_to_string(server.data().join("postgres.log")).unwrap_or_default();
    let refusals = log.matches("No space left on device").count();
    println!("database: {refusals} lines of its log say that there was no space");
    assert!(refusals > 0);
}

/// Fills the disk and makes room again, again and again, while chains are triggered; all of them must end, once, with the same output.
async fn storm(server: &Server, name: &str, mut disk: Ballast, payload: impl Fn(usize) -> Value) {
    let (mut random, count, begun) = (load::random(), load::count(), Instant::now());
    let (client, is_triggered): (&Client, _) = (server, Cell::new(false));
    let triggering = async {
        let one = async |n: usize| {
            let options = json!({"idempotencyKey": format!("{name}-{n}")});
            load::insist(client, "chain", payload(n), options).await
        };
        let runs: BTreeSet<String> = stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).collect().await;
        is_triggered.set(true);
        runs
    };
    let filling = async {
        let (least, mut times) = (load::faults(count, TIMES), 0);
        while times < least || !is_triggered.get() {
            tokio::time::sleep(Duration::from_millis(random.random_range(300..1500))).await;
            disk.fill();
            tokio::time::sleep(Duration::from_millis(random.random_range(500..3000))).await;
            disk.free();
            let free = Instant::now();
            eventually("the server is well again", load::ALL_DONE, async || client.is_healthy().await.then_some(())).await;
            println!("{name} {times}: well again {:.2?} after there was room", free.elapsed());
            times += 1;
        }
        times
    };
    let (runs, times) = tokio::join!(triggering, filling);
    assert_eq!(runs.len(), count, "each key has one run");
    let (last, mut outputs) = (Instant::now(), BTreeSet::new());
    for run in &runs {
        let ended = server.run_with_status(run, "COMPLETED", load::ALL_DONE.max(SOON * (count / 100) as u32)).await;
        assert_eq!(ended["attemptCount"], json!(1), "{ended:#}");
        outputs.insert(ended["output"].to_string());
        let events = server.get(&format!("/api/v1/runs/{run}/events")).await;
        let ends = events["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "finished").count();
        assert_eq!(ends, 1, "{run}");
    }
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    let open = server.get("/api/v1/runs?filter%5Bstatus%5D=QUEUED%2CDEQUEUED%2CEXECUTING%2CWAITING").await;
    assert_eq!(open["data"], json!([]));
    let (last, all) = (last.elapsed(), begun.elapsed());
    println!("{name}: {count} runs, full {times} times, all done {last:.2?} after the last time, {all:.2?} in all");
}
