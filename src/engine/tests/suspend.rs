//! Suspensions.

use super::*;
use crate::{
    engine::suspend::suspend_together,
    model::waitpoint::{Completion, Idempotency, Resolution},
    store::checkpoints::Suspension,
};

const ASLEEP: Suspended = Suspended { requeued: false, replaced: None };
const AWAKE: Suspended = Suspended { requeued: true, replaced: None };

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_sleeping_run_holds_nothing_and_wakes_when_its_time_has_come(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let wait = WaitRequest::Sleep { at: scene.now().await + secs(60) };
    assert_eq!(scene.suspend(&lease, 1, wait.clone()).await.unwrap(), ASLEEP);
    assert_eq!(scene.status(lease.run).await, RunStatus::Waiting);
    assert_eq!(scene.count("select count(*) from waitpoints").await, 0);
    assert_eq!(scene.count("select count(*) from runs where lease_worker is not null").await, 0);
    scene.advance(secs(59)).await;
    assert_eq!(scene.fire().await, 0);
    scene.advance(secs(2)).await;
    assert_eq!(scene.fire().await, 1);
    let claimed = scene.claim_one().await;
    assert_eq!((claimed.lease.epoch, claimed.lease.attempt, claimed.used_cpu_ms), (2, 1, 100));
    let resume = claimed.resume.unwrap();
    assert_eq!((resume.checkpoint, resume.wait, resume.completions), (checkpoint(1), wait, vec![]));
    assert_eq!(scene.story(lease.run).await, ["triggered", "claimed", "suspended", "resumed", "claimed"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_timer_of_a_wait_answers_that_it_elapsed(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let wait = WaitRequest::Timer { at: scene.now().await + secs(60), idempotency: None };
    assert_eq!(scene.suspend(&lease, 1, wait).await.unwrap(), ASLEEP);
    scene.advance(secs(61)).await;
    scene.fire().await;
    let resume = scene.claim_one().await.resume.unwrap();
    assert_eq!(resume.completions, [Completion { index: 0, resolution: Resolution::Elapsed }]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_timer_with_a_key_that_another_wait_waited_for_is_over_at_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let wait = |at| {
        let idempotency = Some(Idempotency { key: "day-1".into(), ttl_ms: None });
        WaitRequest::Timer { at, idempotency }
    };
    let first = scene.executing().await;
    assert_eq!(scene.suspend(&first, 1, wait(scene.now().await + secs(60))).await.unwrap(), ASLEEP);
    scene.advance(secs(61)).await;
    assert_eq!(scene.fire().await, 1);
    let first = scene.claim_one().await;
    assert_eq!(first.resume.unwrap().completions, [Completion { index: 0, resolution: Resolution::Elapsed }]);
    let second = scene.executing().await;
    assert_eq!(scene.suspend(&second, 1, wait(scene.now().await + secs(60))).await.unwrap(), AWAKE);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_resumes_with_all_that_is_complete_in_the_order_it_asked(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (a, b, c) = (scene.token().await, scene.token().await, scene.token().await);
    let lease = scene.executing().await;
    assert_eq!(scene.suspend(&lease, 1, any(&[c, a, b, a])).await.unwrap(), ASLEEP);
    assert!(scene.complete(a, 1).await);
    assert_eq!(scene.status(lease.run).await, RunStatus::Queued);
    assert_eq!(scene.count("select count(*) from run_waits").await, 0, "no edge of a run in line is left");
    assert!(scene.complete(c, 3).await);
    let value = |index, value: i64| Completion { index, resolution: Resolution::Completed(Packet::json(&json!(value))) };
    let resume = scene.claim_one().await.resume.unwrap();
    assert_eq!(resume.completions, [value(0, 3), value(1, 1), value(3, 1)]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_has_come_before_the_suspension_puts_the_run_back_at_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (open, done) = (scene.token().await, scene.token().await);
    scene.complete(done, 1).await;
    let lease = scene.executing().await;
    assert_eq!(scene.suspend(&lease, 1, any(&[open, done])).await.unwrap(), AWAKE);
    let lease = scene.claim_one().await.lease;
    let past = WaitRequest::Sleep { at: DateTime::<Utc>::MIN_UTC };
    let again = scene.suspend(&lease, 2, past).await.unwrap();
    assert_eq!(again, Suspended { requeued: true, replaced: Some("digest-1".into()) });
    assert_eq!(scene.claim_one().await.resume.unwrap().checkpoint, checkpoint(2));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_checkpoint_that_another_run_names_too_is_not_reported_as_replaced(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let token = scene.token().await;
    for _ in 0..2 {
        let lease = scene.executing().await;
        scene.suspend(&lease, 1, any(&[token])).await.unwrap();
    }
    scene.complete(token, 1).await;
    for (claimed, replaced) in scene.claim(2).await.iter().zip([None, Some("digest-1".to_owned())]) {
        let wait = WaitRequest::Sleep { at: scene.now().await + secs(60) };
        let suspended = scene.suspend(&claimed.lease, 2, wait).await.unwrap();
        assert_eq!(suspended, Suspended { requeued: false, replaced });
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_snapshot_in_the_row_comes_back_as_it_was_and_takes_the_place_of_a_blob(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let past = WaitRequest::Sleep { at: DateTime::<Utc>::MIN_UTC };
    let suspend = async |lease: &Lease, checkpoint| {
        let asked = Suspension::new(*lease, checkpoint, past.clone(), 0);
        engine::suspend::suspend(&scene.store, asked).await.unwrap().replaced
    };
    let in_row = |sequence, bytes: Vec<u8>| Checkpoint { snapshot: Stored::Row(bytes.into()), ..checkpoint(sequence) };
    let large = in_row(2, (0..crate::model::checkpoint::MAX_IN_ROW).map(|n| n as u8).collect());
    assert_eq!(suspend(&lease, checkpoint(1)).await, None);
    let claimed = scene.claim_one().await;
    assert_eq!(claimed.resume.unwrap().checkpoint, checkpoint(1));
    assert_eq!(suspend(&claimed.lease, large.clone()).await.as_deref(), Some("digest-1"));
    let claimed = scene.claim_one().await;
    assert_eq!(claimed.resume.unwrap().checkpoint, large);
    assert_eq!(suspend(&claimed.lease, in_row(3, vec![1])).await, None);
    let claimed = scene.claim_one().await;
    assert_eq!(claimed.resume.unwrap().checkpoint, in_row(3, vec![1]));
    assert_eq!(suspend(&claimed.lease, checkpoint(4)).await, None);
    assert_eq!(scene.claim_one().await.resume.unwrap().checkpoint, checkpoint(4));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_completion_and_a_suspension_that_meet_never_lose_the_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for _ in 0..20 {
        let (a, b) = (scene.token().await, scene.token().await);
        let lease = scene.executing().await;
        let (suspended, ..) =
            futures_util::join!(scene.suspend(&lease, 1, any(&[a, b])), scene.complete(b, 1), scene.complete(a, 2));
        suspended.unwrap();
        let claimed = scene.claim_one().await;
        assert_eq!(claimed.lease.run, lease.run);
        assert!(!claimed.resume.unwrap().completions.is_empty());
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_suspension_waits_for_a_completion_that_is_under_way(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let token = scene.token().await;
    let lease = scene.executing().await;
    let mut completing = scene.pool.begin().await.unwrap();
    sqlx::query("update waitpoints set status = 'COMPLETED', completed_at = now() where id = $1")
        .bind(token.uuid())
        .execute(&mut *completing)
        .await
        .unwrap();
    let suspending = scene.suspend(&lease, 1, any(&[token]));
    let commit = async {
        // Until the suspension stands before the waitpoint's lock.
        while scene.count("select count(*) from pg_locks where not granted").await == 0 {
            tokio::task::yield_now().await;
        }
        completing.commit().await.unwrap();
    };
    let (suspended, ()) = futures_util::join!(suspending, commit);
    assert_eq!(suspended.unwrap(), AWAKE);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_wait_for_what_is_not_there_leaves_the_run_with_its_worker(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let foreign = environment(&scene.store, "proj_other").await;
    let foreign = engine::token::create(&scene.store, foreign, NewToken::default()).await.unwrap().id;
    for waitpoints in [vec![foreign], vec![WaitpointId::new()]] {
        let answer = scene.suspend(&lease, 1, any(&waitpoints)).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    }
    assert!(matches!(scene.suspend(&lease, 1, any::<WaitpointId>(&[])).await, Err(Error::Invalid { .. })));
    let too_many: Vec<WaitpointId> = (0..1001).map(|_| WaitpointId::new()).collect();
    assert!(matches!(scene.suspend(&lease, 1, any(&too_many)).await, Err(Error::Invalid { .. })));
    assert_eq!(scene.status(lease.run).await, RunStatus::Executing);
    scene.finish(&lease, completed()).await.unwrap();
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_is_suspended_or_over_cannot_be_suspended(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let wait = WaitRequest::Sleep { at: scene.now().await + secs(60) };
    scene.suspend(&lease, 1, wait.clone()).await.unwrap();
    assert!(matches!(scene.suspend(&lease, 2, wait.clone()).await, Err(Error::LostLease)));
    assert!(matches!(scene.finish(&lease, completed()).await, Err(Error::LostLease)));
    engine::cancel::cancel(&scene.store, scene.environment, lease.run).await.unwrap();
    assert!(matches!(scene.suspend(&lease, 2, wait).await, Err(Error::Conflict(_))));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_call_made_again_after_a_crash_gets_the_same_answer(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let call = |sequence, ordinal| engine::journal::Call { sequence, ordinal };
    let token = |at| NewToken { timeout_at: at, tags: vec!["t".into()], idempotency: None };
    let lease = scene.executing().await;
    let at = scene.now().await + secs(60);
    let first = engine::token::create_in_run(&scene.store, &lease, call(0, 0), token(Some(at))).await.unwrap();
    let timer = engine::timer::start(&scene.store, &lease, call(0, 1), at, None).await.unwrap();
    scene.advance(secs(31)).await;
    engine::lease::expire(&scene.store, 1).await.unwrap();
    let late = engine::token::create_in_run(&scene.store, &lease, call(0, 2), token(Some(at))).await;
    assert!(matches!(late, Err(Error::LostLease)));

    let lease = scene.claim_one().await.lease;
    let at = Some(scene.now().await + secs(60));
    let again = engine::token::create_in_run(&scene.store, &lease, call(0, 0), token(at)).await.unwrap();
    assert_eq!(again, first, "the same call");
    let other = engine::token::create_in_run(&scene.store, &lease, call(0, 1), token(at)).await.unwrap();
    assert!(other.id != first.id && other.id != timer, "another call at the same place acts anew");

    scene.suspend(&lease, 1, any(&[first.id])).await.unwrap();
    assert_eq!(scene.count("select count(*) from journal").await, 0);
    scene.complete(first.id, 1).await;
    let lease = scene.claim_one().await.lease;
    let next = engine::token::create_in_run(&scene.store, &lease, call(1, 0), token(at)).await.unwrap();
    assert_ne!(next.id, first.id, "after a checkpoint the calls are new ones");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_that_are_suspended_together_are_each_as_if_alone_and_the_others_are_left_to_be(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.push(scene.executing().await);
    }
    let now = scene.now().await;
    let asked = |lease: Lease, sequence, wait| {
        let checkpoint = Checkpoint { snapshot: Stored::Row(Bytes::from_static(b"memory")), ..checkpoint(sequence) };
        Suspension::new(lease, checkpoint, wait, 7)
    };
    let sleep = |after| WaitRequest::Sleep { at: now + secs(after) };
    engine::cancel::cancel(&scene.store, scene.environment, leases[2].run).await.unwrap();
    let token = scene.token().await;
    let lost = Lease { epoch: leases[4].epoch - 1, ..leases[4] };
    let together = vec![
        asked(leases[5], 1, sleep(90)),
        asked(leases[0], 3, sleep(60)),
        asked(leases[1], 1, WaitRequest::Sleep { at: now - secs(1) }),
        asked(leases[2], 1, sleep(60)),
        asked(leases[3], 1, any(&[token])),
        asked(lost, 1, sleep(60)),
    ];
    let suspended = suspend_together(&scene.store, together).await.unwrap();
    let expected = [(leases[5].run, false), (leases[0].run, false), (leases[1].run, true)];
    assert_eq!(suspended.len(), 3);
    for (run, requeued) in expected {
        assert_eq!(suspended[&run], Suspended { requeued, replaced: None });
    }
    let mut statuses = Vec::new();
    for lease in &leases {
        statuses.push(scene.status(lease.run).await.as_str());
    }
    assert_eq!(statuses, ["WAITING", "QUEUED", "EXECUTING", "EXECUTING", "EXECUTING", "WAITING"]);
    assert_eq!(scene.story(leases[0].run).await, ["triggered", "claimed", "suspended"]);
    assert_eq!(scene.story(leases[1].run).await, ["triggered", "claimed", "suspended", "resumed"]);
    assert_eq!(scene.story(leases[4].run).await, ["triggered", "claimed"]);

    let resumed = scene.claim_one().await;
    assert_eq!(resumed.lease.run, leases[1].run);
    scene.advance(secs(61)).await;
    scene.fire().await;
    let resumed = scene.claim_one().await;
    let checkpoint = resumed.resume.unwrap().checkpoint;
    assert_eq!((resumed.lease.run, checkpoint.sequence, resumed.used_cpu_ms), (leases[0].run, 3, 7));
    assert_eq!(checkpoint.pages, ["pages-3"]);
    assert_eq!(checkpoint.files.unwrap().packs, ["pack-3"]);
}
