//! A server that keeps what is over for two days, day after day: its tables stay as large as they have to be, for what is deleted makes room
//! for what comes.
//!
//! `BLOAT_DAYS` is how many days, `BLOAT_RUNS` how many runs a day has.

use std::time::Duration;

use serde_json::json;
use sqlx::{PgPool, query, query_scalar};

use crate::support::{client::Client, eventually, fleet::Fleet, guests::guest};

const DAY: Duration = Duration::from_secs(86_400);
/// Runs of one request.
const BATCH: usize = 100;
/// When the second day is over, what the first made goes.
const FIRST: usize = 1;
/// Tables are vacuumed a while after their rows were deleted; so many days make room for all that follow.
const SETTLED: usize = 4;

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Bytes of all tables with their indexes.
async fn size(database: &PgPool) -> i64 {
    query_scalar("select sum(pg_total_relation_size(relid))::bigint from pg_stat_user_tables").fetch_one(database).await.unwrap()
}

/// Runs that are not over.
async fn going_on(database: &PgPool) -> i64 {
    query_scalar("select count(*) from runs where finished_at is null").fetch_one(database).await.unwrap()
}

/// A day's work: runs that wait, print, and have attempts, in batches, and tokens.
async fn work(client: &Client, database: &PgPool, runs: usize) {
    for _ in 0..runs.div_ceil(BATCH) {
        let item = json!({"task": "chain", "payload": {"n": 2, "mode": "wait", "ms": 1}});
        client.post("/api/v2/tasks/batch", &json!({"items": vec![item; BATCH.min(runs)]})).await;
        let token = client.post("/api/v1/waitpoints/tokens", &json!({})).await;
        let path = format!("/api/v1/waitpoints/tokens/{}/complete", token["id"].as_str().unwrap());
        client.post(&path, &json!({"data": "x".repeat(1000)})).await;
    }
    let within = Duration::from_secs(60 + runs as u64 / 10);
    eventually("all runs are over", within, async || (going_on(database).await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_stop_growing_once_as_much_is_deleted_as_comes() {
    let (days, runs) = (number("BLOAT_DAYS", 6), number("BLOAT_RUNS", 300));
    assert!(days > SETTLED && runs >= BATCH, "at least {} days of {BATCH} runs", SETTLED + 1);
    let fleet = Fleet::new().await;
    let database = PgPool::connect(fleet.postgres.database_url()).await.unwrap();
    // A day passes in seconds: the vacuum has to look as often in a day as it does.
    for statement in ["alter system set autovacuum_naptime = '1s'", "select pg_reload_conf()"] {
        query(statement).execute(&database).await.unwrap();
    }
    let mut server = fleet.start("data", "all", &["--keep-runs", "2d", "--grace", "0ms"]).await;
    server.deploy(guest("rust-chain")).await;
    let mut sizes = vec![size(&database).await];
    for day in 1..=days {
        work(&server, &database, runs).await;
        server.kill();
        dormouse::store::clock::set_ahead(&database, DAY * day as u32).await.unwrap();
        // It deletes when it starts, and then once an hour.
        server.start_again().await;
        let kept = (runs.div_ceil(BATCH) * BATCH * FIRST) as i64;
        eventually("what is too old is deleted", Duration::from_secs(60), async || {
            let left: i64 = query_scalar("select count(*) from runs").fetch_one(&database).await.unwrap();
            (left <= kept).then_some(())
        })
        .await;
        eventually("what is deleted is room again", Duration::from_secs(60), async || {
            let dead = "select count(*) from pg_stat_user_tables where n_dead_tup > 1000 + n_live_tup";
            let dead: i64 = query_scalar(dead).fetch_one(&database).await.unwrap();
            (dead == 0).then_some(())
        })
        .await;
        sizes.push(size(&database).await);
        println!("day {day}: {} KiB", sizes[day] / 1024);
    }
    // What a day takes if nothing makes room for it.
    let of_a_day = (sizes[FIRST] - sizes[0]) / FIRST as i64;
    let grown = (sizes[days] - sizes[SETTLED]) / (days - SETTLED) as i64;
    println!("of a day: {} KiB, grown in a day after the first {SETTLED}: {} KiB", of_a_day / 1024, grown / 1024);
    assert!(grown * 4 < of_a_day, "{sizes:?}");
    database.close().await;
    fleet.end(vec![server]).await;
}
