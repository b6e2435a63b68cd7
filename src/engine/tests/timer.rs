//! What time alone moves on.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};

use super::*;
use crate::{engine::timer::next_due, reconcile};

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_next_due_time_is_that_of_the_nearest_thing_of_any_kind(pool: PgPool) {
    let scene = Scene::new(pool).await;
    assert_eq!(next_due(&scene.store).await.unwrap(), None);
    let now = scene.now().await;
    scene.trigger(NewRun { delay_until: Some(now + secs(300)), ..hello() }).await;
    let near = |expected: u64, due: Option<Duration>| {
        let due = due.expect("something is due");
        assert!(due <= secs(expected) && due > secs(expected - 5), "{due:?}");
    };
    near(300, next_due(&scene.store).await.unwrap());
    let token = NewToken { timeout_at: Some(now + secs(100)), ..NewToken::default() };
    engine::token::create(&scene.store, scene.environment, token).await.unwrap();
    near(100, next_due(&scene.store).await.unwrap());
    let lease = scene.executing().await;
    scene.suspend(&lease, 1, WaitRequest::Sleep { at: now + secs(50) }).await.unwrap();
    near(50, next_due(&scene.store).await.unwrap());
    scene.advance(secs(60)).await;
    assert_eq!(next_due(&scene.store).await.unwrap(), Some(Duration::ZERO));
    let (fired, next) = reconcile::timers::tick(&scene.store).await.unwrap();
    assert_eq!(fired, 1);
    near(40, next);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn many_sleepers_are_woken_once_each_by_sweeps_side_by_side(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for _ in 0..40 {
        scene.trigger(hello()).await;
    }
    let at = scene.now().await + secs(10);
    for claimed in scene.claim(40).await {
        scene.suspend(&claimed.lease, 1, WaitRequest::Sleep { at }).await.unwrap();
    }
    scene.advance(secs(11)).await;
    let sweeps = (0..4).map(|_| engine::timer::fire_due(&scene.store, 15));
    let fired: u32 = futures_util::future::join_all(sweeps).await.into_iter().map(Result::unwrap).sum();
    assert!(fired <= 40);
    reconcile::timers::tick(&scene.store).await.unwrap();
    assert_eq!(scene.count("select count(*) from run_events where kind = 'resumed'").await, 40);
    assert_eq!(scene.claim(100).await.len(), 40);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn more_sleepers_are_woken_at_once_than_one_notification_names(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut heard = sqlx::postgres::PgListener::connect_with(&scene.pool).await.unwrap();
    let runs: Vec<RunId> = stream::iter(0..450).map(|_| scene.trigger(hello())).buffered(8).collect().await;
    sqlx::query("update runs set status = 'WAITING', due_at = created_at").execute(&scene.pool).await.unwrap();
    heard.listen("runs").await.unwrap();
    assert_eq!(engine::timer::fire_due(&scene.store, 500).await.unwrap(), 450);
    let mut named = HashSet::new();
    while named.len() < runs.len() {
        let notification = tokio::time::timeout(secs(20), heard.recv()).await.expect("each is named").unwrap();
        named.extend(notification.payload().split(',').map(str::to_owned));
    }
    assert_eq!(named, runs.iter().map(|run| run.uuid().simple().to_string()).collect());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_began_in_time_does_not_expire_later(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.trigger(NewRun { ttl_ms: Some(5000), ..hello() }).await;
    let lease = scene.claim_one().await.lease;
    engine::lease::give_back(&scene.store, &lease).await.unwrap();
    scene.advance(secs(10)).await;
    assert_eq!(scene.fire().await, 0);
    assert_eq!(scene.claim_one().await.lease.run, lease.run);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn old_requests_and_logs_are_swept_away_and_the_run_stays(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.trigger(NewRun { request_key: Some("r".into()), ..hello() }).await;
    let lease = scene.claim_one().await.lease;
    engine::log::append(&scene.store, &lease, vec![super::read::line("hi")]).await.unwrap();
    scene.finish(&lease, completed()).await.unwrap();
    assert_eq!(reconcile::gc::tick(&scene.store).await.unwrap(), reconcile::gc::Swept::default());
    scene.advance(secs(31 * 24 * 3600)).await;
    let swept = reconcile::gc::tick(&scene.store).await.unwrap();
    assert_eq!(swept, reconcile::gc::Swept { requests: 1, logs: 1 });
    assert_eq!(reconcile::gc::tick(&scene.store).await.unwrap(), reconcile::gc::Swept::default());
    assert_eq!(scene.count("select count(*) from logs").await, 0);
    assert_eq!(scene.status(lease.run).await, RunStatus::Completed);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn only_blobs_that_no_row_names_are_orphans(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    scene.suspend(&lease, 1, WaitRequest::Sleep { at: scene.now().await + secs(60) }).await.unwrap();
    let old = ["c0ffee", "digest-1", "pack-1", "pages-1", "orphan"].map(String::from);
    assert_eq!(reconcile::gc::orphans(&scene.store, &old).await.unwrap(), ["orphan"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn times_at_the_end_of_the_calendar_are_times_like_others(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        scene.trigger(NewRun { delay_until: Some(at), ttl_ms: Some(u64::MAX), ..hello() }).await;
        let token = NewToken { timeout_at: Some(at), ..NewToken::default() };
        engine::token::create(&scene.store, scene.environment, token).await.unwrap();
    }
    let lease = scene.claim_one().await.lease;
    scene.suspend(&lease, 1, WaitRequest::Sleep { at: DateTime::<Utc>::MAX_UTC }).await.unwrap();
    assert_eq!(scene.fire().await, 1, "the token that timed out long ago");
    assert!(next_due(&scene.store).await.unwrap() > Some(secs(3600)));
}
