//! Replays.

use super::*;
use crate::{
    engine::replay::{Changes, replay},
    model::{
        machine::Machine,
        metadata::Operation,
        trigger::{RunIdempotency, Triggered},
    },
};

fn as_it_was() -> Changes {
    Changes { payload: None, metadata: None, tags: None, others: hello() }
}

async fn again(scene: &Scene, run: RunId, changes: Changes) -> Result<Triggered, Error> {
    replay(&scene.store, scene.environment, run, changes).await
}

fn object(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    value.as_object().unwrap().clone()
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_replay_is_made_as_the_run_was_on_the_version_that_is_current(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let new = NewRun {
        tags: vec!["a".into()],
        metadata: object(json!({"step": 0})),
        queue: Some("narrow".into()),
        concurrency_key: Some("tenant".into()),
        machine: Some(Machine::Micro),
        is_test: true,
        max_attempts: Some(1),
        idempotency: Some(RunIdempotency { key: "once".into(), ..RunIdempotency::default() }),
        ..hello()
    };
    let first = scene.trigger(new).await;
    let lease = scene.claim_one().await.lease;
    let done =
        engine::metadata::Update { own: vec![Operation::Set { key: "step".into(), value: json!(9) }], ..Default::default() };
    engine::metadata::update(&scene.store, scene.environment, first, done).await.unwrap();
    scene.finish(&lease, failed(RetryDecision::Abort)).await.unwrap();
    let newer = scene.deploy(vec![task("hello")], vec![]).await;

    let again = again(&scene, first, as_it_was()).await.unwrap();
    assert!(!again.is_cached && again.id != first);
    let claimed = scene.claim_one().await;
    assert_eq!((claimed.lease.run, claimed.payload), (again.id, Packet::json(&json!({"name": "Ada"}))));
    let context = claimed.context;
    assert!(context.is_replay && context.is_test && context.parent.is_none());
    assert_eq!((context.version, context.queue_name.as_str()), (newer.version, "narrow"));
    assert_eq!((context.concurrency_key.as_deref(), context.machine, context.max_attempts), (Some("tenant"), Machine::Micro, 3));
    let run = scene.run(again.id).await;
    assert_eq!((run.metadata, run.tags, run.idempotency_key), (object(json!({"step": 0})), vec!["a".to_owned()], None));
    assert_eq!(scene.run(first).await.metadata, object(json!({"step": 9})), "the first is left alone");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_a_replay_says_is_otherwise_and_the_same_request_makes_one(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let first = scene.trigger(NewRun { tags: vec!["a".into()], ..hello() }).await;
    let changes = || Changes {
        payload: Some(Packet::json(&json!(2))),
        metadata: Some(object(json!({"m": 1}))),
        tags: Some(vec!["b".into()]),
        others: NewRun {
            queue: Some("other".into()),
            concurrency_key: Some("k".into()),
            machine: Some(Machine::Micro),
            delay_until: None,
            priority_ms: 60_000,
            max_attempts: Some(9),
            request_key: Some("request".into()),
            ..NewRun::of("not looked at", Packet::empty())
        },
    };
    let lane = || NewRun { queue: Some("other".into()), concurrency_key: Some("k".into()), ..hello() };
    scene.trigger(lane()).await;
    let replayed = again(&scene, first, changes()).await.unwrap();
    engine::cancel::cancel(&scene.store, scene.environment, first).await.unwrap();
    assert_eq!(again(&scene, first, changes()).await.unwrap().id, replayed.id);
    let claimed = scene.claim(1).await.remove(0);
    assert_eq!((claimed.lease.run, claimed.task.as_str()), (replayed.id, "hello"), "it has jumped the line");
    assert_eq!((claimed.payload, claimed.machine), (Packet::json(&json!(2)), Machine::Micro));
    let context = claimed.context;
    assert_eq!((context.queue_name.as_str(), context.concurrency_key.as_deref(), context.max_attempts), ("other", Some("k"), 9));
    let run = scene.run(replayed.id).await;
    assert_eq!((run.metadata, run.tags), (object(json!({"m": 1})), vec!["b".to_owned()]));
    let third = again(&scene, replayed.id, as_it_was()).await.unwrap();
    assert_eq!(scene.run(third.id).await.tags, ["b"], "a replay can be replayed");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn only_a_run_of_the_environment_is_repeated_and_only_within_limits(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = scene.trigger(hello()).await;
    let other = environment(&scene.store, "proj_other").await;
    let stolen = replay(&scene.store, other, run, as_it_was()).await;
    assert!(matches!(stolen, Err(Error::NotFound { .. })));
    assert!(matches!(again(&scene, RunId::new(), as_it_was()).await, Err(Error::NotFound { .. })));
    let tags = (0..11).map(|n| n.to_string()).collect();
    let refused = again(&scene, run, Changes { tags: Some(tags), ..as_it_was() }).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "tags", .. })));
    let unknown = NewRun { version: Some("20200101.1".into()), ..hello() };
    let refused = again(&scene, run, Changes { others: unknown, ..as_it_was() }).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "lockToVersion", .. })));
    assert_eq!(scene.count("select count(*) from runs").await, 1);
}
