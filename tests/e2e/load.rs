//! What storms trigger, and what must have become of it: no run is lost, none ends twice, none is stuck.
//!
//! `STORM_RUNS` says how many runs are triggered in each scenario, children not counted; `SEED` repeats the moments.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{client::Client, effects::Effects, eventually, guests::guest};

/// Runs triggered in each scenario of the suite.
const RUNS: usize = 48;
/// In a longer storm the faults come again and again.
const RUNS_PER_FAULT: usize = 50;
/// Triggers at a time.
const AT_ONCE: usize = 8;
/// Longest time from the last fault until every run is final, for the first 180; half a second more for each further one.
pub const ALL_DONE: Duration = Duration::from_secs(90);

/// How many runs are triggered.
pub fn count() -> usize {
    std::env::var("STORM_RUNS").ok().and_then(|count| count.parse().ok()).unwrap_or(RUNS)
}

/// How many faults there are while so many runs are triggered, and at least.
pub fn faults(count: usize, least: usize) -> usize {
    least.max(count / RUNS_PER_FAULT)
}

/// Whatever is random in a scenario, and says with what it can be repeated.
pub fn random() -> StdRng {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Versions that runs are locked to: another task may be in the current one.
#[derive(Clone)]
pub struct Versions {
    chain: String,
    bench: String,
}

impl Versions {
    /// Deploys the guests.
    pub async fn deploy(client: &Client) -> Versions {
        let deploy = async |name: &str| client.deploy(guest(name)).await["version"].as_str().unwrap().to_owned();
        Versions { chain: deploy("rust-chain").await, bench: deploy("bench").await }
    }
}

/// What is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Waits and nothing else.
    Chain,
    /// Effects with waits between.
    Five,
    /// Starts three and waits for all.
    Batch,
    /// Starts two, one after the other.
    Each,
}

impl Kind {
    fn children(self) -> i64 {
        match self {
            Kind::Chain | Kind::Five => 0,
            Kind::Batch => 3,
            Kind::Each => 2,
        }
    }

    /// Until it is acknowledged, however often that takes: one key is one run.
    pub async fn trigger(self, client: &Client, versions: &Versions, url: &str, key: &str) {
        let member = |name: &str, ms: u32| json!({"name": name, "ms": ms});
        let (task, payload, version) = match self {
            Kind::Chain => ("chain", json!({"n": 4, "mode": "mixed", "ms": 150}), &versions.chain),
            Kind::Five => ("bench-five", json!({"k": key, "url": url}), &versions.bench),
            Kind::Batch => {
                let members = [member("a", 200), member("b", 0), member("c", 400)];
                ("family", json!({"how": "batch", "members": members}), &versions.chain)
            }
            Kind::Each => ("family", json!({"how": "each", "members": [member("a", 100), member("b", 0)]}), &versions.chain),
        };
        insist(client, task, payload, json!({"idempotencyKey": key, "lockToVersion": version})).await;
    }
}

/// Triggers a run until that is acknowledged, and returns its id.
pub async fn insist(client: &Client, task: &str, payload: Value, options: Value) -> String {
    let body = json!({"payload": payload, "options": options});
    eventually("the run is triggered", ALL_DONE, async || {
        let request = client.request(reqwest::Method::POST, &format!("/api/v1/tasks/{task}/trigger")).json(&body);
        let answer = request.timeout(Duration::from_secs(5)).send().await.ok()?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        assert!(status.is_success() || status.is_server_error(), "{status}: {text}");
        // What was cut off is asked for again.
        let answer: Value = serde_json::from_str(&text).ok().filter(|_| status.is_success())?;
        answer["id"].as_str().map(str::to_owned)
    })
    .await
}

/// Triggers so many runs of every kind, through each of the servers in turn, and tells what each key stands for.
pub async fn trigger(
    clients: &[Client],
    versions: &Versions,
    effects: &Effects,
    name: &str,
    count: usize,
) -> BTreeMap<String, Kind> {
    let one = async |n: usize| {
        let key = format!("{name}-{n}-{}", rand::random::<u32>());
        let kind = [Kind::Chain, Kind::Five, Kind::Batch, Kind::Five, Kind::Chain, Kind::Each][n % 6];
        kind.trigger(&clients[n % clients.len()], versions, &effects.url(), &key).await;
        (key, kind)
    };
    stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).collect().await
}

/// A value from the database, which may be being restarted.
pub async fn one<T>(database: &PgPool, query: &'static str) -> T
where
    T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
{
    eventually(query, ALL_DONE, async || sqlx::query_scalar(query).fetch_one(database).await.ok()).await
}

/// Waits until all runs are final.
pub async fn all_final(database: &PgPool, count: usize) {
    eventually("every run is final", ALL_DONE.max(Duration::from_millis(500) * count as u32), async || {
        let open: i64 = one(database, "select count(*) from runs where finished_at is null").await;
        (open == 0).then_some(())
    })
    .await;
}

/// Each run that was triggered is there once, with the children and the output of its kind, and with each of its effects; it and all
/// others have ended completed, in one attempt, once; and nobody holds anything any more. Tells how many effects there are again.
pub async fn check(database: &PgPool, effects: &Effects, name: &str, triggered: &BTreeMap<String, Kind>) -> usize {
    let roots = "select coalesce(r.idempotency_shown, r.idempotency_key), r.status, r.attempt, r.epoch,
            (select count(*) from run_events e where e.run_id = r.id and e.kind = 'finished') as ends,
            (select count(*) from runs c where c.parent_id = r.id) as children,
            convert_from(r.output, 'utf8') as output
         from runs r where r.parent_id is null and coalesce(r.idempotency_shown, r.idempotency_key) like $1";
    type Row = (String, String, i32, i64, i64, i64, Option<String>);
    let roots: Vec<Row> = sqlx::query_as(roots).bind(format!("{name}-%")).fetch_all(database).await.unwrap();
    assert_eq!(roots.len(), triggered.len(), "each key has one run");
    let mut outputs: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    let mut repeated = 0;
    for (key, status, attempt, epoch, ends, children, output) in &roots {
        let kind = triggered[key];
        assert_eq!((status.as_str(), *attempt, *ends), ("COMPLETED", 1, 1), "{key}, {kind:?}, epoch {epoch}: {output:?}");
        assert_eq!(*children, kind.children(), "{key}, {kind:?}");
        if kind == Kind::Five {
            repeated += effects.check(key);
        } else {
            outputs.entry(kind).or_default().extend(output.clone());
        }
    }
    for (kind, mut outputs) in outputs {
        outputs.dedup();
        assert_eq!(outputs.len(), 1, "{kind:?}: {outputs:?}");
    }
    let bad = "select count(*) from runs r where status <> 'COMPLETED' or attempt <> 1
         or (select count(*) from run_events e where e.run_id = r.id and e.kind = 'finished') <> 1";
    assert_eq!(one::<i64>(database, bad).await, 0, "children and others, too, end completed, once");
    let left = "select (select count(*) from runs where lease_worker is not null)
         + (select count(*) from batches where stage = 'MAKING')";
    assert_eq!(one::<i64>(database, left).await, 0, "nothing is held any more");
    let all: i64 = one(database, "select count(*) from runs").await;
    let lost: i64 = one(database, "select count(*) from run_events where kind = 'lease-lost'").await;
    println!("{name}: {} runs, {all} with children so far; {lost} leases lost so far; {repeated} effects repeated", roots.len());
    repeated
}
