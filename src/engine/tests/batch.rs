//! Batches that are filled from outside.

use super::{children::item, *};
use crate::{
    engine::{
        batch::{self, Created, Filled},
        children,
    },
    model::{
        batch::{Batch, BatchStatus, Draft, Item, NewBatch, Refusal},
        error::ErrorCode,
        id::BatchId,
        trigger::RunIdempotency,
    },
    reconcile,
    store::batches,
};

fn of(run_count: u32) -> NewBatch {
    NewBatch { run_count, parent: None, awaited: false, idempotency: None, request_key: None }
}

fn keyed(run_count: u32, key: &str) -> NewBatch {
    let idempotency = Some(RunIdempotency { key: key.into(), shown: Some("mine".into()), ..RunIdempotency::default() });
    NewBatch { idempotency, ..of(run_count) }
}

fn items(places: std::ops::Range<u32>) -> Vec<Item> {
    places.map(|index| item(index, NewRun { payload: Packet::json(&json!(index)), ..hello() })).collect()
}

impl Scene {
    async fn create(&self, new: NewBatch) -> Created {
        batch::create(&self.store, self.environment, new).await.unwrap()
    }

    async fn fill(&self, batch: BatchId, items: Vec<Item>) -> Filled {
        batch::fill(&self.store, self.environment, batch, items).await.unwrap()
    }

    async fn make(&self, batch: BatchId) {
        batch::make_all(&self.store, self.environment, batch).await.unwrap();
    }

