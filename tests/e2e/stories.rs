//! Ways in which durable runs are known to get stuck or to be done twice, each told as a test. Others of that kind are beside what they
//! are about: a waitpoint that is resolved between a look and a suspension, and a run that stalls and keeps its checkpoint, in
//! `engine/tests`; deaths between the two commits of a resume, which is one here, in `boundaries`.

use std::time::{Duration, Instant};

use dormouse::store::{Store, StoreError};
use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::oneshot;

use crate::support::{
    client::Client,
    eventually,
    fleet::{Fleet, Member},
    guests::guest,
    proxy::{Proxy, Which},
};

const WITHIN: Duration = Duration::from_secs(60);
const COLD: [&str; 4] = ["--grace", "0ms", "--lease", "2s"];

async fn api(fleet: &Fleet) -> Member {
    let api = fleet.start("data", "api", &[]).await;
    api.deploy(guest("rust-chain")).await;
    api
}

async fn chains(client: &Client, count: usize, waits: u32, ms: u32) -> Vec<String> {
    join_all((0..count).map(|_| client.trigger("chain", json!({"n": waits, "ms": ms})))).await
}

/// Every run is completed in one attempt and with one end.
async fn all_completed(database: &mut PgConnection, count: usize) {
    eventually("every run is final", WITHIN, async || {
        let open = "select count(*) from runs where finished_at is null";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut *database).await.ok()?;
        (open == 0).then_some(())
    })
    .await;
    let good = "select count(*) from runs r where status = 'COMPLETED' and attempt = 1
         and (select count(*) from run_events e where e.run_id = r.id and e.kind = 'finished') = 1";
    let good: i64 = sqlx::query_scalar(good).fetch_one(database).await.unwrap();
    assert_eq!(good, count as i64);
}

async fn count(database: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(database).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_dead_worker_are_recovered_though_the_database_restarts_at_that_moment() {
    let fleet = Fleet::new().await;
    let api = api(&fleet).await;
    let mut killed = fleet.start("data", "worker", &["--grace", "60s", "--lease", "2s"]).await;
    let mut database = fleet.database().await;
    chains(&api, 20, 1, 1_000).await;
    eventually("the runs are leased", WITHIN, async || {
        (count(&mut database, "select count(*) from runs where lease_worker is not null").await == 20).then_some(())
    })
    .await;
    let other = fleet.start("data", "worker", &COLD).await;
    killed.kill();
    // About when the leases run out: before, while and after they are taken back.
    for pause in [1_800, 300, 300] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        fleet.stop_postgres(Signal::QUIT).await;
        eventually("the database is back", WITHIN, async || {
            database = PgConnection::connect(fleet.postgres.database_url()).await.ok()?;
            Some(())
        })
        .await;
    }
    all_completed(&mut database, 20).await;
    fleet.end(vec![api, killed, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_all_servers_strands_no_run_and_waits_for_no_lease() {
    let fleet = Fleet::new().await;
    let long = ["--grace", "20ms", "--lease", "10m"];
    let mut servers = vec![fleet.start("data", "all", &long).await, fleet.start("data", "all", &long).await];
    servers[0].deploy(guest("rust-chain")).await;
    let mut database = fleet.database().await;
    let family = json!({"how": "each", "members": [{"name": "a", "ms": 700}, {"name": "b", "ms": 700}]});
    join_all((0..10).map(|_| servers[0].trigger("family", family.clone()))).await;
    chains(&servers[1], 20, 8, 300).await;
    for server in &mut servers {
        server.signal(Signal::TERM);
        let status = server.ended(WITHIN).await;
        assert!(status.success(), "{status}");
        server.start_again().await;
    }
    all_completed(&mut database, 50).await;
    let lost = count(&mut database, "select count(*) from run_events where kind = 'lease-lost'").await;
    assert_eq!(lost, 0, "nothing was left to its lease");
    fleet.end(servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_with_runs_that_it_has_claimed_and_not_begun_leaves_all_of_them_to_another() {
    let fleet = Fleet::new().await;
    let api = api(&fleet).await;
    let mut database = fleet.database().await;
    chains(&api, 30, 2, 10).await;
    // Dead once its claim, of as many as one statement takes, is committed: behind what it writes at its start.
    let mut leased = 0;
    for nth in 1..5 {
        let dies = [("DORMOUSE_TEST_ABORT", &*format!("after:{nth}"))];
        let mut killed = fleet.spawn_with(fleet.postgres.database_url(), "data", "worker", &COLD, &dies);
        killed.ended(WITHIN).await;
        leased = count(&mut database, "select count(*) from runs where lease_worker is not null").await;
        if leased > 0 {
            break;
        }
    }
    assert_eq!(leased, 30, "it died with all of them");
    let other = fleet.start("data", "worker", &COLD).await;
    all_completed(&mut database, 30).await;
    fleet.end(vec![api, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_listens_and_hears_nothing_any_more_delays_runs_by_a_poll_and_is_replaced() {
    let fleet = Fleet::new().await;
    let api = api(&fleet).await;
    let proxy = Proxy::start(fleet.postgres.database_url()).await;
    let worker = fleet.start_through(&proxy.database_url(), "data", "worker", &COLD).await;
    let listens = async || eventually("it listens", WITHIN, async || (proxy.listening() == 1).then_some(())).await;
    listens().await;
    assert_eq!(proxy.swallow(Which::Listening), 1);
    let swallowed = Instant::now();
    let run = api.trigger("chain", json!({"n": 0})).await;
    let ended = api.run_with_status(&run, "COMPLETED", WITHIN).await;
    println!("a run took {:?}: {}", swallowed.elapsed(), ended["status"]);
    assert!(swallowed.elapsed() < Duration::from_secs(8), "found by polling, not by the next session");
    listens().await;
    println!("listens again after {:?}", swallowed.elapsed());
    assert!(swallowed.elapsed() < Duration::from_secs(30), "{:?}", swallowed.elapsed());
    fleet.end(vec![api, worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_without_a_word_costs_a_transaction_seconds_and_the_pool_no_connection() {
    let fleet = Fleet::new().await;
    let proxy = Proxy::start(fleet.postgres.database_url()).await;
    let store = Store::connect(&proxy.database_url(), 2).await.unwrap();
    let borrowed = store.read().await.unwrap();
    let (begun, has_begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel();
    let transaction = store.tx::<_, StoreError, _>(|tx| {
        Box::pin(async move {
            sqlx::query("select 1").execute(&mut *tx).await?;
            begun.send(()).unwrap();
            may_go_on.await.unwrap();
            Ok(sqlx::query("select 1").execute(tx).await?)
        })
    });
    let back = async {
        has_begun.await.unwrap();
        assert_eq!(proxy.swallow(Which::All), 2);
        go_on.send(()).unwrap();
        let swallowed = Instant::now();
        drop(borrowed);
        eventually("its place is free again", WITHIN, async || store.ping().await.ok()).await;
        (swallowed, swallowed.elapsed())
    };
    let (failed, (swallowed, back)) = tokio::join!(transaction, back);
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    println!("a connection is back after {back:?}, the transaction failed after {:?}", swallowed.elapsed());
    assert!(back < Duration::from_secs(15) && swallowed.elapsed() < Duration::from_secs(30), "{back:?}");
    store.pool().close().await;
    fleet.end(vec![]).await;
}
