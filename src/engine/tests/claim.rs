//! Claims.

use super::*;
use crate::model::{environment::NewVariable, machine::Machine, trigger::RunIdempotency};

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_are_claimed_in_the_order_of_the_line(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let first = scene.trigger(hello()).await;
    let second = scene.trigger(hello()).await;
    let urgent = scene.trigger(NewRun { priority_ms: 60_000, ..hello() }).await;
    let claimed: Vec<RunId> = scene.claim(10).await.iter().map(|claimed| claimed.lease.run).collect();
    assert_eq!(claimed, [urgent, first, second]);
    assert!(scene.claim(10).await.is_empty());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_claim_brings_all_that_a_worker_needs(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let definition = TaskDefinition { machine: Some(Machine::Micro), max_duration_ms: Some(1000), ..task("hello") };
    let deployment = scene.deploy(vec![definition], vec![]).await;
    let variable = NewVariable { name: "WHO".into(), value: "Ada".into(), is_secret: Some(true) };
    engine::variables::set(&scene.store, scene.environment, variable).await.unwrap();
    let id = scene
        .trigger(NewRun {
            tags: vec!["t".into()],
            idempotency: Some(RunIdempotency { key: "hash".into(), shown: Some("order-1".into()), ..RunIdempotency::default() }),
            ..hello()
        })
        .await;
    let claimed = scene.claim_one().await;
    assert_eq!(claimed.lease, Lease { run: id, worker: scene.worker, epoch: 1, attempt: 1 });
    assert_eq!((claimed.component.as_str(), claimed.task.as_str()), ("c0ffee", "hello"));
    assert_eq!(claimed.payload, Packet::json(&json!({"name": "Ada"})));
    assert_eq!(claimed.machine, Machine::Micro);
    assert_eq!(claimed.max_duration_ms, Some(5000), "a limit below five seconds is raised");
    assert_eq!(claimed.variables, [("WHO".to_owned(), "Ada".to_owned())]);
    assert_eq!((claimed.used_cpu_ms, claimed.resume.is_none()), (0, true));
    let context = claimed.context;
    assert_eq!((context.run, context.root, context.parent, context.depth), (id, id, None, 0));
    assert_eq!((context.version, context.deployment), (deployment.version, deployment.id));
    assert_eq!((context.queue_name.as_str(), context.max_attempts), ("task/hello", 3));
    assert_eq!(context.idempotency_key.as_deref(), Some("order-1"));
    assert_eq!((context.project_ref.as_str(), context.environment_kind.slug()), ("proj_tests", "dev"));
    let run = scene.run(id).await;
    assert_eq!((run.status, run.version), (RunStatus::Executing, Some(context_version(&scene).await)));
    assert!(run.started_at.is_some());
}

async fn context_version(scene: &Scene) -> String {
    crate::store::deployments::current(&scene.store, scene.environment).await.unwrap().unwrap().version
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn workers_that_claim_at_the_same_time_never_get_the_same_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for _ in 0..30 {
        scene.trigger(hello()).await;
    }
    let claims = (0..6).map(|_| engine::claim::claim(&scene.store, terms(WorkerId::new(), 10, LEASE)));
    let claimed = futures_util::future::join_all(claims).await;
    let mut runs: Vec<RunId> =
        claimed.into_iter().flat_map(|claim| claim.unwrap().runs).map(|claimed| claimed.lease.run).collect();
    let count = runs.len();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), count);
    // Claims that meet pass over each other's rows; what they left is there for the next one.
    assert_eq!(count + scene.claim(50).await.len(), 30);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_claim_passes_over_runs_that_another_transaction_holds(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let held = scene.trigger(hello()).await;
    let free = scene.trigger(hello()).await;
    let mut other = scene.pool.begin().await.unwrap();
    sqlx::query("select id from runs where id = $1 for update").bind(held.uuid()).execute(&mut *other).await.unwrap();
    assert_eq!(scene.claim_one().await.lease.run, free);
    other.rollback().await.unwrap();
    assert_eq!(scene.claim_one().await.lease.run, held);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_whose_task_is_no_longer_deployed_waits_for_its_return(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.trigger(hello()).await;
    scene.deploy(vec![task("other")], vec![]).await;
    assert!(scene.claim(10).await.is_empty());
    assert_eq!(scene.status(id).await, RunStatus::PendingVersion);
    scene.deploy(vec![task("hello")], vec![]).await;
    assert_eq!(scene.claim_one().await.lease.run, id);
    assert_eq!(scene.story(id).await, ["triggered", "undeployed", "deployed", "claimed"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_this_version_does_not_understand_holds_up_no_other(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (strange, other) = (scene.trigger(hello()).await, scene.trigger(hello()).await);
    sqlx::query("update runs set machine = 'of-tomorrow' where id = $1").bind(strange.uuid()).execute(&scene.pool).await.unwrap();
    let claimed = scene.claim(1).await;
    assert_eq!(claimed.iter().map(|claimed| claimed.lease.run).collect::<Vec<_>>(), [other]);
    sqlx::query("update runs set machine = null where id = $1").bind(strange.uuid()).execute(&scene.pool).await.unwrap();
    assert_eq!(scene.claim_one().await.lease.run, strange);
}