    async fn shown(&self, batch: BatchId) -> Batch {
        batches::get(&self.store, self.environment, batch).await.unwrap().expect("the batch is there")
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn items_become_runs_in_their_order_once_the_last_one_is_there(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.create(of(5)).await.id;
    assert_eq!(scene.shown(id).await.status(), BatchStatus::Pending);
    let filled = scene.fill(id, items(2..5)).await;
    assert_eq!(filled, Filled { accepted: 3, deduplicated: 0, sealed: false, count: 3, run_count: 5 });
    scene.make(id).await;
    assert_eq!(scene.count("select count(*) from runs").await, 0, "nothing is started before all are there");
    let filled = scene.fill(id, items(0..3)).await;
    assert_eq!(filled, Filled { accepted: 2, deduplicated: 1, sealed: true, count: 5, run_count: 5 });
    assert_eq!(scene.shown(id).await.status(), BatchStatus::Processing);
    scene.make(id).await;
    let shown = scene.shown(id).await;
    assert_eq!((shown.status(), shown.runs.len(), shown.made_at.is_some()), (BatchStatus::Processing, 5, true));
    for claimed in scene.claim(10).await {
        let place = shown.runs.iter().position(|run| *run == claimed.lease.run).unwrap();
        assert_eq!(claimed.payload, Packet::json(&json!(place)));
        assert_eq!((claimed.context.batch, claimed.context.parent), (Some(id), None));
        assert_eq!(claimed.context.root, claimed.lease.run);
        scene.finish(&claimed.lease, completed()).await.unwrap();
    }
    assert_eq!(scene.shown(id).await.status(), BatchStatus::Completed);
    let kept = "select count(*) from batch_items where draft is not null or payload is not null";
    assert_eq!(scene.count(kept).await, 0, "what was kept of the items is gone");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_sent_again_is_counted_and_left_aside(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.create(of(3)).await.id;
    scene.fill(id, items(0..2)).await;
    let twice = vec![item(2, hello()), item(2, hello())];
    let sent = futures_util::future::join_all((0..4).map(|_| scene.fill(id, items(0..2)))).await;
    assert!(sent.iter().all(|filled| (filled.accepted, filled.deduplicated, filled.sealed) == (0, 2, false)));
    let filled = scene.fill(id, twice).await;
    assert_eq!((filled.accepted, filled.deduplicated, filled.sealed), (1, 1, true));
    scene.make(id).await;
    let filled = scene.fill(id, items(0..3)).await;
    assert_eq!(filled, Filled { accepted: 0, deduplicated: 3, sealed: true, count: 3, run_count: 3 });
    scene.make(id).await;
    assert_eq!(scene.count("select count(*) from runs").await, 3);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn streams_that_race_seal_a_batch_once_and_make_each_run_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.create(of(40)).await.id;
    let sends = (0..6).map(|_| async {
        let filled = scene.fill(id, items(0..40)).await;
        scene.make(id).await;
        filled.accepted
    });
    let accepted: u32 = futures_util::future::join_all(sends).await.into_iter().sum();
    assert_eq!(accepted, 40);
    assert_eq!(scene.count("select count(*) from runs").await, 40);
    assert_eq!(scene.count("select count(distinct run_id) from batch_items").await, 40);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_place_that_the_batch_does_not_have_and_a_batch_that_is_not_there_are_refused(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.create(of(2)).await.id;
    let refused = batch::fill(&scene.store, scene.environment, id, items(1..3)).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "index", .. })), "{refused:?}");
    assert_eq!(scene.count("select count(*) from batch_items").await, 0);
    let foreign = environment(&scene.store, "proj_other").await;
    for (environment, id) in [(foreign, id), (scene.environment, BatchId::new())] {
        let absent = batch::fill(&scene.store, environment, id, items(0..1)).await;
        assert!(matches!(absent, Err(Error::NotFound { what: "batch" })), "{absent:?}");
    }
    for count in [0, 1001] {
        let refused = batch::create(&scene.store, scene.environment, of(count)).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "runCount", .. })), "{refused:?}");
    }
    let orphan = NewBatch { parent: Some(RunId::new()), ..of(1) };
    let refused = batch::create(&scene.store, scene.environment, orphan).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "parentRunId", .. })), "{refused:?}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_key_gets_the_same_batch_which_counts_as_cached_once_it_is_filled(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let first = scene.create(keyed(2, "k")).await;
    let again = scene.create(keyed(2, "k")).await;
    assert_eq!(again, first, "who asks for one that is not filled shall fill it");
    let other = batch::create(&scene.store, scene.environment, keyed(3, "k")).await;
    assert!(matches!(other, Err(Error::Invalid { field: "idempotencyKey", .. })), "{other:?}");
    scene.fill(first.id, items(0..2)).await;
    let cached = scene.create(keyed(7, "k")).await;
    assert_eq!(cached, Created { is_cached: true, ..first });
    assert_eq!(scene.shown(first.id).await.idempotency_key.as_deref(), Some("mine"));
    scene.advance(Duration::from_secs(31 * 24 * 60 * 60)).await;
    assert_ne!(scene.create(keyed(2, "k")).await.id, first.id, "30 days later the key is free");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_request_that_is_sent_again_within_a_day_gets_the_same_batch(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let request = || NewBatch { request_key: Some("6f1c".into()), ..of(1) };
    let made = futures_util::future::join_all((0..4).map(|_| scene.create(request()))).await;
    assert!(made.iter().all(|created| *created == made[0]), "{made:?}");
    scene.advance(secs(24 * 60 * 60 + 1)).await;
    assert_ne!(scene.create(request()).await.id, made[0].id);
    let left = scene.create(NewBatch { request_key: Some("other".into()), ..of(1) }).await;
    scene.advance(secs(24 * 60 * 60 + 1)).await;
    reconcile::gc::tick(&scene.store).await.unwrap();
    assert_eq!(scene.count("select count(*) from batches where request_key is not null").await, 0);
    assert_eq!(scene.shown(left.id).await.status(), BatchStatus::Pending);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn items_that_cannot_be_triggered_do_not_fail_the_batch_and_a_batch_of_such_is_aborted(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let unknown = |index| item(index, NewRun { version: Some("20200101.1".into()), ..hello() });
    let large = Refusal { code: ErrorCode::PayloadTooLarge, message: "large".into() };
    let large = Item { index: 2, task: "hello".into(), draft: Draft::Refused(large) };
    let id = scene.create(of(3)).await.id;
    scene.fill(id, vec![item(0, hello()), unknown(1), large]).await;
    scene.make(id).await;
    scene.finish(&scene.claim_one().await.lease, completed()).await.unwrap();
    let shown = scene.shown(id).await;
    assert_eq!((shown.status(), shown.runs.len(), shown.open_runs), (BatchStatus::PartialFailed, 3, 0));
    let error = &shown.errors[0];
    assert_eq!((shown.errors.len(), error.index, error.code.as_str()), (1, 1, "BATCH_ITEM_COULD_NOT_TRIGGER"));
    assert!(error.message.contains("version"), "{error:?}");

    let id = scene.create(of(2)).await.id;
    scene.fill(id, vec![unknown(0), unknown(1)]).await;
    scene.make(id).await;
    assert_eq!(scene.shown(id).await.status(), BatchStatus::Aborted);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_batch_that_is_never_filled_is_given_up(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.create(keyed(3, "k")).await.id;
    scene.advance(secs(3000)).await;
    scene.fill(id, items(0..1)).await;
    scene.advance(secs(3000)).await;
    assert_eq!(reconcile::batches::tick(&scene.store).await.unwrap().aborted, 0, "an hour after its last item");
    scene.advance(secs(601)).await;
    assert_eq!(reconcile::batches::tick(&scene.store).await.unwrap().aborted, 1);
    assert_eq!(scene.shown(id).await.status(), BatchStatus::Aborted);
    assert_eq!(scene.count("select count(*) from batch_items").await, 0);
    let late = batch::fill(&scene.store, scene.environment, id, items(0..1)).await;
    assert!(matches!(late, Err(Error::Conflict(_))), "{late:?}");
    assert_ne!(scene.create(keyed(3, "k")).await.id, id, "its key is free");
    let waited = engine::wait::look(&scene.store, scene.environment, &[id.into()]).await;
    assert!(matches!(waited, Err(Error::Conflict(_))), "{waited:?}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_crash_between_two_transactions_leaves_the_rest_of_a_batch_to_the_sweep(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let id = scene.create(of(450)).await.id;
    assert!(scene.fill(id, items(0..450)).await.sealed);
    assert!(batch::make_some(&scene.store, scene.environment, id).await.unwrap());
    // Here the process dies.
    assert_eq!(scene.count("select count(*) from runs").await, 200);
    assert_eq!(reconcile::batches::tick(&scene.store).await.unwrap().made, 0, "somebody may still be at it");
    scene.advance(secs(10)).await;
    assert_eq!(reconcile::batches::tick(&scene.store).await.unwrap().made, 1);
    let shown = scene.shown(id).await;
    assert_eq!((shown.status(), shown.runs.len()), (BatchStatus::Processing, 450));
    assert!(shown.runs.is_sorted(), "made in the order of the items");
    assert_eq!(scene.count("select count(*) from run_events").await, 450);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn two_batches_with_the_same_keys_in_another_order_do_not_block_each_other(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let with_keys = |reverse: bool| -> Vec<Item> {
        let key = |index: u32| if reverse { 99 - index } else { index };
        let keyed = |index: u32| RunIdempotency { key: key(index).to_string(), ..RunIdempotency::default() };
        (0..100).map(|index| item(index, NewRun { idempotency: Some(keyed(index)), ..hello() })).collect()
    };
    let send = async |reverse| {
        let id = scene.create(of(100)).await.id;
        scene.fill(id, with_keys(reverse)).await;
        scene.make(id).await;
        scene.shown(id).await.runs
    };
    let (mut forth, back) = futures_util::join!(send(false), send(true));
    forth.reverse();
    assert_eq!(forth, back);
    assert_eq!(scene.count("select count(*) from runs").await, 100);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_batch_has_its_parents_tree_and_goes_with_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await.run;
    let id = scene.create(NewBatch { parent: Some(parent), ..of(2) }).await.id;
    scene.fill(id, items(0..2)).await;
    scene.make(id).await;
    let run = scene.run(scene.shown(id).await.runs[1]).await;
    assert_eq!((run.parent, run.root, run.depth, run.batch), (Some(parent), parent, 1, Some(id)));
    engine::cancel::cancel(&scene.store, scene.environment, parent).await.unwrap();
    scene.advance(secs(31)).await;
    engine::lease::expire(&scene.store, 1).await.unwrap();
    while children::cancel_some(&scene.store).await.unwrap() {}
    assert_eq!(scene.count("select count(*) from runs where status <> 'CANCELED'").await, 0);
}
