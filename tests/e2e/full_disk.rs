//! A blob folder on a file system without room: real ENOSPC, from the moment a checkpoint is written until there is room again.

use std::{io::Write as _, time::Duration};

use serde_json::json;

use super::snapshots::{TOO_LARGE_FOR_A_ROW, TOO_LARGE_FOR_A_SNAPSHOT, ballast};
use crate::support::{
    eventually,
    guests::guest,
    server::Server,
    small_disk::{fill, seen_by},
};

const SOON: Duration = Duration::from_secs(60);
const NOT_STORED: &str = "could not be stored";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_keeps_runs_alive_says_so_and_lets_them_sleep_once_there_is_room() {
    let server = match Server::start_on_small_disk(&["--grace", "0ms"]).await {
        Ok(server) => server,
        Err(reason) => {
            // Not with a macro: what those print is shown only when a test fails.
            let _ = writeln!(std::io::stderr(), "\nskipped: a real full disk: nothing can be mounted here: {reason}");
            return;
        }
    };
    server.deploy(guest("rust-chain")).await;
    let blobs = seen_by(server.pid(), &server.data().join("blobs"));
    let filler = fill(&blobs);

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

    std::fs::remove_file(filler).unwrap();
    server.run_with_status(&patient, "WAITING", SOON).await;
    assert_eq!(super::files(&blobs.join("pages")).len(), 1);
    let ended = server.run_with_status(&patient, "COMPLETED", SOON).await;
    assert_eq!((&ended["output"]["waits"], &ended["attemptCount"]), (&json!(1), &json!(1)), "{ended:#}");
}
