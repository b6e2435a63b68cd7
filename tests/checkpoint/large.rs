//! A run with a large memory, of which little changes between two waits: a suspension stores little, and a machine that has never seen the
//! run goes on with all of it.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use dormouse::{
    model::payload::Packet,
    runtime::{Execution, Part, Runtime, Snapshot, Step},
};
use serde_json::json;

use super::{
    caller::{Platform, Waits, elapsed},
    prepared::Prepared,
    step,
};

const MIB: u64 = 1 << 20;
const MEMORY: u64 = 48 * MIB;
const CHANGED: u64 = MIB;
const WAITS: u32 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_large_memory_a_suspension_stores_what_has_changed() {
    let folder = tempfile::Builder::new().prefix("dormouse-large-").tempdir().unwrap();
    let (scratch, blobs) = (folder.path().join("run"), folder.path().join("blobs"));
    let Prepared { kept, whole: mut component, runtime: _one, .. } = Prepared::new("bench", &blobs).await.unwrap();
    let other = step::runtime(&kept.cache, &blobs);
    let load =
        async |runtime: &Runtime| runtime.load(&kept.rewriting, Part::Whole, async || Ok(kept.bytes.clone())).await.unwrap();
    let platform = |waits| Arc::new(Platform::new(waits, &folder.path().join("log")));
    let payload = json!({ "mib": MEMORY / MIB, "changed_kib": CHANGED / 1024, "n": WAITS });

    let straight = Execution::start(&component, step::setup(&scratch, Duration::MAX), platform(Waits::Straight)).await;
    let Step::Returned(Ok(expected)) = straight.unwrap().call("bench-large", &Packet::json(&payload)).await else {
        panic!("the straight run did not return")
    };

    let (setup, suspended) = (step::setup(&scratch, Duration::ZERO), || platform(Waits::Suspended));
    let mut execution = Execution::start(&component, setup.clone(), suspended()).await.unwrap();
    let mut step = execution.call("bench-large", &Packet::json(&payload)).await;
    let (mut stored, mut before) = (vec![], HashSet::new());
    while let Step::Suspended(request) = step {
        let snapshot = execution.capture().await.unwrap();
        let named: HashSet<String> = snapshot.packs.iter().cloned().collect();
        stored.push(new_bytes(&snapshot, &before, &blobs));
        before.difference(&named).for_each(|digest| std::fs::remove_file(path(&blobs, digest)).unwrap());
        before = named;
        if stored.len() == WAITS as usize / 2 {
            // It has none of the packs at hand.
            component = load(&other).await;
        }
        execution = Execution::restore(&component, &snapshot.bytes, setup.clone(), suspended()).await.unwrap();
        step = execution.resume(elapsed(&request)).await;
    }
    let Step::Returned(Ok(output)) = step else { panic!("{step:?}") };
    assert_eq!(output, expected);
    assert_eq!(stored.len(), WAITS as usize);
    let (first, later) = (stored[0], stored[1..].iter().sum::<u64>());
    assert!((MEMORY..2 * MEMORY).contains(&first), "the first of {stored:?}");
    assert!(later < 3 * CHANGED * u64::from(WAITS), "{later} bytes: {stored:?}");
    println!("stored KiB: {:?}", stored.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>());
    let kept: u64 = before.iter().map(|digest| length(&blobs, digest)).sum();
    assert!(kept < 2 * MEMORY, "{kept} bytes in {} packs", before.len());
}

/// Bytes that were stored for this snapshot, and for none before.
fn new_bytes(snapshot: &Snapshot, before: &HashSet<String>, blobs: &Path) -> u64 {
    let new = snapshot.packs.iter().filter(|digest| !before.contains(*digest));
    snapshot.bytes.len() as u64 + new.map(|digest| length(blobs, digest)).sum::<u64>()
}

fn length(blobs: &Path, digest: &str) -> u64 {
    std::fs::metadata(path(blobs, digest)).unwrap().len()
}

fn path(blobs: &Path, digest: &str) -> std::path::PathBuf {
    blobs.join("pages").join(&digest[..2]).join(digest)
}
