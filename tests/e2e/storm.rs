//! Everything that can be killed, restarted and cut, under servers with runs of every kind in flight: no run is lost, none ends
//! twice, none is stuck.
//!
//! `STORM_RUNS` says how many runs are triggered in each scenario, children not counted; `STORM` runs one scenario alone; `SEED`
//! repeats the moments.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{
    client::Client,
    effects::Effects,
    eventually,
    fleet::{Fleet, Member},
    guests::guest,
    proxy::{Proxy, Which},
};

/// Runs triggered in each scenario of the suite.
const RUNS: usize = 48;
/// In a longer storm the faults come again and again.
const RUNS_PER_FAULT: usize = 50;
/// Triggers at a time.
const AT_ONCE: usize = 8;
/// Longest time from the last fault until every run is final.
const ALL_DONE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_restarts_and_cuts_lose_no_run_end_none_twice_and_leave_none_stuck() {
    let mut storm = Storm::new().await;
    let only = std::env::var("STORM").unwrap_or_default();
    for (name, scenario) in SCENARIOS {
        if only.is_empty() || only == name {
            storm.weather(name, scenario).await;
        }
    }
    storm.end().await;
}

/// A thing that happens, and what it is called.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillApi,
    KillWorker,
    KillAll,
    /// Fast: sessions are ended in order.
    RestartPostgres,
    /// Immediate: as in a crash; the log is replayed.
    CrashPostgres,
    CutAll,
    /// All are cut, and for a while no new connection is taken.
    RefuseAll,
    /// Nothing comes through, for a while on new connections either; those of before stay so.
    SwallowAll,
    CutListening,
    /// The sessions that listen stay open and hear nothing, until whoever listens finds out.
    SwallowListening,
}

const SCENARIOS: [(&str, &[Fault]); 4] = [
    ("kills", &[Fault::KillWorker, Fault::KillApi, Fault::KillAll, Fault::KillWorker]),
    ("postgres", &[Fault::RestartPostgres, Fault::CrashPostgres, Fault::RestartPostgres, Fault::CrashPostgres]),
    ("notifications", &[Fault::CutListening, Fault::CutListening, Fault::SwallowListening]),
    ("network", &[Fault::CutAll, Fault::RefuseAll, Fault::CutAll, Fault::SwallowAll]),
];

struct Storm {
    api: Member,
    workers: [Member; 2],
    // After those who use its folder.
    fleet: Fleet,
    proxy: Proxy,
    /// Not through the proxy.
    database: PgPool,
    effects: Effects,
    versions: Versions,
    random: StdRng,
}

/// Versions that runs are locked to: the task with a schedule is in the current one.
#[derive(Clone)]
struct Versions {
    chain: String,
    bench: String,
}

impl Storm {
    async fn new() -> Storm {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
        println!("SEED={seed}");
        let fleet = Fleet::new().await;
        let proxy = Proxy::start(fleet.postgres.database_url()).await;
        let url = proxy.database_url();
        // So few connections that Postgres has places for them twice: what is swallowed keeps its place for a while.
        let few = ["--database-connections", "10"];
        let worker = ["--lease", "2s", "--grace", "20ms", "--concurrency", "16", "--allow-egress", "loopback"];
        let worker = [&worker[..], &few].concat();
        // One folder, so that a component is compiled once.
        let api = fleet.start_through(&url, "data", "api", &few).await;
        let deploy = async |name: &str| api.deploy(guest(name)).await["version"].as_str().unwrap().to_owned();
        let versions = Versions { chain: deploy("rust-chain").await, bench: deploy("bench").await };
        deploy("report").await;
        let workers = [
            fleet.start_through(&url, "data", "worker", &worker).await,
            fleet.start_through(&url, "data", "worker", &worker).await,
        ];
        let database = PgPool::connect(fleet.postgres.database_url()).await.unwrap();
        let effects = Effects::start().await;
        // What resumed runs need is compiled now, once, and not while everything is killed again and again.
        for kind in [Kind::Chain, Kind::Five] {
            kind.trigger(&api, &versions, &effects.url(), &format!("{kind:?}")).await;
        }
        eventually("the first runs are final", ALL_DONE, async || {
            let open = "select count(*) from runs where finished_at is null";
            let open: i64 = sqlx::query_scalar(open).fetch_one(&database).await.unwrap();
            (open == 0).then_some(())
        })
        .await;
        Storm { fleet, proxy, api, workers, database, effects, versions, random: StdRng::seed_from_u64(seed) }
    }

    async fn end(self) {
        self.database.close().await;
        let [one, two] = self.workers;
        self.fleet.end(vec![self.api, one, two]).await;
    }

