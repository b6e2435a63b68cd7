//! Several servers on one database: they share the work, take over from each other, and do nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::support::{
    client::Client,
    eventually,
    fleet::{Fleet, Member},
    guests::guest,
};

const WITHIN: Duration = Duration::from_secs(60);
/// Every wait suspends.
const COLD: [&str; 2] = ["--grace", "0ms"];
/// No wait of these tests does: runs are in memory, and leased, until they end.
const WARM: [&str; 2] = ["--grace", "60s"];

/// An api process with the guest of the tests deployed.
async fn api(fleet: &Fleet) -> Member {
    let api = fleet.start("api", "api", &[]).await;
    api.deploy(guest("rust-chain")).await;
    api
}

async fn trigger(client: &Client, count: usize, waits: u32, ms: u32) -> Vec<String> {
    let payload = json!({"n": waits, "ms": ms});
    join_all((0..count).map(|_| client.trigger("chain", payload.clone()))).await
}

/// Every run ends completed, with the same output, in one attempt, once.
async fn all_completed(client: &Client, runs: &[String]) {
    let mut outputs = BTreeSet::new();
    for run in runs {
        let ended = client.run_with_status(run, "COMPLETED", WITHIN).await;
        outputs.insert(ended["output"].to_string());
        assert_eq!(ended["attemptCount"], json!(1), "{ended:#}");
        assert_eq!(kinds(client, run).await.get("finished"), Some(&1), "{run}");
    }
    assert_eq!(outputs.len(), 1, "{outputs:?}");
}

