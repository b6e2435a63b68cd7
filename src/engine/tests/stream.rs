//! Appends to streams, values that are sent to runs, and waits for them.

use super::*;
use crate::{
    engine::{
        children, input,
        journal::Call,
        stream::{self, append, append_in_run},
    },
    model::{
        child::Intent,
        stream::{
            Direction, InputCursor, InputValue, MAX_APPEND_BYTES, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_INPUT_BYTES, StreamId,
            StreamTarget,
        },
        waitpoint::{Completion, Idempotency, Resolution},
    },
};

const fn call(sequence: u64, ordinal: u32) -> Call {
    Call { sequence, ordinal }
}

fn texts(chunks: &[&str]) -> Vec<String> {
    chunks.iter().map(ToString::to_string).collect()
}

impl Scene {
    async fn say(&self, lease: &Lease, call: Call, chunks: &[&str]) -> Result<u64, Error> {
        let chunks = texts(chunks);
        append_in_run(&self.store, lease, self.environment, call, StreamTarget::This, "log".into(), chunks).await
    }

    /// The stream, without gaps.
    async fn said(&self, run: RunId, direction: Direction) -> Vec<String> {
        let stream = StreamId { run, direction, key: "log".into() };
        let page = stream::read(&self.store, self.environment, &stream, 0, 1 << 20).await.unwrap();
        assert!(page.chunks.iter().zip(0..).all(|(chunk, index)| chunk.index == index));
        page.chunks.into_iter().map(|chunk| chunk.data).collect()
    }

    async fn send(&self, run: RunId, value: i64) -> Result<u64, Error> {
        let value = Packet::json(&json!(value));
        input::send(&self.store, self.environment, run, "log".into(), value, None).await
    }

    async fn wait_for(&self, lease: &Lease, call: Call, after: Option<u64>, timeout: Option<Duration>) -> WaitpointId {
        let timeout = match timeout {
            Some(timeout) => Some(self.now().await + timeout),
            None => None,
        };
        let cursor = InputCursor { stream: "log".into(), after };
        input::start(&self.store, lease, call, cursor, timeout, None).await.unwrap()
    }
}