    /// Triggers runs of every kind while the faults happen, and looks at what became of all.
    async fn weather(&mut self, name: &str, faults: &[Fault]) {
        let count = std::env::var("STORM_RUNS").ok().and_then(|count| count.parse().ok()).unwrap_or(RUNS);
        let begun = Instant::now();
        let triggering = trigger(self.api.client(), self.versions.clone(), self.effects.url(), name, count);
        let (database, is_over) = (self.database.clone(), Cell::new(false));
        let firing = fire(&database, &is_over);
        let blowing = async {
            let times = faults.len().max(count / RUNS_PER_FAULT);
            let last = self.blow(name, faults.iter().cycle().take(times)).await;
            is_over.set(true);
            last
        };
        let (triggered, fired, last) = tokio::join!(triggering, firing, blowing);
        eventually("every run is final", ALL_DONE.max(Duration::from_millis(500) * count as u32), async || {
            let open: i64 = self.one("select count(*) from runs where finished_at is null").await;
            (open == 0).then_some(())
        })
        .await;
        println!("{name}: all done {:.2?} after the last fault was over, {:.2?} in all", last.elapsed(), begun.elapsed());
        self.check(name, &triggered, fired).await;
    }

    /// Lets the faults happen, and waits after each until there is progress. Tells when that was for the last time.
    async fn blow(&mut self, name: &str, faults: impl Iterator<Item = &Fault>) -> Instant {
        for (n, fault) in faults.enumerate() {
            let pause = Duration::from_millis(self.random.random_range(300..1500));
            tokio::time::sleep(pause).await;
            if matches!(fault, Fault::CutListening | Fault::SwallowListening) {
                self.all_listen().await;
            }
            let since: chrono::DateTime<chrono::Utc> = self.one("select clock_timestamp()").await;
            let at = Instant::now();
            self.happen(*fault).await;
            eventually("the servers are well again", ALL_DONE, async || self.api.is_healthy().await.then_some(())).await;
            let healthy = at.elapsed();
            let progress = eventually("there is progress", ALL_DONE, async || self.progress_since(since).await).await;
            println!("{name} {n}: {fault:?}: healthy after {healthy:.2?}, first progress after {progress:.2?}");
        }
        Instant::now()
    }

    async fn happen(&mut self, fault: Fault) {
        let down = Duration::from_millis(self.random.random_range(0..1000));
        match fault {
            Fault::KillApi => {
                self.api.kill();
                tokio::time::sleep(down).await;
                self.api.start_again().await;
            }
            Fault::KillWorker => {
                let worker = &mut self.workers[self.random.random_range(0..2)];
                worker.kill();
                tokio::time::sleep(down).await;
                worker.start_again().await;
            }
            Fault::KillAll => {
                let mut all: Vec<&mut Member> = self.workers.iter_mut().chain([&mut self.api]).collect();
                all.iter_mut().for_each(|member| member.kill());
                tokio::time::sleep(down).await;
                all.iter_mut().for_each(|member| member.respawn());
                for member in all {
                    member.await_ready().await;
                }
            }
            Fault::RestartPostgres => self.fleet.stop_postgres(Signal::INT).await,
            Fault::CrashPostgres => self.fleet.stop_postgres(Signal::QUIT).await,
            Fault::CutAll => assert!(self.proxy.cut(Which::All) > 0),
            Fault::RefuseAll => {
                self.proxy.refuse_new(true);
                self.proxy.cut(Which::All);
                tokio::time::sleep(down * 3).await;
                self.proxy.refuse_new(false);
            }
            Fault::SwallowAll => {
                self.proxy.swallow_new(true);
                assert!(self.proxy.swallow(Which::All) > 0);
                tokio::time::sleep(down * 3).await;
                self.proxy.swallow_new(false);
            }
            Fault::CutListening => assert_eq!(self.proxy.cut(Which::Listening), 3),
            Fault::SwallowListening => assert_eq!(self.proxy.swallow(Which::Listening), 3),
        }
    }

    /// Waits until every process listens to notifications, as it must some time after its session has gone.
    async fn all_listen(&self) {
        eventually("all three listen", ALL_DONE, async || (self.proxy.listening() == 3).then_some(())).await;
    }

    /// Time from then to the first thing that a worker did. What was on its way when the fault came lands within 50 ms.
    async fn progress_since(&self, since: chrono::DateTime<chrono::Utc>) -> Option<Duration> {
        let first = "select min(at) from run_events where at > $1 + interval '50 milliseconds' and kind in ('claimed', 'suspended', 'finished')";
        let first: Option<chrono::DateTime<chrono::Utc>> =
            sqlx::query_scalar(first).bind(since).fetch_one(&self.database).await.ok()?;
        if let Some(first) = first {
            return (first - since).to_std().ok();
        }
        // All is done: nothing is left to get on with.
        let open: i64 = self.one("select count(*) from runs where finished_at is null and status <> 'WAITING'").await;
        (open == 0).then_some(Duration::ZERO)
    }

