//! Servers that cannot be told apart: each does everything, on the same data folder, with the same settings. All of them may be
//! killed at any moment, one by one or together.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use rand::RngExt as _;
use sqlx::PgPool;

use super::load::{self, ALL_DONE, Versions};
use crate::support::{effects::Effects, eventually, fleet::Fleet};

const ARGUMENTS: [&str; 8] = ["--lease", "2s", "--grace", "20ms", "--concurrency", "16", "--allow-egress", "loopback"];
/// Kills, at least.
const KILLS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_alike_that_are_killed_in_turn_and_together_lose_no_run_and_end_none_twice() {
    let (fleet, mut random, count) = (Fleet::new().await, load::random(), load::count());
    let mut twins = [fleet.start("data", "all", &ARGUMENTS).await, fleet.start("data", "all", &ARGUMENTS).await];
    let versions = Versions::deploy(&twins[0]).await;
    let database = PgPool::connect(fleet.postgres.database_url()).await.unwrap();
    let (effects, is_triggered, begun) = (Effects::start().await, Cell::new(false), Instant::now());
    let clients = [twins[0].client(), twins[1].client()];
    let triggering = async {
        let triggered = load::trigger(&clients, &versions, &effects, "twins", count).await;
        is_triggered.set(true);
        triggered
    };
    let killing = async {
        let (least, mut times) = (load::faults(count, KILLS), 0);
        while times < least || !is_triggered.get() {
            tokio::time::sleep(Duration::from_millis(random.random_range(300..1500))).await;
            let killed = match times % 3 {
                2 => 0..2,
                one => one..one + 1,
            };
            twins[killed.clone()].iter_mut().for_each(|twin| twin.kill());
            let at = Instant::now();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
            twins[killed.clone()].iter_mut().for_each(|twin| twin.respawn());
            for twin in &mut twins[killed.clone()] {
                twin.await_ready().await;
                eventually("it is well", ALL_DONE, async || twin.is_healthy().await.then_some(())).await;
            }
            println!("twins {times}: killed {killed:?}, healthy after {:.2?}", at.elapsed());
            times += 1;
        }
        times
    };
    let (triggered, times) = tokio::join!(triggering, killing);
    let last = Instant::now();
    load::all_final(&database, count).await;
    println!("twins: {times} kills, all done {:.2?} after the last, {:.2?} in all", last.elapsed(), begun.elapsed());
    load::check(&database, &effects, "twins", &triggered).await;
    database.close().await;
    fleet.end(twins.into()).await;
}
