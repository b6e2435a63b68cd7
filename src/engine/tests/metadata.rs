//! Metadata and tags.

use super::*;
use crate::{
    engine::{
        journal::Call,
        metadata::{Update, get, update, update_in_run},
    },
    model::metadata::Operation,
};

fn increment(key: &str) -> Vec<Operation> {
    vec![Operation::Increment { key: key.into(), value: 1.0 }]
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_update_is_one_step_and_returns_the_object(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = scene.trigger(hello()).await;
    let replace = json!({"z": 1, "a": 2}).as_object().cloned();
    let object =
        update(&scene.store, scene.environment, run, Update { replace, own: increment("z"), ..Update::default() }).await.unwrap();
    assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"z":2,"a":2}"#);
    assert_eq!(get(&scene.store, scene.environment, run).await.unwrap(), object);
    let bad =
        vec![Operation::Increment { key: "z".into(), value: 1.0 }, Operation::Set { key: "__proto__".into(), value: json!(1) }];
    let refused = update(&scene.store, scene.environment, run, Update { own: bad, ..Update::default() }).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
    assert_eq!(scene.run(run).await.metadata, object, "all or nothing");
    assert_eq!(scene.story(run).await, ["triggered", "changed"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn increments_of_children_that_run_at_the_same_time_are_not_lost(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let root = scene.trigger(hello()).await;
    let parent = scene.trigger(NewRun { parent: Some(root), ..hello() }).await;
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(scene.trigger(NewRun { parent: Some(parent), ..hello() }).await);
    }
    let updates = children.iter().flat_map(|child| {
        (0..5).map(|_| {
            let change =
                Update { own: increment("own"), parent: increment("done"), root: increment("done"), ..Update::default() };
            update(&scene.store, scene.environment, *child, change)
        })
    });
    futures_util::future::join_all(updates).await.into_iter().for_each(|answer| {
        assert!(answer.unwrap()["own"].is_i64());
    });
    for run in [root, parent] {
        assert_eq!(scene.run(run).await.metadata["done"], json!(20));
    }
    assert_eq!(scene.run(children[0]).await.metadata, json!({"own": 5}).as_object().unwrap().clone());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_increment_that_a_run_makes_again_after_a_crash_counts_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let call = |ordinal| Call { sequence: 0, ordinal };
    let count = || Update { own: increment("n"), root: increment("n"), ..Update::default() };
    let lease = scene.executing().await;
    for ordinal in [0, 1] {
        update_in_run(&scene.store, &lease, call(ordinal), count()).await.unwrap();
    }
    scene.advance(secs(31)).await;
    engine::lease::expire(&scene.store, 1).await.unwrap();
    let late = update_in_run(&scene.store, &lease, call(2), count()).await;
    assert!(matches!(late, Err(Error::LostLease)));

    let lease = scene.claim_one().await.lease;
    for ordinal in [0, 1, 2] {
        update_in_run(&scene.store, &lease, call(ordinal), count()).await.unwrap();
    }
    assert_eq!(scene.run(lease.run).await.metadata["n"], json!(6), "two calls before the crash, one new one after it");
    let other = Update { own: increment("m"), ..Update::default() };
    update_in_run(&scene.store, &lease, call(0), other).await.unwrap();
    assert_eq!(scene.run(lease.run).await.metadata["m"], json!(1), "another call at the same place acts anew");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_without_parent_or_root_is_its_own(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = scene.trigger(hello()).await;
    let change = Update { parent: increment("n"), root: increment("n"), ..Update::default() };
    let object = update(&scene.store, scene.environment, run, change).await.unwrap();
    assert_eq!(object["n"], json!(2));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn too_large_too_late_and_unknown_are_told_apart(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let set = |text: String| Update { own: vec![Operation::Set { key: "k".into(), value: json!(text) }], ..Update::default() };
    let large = update(&scene.store, scene.environment, lease.run, set("x".repeat(256 * 1024))).await;
    assert!(matches!(large, Err(Error::TooLarge { .. })));
    scene.finish(&lease, completed()).await.unwrap();
    let late = update(&scene.store, scene.environment, lease.run, set("x".into())).await;
    assert!(matches!(late, Err(Error::Conflict(_))));
    let unknown = update(&scene.store, scene.environment, RunId::new(), set("x".into())).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn tags_are_added_once_up_to_ten(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = scene.trigger(NewRun { tags: vec!["a".into()], ..hello() }).await;
    let add = |tags: &[&str]| {
        let tags = tags.iter().map(|tag| tag.to_string()).collect();
        engine::tags::add(&scene.store, scene.environment, run, tags)
    };
    assert_eq!(add(&["b", "a"]).await.unwrap(), ["a", "b"]);
    assert_eq!(add(&["b"]).await.unwrap(), ["a", "b"]);
    let more: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    assert!(matches!(add(&more).await, Err(Error::Invalid { .. })));
    assert_eq!(add(&more[1..]).await.unwrap().len(), 10);
    assert_eq!(scene.story(run).await, ["triggered", "changed", "changed"]);
}