    /// A value from the database, which may be being restarted.
    async fn one<T>(&self, query: &'static str) -> T
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
    {
        eventually(query, ALL_DONE, async || sqlx::query_scalar(query).fetch_one(&self.database).await.ok()).await
    }

    async fn check(&self, name: &str, triggered: &BTreeMap<String, Kind>, fired: i64) {
        let roots = "select coalesce(r.idempotency_shown, r.idempotency_key), r.status, r.attempt, r.epoch,
                (select count(*) from run_events e where e.run_id = r.id and e.kind = 'finished') as ends,
                (select count(*) from runs c where c.parent_id = r.id) as children,
                convert_from(r.output, 'utf8') as output
             from runs r where r.parent_id is null and coalesce(r.idempotency_shown, r.idempotency_key) like $1";
        type Row = (String, String, i32, i64, i64, i64, Option<String>);
        let roots: Vec<Row> = sqlx::query_as(roots).bind(format!("{name}-%")).fetch_all(&self.database).await.unwrap();
        assert_eq!(roots.len(), triggered.len(), "each key has one run");
        let mut outputs: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
        let mut repeated = 0;
        for (key, status, attempt, epoch, ends, children, output) in &roots {
            let kind = triggered[key];
            assert_eq!((status.as_str(), *attempt, *ends), ("COMPLETED", 1, 1), "{key}, {kind:?}, epoch {epoch}: {output:?}");
            assert_eq!(*children, kind.children(), "{key}, {kind:?}");
            if kind == Kind::Five {
                repeated += self.effects.check(key);
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
        assert_eq!(self.one::<i64>(bad).await, 0, "children and scheduled runs, too, end completed, once");
        let scheduled: i64 = self.one("select count(*) from runs where task = 'daily-report'").await;
        assert_eq!(scheduled, fired, "each time that was due has one run");
        let left = "select (select count(*) from runs where lease_worker is not null)
             + (select count(*) from batches where stage = 'MAKING')";
        assert_eq!(self.one::<i64>(left).await, 0, "nothing is held any more");
        let all: i64 = self.one("select count(*) from runs").await;
        let lost: i64 = self.one("select count(*) from run_events where kind = 'lease-lost'").await;
        println!(
            "{name}: {} runs, {all} with children so far; {lost} leases lost so far; {repeated} effects repeated",
            roots.len()
        );
    }
}

/// What is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
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
    async fn trigger(self, client: &Client, versions: &Versions, url: &str, key: &str) {
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
        let options = json!({"idempotencyKey": key, "lockToVersion": version});
        let body = json!({"payload": payload, "options": options});
        eventually("the run is triggered", ALL_DONE, async || {
            let request = client.request(reqwest::Method::POST, &format!("/api/v1/tasks/{task}/trigger")).json(&body);
            let answer = request.timeout(Duration::from_secs(5)).send().await.ok()?;
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            assert!(status.is_success() || status.is_server_error(), "{status}: {text}");
            status.is_success().then_some(())
        })
        .await;
    }
}

/// Triggers so many runs of every kind and tells what each key stands for.
async fn trigger(client: Client, versions: Versions, url: String, name: &str, count: usize) -> BTreeMap<String, Kind> {
    let one = async |n: usize| {
        let key = format!("{name}-{n}-{}", rand::random::<u32>());
        let kind = [Kind::Chain, Kind::Five, Kind::Batch, Kind::Five, Kind::Chain, Kind::Each][n % 6];
        kind.trigger(&client, &versions, &url, &key).await;
        (key, kind)
    };
    stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).collect().await
}

/// Lets the schedule be due again and again until it is over, each time once the time before has its run. Tells how many runs it has.
async fn fire(database: &PgPool, is_over: &Cell<bool>) -> i64 {
    let runs = async || {
        let runs = sqlx::query_scalar("select count(*) from runs where task = 'daily-report'");
        runs.fetch_one(database).await.ok() as Option<i64>
    };
    let mut fired = eventually("the runs are counted", ALL_DONE, async || runs().await).await;
    while !is_over.get() {
        let due = "update schedules set next_run_at = at, due_at = at
             from (select date_trunc('milliseconds', now() + interval '200 milliseconds') as at) t";
        if sqlx::query(due).execute(database).await.is_err() {
            // It may have been committed or not: what has come of it once nothing is due any more counts.
            let nothing_due = "select next_run_at > now() + interval '1 minute' from schedules";
            let now = eventually("nothing is due", ALL_DONE, async || {
                let nothing_due: bool = sqlx::query_scalar(nothing_due).fetch_one(database).await.ok()?;
                if nothing_due { runs().await } else { None }
            })
            .await;
            assert!(now <= fired + 1, "{now} runs where {fired} were, and one more at most was due");
            fired = now;
            continue;
        }
        let _ = sqlx::query("notify schedules").execute(database).await;
        fired += 1;
        eventually("the schedule fires", ALL_DONE, async || {
            let runs = runs().await?;
            assert!(runs <= fired, "{runs} runs of {fired} times");
            (runs == fired).then_some(())
        })
        .await;
    }
    fired
}
