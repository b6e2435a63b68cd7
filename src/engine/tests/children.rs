//! Runs that runs start, wait for, and take with them.

use std::collections::HashSet;

use super::*;
use crate::{
    engine::{children, finish, journal::Call},
    model::{
        batch::{BatchTriggered, Draft, Item, Refusal},
        child::{Intent, RunOutcome},
        error::ErrorCode,
        id::BatchId,
        machine::Machine,
        trigger::{RunIdempotency, Triggered},
        waitpoint::{Completion, Resolution},
    },
    store::{endings::Completed, line},
};

const FIRST: Call = Call { sequence: 0, ordinal: 0 };

impl Scene {
    async fn child(&self, lease: &Lease, call: Call, intent: Intent) -> Triggered {
        children::trigger(&self.store, lease, call, hello(), intent).await.unwrap()
    }

    /// A run that executes and waits for nothing yet, and a child that it means to wait for.
    async fn family(&self) -> (Lease, RunId) {
        let parent = self.executing().await;
        let child = self.child(&parent, FIRST, Intent::Wait).await.id;
        (parent, child)
    }

    async fn batch(&self, lease: &Lease, call: Call, count: u32) -> BatchTriggered {
        let items = (0..count).map(|index| item(index, hello())).collect();
        children::batch_trigger(&self.store, lease, call, items, None, Intent::Wait).await.unwrap()
    }

    async fn cancel(&self, run: RunId) {
        engine::cancel::cancel(&self.store, self.environment, run).await.unwrap();
    }

    /// What the wait of the run that is claimed came to.
    async fn resumed(&self) -> (Lease, Vec<Completion>) {
        let claimed = self.claim_one().await;
        (claimed.lease, claimed.resume.expect("it goes on from a checkpoint").completions)
    }
}

pub(super) fn item(index: u32, new: NewRun) -> Item {
    Item { index, task: new.task.clone(), draft: Draft::Run(Box::new(new)) }
}

/// What a run came to, in words.
fn word(resolution: &Resolution) -> String {
    let of = |outcome: &RunOutcome| match outcome {
        RunOutcome::Completed(output) => String::from_utf8(output.data.clone()).unwrap(),
        RunOutcome::Failed { status, .. } => status.as_str().to_owned(),
    };
    match resolution {
        Resolution::Run(end) => of(&end.outcome),
        Resolution::Batch(end) => end.runs.iter().map(|end| of(&end.outcome)).collect::<Vec<_>>().join(" "),
        other => panic!("{other:?}"),
    }
}

