//! A suspension as the product does it: claimed from Postgres, restored from a blob, run to its next wait, stored as a blob,
//! and recorded in Postgres, each step durable.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use dormouse::{
    blobs::{Area, Blobs},
    engine::{self, claim::Terms},
    model::{
        attempt::Claimed,
        checkpoint::{Checkpoint, MAX_IN_ROW, Stored},
        deployment::{NewDeployment, Promotion},
        environment::{ApiKeyKind, EnvironmentKind, NewApiKey, NewProject},
        id::WorkerId,
        payload::Packet,
        task::{BundleDefinition, TaskDefinition, TaskKind},
        trigger::NewRun,
        waitpoint::WaitRequest,
    },
    postgres::PrivatePostgres,
    rewrite,
    runtime::Snapshot,
    store::{Store, checkpoints::Suspension, lanes::Turn},
};

use crate::{
    cycle::{Chain, WAITING, Waiting},
    guests::Folder,
    report::{self, Report, Whose, cpu_of, milliseconds},
};

const CYCLES: usize = 300;
const LEASE: Duration = Duration::from_secs(60);

/// Times of whole cycles and of their transactions, one run at a time.
pub async fn durable(report: &mut Report) -> anyhow::Result<()> {
    let data = report::folder().join("postgres");
    std::fs::create_dir_all(&data)?;
    let postgres = PrivatePostgres::start(&data.canonicalize()?).await.context("starting a private Postgres")?;
    let measured = measure(report, postgres.database_url()).await;
    postgres.stop().await;
    measured
}

async fn measure(report: &mut Report, url: &str) -> anyhow::Result<()> {
    let store = Store::connect(url, 4).await?;
    let waiting = &WAITING[0];
    let folder = Folder::new()?;
    let blobs = Blobs::open(&folder.path().display().to_string())?;
    let mut chain = Chain::begin(waiting).await?;
    let worker = WorkerId::new();
    trigger(&store, waiting).await?;
    let mut claimed = claim(&store, worker).await?;
    suspend(&store, &blobs, &claimed, &chain.snapshot, 1).await?;

    let (mut whole, mut claims, mut suspensions) = (vec![], vec![], vec![]);
    let before = cpu_ms(&store).await?;
    for sequence in 2..CYCLES as u64 + 2 {
        let begun = Instant::now();
        claimed = claim(&store, worker).await?;
        claims.push(begun.elapsed());
        chain.snapshot.bytes = match &claimed.resume.as_ref().context("the run has a checkpoint")?.checkpoint.snapshot {
            Stored::Row(bytes) => bytes.to_vec(),
            Stored::Blob(digest) => blobs.get(Area::Checkpoints, digest).await?.into(),
        };
        chain.cycle().await?;
        suspensions.push(suspend(&store, &blobs, &claimed, &chain.snapshot, sequence).await?);
        whole.push(begun.elapsed());
    }
    let after = cpu_ms(&store).await?;
    let name = waiting.guest;
    report.figure(&format!("{name}: CPU of a durable cycle, own"), (after.own - before.own) / CYCLES as f64, "ms");
    report.figure(&format!("{name}: CPU of a durable cycle, Postgres"), (after.postgres - before.postgres) / CYCLES as f64, "ms");
    report.percentiles(&format!("{name}: claim"), &mut claims, None);
    report.percentiles(&format!("{name}: record the suspension"), &mut suspensions, None);
    report.percentiles(&format!("{name}: whole cycle, durable"), &mut whole, None);
    Ok(())
}

/// CPU time used so far, in milliseconds.
struct Cpu {
    own: f64,
    postgres: f64,
}

/// That of this process, and that of all processes of the cluster.
async fn cpu_ms(store: &Store) -> anyhow::Result<Cpu> {
    let pids: Vec<i32> = sqlx::query_scalar("select pid from pg_stat_activity").fetch_all(store.pool()).await?;
    let used = |pid| cpu_of(pid, Whose::Own).map(milliseconds);
    let own = used(std::process::id())?;
    let postgres = pids.into_iter().filter_map(|pid| used(pid.unsigned_abs()).ok()).sum();
    Ok(Cpu { own, postgres })
}

/// A run that is in line.
async fn trigger(store: &Store, waiting: &Waiting) -> anyhow::Result<()> {
    let project = NewProject { project_ref: "proj_bench".into(), name: "Bench".into() };
    let secret = "tr_dev_bench".to_owned().into();
    let key = NewApiKey { name: "root".into(), secret, kind: ApiKeyKind::Root, expires_at: None };
    let environment = engine::project::ensure(store, project, EnvironmentKind::Development, key).await?.id;
    let task = TaskDefinition {
        id: waiting.task.into(),
        description: None,
        source: None,
        retry: None,
        queue: None,
        concurrency_limits: Vec::new(),
        machine: None,
        max_duration_ms: None,
        ttl_ms: None,
        payload_schema: None,
        on_cancel: false,
        kind: TaskKind::Standard,
        schedule: None,
    };
    let definition = BundleDefinition { sdk: "bench/1".into(), tasks: vec![task], queues: vec![], concurrency_limits: vec![] };
    let new = NewDeployment { component: "b1e55ed".into(), definition, external_id: None, promotion: Promotion::Promote };
    engine::deploy::deploy(store, environment, new).await?;
    engine::trigger::trigger(store, environment, NewRun::of(waiting.task, Packet::json(&waiting.payload()))).await?;
    Ok(())
}

async fn claim(store: &Store, worker: WorkerId) -> anyhow::Result<Claimed> {
    let terms = Terms { worker, max: 1, lease_for: LEASE, rewriter: rewrite::VERSION, turn: Turn::default() };
    let mut claimed = engine::claim::claim(store, terms).await?;
    claimed.runs.pop().context("a run is in line")
}

/// Stores the snapshot and records it; what the run waits for has come already, so it is in line again. Returns the time of
/// the transaction.
async fn suspend(
    store: &Store,
    blobs: &Blobs,
    claimed: &Claimed,
    snapshot: &Snapshot,
    sequence: u64,
) -> anyhow::Result<Duration> {
    let (stored_bytes, raw_bytes) = (snapshot.bytes.len() as u64, snapshot.raw_bytes);
    let snapshot = match snapshot.bytes.len() {
        ..=MAX_IN_ROW => Stored::Row(snapshot.bytes.clone().into()),
        _ => Stored::Blob(blobs.put(Area::Checkpoints, snapshot.bytes.clone().into()).await?),
    };
    let checkpoint = Checkpoint { sequence, snapshot, stored_bytes, raw_bytes, rewritten: None, files: None, pages: vec![] };
    let wait = WaitRequest::Sleep { at: DateTime::<Utc>::UNIX_EPOCH };
    let begun = Instant::now();
    let suspended = engine::suspend::suspend(store, Suspension::new(claimed.lease, checkpoint, wait, 0)).await?;
    let taken = begun.elapsed();
    anyhow::ensure!(suspended.requeued, "the run is in line again");
    Ok(taken)
}
