//! Runs that are triggered at the same time.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;

use super::*;
use crate::{
    engine::{
        claim::{Claim, Terms},
        intake::{Intake, Room, Workplace},
    },
    model::{environment::NewVariable, task::LimitDefinition},
};

/// Has room for so many, and keeps what it is given.
#[derive(Clone)]
pub(super) struct Bench {
    worker: WorkerId,
    places: u32,
    begun: Arc<Mutex<Vec<Claimed>>>,
}

impl Workplace for Bench {
    fn room(&self, most: usize) -> Option<Box<dyn Room>> {
        let free = self.places - self.begun.lock().unwrap().len() as u32;
        (free > 0).then(|| Box::new((self.clone(), free.min(most as u32))) as Box<dyn Room>)
    }
}

impl Room for (Bench, u32) {
    fn terms(&self) -> Terms {
        terms(self.0.worker, self.1, secs(10))
    }

    fn begin(self: Box<Self>, claim: Claim) {
        self.0.begun.lock().unwrap().extend(claim.runs);
    }
}

impl Bench {
    pub(super) fn new(worker: WorkerId, places: u32) -> Bench {
        Bench { worker, places, begun: Arc::default() }
    }

    /// What it was given. There is room again.
    pub(super) fn take(&self) -> Vec<Claimed> {
        std::mem::take(&mut self.begun.lock().unwrap())
    }

    fn runs(&self) -> Vec<RunId> {
        self.begun.lock().unwrap().iter().map(|claimed| claimed.lease.run).collect()
    }
}

