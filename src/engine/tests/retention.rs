//! What has been over for long is deleted, and nothing else.

use super::{children::item, *};
use crate::{
    engine::{batch, journal::Call},
    model::{batch::NewBatch, payload::StoredPacket, trigger::RunIdempotency, waitpoint::Idempotency},
    reconcile::{
        gc,
        retention::{Swept, tick},
    },
    store::{packets, repeats},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Scene {
    /// Claims the next run, lets it log a line and make a token, and completes it.
    async fn complete_next(&self) -> RunId {
        let lease = self.claim_one().await.lease;
        let records = vec![super::read::line("hi").into(), super::read::span(&lease, 0)];
        engine::log::append(&self.store, &lease, records).await.unwrap();
        let call = Call { sequence: 0, ordinal: 0 };
        let token = engine::token::create_in_run(&self.store, &lease, call, NewToken::default()).await.unwrap();
        self.complete(token.id, 1).await;
        self.finish(&lease, completed()).await.unwrap();
        lease.run
    }

    async fn days_pass(&self, days: u32) {
        self.advance(DAY * days).await;
    }

    /// Rows of all tables that grow with runs.
    async fn rows(&self) -> Vec<(&'static str, i64)> {
        let mut rows = Vec::new();
        for (table, count) in [
            ("runs", "select count(*) from runs"),
            ("attempts", "select count(*) from attempts"),
            ("run_events", "select count(*) from run_events"),
            ("logs", "select count(*) from logs"),
            ("spans", "select count(*) from spans"),
            ("journal", "select count(*) from journal"),
            ("checkpoints", "select count(*) from checkpoints"),
            ("run_waits", "select count(*) from run_waits"),
            ("batches", "select count(*) from batches"),
            ("batch_items", "select count(*) from batch_items"),
            ("waitpoints", "select count(*) from waitpoints"),
            ("trigger_requests", "select count(*) from trigger_requests"),
            ("one_time_tokens", "select count(*) from one_time_tokens"),
            ("cancelled_parents", "select count(*) from cancelled_parents"),
        ] {
            rows.push((table, self.count(count).await));
        }
        rows.retain(|(_, count)| *count > 0);
        rows
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_has_been_over_for_long_goes_with_all_that_belonged_to_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.trigger(NewRun { request_key: Some("r".into()), ..hello() }).await;
    scene.complete_next().await;
    let new = NewBatch { run_count: 2, parent: None, awaited: false, idempotency: None, request_key: Some("b".into()) };
    let of_two = batch::create(&scene.store, scene.environment, new).await.unwrap().id;
    batch::fill(&scene.store, scene.environment, of_two, vec![item(0, hello()), item(1, hello())]).await.unwrap();
    batch::make_all(&scene.store, scene.environment, of_two).await.unwrap();
    for _ in 0..2 {
        let lease = scene.claim(1).await[0].lease;
        let sleep =
            WaitRequest::Timer { at: scene.now().await, idempotency: Some(Idempotency { key: "k".into(), ttl_ms: None }) };
        scene.suspend(&lease, 1, sleep).await.unwrap();
        scene.fire().await;
    }
    for claimed in scene.claim(2).await {
        scene.finish(&claimed.lease, failed(RetryDecision::Abort)).await.unwrap();
    }
    let parent = scene.executing().await;
    scene.trigger(NewRun { parent: Some(parent.run), delay_until: Some(scene.now().await + DAY), ..hello() }).await;
    engine::cancel::cancel(&scene.store, scene.environment, parent.run).await.unwrap();
    scene.finish(&parent, completed()).await.unwrap();
    engine::children::cancel_some(&scene.store).await.unwrap();

    scene.days_pass(29).await;
    assert_eq!(tick(&scene.store, KEEP).await.unwrap(), Swept::default(), "it is not old enough");
    scene.days_pass(2).await;
    assert_eq!(tick(&scene.store, KEEP).await.unwrap(), Swept { runs: 5, batches: 1, waitpoints: 2 });
    gc::tick(&scene.store).await.unwrap();
    assert_eq!(scene.rows().await, [], "nothing is left of them in any table");
    assert_eq!(tick(&scene.store, KEEP).await.unwrap(), Swept::default());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_goes_on_and_what_that_may_ask_for_stays(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let parent = scene.executing().await;
    let call = Call { sequence: 0, ordinal: 0 };
    let kept = engine::token::create_in_run(&scene.store, &parent, call, NewToken::default()).await.unwrap().id;
    scene.complete(kept, 7).await;
    let child = scene.trigger(NewRun { parent: Some(parent.run), ..hello() }).await;
    scene.complete_next().await;
    let open = scene.token().await;
    scene.suspend(&parent, 1, any(&[open])).await.unwrap();
    let idempotency =
        Some(RunIdempotency { key: "k".into(), ttl_ms: Some(60 * DAY.as_millis() as u64), ..RunIdempotency::default() });
    let keyed = scene.trigger(NewRun { idempotency, ..hello() }).await;
    scene.complete_next().await;
    let asleep = scene.trigger(NewRun { delay_until: Some(scene.now().await + 300 * DAY), ..hello() }).await;

    scene.days_pass(31).await;
    let swept = tick(&scene.store, KEEP).await.unwrap();
    assert_eq!(swept, Swept { runs: 0, batches: 0, waitpoints: 2 }, "the tokens of the two that are final");
    for run in [parent.run, child, keyed, asleep] {
        assert!(runs::get(&scene.store, scene.environment, run).await.unwrap().is_some(), "{run}");
    }
    scene.complete(open, 1).await;
    let claimed = scene.claim_one().await;
    assert_eq!(claimed.resume.unwrap().completions.len(), 1);
    let all = engine::wait::look(&scene.store, scene.environment, &[kept.into(), child.into()]).await.unwrap();
    assert_eq!(all.len(), 2, "what it made and started can still be waited for");
    scene.finish(&claimed.lease, completed()).await.unwrap();

    scene.days_pass(31).await;
    let swept = tick(&scene.store, KEEP).await.unwrap();
    assert_eq!(swept, Swept { runs: 3, batches: 0, waitpoints: 2 });
    assert_eq!(scene.status(asleep).await, RunStatus::Delayed);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn many_are_deleted_in_steps_past_those_that_stay_by_sweeps_side_by_side(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let asleep = scene.trigger(NewRun { delay_until: Some(scene.now().await + 300 * DAY), ..hello() }).await;
    sqlx::query(
        "insert into runs (id, environment_id, task, status, payload, payload_type, root_id, queue_id, finished_at)
         select uuid_in(overlay(md5(n::text) placing '0190a0a000007000' from 1)::cstring), $1, 'hello',
             case when n % 3 = 0 then 'DELAYED' else 'COMPLETED' end, '', 'application/json', gen_random_uuid(), gen_random_uuid(),
             case when n % 3 = 0 then null else now() end
         from generate_series(1, 3000) n",
    )
    .bind(scene.environment.uuid())
    .execute(&scene.pool)
    .await
    .unwrap();
    scene.days_pass(31).await;
    let (one, other) = futures_util::join!(tick(&scene.store, KEEP), tick(&scene.store, KEEP));
    let third = tick(&scene.store, KEEP).await.unwrap();
    assert_eq!(one.unwrap().runs + other.unwrap().runs + third.runs, 2000);
    assert_eq!(scene.count("select count(*) from runs").await, 1001);
    assert_eq!(scene.status(asleep).await, RunStatus::Delayed);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_waited_for_what_is_gone_does_not_keep_others_from_being_claimed(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let (gone, there) = (scene.token().await, scene.token().await);
    scene.suspend(&lease, 1, any(&[gone, there])).await.unwrap();
    scene.complete(gone, 1).await;
    sqlx::query("delete from waitpoints where id = $1").bind(gone.uuid()).execute(&scene.pool).await.unwrap();
    scene.trigger(hello()).await;
    let claimed = scene.claim(10).await;
    assert_eq!(claimed.len(), 2);
    let resumed = claimed.iter().find(|claimed| claimed.lease.run == lease.run).unwrap();
    assert_eq!(resumed.resume.as_ref().unwrap().completions, [], "the guest is told that its wait came to nothing");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_payload_in_the_blob_store_is_kept_while_a_path_or_a_run_names_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let packet = StoredPacket { digest: "ab".repeat(32), bytes: 9, content_type: "application/json".into() };
    let is_orphan = async || !gc::orphans(&scene.store, std::slice::from_ref(&packet.digest)).await.unwrap().is_empty();
    assert!(is_orphan().await);
    let (environment, put) = (scene.environment, packet.clone());
    scene.store.tx(move |tx| Box::pin(async move { packets::put(tx, environment, "a/b", &put).await })).await.unwrap();
    assert_eq!(packets::get(&scene.store, environment, "a/b").await.unwrap().as_ref(), Some(&packet));
    assert!(!is_orphan().await);
    scene.days_pass(1).await;
    gc::tick(&scene.store).await.unwrap();
    assert_eq!(packets::get(&scene.store, environment, "a/b").await.unwrap(), None, "no run can be triggered with it any more");
    assert!(!is_orphan().await, "but a batch that is being filled may name it");
    scene.trigger(NewRun { payload: packet.to_packet(), ttl_ms: Some(0), ..hello() }).await;
    scene.days_pass(1).await;
    gc::tick(&scene.store).await.unwrap();
    assert_eq!(scene.count("select count(*) from packets").await, 0);
    assert!(!is_orphan().await, "the run names it");
    let lease = scene.claim_one().await.lease;
    scene.finish(&lease, completed()).await.unwrap();
    scene.days_pass(40).await;
    tick(&scene.store, KEEP).await.unwrap();
    assert!(is_orphan().await);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_is_being_repeated_stays_until_its_repetition_names_its_payload(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let packet = StoredPacket { digest: "cd".repeat(32), bytes: 9, content_type: "application/json".into() };
    scene.trigger(NewRun { payload: packet.to_packet(), ..hello() }).await;
    let lease = scene.claim_one().await.lease;
    scene.finish(&lease, completed()).await.unwrap();
    scene.days_pass(40).await;
    let mut repeating = scene.pool.begin().await.unwrap();
    let original = repeats::original(&mut repeating, scene.environment, lease.run).await.unwrap();
    assert_eq!(original.unwrap().payload, packet.to_packet());
    tick(&scene.store, KEEP).await.unwrap();
    let is_orphan = async || !gc::orphans(&scene.store, std::slice::from_ref(&packet.digest)).await.unwrap().is_empty();
    assert!(!is_orphan().await);
    repeating.commit().await.unwrap();
    tick(&scene.store, KEEP).await.unwrap();
    assert!(is_orphan().await, "nobody repeated it after all");
}
