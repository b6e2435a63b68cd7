//! Where snapshots are kept: small ones with their rows, large ones as blobs, and both through a crash.

use std::{fs, path::Path, time::Duration};

use serde_json::json;

use crate::support::{eventually, guests::guest, server::Server};

const WITHIN: Duration = Duration::from_secs(60);
/// What a guest has read stays in its memory, and so does what was made of it. Letters at random compress to three quarters.
pub const TOO_LARGE_FOR_A_ROW: usize = 60_000;
pub const TOO_LARGE_FOR_A_SNAPSHOT: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_snapshots_need_no_file_and_large_ones_leave_none_behind() {
    let mut server = Server::start(&["--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let chain = |ms: u32, ballast: &str| json!({"n": 2, "mode": "wait", "ms": ms, "ballast": ballast});
    let straight = server.trigger("chain", chain(0, "")).await;
    let expected = server.run_with_status(&straight, "COMPLETED", WITHIN).await["output"].clone();
    let small = server.trigger("chain", chain(2000, "")).await;
    server.run_with_status(&small, "WAITING", WITHIN).await;
    assert_eq!(blobs(server.data()), [0, 0], "a small snapshot is in its row");
    let large = server.trigger("chain", chain(4000, &ballast(TOO_LARGE_FOR_A_ROW))).await;
    server.run_with_status(&large, "WAITING", WITHIN).await;
    assert_eq!(blobs(server.data()), [1, 0], "a large snapshot is a blob");
    let huge = server.trigger("chain", chain(4000, &ballast(TOO_LARGE_FOR_A_SNAPSHOT))).await;
    server.run_with_status(&huge, "WAITING", WITHIN).await;
    assert_eq!(blobs(server.data()), [1, 1], "what is too much for a snapshot is a blob beside it");

    server.kill();
    server.start_again().await;
    for run in [small, large, huge] {
        let ended = server.run_with_status(&run, "COMPLETED", WITHIN).await;
        assert_eq!((&ended["output"], &ended["attemptCount"]), (&expected, &json!(1)));
    }
    let gone = async || (blobs(server.data()) == [0, 0]).then_some(());
    eventually("what is stored of a run that is over is deleted", Duration::from_secs(5), gone).await;
}

/// So many letters for a payload.
pub fn ballast(letters: usize) -> String {
    (0..letters).map(|_| char::from(rand::random_range(b'0'..=b'Z'))).collect()
}

/// How many snapshots are blobs, and how many packs of pages there are.
fn blobs(data: &Path) -> [usize; 2] {
    ["blobs/checkpoints", "blobs/pages"].map(|area| {
        let folders = fs::read_dir(data.join(area)).unwrap();
        folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    })
}
