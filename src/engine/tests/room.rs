//! Queues that are full.

use futures_util::future::join_all;

use super::{children::item, *};
use crate::{
    engine::{batch, children, intake::Intake, journal::Call, room, schedule},
    model::{
        batch::NewBatch,
        child::Intent,
        trigger::{Debounce, DebounceMode, RunIdempotency},
    },
    store::{queues, room::Sizes},
};

impl Scene {
    /// The same with queues that take so many runs, of which this process has counted none yet.
    fn with_room_for(self, development: u64) -> Scene {
        let store = self.store.clone().with_queue_sizes(Sizes { development: Some(development), deployed: Some(1) });
        Scene { store, ..self }
    }

    async fn is_refused(&self, new: NewRun) -> bool {
        match engine::trigger::trigger(&self.store, self.environment, new).await {
            Ok(_) => false,
            Err(Error::QueueFull { queue, size }) => {
                assert_eq!((queue.as_str(), size), ("task/hello", 2));
                true
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn runs(&self) -> i64 {
        self.count("select count(*) from runs").await
    }
}

fn keyed(key: &str) -> NewRun {
    NewRun { idempotency: Some(RunIdempotency { key: key.into(), ..RunIdempotency::default() }), ..hello() }
}

fn batch_of(run_count: u32) -> NewBatch {
    NewBatch { run_count, parent: None, awaited: false, idempotency: None, request_key: None }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_full_queue_takes_no_more_runs_until_some_have_begun_and_others_are_not_concerned(pool: PgPool) {
    let scene = Scene::new(pool).await.with_room_for(2);
    let request = NewRun { request_key: Some("again".into()), ..hello() };
    assert!(!scene.is_refused(hello()).await && !scene.is_refused(keyed("first")).await);
    assert!(scene.is_refused(hello()).await && scene.is_refused(keyed("third")).await && scene.is_refused(request.clone()).await);
    let later = scene.now().await + secs(60);
    assert!(scene.is_refused(NewRun { delay_until: Some(later), ..hello() }).await, "whenever it would begin");
    assert_eq!(scene.runs().await, 2, "nothing is left of those that were refused");
    assert!(!scene.is_refused(keyed("first")).await, "a run that is there needs no room");
    assert!(!scene.is_refused(NewRun { queue: Some("another".into()), ..hello() }).await);

    let scene = scene.with_room_for(2);
    scene.claim(2).await;
    assert!(!scene.is_refused(request).await, "the request that was refused may be sent again");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_has_begun_comes_back_into_a_full_line(pool: PgPool) {
    let scene = Scene::new(pool).await.with_room_for(2);
    let delayed = scene.trigger(NewRun { delay_until: Some(scene.now().await + secs(60)), ..hello() }).await;
    let lease = scene.executing().await;
    let token = scene.token().await;
    scene.suspend(&lease, 1, any(&[token])).await.unwrap();
    let scene = scene.with_room_for(2);
    scene.trigger(hello()).await;
    scene.trigger(hello()).await;
    scene.complete(token, 1).await;
    scene.advance(secs(61)).await;
    scene.fire().await;
    assert_eq!((scene.status(lease.run).await, scene.status(delayed).await), (RunStatus::Queued, RunStatus::Queued));
    assert!(scene.with_room_for(2).is_refused(hello()).await);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_that_are_triggered_together_are_made_as_far_as_there_is_room(pool: PgPool) {
    let scene = Scene::new(pool).await.with_room_for(2);
    let intake = Intake::new(scene.store.clone(), None);
    let made = join_all((0..30).map(|_| intake.trigger(scene.environment, hello()))).await;
    let refused = made.iter().filter(|made| matches!(made, Err(Error::QueueFull { .. }))).count();
    assert_eq!((made.iter().filter(|made| made.is_ok()).count(), refused), (2, 28));
    assert_eq!(scene.runs().await, 2);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_batch_that_does_not_fit_is_refused_whole_and_its_last_items_may_be_sent_again(pool: PgPool) {
    let scene = Scene::new(pool).await.with_room_for(2);
    let items = |places: std::ops::Range<u32>| places.map(|index| item(index, hello())).collect::<Vec<_>>();
    let whole = batch::create_filled(&scene.store, scene.environment, batch_of(3), items(0..3)).await;
    assert!(matches!(whole, Err(Error::QueueFull { .. })), "{whole:?}");
    assert_eq!(scene.count("select count(*) from batches").await, 0);

    let run = scene.trigger(hello()).await;
    let batch = batch::create(&scene.store, scene.environment, batch_of(2)).await.unwrap().id;
    let fill = async |scene: &Scene, places| batch::fill(&scene.store, scene.environment, batch, items(places)).await;
    assert!(!fill(&scene, 0..1).await.unwrap().sealed);
    assert!(matches!(fill(&scene, 1..2).await, Err(Error::QueueFull { .. })));
    assert_eq!((scene.runs().await, scene.count("select count(*) from batch_items").await), (1, 1));

    let scene = scene.with_room_for(2);
    assert_eq!(scene.claim_one().await.lease.run, run);
    assert!(fill(&scene, 0..2).await.unwrap().sealed);
    // Acknowledged: whatever comes into line before they are made.
    scene.trigger(hello()).await;
    batch::make_all(&scene.store, scene.environment, batch).await.unwrap();
    assert_eq!(scene.count("select count(*) from runs where status = 'QUEUED'").await, 3);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_learns_that_there_is_no_room_for_its_children(pool: PgPool) {
    let scene = Scene::new(pool).await.with_room_for(2);
    let lease = scene.executing().await;
    let scene = scene.with_room_for(2);
    let call = |ordinal| Call { sequence: 0, ordinal };
    let items = |count| (0..count).map(|index| item(index, hello())).collect::<Vec<_>>();
    let batch = async |ordinal, count| {
        children::batch_trigger(&scene.store, &lease, call(ordinal), items(count), None, Intent::Forget).await
    };
    assert!(matches!(batch(0, 3).await, Err(Error::QueueFull { .. })));
    batch(0, 2).await.unwrap();
    let one = children::trigger(&scene.store, &lease, call(1), hello(), Intent::Wait).await;
    assert!(matches!(one, Err(Error::QueueFull { .. })), "{one:?}");
    batch(0, 2).await.unwrap();
    assert_eq!(scene.runs().await, 3, "made again, the same call has the same children");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_debounced_run_is_put_off_also_when_its_queue_is_full(pool: PgPool) {
    let scene = Scene::new(pool).await.with_room_for(2);
    let debounce = Debounce { key: "k".into(), delay_ms: 60_000, mode: DebounceMode::Leading, max_delay_ms: None };
    let debounced = || NewRun { debounce: Some(debounce.clone()), ..hello() };
    let run = scene.trigger(debounced()).await;
    scene.trigger(hello()).await;
    scene.trigger(hello()).await;
    let scene = scene.with_room_for(2);
    assert!(scene.is_refused(hello()).await);
    assert_eq!(scene.trigger(debounced()).await, run);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_schedule_whose_queue_is_full_fires_once_there_is_room(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let report = TaskDefinition {
        kind: TaskKind::Scheduled,
        schedule: Some(crate::model::task::ScheduleDefinition {
            cron: "* * * * *".into(),
            timezone: "UTC".into(),
            environments: Vec::new(),
            window: None,
        }),
        ..task("report")
    };
    scene.deploy(vec![report], vec![]).await;
    let scene = scene.with_room_for(1);
    scene.trigger(NewRun::of("report", Packet::empty())).await;
    scene.advance(secs(60)).await;
    let of_schedule = "select count(*) from runs where schedule_id is not null";
    assert_eq!(schedule::fire_due(&scene.store, 10).await.unwrap(), 1);
    assert_eq!(scene.count(of_schedule).await, 0, "there is no room");
    let scene = scene.with_room_for(1);
    scene.claim_one().await;
    scene.advance(secs(61)).await;
    assert_eq!(schedule::fire_due(&scene.store, 10).await.unwrap(), 1);
    assert_eq!(scene.count(of_schedule).await, 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_line_is_counted_once_a_second_and_not_beyond_its_limit(pool: PgPool) {
    let scene = Scene::new(pool).await.with_room_for(100);
    let connection = &mut *scene.store.read().await.unwrap();
    let kind = EnvironmentKind::Development;
    let queue = queues::ensure(connection, scene.environment, "task/hello").await.unwrap();
    let rooms = scene.store.rooms().clone();
    assert_eq!(rooms.left(connection, scene.environment, kind, queue).await.unwrap(), Some(100));
    rooms.take(queue, 30);
    sqlx::query(
        "insert into runs (id, environment_id, task, status, payload, payload_type, root_id, queue_id, position)
         select gen_random_uuid(), $1, 'hello', 'QUEUED', '', 'application/json', gen_random_uuid(), $2, now()
         from generate_series(1, 5000)",
    )
    .bind(scene.environment.uuid())
    .bind(queue.uuid())
    .execute(&mut *connection)
    .await
    .unwrap();
    assert_eq!(rooms.left(connection, scene.environment, kind, queue).await.unwrap(), Some(70), "as it was counted");
    let error = room::full(&rooms, kind, "task/hello".into());
    assert!(error.to_string().contains("task/hello") && error.to_string().contains("100"), "{error}");
    let counted_now = crate::store::room::Rooms::new(Sizes { development: Some(100), deployed: None });
    assert_eq!(counted_now.left(connection, scene.environment, kind, queue).await.unwrap(), Some(0));
    let kind = EnvironmentKind::Production;
    assert_eq!(counted_now.left(connection, scene.environment, kind, queue).await.unwrap(), None, "any number");
}
