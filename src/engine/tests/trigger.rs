//! Triggers.

use super::*;
use crate::model::{
    payload::MAX_PAYLOAD_BYTES,
    trigger::{RunIdempotency, Triggered},
};

async fn trigger(scene: &Scene, new: NewRun) -> Result<Triggered, Error> {
    engine::trigger::trigger(&scene.store, scene.environment, new).await
}

fn keyed(key: &str, ttl_ms: Option<u64>) -> NewRun {
    let idempotency = RunIdempotency { key: key.into(), ttl_ms, ..RunIdempotency::default() };
    NewRun { idempotency: Some(idempotency), ..hello() }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_triggered_run_is_in_line_with_what_it_was_triggered_with(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let metadata = json!({"z": 1, "a": {"b": 1.50}}).as_object().unwrap().clone();
    let new = NewRun {
        tags: vec!["a".into(), "b".into(), "a".into()],
        metadata: metadata.clone(),
        concurrency_key: Some("tenant".into()),
        ..hello()
    };
    let run = scene.run(scene.trigger(new).await).await;
    assert_eq!((run.status, run.queue.as_str(), run.root), (RunStatus::Queued, "task/hello", run.id));
    assert_eq!((run.tags, run.concurrency_key.as_deref()), (vec!["a".to_owned(), "b".to_owned()], Some("tenant")));
    assert_eq!(serde_json::to_string(&run.metadata).unwrap(), serde_json::to_string(&metadata).unwrap());
    assert_eq!(scene.story(run.id).await, ["triggered"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_idempotency_key_gets_the_same_run_until_its_time_is_over(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let first = trigger(&scene, keyed("k", Some(60_000))).await.unwrap();
    assert!(!first.is_cached);
    assert_eq!(trigger(&scene, keyed("k", None)).await.unwrap(), Triggered { id: first.id, is_cached: true });
    assert_ne!(trigger(&scene, keyed("other", None)).await.unwrap().id, first.id);
    scene.advance(secs(61)).await;
    let later = trigger(&scene, keyed("k", None)).await.unwrap();
    assert!(!later.is_cached && later.id != first.id);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_failed_run_frees_its_key_and_a_completed_one_keeps_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let failing = trigger(&scene, keyed("fails", None)).await.unwrap().id;
    let lease = scene.claim_one().await.lease;
    scene.finish(&lease, failed(RetryDecision::Abort)).await.unwrap();
    assert_ne!(trigger(&scene, keyed("fails", None)).await.unwrap().id, failing);
    let lease = scene.claim_one().await.lease;
    scene.finish(&lease, completed()).await.unwrap();
    assert!(trigger(&scene, keyed("fails", None)).await.unwrap().is_cached);
    assert_eq!(scene.run(failing).await.idempotency_key.as_deref(), Some("fails"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_key_that_was_reset_makes_a_new_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let first = trigger(&scene, keyed("k", None)).await.unwrap().id;
    let reset = || engine::trigger::reset_key(&scene.store, scene.environment, "hello".into(), "k".into());
    reset().await.unwrap();
    assert!(matches!(reset().await, Err(Error::NotFound { .. })));
    assert_ne!(trigger(&scene, keyed("k", None)).await.unwrap().id, first);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn triggers_with_one_key_at_the_same_time_make_one_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let made = futures_util::future::join_all((0..8).map(|_| trigger(&scene, keyed("k", None)))).await;
    let made: Vec<Triggered> = made.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|made| !made.is_cached).count(), 1);
    assert!(made.iter().all(|other| other.id == made[0].id));
    assert_eq!(scene.count("select count(*) from runs").await, 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_request_makes_one_run_for_a_day(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let request = || NewRun { request_key: Some("r".into()), ..hello() };
    let made = futures_util::future::join_all((0..4).map(|_| trigger(&scene, request()))).await;
    let first = made[0].as_ref().unwrap().id;
    assert!(made.into_iter().all(|made| made.unwrap() == Triggered { id: first, is_cached: false }));
    scene.advance(secs(24 * 3600 + 1)).await;
    assert_ne!(trigger(&scene, request()).await.unwrap().id, first);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_request_repeated_with_a_known_key_gets_the_known_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let known = trigger(&scene, keyed("k", None)).await.unwrap().id;
    let request = || NewRun { request_key: Some("r".into()), ..keyed("k", None) };
    assert_eq!(trigger(&scene, request()).await.unwrap().id, known);
    assert_eq!(trigger(&scene, request()).await.unwrap().id, known);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_of_an_unknown_task_waits_for_the_deployment_that_brings_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.trigger(NewRun::of("later", Packet::empty())).await;
    assert_eq!(scene.status(id).await, RunStatus::PendingVersion);
    assert!(scene.claim(1).await.is_empty());
    let brought = TaskDefinition { queue: Some("shared".into()), ttl_ms: Some(5000), ..task("later") };
    scene.deploy(vec![task("hello"), brought], vec![]).await;
    let run = scene.run(id).await;
    assert_eq!((run.status, run.queue.as_str()), (RunStatus::Queued, "shared"));
    assert_eq!(scene.story(id).await, ["triggered", "deployed"]);
    scene.advance(secs(6)).await;
    assert_eq!(scene.fire().await, 1);
    assert_eq!(scene.status(id).await, RunStatus::Expired);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_delay_holds_a_run_back_until_its_time(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let until = scene.now().await + secs(60);
    let id = scene.trigger(NewRun { delay_until: Some(until), ..hello() }).await;
    let never = scene.trigger(NewRun { delay_until: Some(until), ..NewRun::of("later", Packet::empty()) }).await;
    assert_eq!(scene.status(id).await, RunStatus::Delayed);
    assert_eq!(scene.fire().await, 0);
    scene.advance(secs(61)).await;
    assert_eq!(scene.fire().await, 2);
    assert_eq!(scene.claim_one().await.lease.run, id);
    assert_eq!(scene.status(never).await, RunStatus::PendingVersion);
    assert_eq!(scene.story(id).await, ["triggered", "delay-over", "claimed"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_delay_that_has_passed_is_none(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let past = scene.now().await - secs(60);
    let id = scene.trigger(NewRun { delay_until: Some(past), ..hello() }).await;
    assert_eq!(scene.status(id).await, RunStatus::Queued);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_is_not_begun_in_time_expires_unless_it_opted_out(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    scene.deploy(vec![TaskDefinition { ttl_ms: Some(10_000), ..task("hello") }], vec![]).await;
    let expires = scene.trigger(hello()).await;
    let sooner = scene.trigger(NewRun { ttl_ms: Some(1000), ..hello() }).await;
    let never = scene.trigger(NewRun { ttl_ms: Some(0), ..hello() }).await;
    scene.advance(secs(2)).await;
    assert_eq!(scene.fire().await, 1);
    assert_eq!(scene.status(sooner).await, RunStatus::Expired);
    scene.advance(secs(10)).await;
    // Not even a claim that comes before the sweep takes what has expired.
    assert_eq!(scene.claim_one().await.lease.run, never);
    scene.fire().await;
    assert_eq!(scene.status(expires).await, RunStatus::Expired);
    assert!(scene.run(expires).await.finished_at.is_some());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn in_development_a_run_that_is_not_begun_within_ten_minutes_expires_unless_something_else_was_said(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let of_task = TaskDefinition { ttl_ms: Some(3_600_000), ..task("patient") };
    let forever = TaskDefinition { ttl_ms: Some(0), ..task("forever") };
    let plain = scene.trigger(hello()).await;
    let until = scene.now().await + secs(60);
    let delayed = scene.trigger(NewRun { delay_until: Some(until), ..hello() }).await;
    scene.deploy(vec![task("hello"), of_task, forever], vec![]).await;
    let made = scene.trigger(hello()).await;
    let said = scene.trigger(NewRun { ttl_ms: Some(0), ..hello() }).await;
    let of = |task: &str| NewRun::of(task, Packet::empty());
    let (patient, forever) = (scene.trigger(of("patient")).await, scene.trigger(of("forever")).await);
    sqlx::query("update environments set kind = 'prod'").execute(&scene.pool).await.unwrap();
    let deployed = scene.trigger(hello()).await;
    sqlx::query("update environments set kind = 'dev'").execute(&scene.pool).await.unwrap();

    scene.advance(secs(599)).await;
    scene.fire().await;
    for run in [plain, delayed, made] {
        assert_eq!(scene.status(run).await, RunStatus::Queued, "in line for less than that");
    }
    scene.advance(secs(2)).await;
    scene.fire().await;
    assert_eq!((scene.status(plain).await, scene.status(made).await), (RunStatus::Expired, RunStatus::Expired));
    assert_eq!(scene.status(delayed).await, RunStatus::Queued, "counted from the end of its delay");
    scene.advance(secs(600)).await;
    scene.fire().await;
    assert_eq!(scene.status(delayed).await, RunStatus::Expired);
    for run in [said, patient, forever, deployed] {
        assert_eq!(scene.status(run).await, RunStatus::Queued);
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_child_knows_its_parent_and_the_root_of_its_tree(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let root = scene.trigger(NewRun { is_test: true, ..hello() }).await;
    let child = scene.trigger(NewRun { parent: Some(root), ..hello() }).await;
    let grandchild = scene.trigger(NewRun { parent: Some(child), ..hello() }).await;
    let run = scene.run(grandchild).await;
    assert_eq!((run.parent, run.root, run.depth, run.is_test), (Some(child), root, 2, true));
    let detail = runs::detail(&scene.store, scene.environment, child).await.unwrap().unwrap();
    assert_eq!(detail.parent.map(|run| run.id), Some(root));
    assert_eq!(detail.children.iter().map(|run| run.id).collect::<Vec<_>>(), [grandchild]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_breaks_a_rule_is_refused(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let tags = |tags: Vec<String>| NewRun { tags, ..hello() };
    let invalid = [
        tags((0..11).map(|n| n.to_string()).collect()),
        tags(vec![String::new()]),
        tags(vec!["x".repeat(129)]),
        NewRun::of("", Packet::empty()),
        NewRun::of("nul\0", Packet::empty()),
        NewRun { parent: Some(RunId::new()), ..hello() },
        NewRun { version: Some("20200101.1".into()), ..hello() },
        NewRun { max_attempts: Some(251), ..hello() },
        NewRun { queue: Some("???".into()), ..hello() },
        keyed("", None),
        keyed(&"x".repeat(2049), None),
    ];
    for new in invalid {
        let answer = trigger(&scene, new.clone()).await;
        assert!(matches!(answer, Err(Error::Invalid { .. })), "{new:?}: {answer:?}");
    }
    let large = Packet { data: vec![b' '; MAX_PAYLOAD_BYTES + 1], content_type: "application/json".into() };
    assert!(matches!(trigger(&scene, NewRun::of("hello", large)).await, Err(Error::TooLarge { .. })));
    let metadata = json!({"x": "y".repeat(256 * 1024)}).as_object().unwrap().clone();
    assert!(matches!(trigger(&scene, NewRun { metadata, ..hello() }).await, Err(Error::TooLarge { .. })));
    let nowhere = engine::trigger::trigger(&scene.store, EnvironmentId::new(), hello()).await;
    assert!(matches!(nowhere, Err(Error::NotFound { .. })));
    assert_eq!(scene.count("select count(*) from runs").await, 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_names_a_version_runs_on_it(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let old = scene.deploy(vec![task("hello")], vec![]).await;
    let new = scene.deploy(vec![task("hello")], vec![]).await;
    scene.trigger(NewRun { version: Some(old.version.clone()), ..hello() }).await;
    assert_eq!(scene.claim_one().await.context.version, old.version);
    scene.trigger(hello()).await;
    assert_eq!(scene.claim_one().await.context.version, new.version);
}
