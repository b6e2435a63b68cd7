//! Deployments, projects and keys.

use super::*;
use crate::store::{Page, Start, deployments, environments};

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
    let listing = deployments::list(&scene.store, scene.environment, page).await.unwrap();
    assert_eq!((listing.items[0].id, listing.next), (skipped.id, Some(skipped.id)));
    assert_eq!(listing.items[0].external_id.as_deref(), Some("commit-1"));
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

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_key_opens_its_environment_and_no_other_until_it_expires(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let by_secret = async |secret: &str| environments::by_secret(&scene.store, secret).await.unwrap();
    let found = by_secret("tr_dev_proj_tests").await.unwrap();
    assert_eq!((found.id, found.project_ref.as_str()), (scene.environment, "proj_tests"));
    assert_eq!(environment(&scene.store, "proj_tests").await, scene.environment, "made once");
    assert!(by_secret("tr_dev_wrong").await.is_none());
    let key = |secret: &str, kind| NewApiKey {
        name: "ci".into(),
        secret: SecretString::from(secret.to_owned()),
        kind,
        expires_at: None,
    };
    let expiring = NewApiKey { expires_at: Some(scene.now().await + secs(60)), ..key("tr_dev_sk_1", ApiKeyKind::Additional) };
    project::add_key(&scene.store, scene.environment, expiring).await.unwrap();
    assert_eq!(by_secret("tr_dev_sk_1").await.map(|environment| environment.id), Some(scene.environment));
    let raw = scene.count("select count(*) from api_keys where root_secret is not null").await;
    assert_eq!(raw, 1, "only the root key is kept as it is");
    scene.advance(secs(61)).await;
    assert!(by_secret("tr_dev_sk_1").await.is_none());
    let other = environment(&scene.store, "proj_other").await;
    let stolen = project::add_key(&scene.store, other, key("tr_dev_proj_tests", ApiKeyKind::Additional)).await;
    assert!(matches!(stolen, Err(Error::Conflict(_))));
}
