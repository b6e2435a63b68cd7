//! Limits of queues.

use super::*;
use crate::store::queues::{self, Which};

async fn limited(pool: PgPool, limit: u32) -> Scene {
    let scene = Scene::empty(pool).await;
    let definition = TaskDefinition { queue: Some("narrow".into()), ..task("hello") };
    let queue = QueueDefinition { name: "narrow".into(), concurrency_limit: Some(limit) };
    scene.deploy(vec![definition, task("free")], vec![queue]).await;
    scene
}

async fn narrow(scene: &Scene) -> crate::model::queue::Queue {
    queues::get(&scene.store, scene.environment, &Which::Name("narrow".into())).await.unwrap().unwrap()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_full_queue_holds_its_runs_back_and_nobody_elses(pool: PgPool) {
    let scene = limited(pool, 2).await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(scene.trigger(hello()).await);
    }
    let free = scene.trigger(NewRun::of("free", Packet::empty())).await;
    let claimed = scene.claim(3).await;
    assert_eq!(claimed.iter().map(|claimed| claimed.lease.run).collect::<Vec<_>>(), [runs[0], runs[1], free]);
    assert!(scene.claim(3).await.is_empty());
    let queue = narrow(&scene).await;
    assert_eq!((queue.running, queue.queued, queue.declared_limit), (2, 3, Some(2)));

    // Each way to leave a place lets in the next in line.
    scene.finish(&claimed[0].lease, completed()).await.unwrap();
    let third = scene.claim_one().await.lease;
    assert_eq!(third.run, runs[2]);
    let at = scene.now().await + secs(600);
    scene.suspend(&third, 1, WaitRequest::Sleep { at }).await.unwrap();
    let fourth = scene.claim_one().await.lease;
    assert_eq!(fourth.run, runs[3]);
    scene.finish(&fourth, failed(RetryDecision::Policy)).await.unwrap();
    assert_eq!(scene.claim_one().await.lease.run, runs[4]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_lost_lease_frees_its_place_too(pool: PgPool) {
    let scene = limited(pool, 1).await;
    let first = scene.trigger(hello()).await;
    let second = scene.trigger(hello()).await;
    assert_eq!(scene.claim_one().await.lease.run, first);
    assert!(scene.claim(5).await.is_empty());
    scene.advance(secs(31)).await;
    engine::lease::expire(&scene.store, 10).await.unwrap();
    assert_eq!(scene.claim_one().await.lease.run, first, "it goes on before the next begins");
    assert!(scene.claim(5).await.is_empty());
    engine::cancel::cancel(&scene.store, scene.environment, first).await.unwrap();
    scene.advance(secs(31)).await;
    engine::lease::expire(&scene.store, 10).await.unwrap();
    assert_eq!(scene.claim_one().await.lease.run, second);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_place_that_a_cancelled_run_did_not_take_goes_to_the_next(pool: PgPool) {
    let scene = limited(pool, 1).await;
    let runs = [scene.trigger(hello()).await, scene.trigger(hello()).await, scene.trigger(hello()).await];
    let first = scene.claim_one().await.lease;
    assert!(scene.claim(5).await.is_empty());
    engine::cancel::cancel(&scene.store, scene.environment, runs[1]).await.unwrap();
    scene.finish(&first, completed()).await.unwrap();
    assert_eq!(scene.claim_one().await.lease.run, runs[2]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn each_concurrency_key_has_places_of_its_own(pool: PgPool) {
    let scene = limited(pool, 1).await;
    for key in ["a", "a", "b"] {
        scene.trigger(NewRun { concurrency_key: Some(key.into()), ..hello() }).await;
    }
    let claimed = scene.claim(10).await;
    let keys: Vec<_> = claimed.iter().map(|claimed| claimed.context.concurrency_key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["a", "b"]);
    scene.finish(&claimed[1].lease, completed()).await.unwrap();
    assert!(scene.claim(10).await.is_empty());
    scene.finish(&claimed[0].lease, completed()).await.unwrap();
    assert_eq!(scene.claim_one().await.context.concurrency_key.as_deref(), Some("a"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn workers_that_claim_at_the_same_time_keep_to_the_limit(pool: PgPool) {
    let scene = limited(pool, 3).await;
    for _ in 0..20 {
        scene.trigger(hello()).await;
    }
    for _ in 0..5 {
        let claims = (0..4).map(|_| engine::claim::claim(&scene.store, terms(scene.worker, 5, LEASE)));
        let claimed = futures_util::future::join_all(claims).await;
        let running = scene.count("select count(*) from runs where lease_worker is not null").await;
        assert!(running <= 3, "{running}");
        let finishes =
            claimed.iter().flatten().flat_map(|claim| &claim.runs).map(|claimed| scene.finish(&claimed.lease, completed()));
        assert!(futures_util::future::join_all(finishes).await.iter().all(Result::is_ok));
    }
    let mut done = scene.count("select count(*) from runs where status = 'COMPLETED'").await;
    while done < 20 {
        let claimed = scene.claim(5).await;
        assert!(!claimed.is_empty(), "no run is left behind");
        for claimed in claimed {
            scene.finish(&claimed.lease, completed()).await.unwrap();
            done += 1;
        }
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_paused_queue_gives_nothing_until_it_goes_on(pool: PgPool) {
    let scene = limited(pool, 5).await;
    let queue = narrow(&scene).await.id;
    let paused = engine::queue::pause(&scene.store, scene.environment, queue).await.unwrap();
    assert!(paused.is_paused);
    let run = scene.trigger(hello()).await;
    assert!(scene.claim(5).await.is_empty());
    engine::queue::resume(&scene.store, scene.environment, queue).await.unwrap();
    assert_eq!(scene.claim_one().await.lease.run, run);
    let unknown = engine::queue::pause(&scene.store, scene.environment, crate::model::id::QueueId::new()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_override_survives_a_deployment_until_it_is_taken_back(pool: PgPool) {
    let scene = limited(pool, 1).await;
    for _ in 0..4 {
        scene.trigger(hello()).await;
    }
    assert_eq!(scene.claim(10).await.len(), 1);
    let queue = narrow(&scene).await.id;
    engine::queue::set_limit(&scene.store, scene.environment, queue, Some(2)).await.unwrap();
    assert_eq!(scene.claim(10).await.len(), 1);
    let definition = TaskDefinition { queue: Some("narrow".into()), ..task("hello") };
    let declared = QueueDefinition { name: "narrow".into(), concurrency_limit: Some(3) };
    scene.deploy(vec![definition], vec![declared]).await;
    assert!(scene.claim(10).await.is_empty());
    let back = engine::queue::set_limit(&scene.store, scene.environment, queue, None).await.unwrap();
    assert_eq!((back.declared_limit, back.override_limit), (Some(3), None));
    assert_eq!(scene.claim(10).await.len(), 1);
}
