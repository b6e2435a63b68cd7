//! Clocks that are set while runs wait: the database's, by which everything goes, and those of the servers' machines, which mean
//! nothing.

use std::{
    cell::Cell,
    io::Write as _,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use dormouse::store;
use rand::RngExt as _;
use serde_json::json;
use sqlx::PgPool;

use super::load::{self, ALL_DONE, Versions};
use crate::support::{
    effects::Effects,
    eventually,
    fleet::{Fleet, Member},
    wall_clock::WallClock,
};

const WORKER: [&str; 8] = ["--lease", "2s", "--grace", "20ms", "--concurrency", "16", "--allow-egress", "loopback"];
/// Times that a clock is set, at least.
const SET: usize = 6;

/// Sets clocks again and again until everything is triggered and it was often enough.
async fn again_and_again(least: usize, is_triggered: &Cell<bool>, mut set: impl AsyncFnMut(usize)) -> usize {
    let mut times = 0;
    while times < least || !is_triggered.get() {
        set(times).await;
        times += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_clock_is_set_forwards_and_back_loses_no_run_ends_none_twice_and_leaves_none_stuck() {
    let (fleet, mut random, count) = (Fleet::new().await, load::random(), load::count());
    let api = fleet.start("data", "api", &[]).await;
    let versions = Versions::deploy(&api).await;
    let workers = [fleet.start("data", "worker", &WORKER).await, fleet.start("data", "worker", &WORKER).await];
    let database = PgPool::connect(fleet.postgres.database_url()).await.unwrap();
    let (effects, is_triggered, begun) = (Effects::start().await, Cell::new(false), Instant::now());
    let clients = [api.client()];
    let triggering = async {
        let triggered = load::trigger(&clients, &versions, &effects, "clock", count).await;
        is_triggered.set(true);
        triggered
    };
    let mut ahead = Duration::ZERO;
    let setting = again_and_again(load::faults(count, SET), &is_triggered, async |n| {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1500))).await;
        // Back by so little that whoever sleeps then is not waited for in vain.
        let (was, by) =
            (ahead, Duration::from_secs(if n % 2 == 0 { random.random_range(60..3600) } else { random.random_range(1..10) }));
        ahead = if n % 2 == 0 { ahead + by } else { ahead - by };
        store::clock::set_ahead(&database, ahead).await.unwrap();
        let set = Instant::now();
        // By the number of the entry: times of before may be later.
        let entries = "select count(*) from run_events where kind in ('claimed', 'suspended', 'finished')";
        let before: i64 = load::one(&database, entries).await;
        let open = "select count(*) from runs where finished_at is null and status <> 'WAITING'";
        eventually("there is progress", ALL_DONE, async || {
            let has_got_on = load::one::<i64>(&database, entries).await > before || load::one::<i64>(&database, open).await == 0;
            has_got_on.then_some(())
        })
        .await;
        println!("clock {n}: set from {was:?} to {ahead:?} ahead, progress after {:.2?}", set.elapsed());
    });
    let (triggered, times) = tokio::join!(triggering, setting);
    let last = Instant::now();
    load::all_final(&database, count).await;
    println!("clock: set {times} times, all done {:.2?} after the last time, {:.2?} in all", last.elapsed(), begun.elapsed());
    load::check(&database, &effects, "clock", &triggered).await;
    database.close().await;
    let [one, two] = workers;
    fleet.end(vec![api, one, two]).await;
}

/// A process whose machine's clock is this one.
async fn start(fleet: &Fleet, role: &str, arguments: &[&str], clock: &WallClock) -> Member {
    let mut member = fleet.spawn_with(fleet.postgres.database_url(), "data", role, arguments, &clock.environment());
    member.await_ready().await;
    member
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_clocks_of_the_servers_machines_show_means_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clocks = ["api", "one", "two"].map(|name| WallClock::new(folder.path(), name));
    if let Some(reason) = clocks.iter().find_map(|clock| clock.as_ref().err()) {
        // Not with a macro: what those print is shown only when a test fails.
        let _ = writeln!(std::io::stderr(), "\nskipped: clocks of machines: {reason}");
        return;
    }
    let clocks = clocks.map(Result::unwrap);
    let (fleet, mut random, count) = (Fleet::new().await, load::random(), load::count());
    for (clock, hours) in clocks.iter().zip([2, 1, -1]) {
        clock.set_ahead(hours * 3600);
    }
    let api = start(&fleet, "api", &[], &clocks[0]).await;
    let versions = Versions::deploy(&api).await;
    let workers = [start(&fleet, "worker", &WORKER, &clocks[1]).await, start(&fleet, "worker", &WORKER, &clocks[2]).await];
    for (member, hours) in [(&api, 2), (&workers[0], 1), (&workers[1], -1)] {
        let shown: DateTime<Utc> = member.said("ready")[0]["timestamp"].as_str().unwrap().parse().unwrap();
        let ahead = shown - Utc::now() - TimeDelta::hours(hours);
        assert!(ahead.abs() < TimeDelta::minutes(5), "what it logs has the time that it is shown: {ahead}");
    }
    let database = PgPool::connect(fleet.postgres.database_url()).await.unwrap();
    let (effects, is_triggered, begun) = (Effects::start().await, Cell::new(false), Instant::now());
    let clients = [api.client()];
    let triggering = async {
        let triggered = load::trigger(&clients, &versions, &effects, "machine", count).await;
        for n in 0..6 {
            let options = json!({"delay": "2s", "idempotencyKey": format!("delayed-{n}")});
            load::insist(&clients[0], "bench-noop", json!({"k": n}), options).await;
        }
        is_triggered.set(true);
        triggered
    };
    let setting = again_and_again(load::faults(count, SET), &is_triggered, async |n| {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1500))).await;
        clocks[n % 3].set_ahead(random.random_range(-7200..7200));
    });
    let (triggered, times) = tokio::join!(triggering, setting);
    let token = api.post("/api/v1/waitpoints/tokens", &json!({"timeout": "1s"})).await;
    let token = format!("/api/v1/waitpoints/tokens/{}", token["id"].as_str().unwrap());
    eventually("the token times out", ALL_DONE, async || (api.get(&token).await["status"] == "TIMED_OUT").then_some(())).await;
    load::all_final(&database, count).await;
    println!("machine: clocks set {times} times, {:.2?} in all", begun.elapsed());
    load::check(&database, &effects, "machine", &triggered).await;

    // Four waits of 150 ms, whoever slept where; and nobody slept for an hour, or would have.
    let took = "select (extract(epoch from min(finished_at - created_at)) * 1000)::bigint from runs where task = 'chain'";
    let shortest: i64 = load::one(&database, took).await;
    assert!(shortest > 500, "{shortest} ms");
    let late = "select (extract(epoch from max(finished_at - created_at)))::bigint from runs";
    assert!(load::one::<i64>(&database, late).await < 300);
    let delays = "select (extract(epoch from min(started_at - created_at)) * 1000)::bigint from runs where task = 'bench-noop'";
    let delay: i64 = load::one(&database, delays).await;
    assert!((1900..60_000).contains(&delay), "{delay} ms");
    database.close().await;
    let [one, two] = workers;
    fleet.end(vec![api, one, two]).await;
}
