//! A process that dies at the boundary of a transaction, at each of them in the life of a family of runs: what is committed is not done
//! again, what is not is done again, and nobody waits for ever.
//!
//! Every boundary has a database of its own, copied from one in which the guest is deployed.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::support::{eventually, fleet::Fleet, guests::guest};

const WITHIN: Duration = Duration::from_secs(60);
/// Boundaries that are gone through beside each other.
const AT_ONCE: usize = 4;
const SETTINGS: [&str; 6] = ["--grace", "0ms", "--lease", "500ms", "--database-connections", "8"];
/// More than a run has: the test has missed its end.
const MOST: usize = 100;
/// Trigger, claim, batch, suspension, wake and end of a parent and its children are at least as many.
const LEAST: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_before_or_after_any_commit_completes_each_run_once_when_it_is_started_again() {
    let fleet = Fleet::new().await;
    let mut first = fleet.start("data", "all", &SETTINGS).await;
    first.deploy(guest("rust-chain")).await;
    // Once without deaths, which compiles what resumed runs need, too.
    let run = first.trigger("family", family()).await;
    assert_eq!(first.run_with_status(&run, "COMPLETED", WITHIN).await["output"], json!(["a+c", "b"]));
    first.kill();
    drop(first);
    let mut database = fleet.database().await;
    sqlx::query("truncate runs, run_events, batches cascade").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let begun = Instant::now();
    for moment in ["before", "after"] {
        let mut deaths = stream::iter(1..MOST).map(|nth| dies_at(&fleet, moment, nth)).buffered(AT_ONCE);
        let mut died = 0;
        while deaths.next().await.expect("the run has an end") {
            died += 1;
        }
        println!("died {moment} {died} commits, {:?}", begun.elapsed());
        assert!(died >= LEAST, "only {died}");
    }
    fleet.end(vec![]).await;
}

/// A parent of a batch of two, one of which starts another and waits for it.
fn family() -> serde_json::Value {
    json!({"how": "batch", "members": [{"name": "a", "ms": 30, "members": [{"name": "c"}]}, {"name": "b"}]})
}

/// Starts a server that dies there and, once it is dead, another one. False: the runs were over before.
async fn dies_at(fleet: &Fleet, moment: &str, nth: usize) -> bool {
    let name = format!("{moment}_{nth}");
    let url_of = |database: &str| fleet.postgres.database_url().replace("/postgres?", &format!("/{database}?"));
    // From a third one, since nobody may be in the one that is copied.
    let mut third = PgConnection::connect(&url_of("template1")).await.unwrap();
    eventually("the database is copied", WITHIN, async || {
        let copy = sqlx::AssertSqlSafe(format!("create database {name} template postgres"));
        sqlx::query(copy).execute(&mut third).await.ok()
    })
    .await;
    let url = url_of(&name);
    let mut database = PgConnection::connect(&url).await.unwrap();
    let plan = format!("{moment}:{nth}");
    let mut server = fleet.spawn_with(&url, "data", "all", &SETTINGS, &[("DORMOUSE_TEST_ABORT", &plan)]);
    let body = json!({"payload": family(), "options": {"idempotencyKey": name}});
    let mut is_triggered = false;
    let mut has_died = false;
    eventually(&format!("the runs end though the server dies {moment} commit {nth}"), WITHIN, async || {
        if server.has_ended() {
            assert!(!has_died, "it dies once");
            has_died = true;
            server.respawn();
        }
        if !server.is_ready().await {
            return None;
        }
        if !is_triggered {
            let request = server.request(reqwest::Method::POST, "/api/v1/tasks/family/trigger").json(&body);
            let answer = request.timeout(Duration::from_secs(2)).send().await.ok()?;
            is_triggered = answer.status().is_success();
        }
        let open = "select count(*) from runs where finished_at is null";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut database).await.unwrap();
        (is_triggered && open == 0).then_some(())
    })
    .await;
    check(&mut database, &name).await;
    drop(server);
    database.close().await.unwrap();
    has_died
}

/// Four runs, each completed, in one attempt, with one end.
async fn check(database: &mut PgConnection, name: &str) {
    let runs = "select task, status, attempt, coalesce(convert_from(output, 'utf8'), ''),
            (select count(*) from run_events e where e.run_id = r.id and e.kind = 'finished'), lease_worker is null
         from runs r order by depth, task, 4";
    type Row = (String, String, i32, String, i64, bool);
    let runs: Vec<Row> = sqlx::query_as(runs).fetch_all(database).await.unwrap();
    let expected = [("family", r#"["a+c","b"]"#), ("member", r#""a+c""#), ("member", r#""b""#), ("member", r#""c""#)];
    let expected = expected.map(|(task, output)| (task.into(), "COMPLETED".into(), 1, output.into(), 1, true));
    assert_eq!(runs, expected, "{name}");
}
