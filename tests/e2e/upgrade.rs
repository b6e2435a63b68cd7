//! A server that is upgraded while runs are asleep: they go on with the code that their snapshots were taken with.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use dormouse::rewrite;
use serde_json::{Value, json};

use crate::support::{guests::guest, server::Server};

/// What an earlier release did, with a version of the rewriter of its own.
const EARLIER: [&str; 4] = ["--grace", "0ms", "--rewriter-version", "1"];
const CURRENT: [&str; 2] = ["--grace", "0ms"];
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_sleeps_through_an_upgrade_of_the_rewriter_goes_on_and_new_runs_use_the_new_version() {
    let mut server = Server::start(&EARLIER).await;
    server.deploy(guest("rust-chain")).await;
    let straight = server.trigger("chain", chain(0)).await;
    let expected = server.run_with_status(&straight, "COMPLETED", WITHIN).await["output"].clone();
    let sleeping = server.trigger("chain", chain(2000)).await;
    server.run_with_status(&sleeping, "WAITING", WITHIN).await;
    assert_eq!(versions(server.data()), BTreeSet::from([1]));

    server.kill();
    // Another machine, or another wasmtime: what was compiled is of no use.
    fs::remove_dir_all(server.data().join("components")).unwrap();
    server.start_again_with(&CURRENT).await;
    let woken = server.run_with_status(&sleeping, "COMPLETED", WITHIN).await;
    assert_eq!((&woken["output"], &woken["attemptCount"]), (&expected, &json!(1)));
    assert_eq!(versions(server.data()), BTreeSet::from([1]), "it needed only what was kept");

    let new = server.trigger("chain", chain(0)).await;
    assert_eq!(server.run_with_status(&new, "COMPLETED", WITHIN).await["output"], expected);
    assert_eq!(versions(server.data()), BTreeSet::from([1, rewrite::VERSION]), "a new run uses the current version");
    server.deploy(guest("rust-chain")).await;
    assert_eq!(rewritten(server.data()).len(), 2, "the same bundle is rewritten once for each version");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_code_was_not_kept_ends_and_says_which_version_it_needs() {
    let mut server = Server::start(&EARLIER).await;
    server.deploy(guest("rust-chain")).await;
    let sleeping = server.trigger("chain", chain(1000)).await;
    server.run_with_status(&sleeping, "WAITING", WITHIN).await;
    server.kill();
    for folder in ["components", "blobs/rewritten"] {
        fs::remove_dir_all(server.data().join(folder)).unwrap();
    }
    server.start_again_with(&CURRENT).await;
    let ended = server.finished(&sleeping, WITHIN).await;
    let error = ended["error"]["causes"][0]["message"].as_str().unwrap_or_default();
    assert!(error.starts_with("the component, as version 1 of the rewriter made it, cannot be loaded: "), "{ended:#}");
}

fn chain(ms: u32) -> Value {
    json!({"n": 3, "mode": "wait", "ms": ms})
}

/// The rewritten components that are kept.
fn rewritten(data: &Path) -> Vec<Vec<u8>> {
    let folders = fs::read_dir(data.join("blobs/rewritten")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

/// Which versions of the rewriter made them, by their own account.
fn versions(data: &Path) -> BTreeSet<u32> {
    const NAME: &[u8] = b"dormouse:rewriting";
    let version = |bytes: &Vec<u8>| {
        let at = bytes.windows(NAME.len()).rposition(|window| window == NAME).expect("it is stamped") + NAME.len();
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    };
    rewritten(data).iter().map(version).collect()
}
