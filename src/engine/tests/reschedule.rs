//! Other times for delayed runs.

use super::*;
use crate::engine::reschedule::reschedule;

async fn delayed(scene: &Scene, by: u64) -> RunId {
    scene.trigger(NewRun { delay_until: Some(scene.now().await + secs(by)), ..hello() }).await
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_delayed_run_begins_at_its_new_time(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = delayed(&scene, 60).await;
    let later = scene.now().await + secs(600);
    reschedule(&scene.store, scene.environment, run, later).await.unwrap();
    assert_eq!(scene.run(run).await.delayed_until.map(|until| until.timestamp()), Some(later.timestamp()));
    scene.advance(secs(61)).await;
    assert_eq!((scene.fire().await, scene.status(run).await), (0, RunStatus::Delayed));
    let sooner = scene.now().await + secs(5);
    reschedule(&scene.store, scene.environment, run, sooner).await.unwrap();
    scene.advance(secs(6)).await;
    scene.fire().await;
    assert_eq!(scene.claim_one().await.lease.run, run);
    assert_eq!(scene.story(run).await, ["triggered", "rescheduled", "rescheduled", "delay-over", "claimed"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_time_that_has_passed_lets_it_begin_at_once_and_only_a_delayed_run_can_be_moved(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = delayed(&scene, 3600).await;
    let past = scene.now().await - secs(3600);
    let other = environment(&scene.store, "proj_other").await;
    assert!(matches!(reschedule(&scene.store, other, run, past).await, Err(Error::NotFound { .. })));
    reschedule(&scene.store, scene.environment, run, past).await.unwrap();
    assert_eq!(scene.fire().await, 1);
    assert_eq!(scene.status(run).await, RunStatus::Queued);
    for _ in 0..2 {
        let refused = reschedule(&scene.store, scene.environment, run, past).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
        engine::cancel::cancel(&scene.store, scene.environment, run).await.unwrap();
    }
}
