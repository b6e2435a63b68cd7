//! Debounce: many triggers, one run.

use chrono::TimeDelta;
use futures_util::future::join_all;

use super::{children::item, *};
use crate::{
    engine::batch,
    model::{
        batch::NewBatch,
        machine::Machine,
        trigger::{Debounce, DebounceMode, RunIdempotency, Triggered},
    },
    store::batches,
};

const SECOND: u64 = 1000;

fn debounced(key: &str, delay_ms: u64, payload: i64) -> NewRun {
    let debounce = Debounce { key: key.into(), delay_ms, mode: DebounceMode::Leading, max_delay_ms: None };
    NewRun { debounce: Some(debounce), ..NewRun::of("hello", Packet::json(&json!(payload))) }
}

fn trailing(new: NewRun) -> NewRun {
    let debounce = new.debounce.map(|debounce| Debounce { mode: DebounceMode::Trailing, ..debounce });
    NewRun { debounce, ..new }
}

fn at_most(new: NewRun, max_delay_ms: u64) -> NewRun {
    let debounce = new.debounce.map(|debounce| Debounce { max_delay_ms: Some(max_delay_ms), ..debounce });
    NewRun { debounce, ..new }
}

async fn trigger(scene: &Scene, new: NewRun) -> Result<Triggered, Error> {
    engine::trigger::trigger(&scene.store, scene.environment, new).await
}

impl Scene {
    async fn delayed_until(&self, run: RunId) -> DateTime<Utc> {
        self.run(run).await.delayed_until.unwrap()
    }

    async fn payload(&self, run: RunId) -> serde_json::Value {
        let detail = runs::detail(&self.store, self.environment, run).await.unwrap().unwrap();
        serde_json::from_slice(&detail.payload.data).unwrap()
    }

