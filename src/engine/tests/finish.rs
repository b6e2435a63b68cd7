//! Ends of attempts and runs.

use std::collections::HashSet;

use super::*;
use crate::{
    engine::finish,
    model::{error::ErrorCode, machine::Machine, price::MachineTime, task::QueueDefinition},
    store::endings::Completed,
};

fn internal(code: ErrorCode) -> Outcome {
    Outcome::Failed { error: RunError::internal(code, "so it is"), retry: RetryDecision::Policy }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_result_is_written_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    assert_eq!(scene.finish(&lease, completed()).await.unwrap(), Finished::Final(RunStatus::Completed));
    let again = scene.finish(&lease, failed(RetryDecision::Abort)).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
    let detail = runs::detail(&scene.store, scene.environment, lease.run).await.unwrap().unwrap();
    assert_eq!(detail.output, Some(Packet::json(&json!("Hello, Ada"))));
    assert_eq!((detail.run.status, detail.run.cpu_ms, detail.run.error), (RunStatus::Completed, 250, None));
    assert!(detail.run.finished_at.is_some());
    assert_eq!(detail.attempts.len(), 1);
    assert_eq!((detail.attempts[0].number, detail.attempts[0].cpu_ms), (1, Some(250)));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn two_workers_that_finish_at_the_same_time_do_not_both_succeed(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let (one, two) = futures_util::join!(scene.finish(&lease, completed()), scene.finish(&lease, failed(RetryDecision::Abort)));
    assert_eq!([one.is_ok(), two.is_ok()].into_iter().filter(|ok| *ok).count(), 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_failed_attempt_is_followed_by_the_next_as_the_policy_says(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut lease = scene.executing().await;
    for (attempt, delay) in [(1, 1u64), (2, 2)] {
        assert_eq!(lease.attempt, attempt);
        let now = scene.now().await;
        let Finished::Retry { at } = scene.finish(&lease, failed(RetryDecision::Policy)).await.unwrap() else {
            panic!("there is another attempt")
        };
        assert!((at - now).num_milliseconds().abs_diff(delay as i64 * 1000) < 500);
        assert_eq!(scene.status(lease.run).await, RunStatus::Executing);
        assert!(scene.claim(1).await.is_empty());
        scene.advance(secs(delay) + Duration::from_millis(100)).await;
        assert_eq!(scene.fire().await, 1);
        lease = scene.claim_one().await.lease;
    }
    let last = scene.finish(&lease, failed(RetryDecision::Policy)).await.unwrap();
    assert_eq!(last, Finished::Final(RunStatus::Failed));
    let detail = runs::detail(&scene.store, scene.environment, lease.run).await.unwrap().unwrap();
    assert_eq!((detail.run.attempt_count, detail.run.cpu_ms, detail.attempts.len()), (3, 750, 3));
    assert!(detail.run.error.is_some() && detail.attempts.iter().all(|attempt| attempt.error.is_some()));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_guest_decides_when_but_not_how_often(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let at = scene.now().await + secs(3600);
    let Finished::Retry { at: given } = scene.finish(&lease, failed(RetryDecision::At(at))).await.unwrap() else {
        panic!("there is another attempt")
    };
    assert!((given - at).num_milliseconds().abs() <= 1);
    scene.advance(secs(3601)).await;
    scene.fire().await;
    let lease = scene.claim_one().await.lease;
    let at_once = scene.finish(&lease, failed(RetryDecision::Delay(0))).await.unwrap();
    assert!(matches!(at_once, Finished::Retry { .. }));
    let lease = scene.claim_one().await.lease;
    let over = scene.finish(&lease, failed(RetryDecision::Delay(0))).await.unwrap();
    assert_eq!(over, Finished::Final(RunStatus::Failed));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn errors_end_the_run_with_the_status_they_stand_for(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for (outcome, status) in [
        (failed(RetryDecision::Abort), RunStatus::Failed),
        (internal(ErrorCode::MaxDurationExceeded), RunStatus::TimedOut),
        (internal(ErrorCode::TaskProcessOomKilled), RunStatus::Crashed),
        (internal(ErrorCode::CouldNotFindTask), RunStatus::SystemFailure),
    ] {
        let lease = scene.executing().await;
        assert_eq!(scene.finish(&lease, outcome).await.unwrap(), Finished::Final(status));
    }
    let lease = scene.executing().await;
    let crashed = scene.finish(&lease, internal(ErrorCode::TaskRunCrashed)).await.unwrap();
    assert!(matches!(crashed, Finished::Retry { .. }), "a crash is tried again");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_task_without_a_policy_is_tried_once_unless_the_trigger_says_more(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    scene.deploy(vec![TaskDefinition { retry: None, ..task("hello") }], vec![]).await;
    let lease = scene.executing().await;
    let once = scene.finish(&lease, failed(RetryDecision::Delay(10))).await.unwrap();
    assert_eq!(once, Finished::Final(RunStatus::Failed));
    scene.trigger(NewRun { max_attempts: Some(2), ..hello() }).await;
    let lease = scene.claim_one().await.lease;
    assert!(matches!(scene.finish(&lease, failed(RetryDecision::Policy)).await.unwrap(), Finished::Retry { .. }));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn out_of_memory_is_tried_again_only_on_another_machine(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let retry = RetryPolicy { out_of_memory_machine: Some(Machine::Large1x), ..RetryPolicy::default() };
    scene.deploy(vec![TaskDefinition { retry: Some(retry), ..task("hello") }], vec![]).await;
    let lease = scene.executing().await;
    let next = scene.finish(&lease, internal(ErrorCode::TaskProcessOomKilled)).await.unwrap();
    assert!(matches!(next, Finished::Retry { .. }));
    let claimed = scene.claim_one().await;
    assert_eq!((claimed.machine, claimed.lease.attempt), (Machine::Large1x, 2));
    let on = |machine, cpu_ms| MachineTime { machine, cpu_ms };
    assert_eq!(scene.run(lease.run).await.machine_time, [on(Machine::Small1x, 250)]);
    scene.suspend(&claimed.lease, 1, WaitRequest::Sleep { at: scene.now().await }).await.unwrap();
    assert_eq!(scene.run(lease.run).await.machine_time, [on(Machine::Small1x, 250), on(Machine::Large1x, 100)]);
    let claimed = scene.claim_one().await;
    let last = scene.finish(&claimed.lease, internal(ErrorCode::TaskProcessOomKilled)).await.unwrap();
    assert_eq!(last, Finished::Final(RunStatus::Crashed));
    let detail = runs::detail(&scene.store, scene.environment, lease.run).await.unwrap().unwrap();
    let machines: Vec<_> = detail.attempts.iter().map(|attempt| attempt.machine).collect();
    assert_eq!(machines, [Some(Machine::Small1x), Some(Machine::Large1x)], "each attempt keeps what it ran on");
    assert_eq!((detail.run.cpu_ms, detail.run.machine), (500, Some(Machine::Large1x)));
    assert_eq!(detail.run.machine_time, [on(Machine::Small1x, 250), on(Machine::Large1x, 250)]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_belonged_to_an_attempt_goes_with_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    scene.suspend(&lease, 1, WaitRequest::Sleep { at: scene.now().await }).await.unwrap();
    let lease = scene.claim_one().await.lease;
    let call = engine::journal::Call { sequence: 1, ordinal: 0 };
    engine::token::create_in_run(&scene.store, &lease, call, NewToken::default()).await.unwrap();
    scene.finish(&lease, failed(RetryDecision::Delay(0))).await.unwrap();
    assert_eq!(scene.count("select count(*) from checkpoints").await, 0);
    assert_eq!(scene.count("select count(*) from journal").await, 0);
    let next = scene.claim_one().await;
    assert_eq!((next.lease.attempt, next.resume.is_none(), next.used_cpu_ms), (2, true, 0));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_cannot_be_stored_is_cut(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let error = RunError::Exception {
        name: "E\0".into(),
        message: "x".repeat(5000),
        stack_trace: "frame\n".repeat(500),
        causes: Vec::new(),
    };
    scene.finish(&lease, Outcome::Failed { error, retry: RetryDecision::Abort }).await.unwrap();
    let Some(RunError::Exception { name, message, stack_trace, .. }) = scene.run(lease.run).await.error else {
        panic!("it is an exception")
    };
    assert_eq!((name.as_str(), message.len(), stack_trace.lines().count()), ("E", 1000, 50));
    let lease = scene.executing().await;
    let large = Packet { data: vec![b'0'; 11 << 20], content_type: "application/json".into() };
    let refused = scene.finish(&lease, Outcome::Completed(large)).await.unwrap();
    assert_eq!(refused, Finished::Final(RunStatus::Failed));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_that_return_together_are_completed_together_but_for_those_that_are_not_to_be(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.deploy(vec![task("hello")], vec![QueueDefinition { name: "task/hello".into(), concurrency_limit: Some(4) }]).await;
    let parent = scene.trigger(hello()).await;
    for new in [hello(), hello(), NewRun { parent: Some(parent), ..hello() }, hello()] {
        scene.trigger(new).await;
    }
    let leases: Vec<Lease> = scene.claim(10).await.iter().map(|claimed| claimed.lease).collect();
    assert_eq!(leases.len(), 4, "the queue has four places");
    let [plain, cancelled, stale, child] = leases[..] else { panic!("there are four") };
    engine::cancel::cancel(&scene.store, scene.environment, cancelled.run).await.unwrap();
    let of = |lease: Lease| {
        let (output, machine) = (Packet::json(&json!(lease.epoch)), Machine::Micro);
        Completed { lease, output, cpu_ms: 7, machine, restored_us: Some(1500), parent_waits: false }
    };
    let late = Lease { epoch: stale.epoch - 1, ..stale };
    let over = finish::complete_together(&scene.store, [plain, cancelled, late, child].map(of).into()).await.unwrap();
    assert_eq!(over, HashSet::from([plain.run, child.run]));
    let detail = runs::detail(&scene.store, scene.environment, plain.run).await.unwrap().unwrap();
    assert_eq!((detail.run.status, detail.run.cpu_ms, detail.output), (RunStatus::Completed, 7, Some(Packet::json(&json!(1)))));
    assert_eq!((detail.attempts.len(), detail.attempts[0].cpu_ms), (1, Some(7)));
    assert_eq!(detail.run.machine_time, [MachineTime { machine: Machine::Micro, cpu_ms: 7 }]);
    assert_eq!(scene.story(plain.run).await.last(), Some(&"finished"));
    assert_eq!(scene.claim(10).await.len(), 1, "their places are free for the fifth");
    assert_eq!(scene.status(stale.run).await, RunStatus::Executing);
    let again = finish::complete_together(&scene.store, vec![of(plain)]).await.unwrap();
    assert!(again.is_empty(), "a result is written once");
}
