//! Files of a task over its waits: part of its checkpoint, so on any machine.

use std::{fs, time::Duration};

use serde_json::json;

use crate::support::{eventually, guests::guest, server::Server};

const WITHIN: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_finds_its_files_on_a_machine_that_never_had_them() {
    let mut server = Server::start(&["--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let run = server.trigger("files", json!({"rounds": ROUNDS, "ms": 1500})).await;
    for round in 1..ROUNDS {
        server.run_with_status(&run, "WAITING", WITHIN).await;
        let scratch = server.data().join("scratch");
        eventually("a suspended run holds no files here", WITHIN, async || (files_below(&scratch) == 0).then_some(())).await;
        let packs = files_below(&server.data().join("blobs/files"));
        assert!((1..=4).contains(&packs), "{packs} packs: what later ones hold alone is kept");
        if round == 2 {
            server.kill();
            fs::remove_dir_all(scratch).unwrap();
            server.start_again_with(&["--grace", "0ms"]).await;
        }
        // Until it has been awake, or is over.
        let _ = tokio::time::timeout(Duration::from_secs(3), server.run_with_status(&run, "EXECUTING", WITHIN)).await;
    }
    let output = server.run_with_status(&run, "COMPLETED", WITHIN).await["output"].clone();
    let expected = json!({
        "lines": "line 0\nline 1\nline 2\nline 3\n",
        "last": "3",
        "folders": ["folder-3", "kept"],
        "read": "abcdefghabcdefghijklmnopqrstuvwxyz",
        "large_is_whole": true,
    });
    assert_eq!(output, expected);
    let packs = server.data().join("blobs/files");
    eventually("packs go with the run", WITHIN, async || (files_below(&packs) == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_with_more_than_it_may_have_ends_at_its_wait_and_leaves_nothing() {
    let server = Server::start(&["--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let hoard = |what: &str, count: u64| json!({"what": what, "count": count, "ms": 60_000});
    for (payload, words) in [(hoard("levels", 500), "64 levels"), (hoard("size", 64 << 30), "256 MiB")] {
        let run = server.trigger("hoard", payload).await;
        let ended = server.run_with_status(&run, "CRASHED", WITHIN).await;
        assert!(ended["error"].to_string().contains(words), "{ended:#}");
    }
    // Without a wait it is noticed too.
    let run = server.trigger("hoard", hoard("levels", u64::MAX)).await;
    let ended = server.run_with_status(&run, "CRASHED", WITHIN).await;
    assert!(ended["error"].to_string().contains("64 levels"), "{ended:#}");
    let kept = server.trigger("hoard", json!({"what": "levels", "count": 10, "ms": 500})).await;
    server.run_with_status(&kept, "COMPLETED", WITHIN).await;
    // Deleted but open, it is in no folder.
    let run = server.trigger("hoard", hoard("deleted", u64::MAX)).await;
    let ended = server.run_with_status(&run, "CRASHED", WITHIN).await;
    assert!(ended["error"].to_string().contains("256 MiB"), "{ended:#}");
    let scratch = server.data().join("scratch");
    eventually("the folders are removed", WITHIN, async || {
        let workers: Vec<_> = fs::read_dir(&scratch).unwrap().map(|entry| entry.unwrap().path()).collect();
        let is_empty = |path: &std::path::PathBuf| path.is_file() || fs::read_dir(path).unwrap().next().is_none();
        workers.iter().all(is_empty).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_has_so_many_files_open_and_no_more_and_has_them_after_its_wait() {
    let server = Server::start(&["--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let run = server.trigger("hoard", json!({"what": "open", "count": 4096, "ms": 1500})).await;
    server.run_with_status(&run, "WAITING", WITHIN).await;
    let ended = server.run_with_status(&run, "COMPLETED", WITHIN).await;
    assert_eq!(ended["output"], json!(128), "{ended:#}");
}

fn files_below(folder: &std::path::Path) -> usize {
    super::files(folder).iter().filter(|file| file.extension().is_none_or(|extension| extension != "lock")).count()
}
