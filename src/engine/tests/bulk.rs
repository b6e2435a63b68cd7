//! Bulk actions.

use super::*;
use crate::{
    engine::bulk,
    model::{
        bulk::{BulkAction, BulkKind, BulkStatus},
        id::BulkActionId,
    },
    reconcile,
    store::{
        bulk_actions::{self, NewBulkAction, Selection},
        runs::Filter,
    },
};

impl Scene {
    async fn tagged(&self, count: usize) -> Vec<RunId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.trigger(NewRun { tags: vec!["t".into()], ..hello() }).await);
        }
        ids
    }

    async fn bulk(&self, kind: BulkKind, selection: Selection) -> Result<BulkActionId, Error> {
        let new = NewBulkAction { kind, name: None, selection, total: 0, request_key: None };
        bulk::create(&self.store, self.environment, new).await
    }

    async fn action(&self, id: BulkActionId) -> BulkAction {
        bulk_actions::get(&self.store, self.environment, id).await.unwrap().unwrap()
    }

    async fn with_status(&self, status: &'static str) -> i64 {
        sqlx::query_scalar("select count(*) from runs where status = $1").bind(status).fetch_one(&self.pool).await.unwrap()
    }
}

fn by_tag() -> Selection {
    Selection::Filter(Filter { tags: vec!["t".into()], ..Filter::default() })
}

fn counts(action: &BulkAction) -> (BulkStatus, u64, u64, u64) {
    (action.status, action.total, action.success, action.failure)
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_that_a_filter_finds_are_cancelled_in_portions_and_those_that_ended_count_as_failed(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let ids = scene.tagged(60).await;
    scene.trigger(hello()).await;
    engine::cancel::cancel(&scene.store, scene.environment, ids[10]).await.unwrap();
    let id = scene.bulk(BulkKind::Cancel, by_tag()).await.unwrap();
    assert_eq!(counts(&scene.action(id).await), (BulkStatus::Pending, 60, 0, 0));
    let action = bulk_actions::pending(&scene.store, 10).await.unwrap().remove(0);
    assert!(bulk::advance(&scene.store, &action).await.unwrap());
    assert_eq!(scene.with_status("CANCELED").await, 26, "one portion");
    assert!(!bulk::advance(&scene.store, &action).await.unwrap(), "what was seen before that is out of date");
    assert_eq!(scene.with_status("CANCELED").await, 26);
    reconcile::bulk::tick(&scene.store).await.unwrap();
    let done = scene.action(id).await;
    assert_eq!(counts(&done), (BulkStatus::Completed, 60, 59, 1));
    assert!(done.completed_at.is_some());
    assert_eq!((scene.with_status("CANCELED").await, scene.with_status("QUEUED").await), (60, 1));
    assert_eq!(scene.count("select count(*) from bulk_action_runs").await, 59);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_are_replayed_once_each_by_sweeps_side_by_side_and_the_replays_are_left_alone(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut ids = scene.tagged(30).await;
    let absent = RunId::new();
    ids.push(absent);
    ids.push(ids[0]);
    let id = scene.bulk(BulkKind::Replay, Selection::Runs(ids)).await.unwrap();
    let sweeps = (0..4).map(|_| reconcile::bulk::tick(&scene.store));
    futures_util::future::try_join_all(sweeps).await.unwrap();
    reconcile::bulk::tick(&scene.store).await.unwrap();
    assert_eq!(counts(&scene.action(id).await), (BulkStatus::Completed, 31, 30, 1), "each once, and one is not there");
    assert_eq!(scene.count("select count(*) from runs where replay_of is not null").await, 30);
    assert_eq!(scene.count("select count(distinct replay_of) from runs").await, 30);
    let made = Filter { bulk_action: Some(id), ..Filter::default() };
    assert_eq!(crate::store::runs::count(&scene.store, scene.environment, &made).await.unwrap(), 30);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_action_that_is_aborted_goes_no_further_and_one_that_is_over_stays_as_it_is(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.tagged(30).await;
    let id = scene.bulk(BulkKind::Cancel, by_tag()).await.unwrap();
    let action = bulk_actions::pending(&scene.store, 10).await.unwrap().remove(0);
    assert!(bulk::advance(&scene.store, &action).await.unwrap());
    bulk::abort(&scene.store, scene.environment, id).await.unwrap();
    reconcile::bulk::tick(&scene.store).await.unwrap();
    assert_eq!(counts(&scene.action(id).await), (BulkStatus::Aborted, 30, 25, 0));
    assert_eq!(scene.with_status("CANCELED").await, 25);
    let over = scene.action(id).await;
    bulk::abort(&scene.store, scene.environment, id).await.unwrap();
    assert_eq!(scene.action(id).await, over);
    let elsewhere = bulk::abort(&scene.store, scene.environment, BulkActionId::new()).await;
    assert!(matches!(elsewhere, Err(Error::NotFound { .. })));
    scene.advance(reconcile::gc::KEEP_BULK).await;
    reconcile::gc::tick(&scene.store).await.unwrap();
    assert_eq!(scene.count("select count(*) from bulk_actions").await, 0);
    assert_eq!(scene.count("select count(*) from runs").await, 30);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_request_makes_one_action_and_there_are_only_so_many(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let new =
        || NewBulkAction { kind: BulkKind::Replay, name: None, selection: by_tag(), total: 0, request_key: Some("r".into()) };
    let create = || bulk::create(&scene.store, scene.environment, new());
    let (one, other) = tokio::join!(create(), create());
    assert_eq!(one.unwrap(), other.unwrap());
    for _ in 1..bulk::MAX_PENDING {
        scene.bulk(BulkKind::Cancel, by_tag()).await.unwrap();
    }
    assert!(matches!(scene.bulk(BulkKind::Cancel, by_tag()).await, Err(Error::Conflict(_))));
    create().await.unwrap();
}
