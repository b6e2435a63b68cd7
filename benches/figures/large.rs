//! What a wait costs a run with a gigabyte of memory, of which four megabytes are written to between two waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dormouse::{
    model::payload::Packet,
    runtime::{Execution, Part, Snapshot, Step},
};
use serde_json::json;

use crate::{
    guests::{self, Folder, Suspending, elapsed},
    report::Report,
};

const MIB: u64 = 1024;
const CHANGED_KIB: u64 = 4096;
const WAITS: u32 = 60;

/// Times and bytes of the first wait, and of those after it.
pub async fn large(report: &mut Report) -> anyhow::Result<()> {
    if report.asked(&["bench"], |guest| guest).is_empty() {
        return Ok(());
    }
    let folder = Folder::new()?;
    let (_runtime, component) = guests::load("bench", Part::Whole, &folder).await?;
    let setup = guests::setup(&folder)?;
    let mut execution = Execution::start(&component, setup.clone(), Arc::new(Suspending)).await?;
    let payload = Packet::json(&json!({ "mib": MIB, "changed_kib": CHANGED_KIB, "n": WAITS }));
    let mut step = execution.call("bench-large", &payload).await;
    let (mut restores, mut captures, mut stored, mut before) = (vec![], vec![], vec![], vec![]);
    while let Step::Suspended(_) = step {
        let begun = Instant::now();
        let snapshot = execution.capture().await?;
        captures.push(begun.elapsed());
        stored.push(new_bytes(&folder, &snapshot, &before)?);
        before.clone_from(&snapshot.packs);
        drop(execution);
        let begun = Instant::now();
        execution = Execution::restore(&component, &snapshot.bytes, setup.clone(), Arc::new(Suspending)).await?;
        restores.push(begun.elapsed());
        step = execution.resume(elapsed()).await;
    }
    anyhow::ensure!(matches!(step, Step::Returned(Ok(_))), "the run did not return: {step:?}");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let later = &stored[1..];
    report.figure("bench: first wait, stored", mib(stored[0]), "MiB");
    report.figure("bench: first wait, capture and store", captures.remove(0).as_secs_f64() * 1000.0, "ms");
    report.figure("bench: later waits, stored, mean", mib(later.iter().sum::<u64>()) / later.len() as f64, "MiB");
    report.percentiles("bench: later waits, capture and store", &mut captures, None);
    let mut restores: Vec<Duration> = restores;
    report.percentiles("bench: restore", &mut restores, None);
    Ok(())
}

/// Bytes of a snapshot and of the packs that it names and the one before did not.
fn new_bytes(folder: &Folder, snapshot: &Snapshot, before: &[String]) -> anyhow::Result<u64> {
    let mut bytes = snapshot.bytes.len() as u64;
    for digest in snapshot.packs.iter().filter(|digest| !before.contains(digest)) {
        bytes += std::fs::metadata(folder.path().join("blobs/pages").join(&digest[..2]).join(digest))?.len();
    }
    Ok(bytes)
}
