//! Runs that are triggered at the same time.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;

use super::*;
use crate::engine::{
    claim::{Claim, Terms},
    intake::{Intake, Room, Workplace},
};

/// Has room for so many, and keeps what it is given.
#[derive(Clone)]
struct Bench {
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

fn bench(places: u32) -> Bench {
    Bench { worker: WorkerId::new(), places, begun: Arc::default() }
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
    let begun = || bench.begun.lock().unwrap().iter().map(|claimed| claimed.lease.run).collect::<Vec<_>>();
    assert_eq!(begun(), [older]);
    assert_eq!(scene.status(first).await, RunStatus::Queued);
    let second = intake.trigger(scene.environment, hello()).await.unwrap().id;
    assert_eq!(begun(), [older, first]);
    let lease = bench.begun.lock().unwrap()[1].lease;
    assert_eq!((lease.worker, lease.attempt), (bench.worker, 1));
    assert_eq!(scene.story(first).await, ["triggered", "claimed"]);
    intake.trigger(scene.environment, hello()).await.unwrap();
    assert_eq!(begun().len(), 2, "there is no more room");
    assert_eq!(scene.claim(1).await[0].lease.run, second, "other workers find what is left");
}