/// How often each kind of entry is in a run's history.
async fn kinds(client: &Client, run: &str) -> BTreeMap<String, usize> {
    let events = client.get(&format!("/api/v1/runs/{run}/events")).await;
    let mut kinds = BTreeMap::new();
    for event in events["events"].as_array().unwrap() {
        *kinds.entry(event["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    kinds
}

/// Runs that this process suspended.
fn suspended_by(worker: &Member) -> BTreeSet<String> {
    worker.said("suspended").iter().map(|line| line["span"]["run.id"].as_str().unwrap().to_owned()).collect()
}

/// Runs that are leased by somebody.
async fn leased(database: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from runs where lease_worker is not null").fetch_one(database).await.unwrap()
}

/// Waits until so many runs are leased.
async fn until_leased(database: &mut PgConnection, count: i64) {
    eventually("the runs are leased", WITHIN, async || (leased(database).await == count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_runs_that_an_api_took_in_and_each_resumes_what_the_other_suspended() {
    let fleet = Fleet::new().await;
    let api = api(&fleet).await;
    let few = [&COLD[..], &["--concurrency", "4"]].concat();
    let workers = [fleet.start("one", "worker", &few).await, fleet.start("two", "worker", &few).await];
    let runs = trigger(&api, 40, 6, 100).await;
    all_completed(&api, &runs).await;
    let [one, two] = workers.each_ref().map(suspended_by);
    println!("suspended by one: {}, by two: {}, by both: {}", one.len(), two.len(), one.intersection(&two).count());
    assert!(one.intersection(&two).count() > 0, "no run was at both workers: {} and {}", one.len(), two.len());
    let [one, two] = workers;
    fleet.end(vec![api, one, two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_worker_that_was_killed_go_on_elsewhere_within_ten_seconds() {
    let fleet = Fleet::new().await;
    let api = api(&fleet).await;
    let mut database = fleet.database().await;
    let mut killed = fleet.start("killed", "worker", &WARM).await;
    let runs = trigger(&api, 20, 1, 1_500).await;
    until_leased(&mut database, 20).await;
    killed.kill();
    let since = Instant::now();
    let other = fleet.start("other", "worker", &WARM).await;
    println!("the other worker is ready after {:?}", since.elapsed());
    let taken_over = "select count(*) from run_events where kind = 'claimed'";
    let took = eventually("all runs are claimed again", WITHIN, async || {
        let claims: i64 = sqlx::query_scalar(taken_over).fetch_one(&mut database).await.unwrap();
        (claims >= 40).then(|| since.elapsed())
    })
    .await;
    println!("taken over after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    all_completed(&api, &runs).await;
    fleet.end(vec![api, killed, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_frozen_past_its_leases_writes_nothing_and_then_takes_new_work() {
    let fleet = Fleet::new().await;
    let api = api(&fleet).await;
    let mut database = fleet.database().await;
    let brief = [&WARM[..], &["--lease", "1s"]].concat();
    let frozen = fleet.start("frozen", "worker", &brief).await;
    let runs = trigger(&api, 10, 4, 300).await;
    until_leased(&mut database, 10).await;
    frozen.signal(Signal::STOP);
    let mut other = fleet.start("other", "worker", &brief).await;
    // Awake again at every point of the other one's work.
    eventually("the other worker has them", WITHIN, async || {
        let taken: i64 = sqlx::query_scalar("select count(*) from runs where epoch > 1").fetch_one(&mut database).await.unwrap();
        (taken == 10).then_some(())
    })
    .await;
    frozen.signal(Signal::CONT);
    all_completed(&api, &runs).await;
    let epochs: Vec<i64> = sqlx::query_scalar("select distinct epoch from runs").fetch_all(&mut database).await.unwrap();
    assert_eq!(epochs, [2], "taken over once, and not taken back");
    for run in &runs {
        let kinds = kinds(&api, run).await;
        let seen = ["claimed", "lease-lost", "finished"].map(|kind| kinds.get(kind).copied().unwrap_or_default());
        assert_eq!(seen, [2, 1, 1], "{kinds:?}");
        // What it printed is in the log as often as it was run to that line: never behind the end, never torn.
        let lines = api.logs(run).await;
        assert_eq!(lines.iter().filter(|(_, line)| line.ends_with("words at the end")).count(), 1, "{lines:?}");
    }
    other.kill();
    let more = trigger(&api, 10, 1, 10).await;
    all_completed(&api, &more).await;
    fleet.end(vec![api, frozen, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_stop_hands_its_runs_over_at_once() {
    let fleet = Fleet::new().await;
    let api = api(&fleet).await;
    let mut database = fleet.database().await;
    // A lease that no test outlives: what is taken over was handed over.
    let long = [&WARM[..], &["--lease", "10m"]].concat();
    let mut stopped = fleet.start("stopped", "worker", &long).await;
    let runs = trigger(&api, 20, 2, 5_000).await;
    until_leased(&mut database, 20).await;
    let other = fleet.start("other", "worker", &COLD).await;
    stopped.signal(Signal::TERM);
    let since = Instant::now();
    eventually("the runs are elsewhere", WITHIN, async || {
        let left: i64 = sqlx::query_scalar("select count(*) from runs where epoch = 1").fetch_one(&mut database).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    let took = since.elapsed();
    let status = stopped.ended(WITHIN).await;
    println!("handed over after {took:?}, ended after {:?}", since.elapsed());
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    all_completed(&api, &runs).await;
    for run in &runs {
        let kinds = kinds(&api, run).await;
        assert_eq!((kinds.get("given-back"), kinds.get("lease-lost")), (Some(&1), None), "{kinds:?}");
    }
    fleet.end(vec![api, stopped, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_with_the_same_data_folder_do_not_disturb_each_other() {
    let fleet = Fleet::new().await;
    let few = [&COLD[..], &["--concurrency", "4"]].concat();
    let (one, mut two) = tokio::join!(fleet.start("same", "all", &few), fleet.start("same", "all", &few));
    assert_eq!(one.data(), two.data());
    one.deploy(guest("rust-chain")).await;
    let through_one = trigger(&one, 20, 6, 100).await;
    let files = async |client: &Client| client.trigger("files", json!({"rounds": 3, "ms": 300})).await;
    let with_files = join_all((0..6).map(|n| files(if n % 2 == 0 { &one } else { &two }))).await;
    let through_two = trigger(&two, 20, 6, 100).await;
    // What the other one keeps in the folder stays when one starts again.
    two.kill();
    two.start_again().await;
    all_completed(&two, &[through_one, through_two].concat()).await;
    for run in &with_files {
        let ended = one.run_with_status(run, "COMPLETED", WITHIN).await;
        assert_eq!(ended["output"]["lines"], json!("line 0\nline 1\nline 2\n"), "{ended:#}");
    }
    fleet.end(vec![one, two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_fires_once_for_each_time_whoever_looks() {
    let fleet = Fleet::new().await;
    let first = fleet.start("0", "all", &[]).await;
    let (second, third) = tokio::join!(fleet.start("1", "all", &[]), fleet.start("2", "worker", &[]));
    first.deploy(guest("report")).await;
    let mut database = fleet.database().await;
    let runs_of = "select count(*), count(distinct convert_from(payload, 'utf8')::json -> 'json' ->> 'timestamp') from runs";
    for times in 1..=6 {
        let due = "update schedules set next_run_at = at, due_at = at
             from (select date_trunc('milliseconds', now() + interval '150 milliseconds') as at) t";
        sqlx::query(due).execute(&mut database).await.unwrap();
        sqlx::query("notify schedules").execute(&mut database).await.unwrap();
        eventually("it fires", WITHIN, async || {
            let (runs, of): (i64, i64) = sqlx::query_as(runs_of).fetch_one(&mut database).await.unwrap();
            assert!(runs <= times && runs == of, "{runs} runs of {of} times, when {times} were due");
            (runs == times).then_some(())
        })
        .await;
    }
    eventually("all of them end", WITHIN, async || {
        let open = "select count(*) from runs where finished_at is null";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut database).await.unwrap();
        (open == 0).then_some(())
    })
    .await;
    let (runs, of): (i64, i64) = sqlx::query_as(runs_of).fetch_one(&mut database).await.unwrap();
    assert_eq!((runs, of), (6, 6));
    fleet.end(vec![first, second, third]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_goes_on_while_no_worker_is_there() {
    let fleet = Fleet::new().await;
    let api = api(&fleet).await;
    let token = api.post("/api/v1/waitpoints/tokens", &json!({"timeout": "1s"})).await;
    let run = api.trigger_with("echo", json!(1), json!({"ttl": "1s"})).await;
    let delayed = api.trigger_with("echo", json!(1), json!({"delay": "1s"})).await;
    api.run_with_status(&run, "EXPIRED", WITHIN).await;
    api.run_with_status(&delayed, "QUEUED", WITHIN).await;
    let token = format!("/api/v1/waitpoints/tokens/{}", token["id"].as_str().unwrap());
    eventually("the token times out", WITHIN, async || (api.get(&token).await["status"] == "TIMED_OUT").then_some(())).await;
    // A worker's death is seen too, and its run is cancelled though nobody executes it any more.
    let mut worker = fleet.start("killed", "worker", &[&WARM[..], &["--lease", "1s"]].concat()).await;
    let run = trigger(&api, 1, 1, 60_000).await.remove(0);
    api.run_with_status(&run, "EXECUTING", WITHIN).await;
    worker.kill();
    api.post(&format!("/api/v2/runs/{run}/cancel"), &Value::Null).await;
    api.run_with_status(&run, "CANCELED", WITHIN).await;
    fleet.end(vec![api, worker]).await;
}
