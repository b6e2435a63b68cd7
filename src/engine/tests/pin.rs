//! Runs that are pinned to a deployment by its external id, and runs whose deployment came when nobody looked.

use super::*;
use crate::{
    engine::deploy::wake_stranded,
    store::queues::{self, Which},
};

fn pinned(name: &str) -> NewRun {
    NewRun { external_deployment: Some(name.into()), ..hello() }
}

fn named(name: &str, tasks: Vec<TaskDefinition>) -> NewDeployment {
    NewDeployment { external_id: Some(name.into()), promotion: Promotion::Skip, ..bundle(tasks, vec![]) }
}

impl Scene {
    async fn deploy_named(&self, name: &str, tasks: Vec<TaskDefinition>) -> Deployment {
        engine::deploy::deploy(&self.store, self.environment, named(name, tasks)).await.unwrap()
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_pinned_run_takes_the_newest_deployment_of_the_name_promoted_or_not(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.deploy_named("abc", vec![task("hello")]).await;
    let newest = scene.deploy_named("abc", vec![task("hello")]).await;
    scene.deploy_named("other", vec![task("hello")]).await;
    let run = scene.trigger(pinned("abc")).await;
    let claimed = scene.claim_one().await;
    assert_eq!((claimed.lease.run, claimed.context.version), (run, newest.version));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_pinned_run_waits_for_its_deployment_and_no_other(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = scene.trigger(pinned("abc")).await;
    let delayed = scene.trigger(NewRun { delay_until: Some(scene.now().await + secs(600)), ..pinned("abc") }).await;
    let other_task = scene.trigger(NewRun { task: "extra".into(), ..pinned("abc") }).await;
    assert_eq!(scene.status(run).await, RunStatus::PendingVersion, "though the current deployment has the task");
    scene.deploy(vec![task("hello")], vec![]).await;
    scene.deploy_named("abcd", vec![task("hello")]).await;
    assert!(scene.claim(5).await.is_empty());

    let queued = TaskDefinition { queue: Some("narrow".into()), ttl_ms: Some(60_000), ..task("hello") };
    let came = scene.deploy_named("abc", vec![queued]).await;
    let claimed = scene.claim_one().await;
    assert_eq!((claimed.lease.run, &claimed.context.version), (run, &came.version));
    assert_eq!(claimed.context.queue_name, "narrow", "the queue that the task names there");
    assert_eq!(scene.story(run).await, ["triggered", "deployed", "claimed"]);
    assert_eq!(scene.status(other_task).await, RunStatus::PendingVersion, "the deployment does not have its task");
    // The one that was delayed is bound to it, whatever is current when its time comes.
    assert_eq!(scene.status(delayed).await, RunStatus::Delayed);
    scene.advance(secs(601)).await;
    scene.fire().await;
    let claimed = scene.claim_one().await;
    assert_eq!((claimed.lease.run, claimed.context.version), (delayed, came.version));
    assert!(queues::get(&scene.store, scene.environment, &Which::Name("narrow".into())).await.unwrap().is_some());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_deployment_that_does_not_come_within_an_hour_lets_its_runs_expire(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = scene.trigger(pinned("abc")).await;
    let delayed = scene.trigger(NewRun { delay_until: Some(scene.now().await + secs(1800)), ..pinned("abc") }).await;
    let unpinned = scene.trigger(NewRun::of("nowhere", Packet::empty())).await;
    scene.advance(secs(1801)).await;
    scene.fire().await;
    assert_eq!((scene.status(run).await, scene.status(delayed).await), (RunStatus::PendingVersion, RunStatus::PendingVersion));
    scene.advance(secs(1801)).await;
    scene.fire().await;
    assert_eq!((scene.status(run).await, scene.status(delayed).await), (RunStatus::Expired, RunStatus::PendingVersion));
    assert_eq!(scene.story(run).await, ["triggered", "finished"]);
    scene.deploy_named("abc", vec![task("hello")]).await;
    assert_eq!(scene.claim_one().await.lease.run, delayed, "its hour began when its delay was over");
    scene.advance(secs(100_000)).await;
    scene.fire().await;
    assert_eq!(scene.status(unpinned).await, RunStatus::PendingVersion, "a run for any deployment waits for ever");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_a_run_cannot_be_pinned_to_is_refused(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.deploy_named("abc", vec![task("other")]).await;
    let long = "x".repeat(129);
    for new in
        [pinned("abc"), pinned(""), pinned("a\0b"), pinned(&long), NewRun { version: Some("20260101.1".into()), ..pinned("abc") }]
    {
        let refused = engine::trigger::trigger(&scene.store, scene.environment, new).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "externalDeploymentId", .. })), "{refused:?}");
    }
    let elsewhere = environment(&scene.store, "proj_other").await;
    engine::trigger::trigger(&scene.store, elsewhere, pinned("abc")).await.unwrap();
    assert_eq!(scene.count("select count(*) from runs where status = 'PENDING_VERSION'").await, 1, "names are an environment's");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_missed_its_deployment_is_found(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let named = scene.deploy_named("abc", vec![task("hello")]).await;
    // As when the deployments were committed while the triggers had looked already.
    let mut stranded = Vec::new();
    for new in [hello(), pinned("abc"), pinned("abc")] {
        stranded.push(scene.trigger(new).await);
    }
    let undeployed = scene.trigger(NewRun::of("nowhere", Packet::empty())).await;
    let waiting = scene.trigger(pinned("to come")).await;
    sqlx::query("update runs set status = 'PENDING_VERSION', deployment_id = null, due_at = null where status = 'QUEUED'")
        .execute(&scene.pool)
        .await
        .unwrap();
    assert!(scene.claim(5).await.is_empty());
    assert_eq!(wake_stranded(&scene.store, 10).await.unwrap(), 2);
    assert_eq!(wake_stranded(&scene.store, 10).await.unwrap(), 0);
    let claimed = scene.claim(5).await;
    let mut runs: Vec<RunId> = claimed.iter().map(|claimed| claimed.lease.run).collect();
    runs.sort();
    assert_eq!(runs, stranded);
    assert_eq!(claimed.iter().filter(|claimed| claimed.context.version == named.version).count(), 2);
    for run in [undeployed, waiting] {
        assert_eq!(scene.status(run).await, RunStatus::PendingVersion);
    }
}
