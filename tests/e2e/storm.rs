//! Everything that can be killed, restarted and cut, under servers with runs of every kind in flight: no run is lost, none ends
//! twice, none is stuck.
//!
//! `STORM` runs one scenario alone; see [`load`](super::load) for how many runs there are.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use rand::{RngExt as _, rngs::StdRng};
use rustix::process::Signal;
use sqlx::PgPool;

use super::load::{self, ALL_DONE, Kind, Versions};
use crate::support::{
    effects::Effects,
    eventually,
    fleet::{Fleet, Member},
    guests::guest,
    proxy::{Proxy, Which},
};

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

impl Storm {
    async fn new() -> Storm {
        let random = load::random();
        let fleet = Fleet::new().await;
        let proxy = Proxy::start(fleet.postgres.database_url()).await;
        let url = proxy.database_url();
        // So few connections that Postgres has places for them twice: what is swallowed keeps its place for a while.
        let few = ["--database-connections", "10"];
        let worker = ["--lease", "2s", "--grace", "20ms", "--concurrency", "16", "--allow-egress", "loopback"];
        let worker = [&worker[..], &few].concat();
        // One folder, so that a component is compiled once.
        let api = fleet.start_through(&url, "data", "api", &few).await;
        let versions = Versions::deploy(&api).await;
        // The task with a schedule is in the current version.
        api.deploy(guest("report")).await;
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
        Storm { fleet, proxy, api, workers, database, effects, versions, random }
    }

    async fn end(self) {
        self.database.close().await;
        let [one, two] = self.workers;
        self.fleet.end(vec![self.api, one, two]).await;
    }

    /// Triggers runs of every kind while the faults happen, and looks at what became of all.
    async fn weather(&mut self, name: &str, faults: &[Fault]) {
        let (count, begun) = (load::count(), Instant::now());
        let (clients, versions, effects) = ([self.api.client()], self.versions.clone(), self.effects.clone());
        let triggering = load::trigger(&clients, &versions, &effects, name, count);
        let (database, is_over) = (self.database.clone(), Cell::new(false));
        let firing = fire(&database, &is_over);
        let blowing = async {
            let last = self.blow(name, faults.iter().cycle().take(load::faults(count, faults.len()))).await;
            is_over.set(true);
            last
        };
        let (triggered, fired, last) = tokio::join!(triggering, firing, blowing);
        load::all_final(&self.database, count).await;
        println!("{name}: all done {:.2?} after the last fault was over, {:.2?} in all", last.elapsed(), begun.elapsed());
        load::check(&self.database, &self.effects, name, &triggered).await;
        let scheduled: i64 = self.one("select count(*) from runs where task = 'daily-report'").await;
        assert_eq!(scheduled, fired, "each time that was due has one run");
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
        load::one(&self.database, query).await
    }
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
