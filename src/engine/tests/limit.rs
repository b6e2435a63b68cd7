//! Concurrency limits that tasks share, and their own.

use super::*;
use crate::{
    engine::limit::{Change, change, except},
    model::{limit::KeyLimit, task::LimitDefinition},
    store::limits,
};

fn limit(name: &str, total: Option<u32>, per_key: Option<u32>) -> LimitDefinition {
    LimitDefinition { name: name.into(), total, per_key }
}

fn with_limits(id: &str, names: &[&str]) -> TaskDefinition {
    TaskDefinition { concurrency_limits: names.iter().map(ToString::to_string).collect(), ..task(id) }
}

impl Scene {
    async fn limited(pool: PgPool, tasks: Vec<TaskDefinition>, limits: Vec<LimitDefinition>) -> Scene {
        let scene = Scene::empty(pool).await;
        scene.deploy_limited(tasks, limits).await;
        scene
    }

    async fn deploy_limited(&self, tasks: Vec<TaskDefinition>, concurrency_limits: Vec<LimitDefinition>) -> Deployment {
        let mut new = bundle(tasks, vec![]);
        new.definition.concurrency_limits = concurrency_limits;
        engine::deploy::deploy(&self.store, self.environment, new).await.unwrap()
    }

    async fn of(&self, task: &str, key: Option<&str>) -> RunId {
        self.trigger(NewRun { concurrency_key: key.map(Into::into), ..NewRun::of(task, Packet::empty()) }).await
    }

    async fn tasks_claimed(&self) -> Vec<String> {
        let mut tasks: Vec<_> = self.claim(50).await.into_iter().map(|claimed| claimed.task).collect();
        tasks.sort();
        tasks
    }

    async fn change(&self, name: &str, to: Change) -> Result<crate::model::limit::Limit, Error> {
        change(&self.store, self.environment, name.into(), to).await
    }