    /// The run is put off until the delay has passed since now, and not much longer.
    async fn is_put_off(&self, run: RunId, by: TimeDelta) {
        let (until, now) = (self.delayed_until(run).await, self.now().await);
        assert!(until > now + by - TimeDelta::seconds(1) && until <= now + by + TimeDelta::seconds(1), "{until} at {now}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_begins_once_there_was_no_trigger_for_the_delay_and_is_as_the_first_one_said(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let first = trigger(&scene, debounced("k", 10 * SECOND, 1)).await.unwrap();
    assert_eq!(scene.status(first.id).await, RunStatus::Delayed);
    scene.is_put_off(first.id, TimeDelta::seconds(10)).await;
    for payload in 2..5 {
        scene.advance(secs(6)).await;
        assert_eq!(scene.fire().await, 0, "each trigger has put it off");
        let again = trigger(&scene, debounced("k", 10 * SECOND, payload)).await.unwrap();
        assert_eq!(again, Triggered { id: first.id, is_cached: false });
        scene.is_put_off(first.id, TimeDelta::seconds(10)).await;
    }
    scene.advance(secs(12)).await;
    assert_eq!(scene.fire().await, 1);
    assert_eq!(scene.claim_one().await.payload, Packet::json(&json!(1)));
    let story = scene.story(first.id).await;
    assert_eq!(story, ["triggered", "rescheduled", "rescheduled", "rescheduled", "delay-over", "claimed"]);

    let next = trigger(&scene, debounced("k", 10 * SECOND, 9)).await.unwrap();
    assert_ne!(next.id, first.id, "what has begun is put off no more");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn in_trailing_mode_the_last_trigger_counts(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let metadata = |n: i64| json!({ "n": n }).as_object().unwrap().clone();
    let first = NewRun {
        tags: vec!["first".into()],
        metadata: metadata(1),
        max_attempts: Some(1),
        machine: Some(Machine::Micro),
        ..trailing(debounced("k", 10 * SECOND, 1))
    };
    let run = trigger(&scene, first).await.unwrap().id;
    // What a trigger does not say stays as it was.
    trigger(&scene, trailing(debounced("k", 10 * SECOND, 2))).await.unwrap();
    let now = scene.run(run).await;
    assert_eq!((scene.payload(run).await, now.tags, now.metadata), (json!(2), vec!["first".to_owned()], metadata(1)));
    let last = NewRun {
        tags: vec!["a".into(), "b".into()],
        metadata: metadata(3),
        max_attempts: Some(7),
        max_duration_ms: Some(60_000),
        machine: Some(Machine::parse("large-1x").unwrap()),
        ..trailing(debounced("k", 10 * SECOND, 3))
    };
    trigger(&scene, last).await.unwrap();
    // A leading one among them changes the time alone.
    trigger(&scene, NewRun { tags: vec!["no".into()], ..debounced("k", 10 * SECOND, 4) }).await.unwrap();
    scene.advance(secs(12)).await;
    scene.fire().await;
    let claimed = scene.claim_one().await;
    assert_eq!((claimed.lease.run, claimed.payload), (run, Packet::json(&json!(3))));
    assert_eq!(claimed.context.tags, ["a", "b"]);
    assert_eq!((claimed.context.max_attempts, claimed.max_duration_ms), (7, Some(60_000)));
    assert_eq!((claimed.machine.as_str(), scene.run(run).await.metadata), ("large-1x", metadata(3)));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_was_put_off_for_too_long_is_let_go_and_another_begins(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let new = |payload| at_most(debounced("k", 10 * SECOND, payload), 25 * SECOND);
    let first = trigger(&scene, new(1)).await.unwrap().id;
    scene.advance(secs(8)).await;
    assert_eq!(trigger(&scene, new(2)).await.unwrap().id, first);
    scene.advance(secs(8)).await;
    let until = scene.delayed_until(first).await;
    let second = trigger(&scene, new(3)).await.unwrap().id;
    assert_ne!(second, first, "26 seconds after the first trigger would be too late");
    assert_eq!(scene.delayed_until(first).await, until, "it begins when it was to begin");
    assert_eq!(trigger(&scene, new(4)).await.unwrap().id, second, "the key is the second's now");
    // What is longest is said by each trigger: this one says nothing.
    assert_eq!(trigger(&scene, debounced("k", 3600 * SECOND, 5)).await.unwrap().id, second);
    scene.advance(secs(8)).await;
    scene.fire().await;
    assert_eq!((scene.status(first).await, scene.status(second).await), (RunStatus::Queued, RunStatus::Delayed));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn keys_are_those_of_an_environment_and_a_task(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    scene.deploy(vec![task("hello"), task("other")], vec![]).await;
    let elsewhere = environment(&scene.store, "proj_other").await;
    let first = trigger(&scene, debounced("k", 10 * SECOND, 1)).await.unwrap().id;
    let other_key = trigger(&scene, debounced("l", 10 * SECOND, 1)).await.unwrap().id;
    let other_task = trigger(&scene, NewRun { task: "other".into(), ..debounced("k", 10 * SECOND, 1) }).await.unwrap().id;
    let there = engine::trigger::trigger(&scene.store, elsewhere, debounced("k", 10 * SECOND, 1)).await.unwrap().id;
    let all = std::collections::HashSet::from([first, other_key, other_task, there]);
    assert_eq!(all.len(), 4);
    // A run that is cancelled leaves its key, too.
    engine::cancel::cancel(&scene.store, scene.environment, first).await.unwrap();
    assert_ne!(trigger(&scene, debounced("k", 10 * SECOND, 2)).await.unwrap().id, first);
    // A trigger without a key joins nothing, however the task is delayed.
    let delayed = NewRun { delay_until: Some(scene.now().await + secs(60)), ..hello() };
    assert!(!all.contains(&trigger(&scene, delayed).await.unwrap().id));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn triggers_that_come_at_the_same_time_make_one_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for key in ["a", "b", "c"] {
        let made = join_all((0..8).map(|n| trigger(&scene, trailing(debounced(key, 10 * SECOND, n))))).await;
        let ids: std::collections::HashSet<RunId> = made.into_iter().map(|made| made.unwrap().id).collect();
        assert_eq!(ids.len(), 1, "{key}");
    }
    assert_eq!(scene.count("select count(*) from runs").await, 3);

    // The timer lets it go at the very moment that a trigger would put it off: the trigger waits, and makes another run.
    let first = trigger(&scene, debounced("d", 10 * SECOND, 1)).await.unwrap().id;
    scene.advance(secs(11)).await;
    let mut timer = scene.pool.begin().await.unwrap();
    let gone = "update runs set status = 'QUEUED', due_at = null where id = $1";
    sqlx::query(gone).bind(first.uuid()).execute(&mut *timer).await.unwrap();
    let (made, ()) = tokio::join!(trigger(&scene, debounced("d", 10 * SECOND, 2)), async {
        let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        while scene.count(waits).await == 0 {
            tokio::task::yield_now().await;
        }
        timer.commit().await.unwrap();
    });
    assert_ne!(made.unwrap().id, first);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_storm_of_triggers_changes_a_run_once_a_second_and_never_hastens_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = trigger(&scene, debounced("k", 60 * SECOND, 1)).await.unwrap().id;
    for n in 0..30 {
        trigger(&scene, debounced("k", 60 * SECOND, n)).await.unwrap();
    }
    let changes = scene.story(run).await.len();
    assert!(changes < 20, "{changes} entries for 30 triggers within moments");
    let until = scene.delayed_until(run).await;
    trigger(&scene, debounced("k", SECOND, 1)).await.unwrap();
    assert_eq!(scene.delayed_until(run).await, until, "a shorter delay does not bring it forward");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_idempotency_key_comes_first_and_a_request_that_is_sent_again_puts_nothing_off(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let keyed =
        |new: NewRun| NewRun { idempotency: Some(RunIdempotency { key: "once".into(), ..RunIdempotency::default() }), ..new };
    let first = trigger(&scene, keyed(debounced("k", 10 * SECOND, 1))).await.unwrap().id;
    let until = scene.delayed_until(first).await;
    scene.advance(secs(5)).await;
    let cached = trigger(&scene, keyed(trailing(debounced("k", 10 * SECOND, 2)))).await.unwrap();
    assert_eq!(cached, Triggered { id: first, is_cached: true });
    assert_eq!((scene.delayed_until(first).await, scene.payload(first).await), (until, json!(1)));
    let elsewhere = trigger(&scene, keyed(debounced("other", 10 * SECOND, 3))).await.unwrap();
    assert_eq!((elsewhere.id, scene.count("select count(*) from runs").await), (first, 1));

    let request = || NewRun { request_key: Some("r".into()), ..trailing(debounced("k", 10 * SECOND, 4)) };
    assert_eq!(trigger(&scene, request()).await.unwrap().id, first);
    scene.advance(secs(20)).await;
    scene.fire().await;
    scene.claim_one().await;
    assert_eq!(trigger(&scene, request()).await.unwrap().id, first, "the same request gets the same run, also when it has begun");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_first_delay_counts_until_the_first_further_trigger_that_is_later(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let now = scene.now().await;
    let far = NewRun { delay_until: Some(now + secs(100)), ..debounced("k", 10 * SECOND, 1) };
    let run = trigger(&scene, far).await.unwrap().id;
    scene.is_put_off(run, TimeDelta::seconds(100)).await;
    trigger(&scene, debounced("k", 10 * SECOND, 1)).await.unwrap();
    scene.is_put_off(run, TimeDelta::seconds(100)).await;
    let past = NewRun { delay_until: Some(now - secs(100)), ..debounced("l", 10 * SECOND, 1) };
    let run = trigger(&scene, past).await.unwrap().id;
    assert_eq!(scene.status(run).await, RunStatus::Delayed);
    scene.is_put_off(run, TimeDelta::seconds(10)).await;
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_cannot_be_is_refused_by_the_name_of_its_field(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for (new, wrong) in [
        (debounced("", SECOND, 1), "debounce.key"),
        (debounced(&"x".repeat(513), SECOND, 1), "debounce.key"),
        (debounced("a\0b", SECOND, 1), "debounce.key"),
        (debounced("k", 999, 1), "debounce.delay"),
        (at_most(debounced("k", 2 * SECOND, 1), 2 * SECOND), "debounce.maxDelay"),
    ] {
        let refused = trigger(&scene, new).await;
        assert!(matches!(&refused, Err(Error::Invalid { field, .. }) if *field == wrong), "{wrong}: {refused:?}");
    }
    trigger(&scene, debounced(&"x".repeat(512), SECOND, 1)).await.unwrap();
    for _ in 0..2 {
        trigger(&scene, debounced("k", u64::MAX, 1)).await.unwrap();
    }
    assert_eq!(scene.count("select count(*) from runs").await, 2);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn items_of_a_batch_put_off_the_run_that_has_their_key_also_one_of_the_batch(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let earlier = trigger(&scene, debounced("earlier", 10 * SECOND, 0)).await.unwrap().id;
    let new = NewBatch { run_count: 4, parent: None, awaited: false, idempotency: None, request_key: None };
    let id = batch::create(&scene.store, scene.environment, new).await.unwrap().id;
    let items = [
        item(0, trailing(debounced("new", 20 * SECOND, 1))),
        item(1, debounced("earlier", 60 * SECOND, 2)),
        item(2, hello()),
        item(3, trailing(debounced("new", 30 * SECOND, 3))),
    ];
    batch::fill(&scene.store, scene.environment, id, items.into()).await.unwrap();
    batch::make_all(&scene.store, scene.environment, id).await.unwrap();
    let shown = batches::get(&scene.store, scene.environment, id).await.unwrap().unwrap();
    let [first, second, third, last] = shown.runs[..] else { panic!("{:?}", shown.runs) };
    assert!(first == last && second == earlier && third != first && shown.errors.is_empty(), "{:?}", shown.runs);
    assert_eq!(scene.count("select count(*) from runs").await, 3);
    let detail = runs::detail(&scene.store, scene.environment, first).await.unwrap().unwrap();
    assert_eq!((detail.run.status, detail.payload, detail.run.batch), (RunStatus::Delayed, Packet::json(&json!(3)), Some(id)));
    assert!(scene.run(earlier).await.delayed_until.unwrap() > scene.now().await + secs(50), "put off to a minute from now");
}