fn bench(places: u32) -> Bench {
    Bench::new(WorkerId::new(), places)
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_that_are_triggered_together_are_made_each_as_it_was_asked_for_and_once_for_each_request(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let intake = Intake::new(scene.store.clone(), None);
    let new = |n: i64| NewRun {
        payload: Packet::json(&json!(n)),
        tags: vec![format!("n:{n}"), "a,\"b\"".into()],
        metadata: serde_json::Map::from_iter([("z".into(), json!(n)), ("a".into(), json!("\u{1}"))]),
        request_key: (n % 3 == 0).then(|| format!("request {n}")),
        concurrency_key: (n % 2 == 0).then(|| format!("key {n}")),
        delay_until: (n == 7).then(|| Utc::now() + secs(60)),
        ttl_ms: (n == 8).then_some(60_000),
        max_attempts: (n == 9).then_some(4),
        machine: (n == 10).then_some(crate::model::machine::Machine::Large1x),
        ..hello()
    };
    let made = join_all((0..40).map(|n| intake.trigger(scene.environment, new(n)))).await;
    let ids: Vec<RunId> = made.into_iter().map(|made| made.unwrap().id).collect();
    for (n, id) in (0..40).zip(&ids) {
        let detail = runs::detail(&scene.store, scene.environment, *id).await.unwrap().unwrap();
        assert_eq!((&detail.payload, &detail.run.tags), (&new(n).payload, &new(n).tags), "{n}");
        assert_eq!(serde_json::to_string(&detail.run.metadata).unwrap(), serde_json::to_string(&new(n).metadata).unwrap());
        assert_eq!((&detail.run.concurrency_key, detail.run.ttl_ms), (&new(n).concurrency_key, new(n).ttl_ms), "{n}");
        assert_eq!((detail.run.machine, detail.run.root), (new(n).machine.or(Some(Default::default())), *id), "{n}");
        assert_eq!(detail.run.status, if n == 7 { RunStatus::Delayed } else { RunStatus::Queued }, "{n}");
        assert_eq!(scene.story(*id).await, ["triggered"], "{n}");
    }
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 40);
    let again = join_all((0..40).map(|n| intake.trigger(scene.environment, new(n)))).await;
    for (n, again) in (0..40).zip(again) {
        assert_eq!(again.unwrap().id == ids[n as usize], n % 3 == 0, "{n}: the same request is the same run");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_request_twice_at_the_same_time_makes_one_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let intake = Intake::new(scene.store.clone(), None);
    let new = NewRun { request_key: Some("one".into()), ..hello() };
    let made = join_all((0..30).map(|_| intake.trigger(scene.environment, new.clone()))).await;
    let ids: HashSet<RunId> = made.into_iter().map(|made| made.unwrap().id).collect();
    assert_eq!((ids.len(), scene.count("select count(*) from runs").await), (1, 1));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_wrong_with_one_run_is_not_held_against_those_beside_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let intake = Intake::new(scene.store.clone(), None);
    let nowhere = EnvironmentId::new();
    let made = join_all((0..20).map(|n| intake.trigger(if n == 11 { nowhere } else { scene.environment }, hello()))).await;
    for (n, made) in made.into_iter().enumerate() {
        match made {
            Err(error) => assert!(n == 11 && matches!(error, Error::NotFound { .. }), "{n}: {error:?}"),
            Ok(_) => assert_ne!(n, 11),
        }
    }
    assert_eq!(scene.count("select count(*) from runs").await, 19);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn where_there_is_room_a_run_is_leased_by_the_transaction_that_makes_it_but_not_before_older_ones(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let older = scene.trigger(hello()).await;
    let bench = bench(2);
    let intake = Intake::new(scene.store.clone(), Some(Arc::new(bench.clone())));
    let first = intake.trigger(scene.environment, hello()).await.unwrap().id;
    assert_eq!(bench.runs(), [older]);
    assert_eq!(scene.status(first).await, RunStatus::Queued);
    let second = intake.trigger(scene.environment, hello()).await.unwrap().id;
    assert_eq!(bench.runs(), [older, first]);
    let lease = bench.begun.lock().unwrap()[1].lease;
    assert_eq!((lease.worker, lease.attempt), (bench.worker, 1));
    assert_eq!(scene.story(first).await, ["triggered", "claimed"]);
    intake.trigger(scene.environment, hello()).await.unwrap();
    assert_eq!(bench.runs().len(), 2, "there is no more room");
    assert_eq!(scene.claim(1).await[0].lease.run, second, "other workers find what is left");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn where_nothing_is_in_line_a_run_is_never_in_line_and_is_given_to_its_worker_as_a_claim_would_give_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let variable = NewVariable { name: "COLOUR".into(), value: SecretString::from("grey"), is_secret: Some(true) };
    engine::variables::set(&scene.store, scene.environment, variable).await.unwrap();
    let new = NewRun {
        payload: Packet::json(&json!({ "n": 1 })),
        tags: vec!["a".into()],
        ttl_ms: Some(60_000),
        max_attempts: Some(2),
        max_duration_ms: Some(9_000),
        priority_ms: 5_000,
        concurrency_key: Some("ann".into()),
        machine: Some(crate::model::machine::Machine::Large1x),
        ..hello()
    };
    let bench = bench(9);
    let intake = Intake::new(scene.store.clone(), Some(Arc::new(bench.clone())));
    let id = intake.trigger(scene.environment, new.clone()).await.unwrap().id;
    let begun = bench.take().pop().expect("it begins");
    assert_eq!(scene.story(id).await, ["triggered", "claimed"]);
    assert_eq!((begun.lease.epoch, begun.lease.attempt, begun.lease.worker), (1, 1, bench.worker));
    assert_eq!(scene.count("select count(*) from runs where due_at is not null or lease_expires_at < clock_now()").await, 0);

    // The same through the line.
    scene.trigger(new).await;
    let claimed = scene.claim_one().await;
    let same = |mut run: Claimed| {
        run.lease = claimed.lease;
        (run.context.run, run.context.root, run.context.trace) = (claimed.lease.run, claimed.lease.run, claimed.lease.run);
        (run.context.created_at, run.context.started_at) = Default::default();
        run.context.attempt_started_at = Default::default();
        format!("{run:?}")
    };
    assert_eq!(same(begun.clone()), same(claimed.clone()));
    let run = scene.run(id).await;
    assert_eq!((begun.context.created_at, Some(begun.context.started_at)), (run.created_at, run.started_at));

    // It goes on as any other: lost, it comes into line at its place; held, it ends.
    engine::lease::give_back(&scene.store, &begun.lease).await.unwrap();
    let again = scene.claim_one().await.lease;
    assert_eq!((again.run, again.epoch, again.attempt), (id, 2, 1));
    scene.finish(&again, completed()).await.unwrap();
    assert_eq!(scene.status(id).await, RunStatus::Completed);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_begins_where_it_is_triggered_keeps_to_every_limit_and_pause(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut new =
        bundle(vec![task("hello"), TaskDefinition { concurrency_limits: vec!["gpu".into()], ..task("single") }], vec![]);
    new.definition.queues = vec![QueueDefinition { name: "narrow".into(), concurrency_limit: Some(1) }];
    new.definition.concurrency_limits = vec![LimitDefinition { name: "gpu".into(), total: Some(1), per_key: None }];
    engine::deploy::deploy(&scene.store, scene.environment, new).await.unwrap();
    let in_queue = |name: &str| NewRun { queue: Some(name.into()), ..hello() };
    let single = NewRun { task: "single".into(), ..hello() };
    scene.trigger(NewRun { delay_until: Some(scene.now().await + secs(900)), ..in_queue("paused") }).await;
    let paused = crate::store::queues::Which::Name("paused".into());
    let paused = crate::store::queues::get(&scene.store, scene.environment, &paused).await.unwrap().unwrap().id;
    engine::queue::pause(&scene.store, scene.environment, paused).await.unwrap();

    let bench = bench(50);
    let intake = Intake::new(scene.store.clone(), Some(Arc::new(bench.clone())));
    let begin = async |new: NewRun, count: usize| {
        let made = join_all((0..count).map(|_| intake.trigger(scene.environment, new.clone()))).await;
        // What did not begin is not in the way of the next.
        for made in made {
            let id = made.unwrap().id;
            if scene.status(id).await == RunStatus::Queued {
                engine::cancel::cancel(&scene.store, scene.environment, id).await.unwrap();
            }
        }
        bench.take().len()
    };
    let set = |limit, is_paused| engine::environment::set(&scene.store, scene.environment, Some(limit), Some(is_paused));
    assert_eq!(begin(in_queue("narrow"), 3).await, 1);
    assert_eq!(begin(single, 3).await, 1);
    assert_eq!(begin(in_queue("paused"), 3).await, 0);
    assert_eq!(begin(hello(), 3).await, 3);
    set(Some(7), false).await.unwrap();
    assert_eq!(begin(hello(), 9).await, 2, "five execute already");
    set(None, true).await.unwrap();
    assert_eq!(begin(hello(), 3).await, 0);
    set(None, false).await.unwrap();
    assert_eq!(begin(hello(), 60).await, 50, "there is room for so many");
}
