//! Leases: renewed, given back, lost.

use super::*;
use crate::engine::lease::{Renewed, end_of, expire, give_back, renew};

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_renewed_lease_goes_on_and_a_lost_one_is_named(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let stranger = RunId::new();
    let asked = [(lease.run, lease.epoch), (stranger, 1)];
    scene.advance(secs(29)).await;
    let renewed = renew(&scene.store, scene.worker, &asked, LEASE).await.unwrap();
    assert_eq!(renewed, Renewed { lost: vec![stranger], cancel: vec![] });
    scene.advance(secs(29)).await;
    assert_eq!(expire(&scene.store, 10).await.unwrap(), 0);
    let stale = renew(&scene.store, scene.worker, &[(lease.run, lease.epoch - 1)], LEASE).await.unwrap();
    assert_eq!(stale.lost, [lease.run]);
    let foreign = renew(&scene.store, WorkerId::new(), &asked[..1], LEASE).await.unwrap();
    assert_eq!(foreign.lost, [lease.run]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_whose_lease_is_over_starts_its_attempt_again_under_a_new_epoch(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let old = scene.executing().await;
    scene.advance(secs(31)).await;
    assert_eq!(expire(&scene.store, 10).await.unwrap(), 1);
    assert_eq!(scene.status(old.run).await, RunStatus::Queued);
    let new = scene.claim_one().await.lease;
    assert_eq!((new.run, new.epoch, new.attempt), (old.run, old.epoch + 1, 1), "it costs no attempt");
    assert!(matches!(scene.finish(&old, completed()).await, Err(Error::LostLease)));
    let late = scene.suspend(&old, 1, WaitRequest::Sleep { at: scene.now().await + secs(9) }).await;
    assert!(matches!(late, Err(Error::LostLease)));
    assert!(matches!(give_back(&scene.store, &old).await, Err(Error::LostLease)));
    scene.finish(&new, completed()).await.unwrap();
    assert_eq!(scene.story(old.run).await, ["triggered", "claimed", "lease-lost", "claimed", "finished"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_lost_its_worker_goes_on_from_its_checkpoint(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let wait = WaitRequest::Sleep { at: scene.now().await + secs(5) };
    scene.suspend(&lease, 1, wait.clone()).await.unwrap();
    scene.advance(secs(6)).await;
    scene.fire().await;
    scene.claim_one().await;
    scene.advance(secs(31)).await;
    assert_eq!(expire(&scene.store, 10).await.unwrap(), 1);
    let again = scene.claim_one().await;
    assert_eq!((again.lease.attempt, again.lease.epoch, again.used_cpu_ms), (1, 3, 100));
    let resume = again.resume.expect("it has a checkpoint");
    assert_eq!((resume.checkpoint, resume.wait), (checkpoint(1), wait));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_brings_its_workers_down_fails_its_attempt_in_the_end(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.trigger(hello()).await;
    for _ in 0..crate::engine::lease::MAX_STALLS {
        scene.claim_one().await;
        scene.advance(secs(31)).await;
        assert_eq!(expire(&scene.store, 10).await.unwrap(), 1);
        assert_eq!(scene.status(id).await, RunStatus::Queued);
    }
    scene.claim_one().await;
    scene.advance(secs(31)).await;
    expire(&scene.store, 10).await.unwrap();
    assert_eq!(scene.status(id).await, RunStatus::Executing, "between two attempts");
    scene.advance(secs(2)).await;
    scene.fire().await;
    assert_eq!(scene.claim_one().await.lease.attempt, 2);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_was_given_back_is_in_line_at_its_old_place(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    scene.trigger(hello()).await;
    give_back(&scene.store, &lease).await.unwrap();
    assert!(matches!(give_back(&scene.store, &lease).await, Err(Error::LostLease)));
    let next = scene.claim(1).await.pop().unwrap().lease;
    assert_eq!((next.run, next.attempt, next.epoch), (lease.run, 1, 2));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_executes_is_cancelled_when_its_worker_hears_of_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let cancel = || engine::cancel::cancel(&scene.store, scene.environment, lease.run);
    cancel().await.unwrap();
    cancel().await.unwrap();
    assert_eq!(scene.status(lease.run).await, RunStatus::Executing);
    let renewed = renew(&scene.store, scene.worker, &[(lease.run, lease.epoch)], LEASE).await.unwrap();
    assert_eq!(renewed, Renewed { lost: vec![], cancel: vec![lease.run] });
    assert_eq!(scene.finish(&lease, completed()).await.unwrap(), Finished::Final(RunStatus::Canceled));
    cancel().await.unwrap();
    assert_eq!(scene.story(lease.run).await, ["triggered", "claimed", "cancel-requested", "finished"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_cancelled_run_is_cancelled_also_if_its_worker_dies_suspends_or_gives_it_back(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let dies = scene.executing().await;
    let suspends = scene.executing().await;
    let gives_back = scene.executing().await;
    for run in [dies.run, suspends.run, gives_back.run] {
        engine::cancel::cancel(&scene.store, scene.environment, run).await.unwrap();
    }
    let suspended = scene.suspend(&suspends, 1, WaitRequest::Sleep { at: scene.now().await + secs(60) }).await;
    assert_eq!(suspended.unwrap(), Suspended { requeued: false, replaced: Some("digest-1".into()) });
    give_back(&scene.store, &gives_back).await.unwrap();
    scene.advance(secs(31)).await;
    assert_eq!(expire(&scene.store, 10).await.unwrap(), 1);
    for run in [dies.run, suspends.run, gives_back.run] {
        assert_eq!(scene.status(run).await, RunStatus::Canceled);
    }
    assert_eq!(scene.count("select count(*) from checkpoints").await, 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_nobody_runs_is_cancelled_at_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let sleeper = scene.executing().await;
    scene.suspend(&sleeper, 1, any(&[scene.token().await])).await.unwrap();
    let retrying = scene.executing().await;
    scene.finish(&retrying, failed(RetryDecision::Policy)).await.unwrap();
    let queued = scene.trigger(hello()).await;
    let delayed = scene.trigger(NewRun { delay_until: Some(scene.now().await + secs(60)), ..hello() }).await;
    let pending = scene.trigger(NewRun::of("later", Packet::empty())).await;
    for run in [sleeper.run, retrying.run, queued, delayed, pending] {
        engine::cancel::cancel(&scene.store, scene.environment, run).await.unwrap();
        assert_eq!(scene.status(run).await, RunStatus::Canceled);
    }
    assert_eq!(scene.count("select count(*) from run_waits").await, 0);
    assert!(scene.claim(10).await.is_empty());
    let foreign = environment(&scene.store, "proj_other").await;
    let answer = engine::cancel::cancel(&scene.store, foreign, queued).await;
    assert!(matches!(answer, Err(Error::NotFound { .. })));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_of_a_worker_that_is_gone_for_certain_are_taken_back_at_once_and_those_of_others_are_not(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let dead = scene.executing().await;
    scene.trigger(hello()).await;
    let other = engine::claim::claim(&scene.store, terms(WorkerId::new(), 1, LEASE)).await.unwrap().runs[0].lease;
    assert_eq!(end_of(&scene.store, &[WorkerId::new()]).await.unwrap(), 0);
    assert_eq!(end_of(&scene.store, &[dead.worker, WorkerId::new()]).await.unwrap(), 1);
    assert_eq!(expire(&scene.store, 10).await.unwrap(), 1);
    assert_eq!(scene.claim_one().await.lease.run, dead.run);
    assert_eq!(scene.status(other.run).await, RunStatus::Executing);
    scene.finish(&other, completed()).await.unwrap();
}