fn received(index: u64, value: i64) -> Vec<Completion> {
    let value = InputValue { stream: "log".into(), index, value: Packet::json(&json!(value)) };
    vec![Completion { index: 0, resolution: Resolution::Input(value) }]
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_says_the_same_again_after_a_crash_has_said_it_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    assert_eq!(scene.say(&lease, call(0, 0), &["1", "2"]).await.unwrap(), 1);
    assert_eq!(scene.say(&lease, call(0, 1), &["3"]).await.unwrap(), 2);
    // The host is lost; another goes on from the same place.
    scene.advance(LEASE + secs(1)).await;
    engine::lease::expire(&scene.store, 10).await.unwrap();
    let again = scene.claim_one().await.lease;
    assert_eq!(scene.say(&again, call(0, 0), &["1", "2"]).await.unwrap(), 1);
    assert_eq!(scene.say(&again, call(0, 1), &["another"]).await.unwrap(), 3, "what is new is said");
    assert_eq!(scene.say(&again, call(1, 0), &["1", "2"]).await.unwrap(), 5, "after a checkpoint the same is new");
    assert_eq!(scene.said(lease.run, Direction::Out).await, ["1", "2", "3", "another", "1", "2"]);
    assert!(matches!(scene.say(&lease, call(0, 2), &["late"]).await, Err(Error::LostLease)));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn another_attempt_says_its_own(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    scene.say(&lease, call(0, 0), &["1"]).await.unwrap();
    scene.finish(&lease, failed(RetryDecision::Delay(0))).await.unwrap();
    let second = scene.claim_one().await.lease;
    scene.say(&second, call(0, 0), &["1"]).await.unwrap();
    assert_eq!(scene.said(lease.run, Direction::Out).await, ["1", "1"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn many_writers_share_a_stream_and_each_keeps_its_order(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let child = children::trigger(&scene.store, &lease, call(0, 0), hello(), Intent::Forget).await.unwrap().id;
    let claimed = scene.claim_one().await.lease;
    assert_eq!(claimed.run, child);
    let child = claimed;
    let outside = StreamId { run: lease.run, direction: Direction::Out, key: "log".into() };
    let writers = (0..6).map(|writer| {
        let (scene, outside) = (&scene, &outside);
        async move {
            for number in 0..10_u32 {
                let text = vec![format!("[{writer},{number}]")];
                let (store, environment) = (&scene.store, scene.environment);
                match writer {
                    0 => {
                        let target = StreamTarget::This;
                        append_in_run(store, &lease, environment, call(0, number + 1), target, "log".into(), text).await.unwrap()
                    }
                    1 | 2 => {
                        let target = if writer == 1 { StreamTarget::Parent } else { StreamTarget::Root };
                        let call = call(0, writer * 100 + number);
                        append_in_run(store, &child, environment, call, target, "log".into(), text).await.unwrap()
                    }
                    _ => append(store, environment, outside.clone(), text, None).await.unwrap(),
                };
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let said = scene.said(lease.run, Direction::Out).await;
    for writer in 0..6 {
        let own: Vec<&String> = said.iter().filter(|text| text.starts_with(&format!("[{writer},"))).collect();
        assert_eq!(own, (0..10).map(|number| format!("[{writer},{number}]")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    }
    assert_eq!(said.len(), 60);
    let made = scene.story(lease.run).await.into_iter().filter(|kind| *kind == "changed").count();
    assert_eq!(made, 1, "subscribers are told once that there is a stream");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn nothing_is_said_by_or_to_a_run_that_is_over_or_of_others(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    scene.say(&lease, call(0, 0), &["1"]).await.unwrap();
    scene.finish(&lease, completed()).await.unwrap();
    let stream = StreamId { run: lease.run, direction: Direction::Out, key: "log".into() };
    let say = async |environment, stream: StreamId| append(&scene.store, environment, stream, texts(&["2"]), None).await;
    assert!(matches!(say(scene.environment, stream.clone()).await, Err(Error::Conflict(_))));
    assert!(matches!(scene.send(lease.run, 1).await, Err(Error::Conflict(_))));
    let other = environment(&scene.store, "proj_others").await;
    assert!(matches!(say(other, stream.clone()).await, Err(Error::NotFound { .. })));
    assert!(matches!(scene.send(RunId::new(), 1).await, Err(Error::NotFound { .. })));
    let page = stream::read(&scene.store, scene.environment, &stream, 0, 1 << 20).await.unwrap();
    assert_eq!((page.chunks.len(), page.next, page.is_ended), (1, 1, true));
    assert_eq!(scene.count("select count(*) from streams").await, 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_too_much_is_refused_and_nothing_of_it_kept(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let run = scene.trigger(hello()).await;
    let stream = |key: &str| StreamId { run, direction: Direction::Out, key: key.into() };
    let say = async |key: &str, chunks: Vec<String>| append(&scene.store, scene.environment, stream(key), chunks, None).await;
    let wrong = [
        say("", texts(&["1"])).await,
        say(&"k".repeat(257), texts(&["1"])).await,
        say("log", vec![]).await,
        say("log", vec!["1".into(); MAX_CHUNKS + 1]).await,
        append(&scene.store, scene.environment, stream("log"), texts(&["1"]), Some("a b".into())).await,
    ];
    assert!(wrong.iter().all(|answer| matches!(answer, Err(Error::Invalid { .. }))), "{wrong:?}");
    let large = [
        say("log", vec!["1".repeat(MAX_CHUNK_BYTES + 1)]).await,
        say("log", vec!["1".repeat(MAX_CHUNK_BYTES); MAX_APPEND_BYTES / MAX_CHUNK_BYTES + 1]).await,
        input::send(
            &scene.store,
            scene.environment,
            run,
            "log".into(),
            Packet { data: vec![b'1'; MAX_INPUT_BYTES + 1], content_type: "text/plain".into() },
            None,
        )
        .await,
    ];
    assert!(large.iter().all(|answer| matches!(answer, Err(Error::TooLarge { .. }))), "{large:?}");
    assert_eq!(scene.count("select count(*) from streams").await, 0);
    say("log", texts(&["1"])).await.unwrap();
    sqlx::query("update streams set bytes = 300 * 1024 * 1024").execute(&scene.pool).await.unwrap();
    assert!(matches!(say("log", texts(&["1"])).await, Err(Error::TooLarge { .. })));
    let fill =
        "insert into streams (run_id, direction, key) select run_id, direction, n::text from streams, generate_series(1, 999) n";
    sqlx::query(fill).execute(&scene.pool).await.unwrap();
    assert!(matches!(say("one more", texts(&["1"])).await, Err(Error::TooLarge { .. })));
    assert_eq!(scene.count("select count(*) from streams").await, 1000);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_value_that_comes_while_a_run_sleeps_wakes_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    assert_eq!(scene.send(lease.run, 1).await.unwrap(), 0);
    let waitpoint = scene.wait_for(&lease, call(0, 0), Some(0), None).await;
    assert_eq!(scene.wait_for(&lease, call(0, 0), Some(0), None).await, waitpoint, "the same call has the same waitpoint");
    scene.suspend(&lease, 1, any(&[waitpoint])).await.unwrap();
    assert_eq!(scene.status(lease.run).await, RunStatus::Waiting);
    assert_eq!(scene.send(lease.run, 2).await.unwrap(), 1);
    assert_eq!(scene.send(lease.run, 3).await.unwrap(), 2);
    assert_eq!(scene.claim_one().await.resume.unwrap().completions, received(1, 2));
    assert_eq!(scene.said(lease.run, Direction::In).await, ["1", "2", "3"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_value_that_is_there_before_the_wait_ends_it_at_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    for value in [7, 8] {
        scene.send(lease.run, value).await.unwrap();
    }
    let first = scene.wait_for(&lease, call(0, 0), None, None).await;
    let second = scene.wait_for(&lease, call(0, 1), Some(0), None).await;
    let look = async |id: WaitpointId| engine::wait::look(&scene.store, scene.environment, &[id.into()]).await.unwrap();
    assert_eq!((look(first).await, look(second).await), (received(0, 7), received(1, 8)));
    let third = scene.wait_for(&lease, call(0, 2), Some(1), Some(secs(60))).await;
    assert_eq!(look(third).await, []);
    scene.advance(secs(61)).await;
    scene.fire().await;
    assert!(matches!(look(third).await[..], [Completion { resolution: Resolution::NoInput(_), .. }]));
    scene.send(lease.run, 9).await.unwrap();
    assert!(matches!(look(third).await[..], [Completion { resolution: Resolution::NoInput(_), .. }]), "it came too late");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn sends_and_waits_that_race_lose_no_value_and_block_nobody(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    for round in 0..30_u64 {
        let after = round.checked_sub(1);
        let wait = async {
            let waitpoint = scene.wait_for(&lease, call(0, round as u32), after, Some(secs(600))).await;
            loop {
                let found = engine::wait::look(&scene.store, scene.environment, &[waitpoint.into()]).await.unwrap();
                if !found.is_empty() {
                    return found;
                }
            }
        };
        let (found, sent) = tokio::join!(wait, scene.send(lease.run, round as i64));
        assert_eq!((found, sent.unwrap()), (received(round, round as i64), round));
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_value_may_come_while_the_run_is_being_suspended(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for round in 0..15 {
        let lease = scene.executing().await;
        let waitpoint = scene.wait_for(&lease, call(0, 0), None, None).await;
        let (suspended, sent) = tokio::join!(scene.suspend(&lease, 1, any(&[waitpoint])), scene.send(lease.run, round));
        suspended.unwrap();
        sent.unwrap();
        let claimed = scene.claim_one().await;
        assert_eq!(claimed.resume.unwrap().completions, received(0, round));
        scene.finish(&claimed.lease, completed()).await.unwrap();
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_send_that_is_repeated_is_there_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (lease, other) = (scene.executing().await, scene.trigger(hello()).await);
    for value in [1, 1, 2] {
        let packet = Packet::json(&json!(value));
        let (store, environment) = (&scene.store, scene.environment);
        input::send_in_run(store, &lease, environment, call(0, 0), other, "log".into(), packet.clone()).await.unwrap();
        input::send_in_run(store, &lease, environment, call(0, 1), lease.run, "log".into(), packet.clone()).await.unwrap();
        input::send(store, environment, other, "log".into(), packet, Some(format!("part-{value}"))).await.unwrap();
    }
    assert_eq!(scene.said(other, Direction::In).await, ["1", "1", "2", "2"]);
    assert_eq!(scene.said(lease.run, Direction::In).await, ["1", "2"]);
    scene.advance(LEASE + secs(1)).await;
    engine::lease::expire(&scene.store, 10).await.unwrap();
    let value = Packet::json(&json!(3));
    let late = input::send_in_run(&scene.store, &lease, scene.environment, call(0, 2), other, "log".into(), value).await;
    assert!(matches!(late, Err(Error::LostLease)));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn waits_for_input_with_the_same_key_are_one(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let key = Some(Idempotency { key: "k".into(), ttl_ms: None });
    let start = async |ordinal| {
        let cursor = InputCursor { stream: "log".into(), after: None };
        input::start(&scene.store, &lease, call(0, ordinal), cursor, None, key.clone()).await.unwrap()
    };
    let first = start(0).await;
    scene.send(lease.run, 1).await.unwrap();
    assert_eq!(start(1).await, first);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn streams_go_with_their_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    scene.say(&lease, call(0, 0), &["1"]).await.unwrap();
    scene.send(lease.run, 1).await.unwrap();
    scene.wait_for(&lease, call(0, 1), Some(0), None).await;
    scene.finish(&lease, completed()).await.unwrap();
    scene.advance(secs(3600 * 24 * 40)).await;
    crate::reconcile::retention::tick(&scene.store, secs(3600 * 24 * 30)).await.unwrap();
    for table in ["select count(*) from streams", "select count(*) from stream_chunks", "select count(*) from waitpoints"] {
        assert_eq!(scene.count(table).await, 0, "{table}");
    }
}