    async fn except(&self, name: &str, key: &str, exception: Option<(u32, Option<Duration>)>) -> Result<KeyLimit, Error> {
        except(&self.store, self.environment, name.into(), key.into(), exception).await
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn tasks_share_the_places_of_a_limit_and_need_one_in_each_that_they_name(pool: PgPool) {
    let tasks = vec![with_limits("a", &["gpu"]), with_limits("b", &["gpu", "db", "task/b"]), task("free")];
    let limits = vec![limit("gpu", Some(3), None), limit("db", Some(5), None), limit("task/b", Some(1), None)];
    let scene = Scene::limited(pool, tasks, limits).await;
    for _ in 0..4 {
        scene.of("a", None).await;
        scene.of("b", None).await;
        scene.of("free", None).await;
    }
    let first = scene.claim(50).await;
    let count = |task: &str| first.iter().filter(|claimed| claimed.task == task).count();
    assert_eq!((count("a"), count("b"), count("free")), (2, 1, 4));
    assert!(scene.claim(50).await.is_empty());
    let gpu = limits::find(&mut scene.store.read().await.unwrap(), scene.environment, "gpu").await.unwrap().unwrap();
    assert_eq!((gpu.running, gpu.queued, gpu.total.current(), gpu.per_key.current()), (3, 5, Some(3), None));
    let of = |task: &str| first.iter().find(|claimed| claimed.task == task).unwrap().lease;
    scene.finish(&of("a"), completed()).await.unwrap();
    assert_eq!(scene.tasks_claimed().await, ["a"], "b has no place of its own");
    let at = scene.now().await + secs(600);
    scene.suspend(&of("b"), 1, WaitRequest::Sleep { at }).await.unwrap();
    assert_eq!(scene.claim(50).await.len(), 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_limit_holds_for_each_key_apart_and_runs_without_one_count_together(pool: PgPool) {
    let scene = Scene::limited(pool, vec![with_limits("a", &["gpu"])], vec![limit("gpu", Some(6), Some(2))]).await;
    for key in [None, Some("x"), Some("y")] {
        for _ in 0..3 {
            scene.of("a", key).await;
        }
    }
    let claimed = scene.claim(50).await;
    let count = |key: Option<&str>| claimed.iter().filter(|claimed| claimed.context.concurrency_key.as_deref() == key).count();
    assert_eq!((count(None), count(Some("x")), count(Some("y"))), (2, 2, 2));
    for claimed in &claimed {
        scene.finish(&claimed.lease, completed()).await.unwrap();
    }
    let shut = scene.except("gpu", "x", Some((0, Some(secs(60))))).await.unwrap();
    assert_eq!((shut.exception.map(|(bound, _)| bound), shut.limit.per_key.current(), shut.running), (Some(0), Some(2), 0));
    assert_eq!(scene.claim(50).await.len(), 2, "x has to wait");
    scene.advance(secs(61)).await;
    assert_eq!(scene.claim(50).await.len(), 1, "the exception is over");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_trigger_names_other_limits_than_its_task_and_none_that_nobody_declares(pool: PgPool) {
    let tasks = vec![with_limits("a", &["gpu", "task/a"])];
    let limits = vec![limit("gpu", Some(0), None), limit("db", Some(1), None), limit("task/a", Some(2), None)];
    let scene = Scene::limited(pool, tasks, limits).await;
    let named = |names: &[&str]| {
        let names = names.iter().map(ToString::to_string).collect();
        NewRun { concurrency_limits: Some(names), ..NewRun::of("a", Packet::empty()) }
    };
    scene.of("a", None).await;
    assert!(scene.claim(50).await.is_empty());
    for names in [&["db"][..], &["db"], &[], &[]] {
        scene.trigger(named(names)).await;
    }
    assert_eq!(scene.claim(50).await.len(), 2, "one with a place in db and one without, which are all of its own two places");
    for (names, field) in [(&["dbb"][..], "concurrency"), (&["gpu", "db", "x"], "concurrency"), (&[""], "concurrency")] {
        let refused = engine::trigger::trigger(&scene.store, scene.environment, named(names)).await;
        assert!(matches!(&refused, Err(Error::Invalid { field: at, .. }) if *at == field), "{names:?}: {refused:?}");
    }
    let replay = scene.trigger(named(&["db"])).await;
    let others = NewRun::of("not looked at", Packet::empty());
    let as_it_was = engine::replay::Changes { payload: None, metadata: None, tags: None, others };
    let again = engine::replay::replay(&scene.store, scene.environment, replay, as_it_was).await.unwrap();
    let names: Option<Vec<String>> = sqlx::query_scalar("select limit_names from runs where id = $1")
        .bind(again.id.uuid())
        .fetch_one(&scene.pool)
        .await
        .unwrap();
    assert_eq!(names, Some(vec!["db".to_owned()]));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_was_triggered_before_its_task_was_deployed_gets_the_tasks_limits(pool: PgPool) {
    let scene = Scene::limited(pool, vec![task("hello")], vec![]).await;
    for _ in 0..3 {
        scene.of("late", None).await;
    }
    scene.deploy_limited(vec![with_limits("late", &["gpu"])], vec![limit("gpu", Some(2), None)]).await;
    assert_eq!(scene.claim(50).await.len(), 2);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_version_that_is_not_current_brings_its_limits_for_those_who_name_it_and_changes_none(pool: PgPool) {
    let scene = Scene::limited(pool, vec![with_limits("a", &["gpu"])], vec![limit("gpu", Some(3), None)]).await;
    let mut new = bundle(vec![with_limits("a", &["gpu", "db"])], vec![]);
    new.definition.concurrency_limits = vec![limit("gpu", Some(9), None), limit("db", Some(1), None)];
    new.promotion = Promotion::Skip;
    let skipped = engine::deploy::deploy(&scene.store, scene.environment, new).await.unwrap();
    for _ in 0..3 {
        scene.trigger(NewRun { version: Some(skipped.version.clone()), ..NewRun::of("a", Packet::empty()) }).await;
    }
    assert_eq!(scene.claim(50).await.len(), 1, "db has one place");
    for _ in 0..4 {
        scene.of("a", None).await;
    }
    assert_eq!(scene.claim(50).await.len(), 2, "gpu has three, as the current version says");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn limits_are_paused_overridden_and_reset_and_an_override_survives_deployments(pool: PgPool) {
    let (tasks, limits) = (|| vec![with_limits("a", &["gpu"])], |total| vec![limit("gpu", Some(total), None)]);
    let scene = Scene::limited(pool, tasks(), limits(1)).await;
    for _ in 0..6 {
        scene.of("a", None).await;
    }
    assert_eq!(scene.claim(50).await.len(), 1);
    let over = scene.change("gpu", Change::Override { total: Some(3), per_key: None }).await.unwrap();
    assert_eq!((over.total.current(), over.total.declared, over.total.set_at.is_some()), (Some(3), Some(1), true));
    assert_eq!(scene.claim(50).await.len(), 2);
    assert!(scene.change("gpu", Change::Pause).await.unwrap().is_paused);
    let first = scene.deploy_limited(tasks(), limits(2)).await;
    scene.change("gpu", Change::Override { total: Some(5), per_key: None }).await.unwrap();
    assert!(scene.claim(50).await.is_empty(), "it is paused");
    scene.change("gpu", Change::Resume).await.unwrap();
    assert_eq!(scene.claim(50).await.len(), 2);
    assert_eq!(scene.change("gpu", Change::Reset).await.unwrap().total.current(), Some(2));
    scene.deploy_limited(tasks(), limits(9)).await;
    assert_eq!(scene.change("gpu", Change::Reset).await.unwrap().total.current(), Some(9));
    engine::deploy::promote(&scene.store, scene.environment, first.version).await.unwrap();
    assert_eq!(scene.change("gpu", Change::Reset).await.unwrap().total.current(), Some(2), "a rollback brings its limits back");

    let wrong = scene.change("gpu", Change::Override { total: Some(100_001), per_key: None }).await;
    assert!(matches!(wrong, Err(Error::Invalid { field: "total", .. })));
    let nothing = scene.change("gpu", Change::Override { total: None, per_key: None }).await;
    assert!(matches!(nothing, Err(Error::Invalid { field: "total", .. })));
    assert!(matches!(scene.change("cpu", Change::Reset).await, Err(Error::NotFound { .. })));
    for (key, exception, field) in [
        ("", Some((1, None)), "concurrencyKey"),
        ("k", Some((100_001, None)), "perKey"),
        ("k", Some((1, Some(secs(31 * 24 * 3600)))), "ttl"),
    ] {
        let refused = scene.except("gpu", key, exception).await;
        assert!(matches!(&refused, Err(Error::Invalid { field: at, .. }) if *at == field), "{refused:?}");
    }
}