fn output(value: &str) -> Outcome {
    Outcome::Completed(Packet { data: value.into(), content_type: "application/json".into() })
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_parent_waits_for_its_child_holding_nothing_and_goes_on_with_its_output(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (parent, child) = scene.family().await;
    assert!(!scene.suspend(&parent, 1, any(&[child])).await.unwrap().requeued);
    assert_eq!(scene.count("select count(*) from runs where lease_worker is not null").await, 0);
    let lease = scene.claim_one().await.lease;
    assert_eq!(lease.run, child);
    scene.finish(&lease, output("7")).await.unwrap();
    let (again, completions) = scene.resumed().await;
    assert_eq!((again.run, completions.len(), word(&completions[0].resolution)), (parent.run, 1, "7".to_owned()));
    assert_eq!(scene.story(parent.run).await, ["triggered", "claimed", "suspended", "resumed", "claimed"]);
    assert_eq!(scene.count("select count(*) from run_waits").await, 0);
    let child = scene.run(child).await;
    assert_eq!((child.parent, child.root, child.depth), (Some(parent.run), parent.run, 1));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn however_a_child_ends_its_parent_goes_on_with_that_as_data(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for (outcome, expected) in [
        (Some(failed(RetryDecision::Abort)), "FAILED"),
        (Some(crashed(ErrorCode::TaskRunCrashed)), "CRASHED"),
        (Some(crashed(ErrorCode::MaxDurationExceeded)), "TIMED_OUT"),
        (None, "CANCELED"),
    ] {
        let (parent, child) = scene.family().await;
        scene.suspend(&parent, 1, any(&[child])).await.unwrap();
        match outcome {
            Some(outcome) => drop(scene.finish(&scene.claim_one().await.lease, outcome).await.unwrap()),
            None => scene.cancel(child).await,
        }
        let (parent, completions) = scene.resumed().await;
        assert_eq!(word(&completions[0].resolution), expected);
        scene.finish(&parent, completed()).await.unwrap();
    }
    // One that expires in line has no error of its own.
    let parent = scene.executing().await;
    let short = NewRun { ttl_ms: Some(1000), ..hello() };
    let child = children::trigger(&scene.store, &parent, FIRST, short, Intent::Wait).await.unwrap().id;
    scene.suspend(&parent, 1, any(&[child])).await.unwrap();
    scene.advance(secs(2)).await;
    scene.fire().await;
    let (_, completions) = scene.resumed().await;
    let Resolution::Run(end) = &completions[0].resolution else { panic!("{completions:?}") };
    let RunOutcome::Failed { status: RunStatus::Expired, error: RunError::Text { raw } } = &end.outcome else {
        panic!("{end:?}")
    };
    assert!(raw.contains("time to live"), "{raw}");
    assert_eq!((end.run, end.task.as_str()), (child, "hello"));
}

fn crashed(code: ErrorCode) -> Outcome {
    Outcome::Failed { error: RunError::internal(code, "no"), retry: RetryDecision::Abort }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_child_that_is_tried_again_wakes_its_parent_only_when_it_is_over(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (parent, child) = scene.family().await;
    scene.suspend(&parent, 1, any(&[child])).await.unwrap();
    let lease = scene.claim_one().await.lease;
    let retried = scene.finish(&lease, failed(RetryDecision::Delay(0))).await.unwrap();
    assert!(matches!(retried, Finished::Retry { .. }));
    assert_eq!(scene.status(parent.run).await, RunStatus::Waiting);
    scene.finish(&scene.claim_one().await.lease, completed()).await.unwrap();
    assert_eq!(scene.status(parent.run).await, RunStatus::Queued);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_parent_never_suspends_for_a_child_that_is_final_already(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (parent, child) = scene.family().await;
    let child = [Waitable::from(child)];
    let look = || engine::wait::look(&scene.store, scene.environment, &child);
    assert_eq!(look().await.unwrap(), []);
    scene.finish(&scene.claim_one().await.lease, output("1")).await.unwrap();
    assert_eq!(word(&look().await.unwrap()[0].resolution), "1", "who looks first learns of it");
    // The child ended between the look and the suspension.
    assert!(scene.suspend(&parent, 1, any(&child)).await.unwrap().requeued);
    assert_eq!(word(&scene.resumed().await.1[0].resolution), "1");
    assert_eq!(scene.count("select count(*) from run_waits").await, 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_end_and_a_suspension_that_meet_never_lose_the_parent(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for _ in 0..20 {
        let (parent, child) = scene.family().await;
        let lease = scene.claim_one().await.lease;
        let wait = any(&[child]);
        let (suspended, finished) = futures_util::join!(scene.suspend(&parent, 1, wait), scene.finish(&lease, output("1")));
        suspended.unwrap();
        finished.unwrap();
        let (again, completions) = scene.resumed().await;
        assert_eq!((again.run, word(&completions[0].resolution)), (parent.run, "1".to_owned()));
        scene.finish(&again, completed()).await.unwrap();
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_end_and_a_suspension_in_one_limited_queue_do_not_block_each_other(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let limited = QueueDefinition { name: "task/hello".into(), concurrency_limit: Some(8) };
    scene.deploy(vec![task("hello")], vec![limited]).await;
    for _ in 0..10 {
        let parents = [scene.executing().await, scene.executing().await, scene.executing().await];
        let mut children = Vec::new();
        for parent in &parents {
            children.push(scene.child(parent, FIRST, Intent::Wait).await.id);
        }
        let claimed = scene.claim(3).await;
        let lease_of = |run| &claimed.iter().find(|claimed| claimed.lease.run == run).unwrap().lease;
        // Each waits for the next one's child.
        let suspend = |place: usize| scene.suspend(&parents[place], 1, any(&[children[(place + 1) % 3]]));
        let finish = |place: usize| scene.finish(lease_of(children[place]), completed());
        let (a, d, b, e, c, f) = futures_util::join!(suspend(0), finish(0), suspend(1), finish(1), suspend(2), finish(2));
        assert!([a, b, c].iter().all(Result::is_ok) && [d, e, f].iter().all(Result::is_ok));
        for parent in scene.claim(8).await {
            scene.finish(&parent.lease, completed()).await.unwrap();
        }
        assert_eq!(scene.count("select count(*) from runs where finished_at is null").await, 0);
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_suspension_waits_for_an_end_that_is_under_way(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (parent, child) = scene.family().await;
    let mut ending = scene.pool.begin().await.unwrap();
    sqlx::query("update runs set status = 'COMPLETED', finished_at = now() where id = $1")
        .bind(child.uuid())
        .execute(&mut *ending)
        .await
        .unwrap();
    let commit = async {
        // Until the suspension stands before the child's lock.
        while scene.count("select count(*) from pg_locks where not granted").await == 0 {
            tokio::task::yield_now().await;
        }
        ending.commit().await.unwrap();
    };
    let (suspended, ()) = futures_util::join!(scene.suspend(&parent, 1, any(&[child])), commit);
    assert!(suspended.unwrap().requeued);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_child_that_completes_beside_others_while_its_parent_is_being_suspended_wakes_it(pool: PgPool) {
    let scene = Scene::new(pool.clone()).await;
    let (parent, child) = scene.family().await;
    let plain = scene.trigger(hello()).await;
    let leases: Vec<Lease> = scene.claim(2).await.iter().map(|claimed| claimed.lease).collect();
    let waiting = async |count: i64| {
        let waits = "select count(*) from pg_stat_activity
                     where wait_event_type = 'Lock' and datname = current_database() and backend_type = 'client backend'";
        let enough = async {
            while scene.count(waits).await != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(secs(20), enough).await.expect("so many wait for a lock");
    };
    // The suspension holds the child, and stops short of the edge to it.
    let mut obstacle = pool.begin().await.unwrap();
    sqlx::query("lock table run_waits in share mode").execute(&mut *obstacle).await.unwrap();
    let complete = async {
        waiting(1).await;
        let of = |lease: &Lease| {
            let (output, machine) = (Packet::json(&json!(7)), Machine::Micro);
            Completed { lease: *lease, output, cpu_ms: 1, machine, restored_us: None, parent_waits: false }
        };
        finish::complete_together(&scene.store, leases.iter().map(of).collect()).await
    };
    let let_go = async {
        waiting(2).await;
        obstacle.commit().await.unwrap();
    };
    let (suspended, over, ()) = futures_util::join!(scene.suspend(&parent, 1, any(&[child])), complete, let_go);
    assert!(!suspended.unwrap().requeued, "it went to sleep first");
    assert_eq!(over.unwrap(), HashSet::from([child, plain]));
    let (_, completions) = scene.resumed().await;
    assert_eq!(word(&completions[0].resolution), "7");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_wait_for_any_of_several_ends_with_the_first_and_tells_all_that_have(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (parent, a) = scene.family().await;
    let b = scene.child(&parent, Call { ordinal: 1, ..FIRST }, Intent::Wait).await.id;
    let token = scene.token().await;
    let waitables: [Waitable; 3] = [token.into(), b.into(), a.into()];
    scene.suspend(&parent, 1, any(&waitables)).await.unwrap();
    let claimed = scene.claim(2).await;
    let lease_of = |run| claimed.iter().find(|claimed| claimed.lease.run == run).unwrap().lease;
    scene.finish(&lease_of(b), output("2")).await.unwrap();
    assert_eq!(scene.status(parent.run).await, RunStatus::Queued);
    scene.finish(&lease_of(a), output("3")).await.unwrap();
    let (_, completions) = scene.resumed().await;
    let seen: Vec<(u32, String)> = completions.iter().map(|one| (one.index, word(&one.resolution))).collect();
    assert_eq!(seen, [(1, "2".to_owned()), (2, "3".to_owned())]);
    let resumed = "select count(*) from run_events where kind = 'resumed'";
    assert_eq!(scene.count(resumed).await, 1, "the second end found nobody to wake");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_end_that_comes_late_leaves_the_next_wait_alone(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (parent, a) = scene.family().await;
    let b = scene.child(&parent, Call { ordinal: 1, ..FIRST }, Intent::Wait).await.id;
    scene.suspend(&parent, 1, any(&[a, b])).await.unwrap();
    let children = scene.claim(2).await;
    scene.finish(&children.iter().find(|child| child.lease.run == a).unwrap().lease, output("1")).await.unwrap();
    // What the other child's end saw before: this parent waits for it.
    let seen = [parent.run.uuid()];
    let (again, _) = scene.resumed().await;
    let token = scene.token().await;
    scene.suspend(&again, 2, any(&[token])).await.unwrap();
    let mut connection = scene.store.read().await.unwrap();
    crate::store::edges::meet(&mut connection, &[b.uuid()], &seen).await.unwrap();
    assert_eq!(scene.status(parent.run).await, RunStatus::Waiting);
    assert!(scene.complete(token, 1).await);
    assert_eq!(scene.status(parent.run).await, RunStatus::Queued);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_batch_wakes_its_parent_once_when_the_last_run_is_final_and_keeps_the_order_of_items(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let batch = scene.batch(&parent, FIRST, 4).await;
    scene.suspend(&parent, 1, any(&[batch.id])).await.unwrap();
    let members = scene.members(batch.id).await;
    let claimed = scene.claim(10).await;
    assert_eq!(claimed.len(), 4);
    for place in [2, 0, 3, 1] {
        assert_eq!(scene.status(parent.run).await, RunStatus::Waiting);
        let lease = claimed.iter().find(|child| child.lease.run == members[place]).unwrap().lease;
        let outcome = if place == 3 { failed(RetryDecision::Abort) } else { output(&place.to_string()) };
        scene.finish(&lease, outcome).await.unwrap();
    }
    let (_, completions) = scene.resumed().await;
    assert_eq!((completions.len(), word(&completions[0].resolution)), (1, "0 1 2 FAILED".to_owned()));
    assert_eq!(scene.count("select count(*) from run_events where kind = 'resumed'").await, 1);
    assert_eq!(scene.count("select count(*) from run_waits").await, 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_of_a_batch_that_end_at_once_wake_its_parent_exactly_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for _ in 0..8 {
        let parent = scene.executing().await;
        let batch = scene.batch(&parent, FIRST, 6).await;
        scene.suspend(&parent, 1, any(&[batch.id])).await.unwrap();
        let claimed = scene.claim(10).await;
        let ends = claimed.iter().map(|child| scene.finish(&child.lease, output("1")));
        futures_util::future::try_join_all(ends).await.unwrap();
        let (again, completions) = scene.resumed().await;
        assert_eq!((again.run, word(&completions[0].resolution).len()), (parent.run, 11));
        let resumed = scene.story(parent.run).await.into_iter().filter(|kind| *kind == "resumed").count();
        assert_eq!(resumed, 1);
        scene.finish(&again, completed()).await.unwrap();
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_batch_may_be_waited_for_among_other_things(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let batch = scene.batch(&parent, FIRST, 2).await;
    let token = scene.token().await;
    scene.suspend(&parent, 1, any(&[Waitable::from(batch.id), token.into()])).await.unwrap();
    let claimed = scene.claim(2).await;
    scene.finish(&claimed[0].lease, output("1")).await.unwrap();
    assert_eq!(scene.status(parent.run).await, RunStatus::Waiting);
    scene.complete(token, 5).await;
    let (again, completions) = scene.resumed().await;
    assert_eq!(completions.iter().map(|one| one.index).collect::<Vec<_>>(), [1]);
    assert_eq!(scene.count("select count(*) from run_waits").await, 0);
    scene.suspend(&again, 2, any(&[batch.id])).await.unwrap();
    scene.finish(&claimed[1].lease, output("2")).await.unwrap();
    assert_eq!(word(&scene.resumed().await.1[0].resolution), "1 2");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_start_made_again_after_a_crash_starts_nothing_twice(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let delayed = |at| NewRun { delay_until: Some(at), ..hello() };
    let at = scene.now().await + secs(600);
    let first = children::trigger(&scene.store, &lease, FIRST, delayed(at), Intent::Forget).await.unwrap();
    let second = Call { ordinal: 1, ..FIRST };
    let batch = scene.batch(&lease, second, 3).await;
    scene.advance(secs(31)).await;
    engine::lease::expire(&scene.store, 1).await.unwrap();
    let late = children::trigger(&scene.store, &lease, Call { ordinal: 2, ..FIRST }, hello(), Intent::Forget).await;
    assert!(matches!(late, Err(Error::LostLease)), "{late:?}");

    let claimed = scene.claim(10).await;
    let lease = claimed.iter().find(|claimed| claimed.lease.run == lease.run).unwrap().lease;
    let at = scene.now().await + secs(600);
    assert_eq!(children::trigger(&scene.store, &lease, FIRST, delayed(at), Intent::Forget).await.unwrap(), first);
    assert_eq!(scene.batch(&lease, second, 3).await, batch);
    assert_eq!(scene.count("select count(*) from runs").await, 5);
    let other = NewRun { payload: Packet::json(&json!("other")), ..delayed(at) };
    let other = children::trigger(&scene.store, &lease, FIRST, other, Intent::Forget).await.unwrap();
    assert_ne!(other.id, first.id, "another payload is another call");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn children_that_are_waited_for_run_on_their_parents_version_and_others_on_the_current_one(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let old = scene.run(parent.run).await.version;
    scene.deploy(vec![task("hello")], vec![]).await;
    let awaited = scene.child(&parent, FIRST, Intent::Wait).await.id;
    let forgotten = scene.child(&parent, Call { ordinal: 1, ..FIRST }, Intent::Forget).await.id;
    let batch = scene.batch(&parent, Call { ordinal: 2, ..FIRST }, 1).await;
    assert_eq!(scene.claim(10).await.len(), 3);
    let new = scene.run(forgotten).await.version;
    assert!(old.is_some() && new.is_some() && old != new, "{old:?} {new:?}");
    assert_eq!(scene.run(awaited).await.version, old);
    assert_eq!(scene.run(scene.members(batch.id).await[0]).await.version, old);
    let elsewhere = NewRun::of("elsewhere", Packet::empty());
    let refused = children::trigger(&scene.store, &parent, Call { ordinal: 3, ..FIRST }, elsewhere, Intent::Wait).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "lockToVersion", .. })), "{refused:?}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_told_to_a_parent_does_not_pass_to_its_children_but_that_it_is_a_test(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut new = NewRun { tags: vec!["t".into()], is_test: true, concurrency_key: Some("k".into()), ..hello() };
    new.metadata.insert("a".into(), json!(1));
    new.queue = Some("own".into());
    scene.trigger(new).await;
    let parent = scene.claim_one().await.lease;
    let child = scene.child(&parent, FIRST, Intent::Wait).await.id;
    let batch = scene.batch(&parent, Call { ordinal: 1, ..FIRST }, 1).await;
    for child in [child, scene.members(batch.id).await[0]] {
        let child = scene.run(child).await;
        assert_eq!(
            (child.tags.len(), child.metadata.len(), child.concurrency_key, child.queue.as_str()),
            (0, 0, None, "task/hello")
        );
        assert_eq!((child.is_test, child.root), (true, parent.run));
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_finished_child_with_the_same_key_answers_at_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let keyed = || {
        let idempotency = Some(RunIdempotency { key: "k".into(), ..RunIdempotency::default() });
        NewRun { idempotency, ..hello() }
    };
    let run = scene.trigger(keyed()).await;
    scene.finish(&scene.claim_one().await.lease, output("7")).await.unwrap();
    let parent = scene.executing().await;
    let child = children::trigger(&scene.store, &parent, FIRST, keyed(), Intent::Wait).await.unwrap();
    assert_eq!(child, Triggered { id: run, is_cached: true });
    let twin = || NewRun { idempotency: Some(RunIdempotency { key: "twin".into(), ..RunIdempotency::default() }), ..hello() };
    let items = vec![item(0, keyed()), item(1, twin()), item(2, keyed()), item(3, twin())];
    let call = Call { ordinal: 1, ..FIRST };
    let batch = children::batch_trigger(&scene.store, &parent, call, items, None, Intent::Wait).await.unwrap();
    let members = scene.members(batch.id).await;
    assert_eq!((members[0], members[2], members[1]), (run, run, members[3]));
    scene.suspend(&parent, 1, any(&[batch.id])).await.unwrap();
    scene.finish(&scene.claim_one().await.lease, output("8")).await.unwrap();
    assert_eq!(word(&scene.resumed().await.1[0].resolution), "7 8 7 8");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_item_that_cannot_be_triggered_is_a_failed_run_in_its_place(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let unknown = NewRun { version: Some("20200101.1".into()), ..hello() };
    let too_many = NewRun { tags: (0..11).map(|tag| tag.to_string()).collect(), ..hello() };
    let large = Refusal { code: ErrorCode::PayloadTooLarge, message: "large".into() };
    let large = Item { index: 3, task: "hello".into(), draft: Draft::Refused(large) };
    let items = vec![item(0, hello()), item(1, unknown), item(2, too_many), large];
    let batch = children::batch_trigger(&scene.store, &parent, FIRST, items, None, Intent::Wait).await.unwrap();
    scene.suspend(&parent, 1, any(&[batch.id])).await.unwrap();
    scene.finish(&scene.claim_one().await.lease, output("1")).await.unwrap();
    let (_, completions) = scene.resumed().await;
    let Resolution::Batch(end) = &completions[0].resolution else { panic!("{completions:?}") };
    let codes: Vec<Option<ErrorCode>> = end.runs.iter().map(|end| code_of(&end.outcome)).collect();
    let could_not = Some(ErrorCode::BatchItemCouldNotTrigger);
    assert_eq!(codes, [None, could_not, could_not, Some(ErrorCode::PayloadTooLarge)]);
    assert_eq!(scene.story(end.runs[1].run).await, ["triggered", "finished"]);
}

fn code_of(outcome: &RunOutcome) -> Option<ErrorCode> {
    match outcome {
        RunOutcome::Failed { status: RunStatus::SystemFailure, error: RunError::Internal { code, .. } } => Some(*code),
        _ => None,
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_batch_with_a_key_is_made_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let key = || Some(RunIdempotency { key: "k".into(), ttl_ms: Some(60_000), ..RunIdempotency::default() });
    let make = async |lease: &Lease, ordinal| {
        let (call, items) = (Call { ordinal, ..FIRST }, vec![item(0, hello())]);
        children::batch_trigger(&scene.store, lease, call, items, key(), Intent::Forget).await.unwrap()
    };
    let parent = scene.executing().await;
    let first = make(&parent, 0).await;
    let again = make(&parent, 1).await;
    assert_eq!(again, BatchTriggered { is_cached: true, ..first });
    scene.advance(secs(61)).await;
    engine::lease::renew(&scene.store, scene.worker, &[(parent.run, parent.epoch)], LEASE).await.unwrap();
    assert_ne!(make(&parent, 2).await.id, first.id, "the key's time is over");
    for count in [0, 1001] {
        let items = (0..count).map(|index| item(index, hello())).collect();
        let refused =
            children::batch_trigger(&scene.store, &parent, Call { ordinal: 9, ..FIRST }, items, None, Intent::Wait).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "items", .. })), "{refused:?}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_parent_takes_its_children_in_progress_with_it_and_their_children(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let (done, queued, executing) = (Call { ordinal: 0, ..FIRST }, Call { ordinal: 1, ..FIRST }, Call { ordinal: 2, ..FIRST });
    let done = scene.child(&parent, done, Intent::Forget).await.id;
    scene.finish(&scene.claim_one().await.lease, completed()).await.unwrap();
    let executing = scene.child(&parent, executing, Intent::Wait).await.id;
    let child = scene.claim_one().await.lease;
    let grandchild = scene.child(&child, FIRST, Intent::Forget).await.id;
    let suspended_grandchild = scene.claim_one().await.lease;
    scene.suspend(&suspended_grandchild, 1, any(&[scene.token().await])).await.unwrap();
    let queued = scene.child(&parent, queued, Intent::Forget).await.id;
    scene.suspend(&parent, 1, any(&[executing])).await.unwrap();

    scene.cancel(parent.run).await;
    assert_eq!(scene.status(parent.run).await, RunStatus::Canceled);
    assert_eq!(scene.status(done).await, RunStatus::Completed);
    assert_eq!(scene.status(queued).await, RunStatus::Canceled);
    assert_eq!(scene.status(executing).await, RunStatus::Executing, "its worker ends it");
    assert_eq!(scene.status(grandchild).await, RunStatus::Waiting, "after its parent");
    let renewed = engine::lease::renew(&scene.store, scene.worker, &[(child.run, child.epoch)], LEASE).await.unwrap();
    assert_eq!(renewed.cancel, [child.run]);
    scene.finish(&child, completed()).await.unwrap();
    assert_eq!(scene.status(executing).await, RunStatus::Canceled, "whatever it returned");
    while children::cancel_some(&scene.store).await.unwrap() {}
    assert_eq!(scene.status(grandchild).await, RunStatus::Canceled);
    assert_eq!(scene.story(grandchild).await, ["triggered", "claimed", "suspended", "finished"]);
    assert_eq!(scene.count("select count(*) from attempts where finished_at is not null and error is not null").await, 3);
    assert_eq!(scene.count("select count(*) from cancelled_parents").await, 0);
    assert_eq!(scene.count("select count(*) from checkpoints").await, 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_crash_after_the_cancellation_leaves_the_children_to_the_sweep(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (parent, child) = scene.family().await;
    scene.finish(&parent, crashed(ErrorCode::TaskRunCancelled)).await.unwrap();
    // Here the process dies.
    assert_eq!(scene.status(child).await, RunStatus::Queued);
    assert_eq!(crate::reconcile::children::tick(&scene.store).await.unwrap(), 1);
    assert_eq!(scene.status(child).await, RunStatus::Canceled);
    assert_eq!(crate::reconcile::children::tick(&scene.store).await.unwrap(), 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn many_children_are_cancelled_some_at_a_time(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    scene.batch(&parent, FIRST, 250).await;
    scene.suspend(&parent, 1, any(&[scene.token().await])).await.unwrap();
    scene.cancel(parent.run).await;
    assert_eq!(scene.count("select count(*) from runs where status <> 'CANCELED'").await, 0);
    assert_eq!(scene.count("select count(*) from runs where status = 'CANCELED'").await, 251);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_parent_that_ends_otherwise_leaves_its_children_alone(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for outcome in [completed(), failed(RetryDecision::Abort)] {
        let (parent, child) = scene.family().await;
        scene.finish(&parent, outcome).await.unwrap();
        while children::cancel_some(&scene.store).await.unwrap() {}
        assert_eq!(scene.status(child).await, RunStatus::Queued);
        scene.cancel(child).await;
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_child_made_while_its_parent_is_cancelled_is_cancelled_too_or_not_made(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for _ in 0..10 {
        let parent = scene.executing().await;
        let made = children::trigger(&scene.store, &parent, FIRST, hello(), Intent::Wait);
        let ended = scene.finish(&parent, crashed(ErrorCode::TaskRunCancelled));
        let (made, ended) = futures_util::join!(made, ended);
        ended.unwrap();
        while children::cancel_some(&scene.store).await.unwrap() {}
        match made {
            Ok(child) => assert_eq!(scene.status(child.id).await, RunStatus::Canceled),
            Err(error) => assert!(matches!(error, Error::LostLease), "{error:?}"),
        }
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_cancelled_parent_and_its_ending_children_do_not_block_each_other(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for _ in 0..6 {
        let parent = scene.executing().await;
        let batch = scene.batch(&parent, FIRST, 5).await;
        scene.suspend(&parent, 1, any(&[batch.id])).await.unwrap();
        let claimed = scene.claim(10).await;
        let ends = futures_util::future::join_all(claimed.iter().map(|child| scene.finish(&child.lease, output("1"))));
        let (ends, ()) = futures_util::join!(ends, scene.cancel(parent.run));
        assert!(ends.iter().all(Result::is_ok), "{ends:?}");
        // Either came first.
        let status = scene.status(parent.run).await;
        assert_eq!(status, RunStatus::Canceled);
        assert_eq!(scene.count("select count(*) from runs where finished_at is null").await, 0);
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_stale_lease_neither_starts_runs_nor_waits_for_them(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (stale, child) = scene.family().await;
    scene.advance(secs(31)).await;
    engine::lease::expire(&scene.store, 1).await.unwrap();
    let suspended = scene.suspend(&stale, 1, any(&[child])).await;
    assert!(matches!(suspended, Err(Error::LostLease)), "{suspended:?}");
    assert_eq!(scene.count("select count(*) from run_waits").await, 0);
    let items = vec![item(0, hello())];
    let batch = children::batch_trigger(&scene.store, &stale, FIRST, items, None, Intent::Wait).await;
    assert!(matches!(batch, Err(Error::LostLease)), "{batch:?}");
    assert_eq!(scene.count("select count(*) from batches").await, 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_wait_that_could_never_end_or_is_for_what_is_not_there_is_refused(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let own = scene.suspend(&parent, 1, any(&[parent.run])).await;
    assert!(matches!(own, Err(Error::Invalid { .. })), "{own:?}");
    let foreign = environment(&scene.store, "proj_other").await;
    let foreign = engine::trigger::trigger(&scene.store, foreign, hello()).await.unwrap().id;
    for (absent, what) in [(Waitable::from(foreign), "run"), (RunId::new().into(), "run"), (BatchId::new().into(), "batch")] {
        let suspended = scene.suspend(&parent, 1, any(&[absent])).await;
        assert!(matches!(suspended, Err(Error::NotFound { what: found }) if found == what), "{suspended:?}");
        let looked = engine::wait::look(&scene.store, scene.environment, &[absent]).await;
        assert!(matches!(looked, Err(Error::NotFound { what: found }) if found == what), "{looked:?}");
    }
    let batches: Vec<Waitable> = (0..11).map(|_| BatchId::new().into()).collect();
    let looked = engine::wait::look(&scene.store, scene.environment, &batches).await;
    assert!(matches!(looked, Err(Error::Invalid { .. })), "{looked:?}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn outputs_that_are_more_than_one_answer_are_left_out_until_they_are_asked_for_again(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let batch = scene.batch(&parent, FIRST, 2).await;
    let members = scene.members(batch.id).await;
    scene.suspend(&parent, 1, any(&[batch.id])).await.unwrap();
    let large = Outcome::Completed(Packet { data: vec![b'x'; 9 << 20], content_type: "text/plain".into() });
    for child in scene.claim(2).await {
        scene.finish(&child.lease, large.clone()).await.unwrap();
    }
    let (_, completions) = scene.resumed().await;
    assert_eq!(completions, [Completion { index: 0, resolution: Resolution::TooLarge { bytes: 18 << 20 } }]);
    let both: Vec<Waitable> = members.iter().map(|run| (*run).into()).collect();
    let looked = engine::wait::look(&scene.store, scene.environment, &both).await.unwrap();
    assert_eq!(looked.iter().map(|one| one.index).collect::<Vec<_>>(), [0]);
}

/// A run is written alone and among many by two statements: what they write is the same.
#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_of_a_batch_has_all_that_a_run_alone_has(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let mut new = NewRun {
        idempotency: Some(RunIdempotency {
            key: "a".into(),
            shown: Some("shown".into()),
            scope: Some("run".into()),
            ttl_ms: Some(60_000),
        }),
        ttl_ms: Some(5000),
        tags: vec!["x".into(), "a \"b\", {c}\\".into()],
        queue: Some("own".into()),
        concurrency_key: Some("k".into()),
        max_attempts: Some(4),
        max_duration_ms: Some(9000),
        machine: Some(crate::model::machine::Machine::Micro),
        priority_ms: 1500,
        delay_until: Some(scene.now().await + secs(60)),
        payload: Packet { data: vec![0, 255, 10], content_type: "application/octet-stream".into() },
        ..hello()
    };
    new.metadata.insert("z".into(), json!({"nul": "\u{0}", "n": 1.50}));
    new.metadata.insert("a".into(), json!(null));
    let alone = children::trigger(&scene.store, &parent, FIRST, new.clone(), Intent::Wait).await.unwrap().id;
    new.idempotency.as_mut().unwrap().key = "b".into();
    let call = Call { ordinal: 1, ..FIRST };
    let batch = children::batch_trigger(&scene.store, &parent, call, vec![item(0, new)], None, Intent::Wait).await.unwrap();
    let many = scene.members(batch.id).await[0];
    let text = async |sql: &'static str, run: RunId| {
        sqlx::query_scalar::<_, String>(sql).bind(run.uuid()).fetch_one(&scene.pool).await.unwrap()
    };
    let metadata = "select metadata::text from runs where id = $1";
    assert_eq!(text(metadata, many).await, text(metadata, alone).await);
    // It cannot be part of what follows, since it has a NUL.
    sqlx::query("update runs set metadata = '{}'").execute(&scene.pool).await.unwrap();
    let row = "select (to_jsonb(r) - array['id', 'batch_id', 'created_at', 'updated_at', 'idempotency_key',
        'idempotency_expires_at'])::text from runs r where id = $1";
    assert_eq!(text(row, many).await, text(row, alone).await);
    let ends = "select count(*) from runs where idempotency_active and idempotency_expires_at > now()";
    assert_eq!(scene.count(ends).await, 2);
    let mut connection = scene.store.read().await.unwrap();
    let holder = line::holder_of_key(&mut connection, scene.environment, "hello", "b").await.unwrap();
    assert_eq!(holder, Some(many));
}

impl Scene {
    /// The runs of a batch, in the order of its items.
    pub(super) async fn members(&self, batch: BatchId) -> Vec<RunId> {
        crate::store::batches::get(&self.store, self.environment, batch).await.unwrap().expect("the batch is there").runs
    }
}
