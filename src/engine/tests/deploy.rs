//! Deployments.

use super::*;
use crate::store::{
    Page, Start, deployments,
    queues::{self, Which},
};

#[sqlx::test(migrations = "src/store/migrations")]
async fn versions_count_up_within_a_day_and_an_environment(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let deploys = (0..4).map(|_| scene.deploy(vec![task("hello")], vec![]));
    let mut versions: Vec<String> =
        futures_util::future::join_all(deploys).await.into_iter().map(|deployment| deployment.version).collect();
    versions.sort();
    let date = scene.now().await.format("%Y%m%d").to_string();
    assert_eq!(versions, (1..=4).map(|n| format!("{date}.{n}")).collect::<Vec<_>>());
    let other = environment(&scene.store, "proj_other").await;
    let deployment = engine::deploy::deploy(&scene.store, other, bundle(vec![task("hello")], vec![])).await.unwrap();
    assert!(deployment.version.ends_with(".1"));
    scene.advance(secs(24 * 3600)).await;
    assert!(scene.deploy(vec![task("hello")], vec![]).await.version.ends_with(".1"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_deployment_is_current_only_once_it_is_promoted(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let first = scene.deploy(vec![task("hello")], vec![]).await;
    let skipped = NewDeployment {
        promotion: Promotion::Skip,
        external_id: Some("commit-1".into()),
        ..bundle(vec![task("hello"), task("extra")], vec![])
    };
    let skipped = engine::deploy::deploy(&scene.store, scene.environment, skipped).await.unwrap();
    let current = async || deployments::current(&scene.store, scene.environment).await.unwrap().unwrap();
    assert_eq!(current().await.version, first.version);
    let waiting = scene.trigger(NewRun::of("extra", Packet::empty())).await;
    assert_eq!(scene.status(waiting).await, RunStatus::PendingVersion);
    engine::deploy::promote(&scene.store, scene.environment, skipped.version.clone()).await.unwrap();
    assert_eq!((current().await.version, current().await.tasks.len()), (skipped.version.clone(), 2));
    assert_eq!(scene.claim_one().await.lease.run, waiting);
    engine::deploy::promote(&scene.store, scene.environment, first.version.clone()).await.unwrap();
    assert_eq!(current().await.version, first.version);
    let unknown = engine::deploy::promote(&scene.store, scene.environment, "20200101.1".into()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    let page = Page { size: 1, start: Start::Newest };
    let listing = deployments::list(&scene.store, scene.environment, &deployments::Filter::default(), page).await.unwrap();
    assert_eq!((listing.items[0].id, listing.next), (skipped.id, Some(skipped.id)));
    assert_eq!(listing.items[0].external_id.as_deref(), Some("commit-1"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_rollback_goes_to_the_version_that_was_live_before_and_never_forward(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let rollback = async |from: Option<&str>| {
        let rolled = engine::deploy::rollback(&scene.store, scene.environment, from.map(str::to_owned)).await;
        rolled.map(|deployment| deployment.version)
    };
    assert!(matches!(rollback(None).await, Err(Error::NotFound { .. })));
    let first = scene.deploy(vec![task("hello")], vec![]).await.version;
    assert!(matches!(rollback(None).await, Err(Error::Conflict(_))), "there is nothing before the first");
    let second = scene.deploy(vec![task("hello")], vec![]).await.version;
    let skipped = NewDeployment { promotion: Promotion::Skip, ..bundle(vec![task("hello")], vec![]) };
    engine::deploy::deploy(&scene.store, scene.environment, skipped).await.unwrap();
    let third = scene.deploy(vec![task("hello")], vec![]).await.version;

    assert_eq!(rollback(Some(&third)).await.unwrap(), second, "what was never live is passed over");
    assert!(matches!(rollback(Some(&third)).await, Err(Error::Conflict(_))), "the same request again changes nothing");
    let is_current = async |version: &str| {
        deployments::by_version(&scene.store, scene.environment, version).await.unwrap().unwrap().is_current
    };
    assert!(is_current(&second).await);
    assert_eq!(rollback(None).await.unwrap(), first);
    assert!(matches!(rollback(None).await, Err(Error::Conflict(_))));
    engine::deploy::promote(&scene.store, scene.environment, third.clone()).await.unwrap();
    assert!(is_current(&third).await);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_promoted_version_has_the_limits_that_it_declares(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let limit = |limit| vec![QueueDefinition { name: "narrow".into(), concurrency_limit: limit }];
    let queued = || vec![TaskDefinition { queue: Some("narrow".into()), ..task("hello") }];
    let first = scene.deploy(queued(), limit(Some(1))).await;
    let skipped = NewDeployment { promotion: Promotion::Skip, ..bundle(queued(), limit(Some(2))) };
    let skipped = engine::deploy::deploy(&scene.store, scene.environment, skipped).await.unwrap();
    for _ in 0..3 {
        scene.trigger(hello()).await;
    }
    assert_eq!(scene.claim(5).await.len(), 1);
    engine::deploy::promote(&scene.store, scene.environment, skipped.version).await.unwrap();
    assert_eq!(scene.claim(5).await.len(), 1, "the second place is there at once");
    engine::deploy::rollback(&scene.store, scene.environment, None).await.unwrap();
    let queue = queues::get(&scene.store, scene.environment, &Which::Name("narrow".into())).await.unwrap().unwrap();
    assert_eq!((queue.declared_limit, queue.running), (Some(1), 2));
    assert_eq!(deployments::current(&scene.store, scene.environment).await.unwrap().unwrap().id, first.id);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_stays_on_the_version_it_began_on(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let old = scene.deploy(vec![task("hello")], vec![]).await;
    let lease = scene.executing().await;
    scene.suspend(&lease, 1, WaitRequest::Sleep { at: scene.now().await }).await.unwrap();
    scene.deploy(vec![task("other")], vec![]).await;
    let claimed = scene.claim_one().await;
    assert_eq!(claimed.context.version, old.version);
    scene.finish(&claimed.lease, failed(RetryDecision::Delay(0))).await.unwrap();
    assert_eq!(scene.claim_one().await.context.version, old.version, "retries stay too");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_bundle_that_breaks_a_rule_is_refused(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    for tasks in [vec![], vec![task("")], vec![task("a"), task("a")], vec![task(&"x".repeat(256))]] {
        let answer = engine::deploy::deploy(&scene.store, scene.environment, bundle(tasks, vec![])).await;
        assert!(matches!(answer, Err(Error::Invalid { .. })));
    }
    let many = (0..1001).map(|n| task(&n.to_string())).collect();
    let answer = engine::deploy::deploy(&scene.store, scene.environment, bundle(many, vec![])).await;
    assert!(matches!(answer, Err(Error::TooLarge { .. })));
    let answer = engine::deploy::deploy(&scene.store, EnvironmentId::new(), bundle(vec![task("a")], vec![])).await;
    assert!(matches!(answer, Err(Error::NotFound { .. })));
}
