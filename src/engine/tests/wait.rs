//! Waitpoints and tokens.

use super::*;
use crate::{
    engine::{token, wait},
    model::waitpoint::{Completion, Idempotency, Resolution, WaitpointStatus},
    store::{
        Page, Start,
        waitpoints::{self, Filter},
    },
};

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_look_answers_what_is_complete_and_writes_nothing(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (open, done) = (scene.token().await, scene.token().await);
    scene.complete(done, 7).await;
    let seen = wait::look(&scene.store, scene.environment, &[open.into(), done.into()]).await.unwrap();
    let value = Resolution::Completed(Packet::json(&json!(7)));
    assert_eq!(seen, [Completion { index: 1, resolution: value }]);
    let foreign = environment(&scene.store, "proj_other").await;
    assert!(matches!(wait::look(&scene.store, foreign, &[done.into()]).await, Err(Error::NotFound { .. })));
    assert!(matches!(wait::look(&scene.store, scene.environment, &[]).await, Err(Error::Invalid { .. })));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_first_completion_wins(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let token = scene.token().await;
    let completions = futures_util::future::join_all((0..6).map(|value| scene.complete(token, value))).await;
    assert_eq!(completions.iter().filter(|won| **won).count(), 1);
    let stored = waitpoints::get_token(&scene.store, scene.environment, token).await.unwrap().unwrap();
    let winner = completions.iter().position(|won| *won).unwrap();
    assert_eq!((stored.status, stored.output), (WaitpointStatus::Completed, Some(Packet::json(&json!(winner)))));
    let unknown = wait::complete(&scene.store, scene.environment, WaitpointId::new(), Packet::empty()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_token_may_wake_many_runs(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let token = scene.token().await;
    for _ in 0..5 {
        let lease = scene.executing().await;
        scene.suspend(&lease, 1, any(&[token])).await.unwrap();
    }
    scene.complete(token, 1).await;
    assert_eq!(scene.claim(10).await.len(), 5);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn completions_that_concern_the_same_runs_do_not_block_each_other(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (a, b) = (scene.token().await, scene.token().await);
    for turn in 0..10 {
        let lease = scene.executing().await;
        let waitpoints = if turn % 2 == 0 { [a, b] } else { [b, a] };
        scene.suspend(&lease, 1, any(&waitpoints)).await.unwrap();
    }
    futures_util::join!(scene.complete(a, 1), scene.complete(b, 2));
    assert_eq!(scene.claim(20).await.len(), 10);
    assert_eq!(scene.count("select count(*) from run_events where kind = 'resumed'").await, 10);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_token_that_nobody_completes_times_out(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let at = scene.now().await + secs(60);
    let token = NewToken { timeout_at: Some(at), ..NewToken::default() };
    let token = token::create(&scene.store, scene.environment, token).await.unwrap().id;
    let lease = scene.executing().await;
    scene.suspend(&lease, 1, any(&[token])).await.unwrap();
    scene.advance(secs(61)).await;
    assert_eq!(scene.fire().await, 1);
    let completions = scene.claim_one().await.resume.unwrap().completions;
    let Resolution::TimedOut(when) = completions[0].resolution else { panic!("it timed out") };
    assert!((when - at).num_milliseconds().abs() <= 1);
    assert!(!scene.complete(token, 1).await, "a completion that comes too late is no error");
    let stored = waitpoints::get_token(&scene.store, scene.environment, token).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.output), (WaitpointStatus::TimedOut, None));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_key_gets_the_same_token_until_its_time_is_over(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let create = || {
        let idempotency = Some(Idempotency { key: "k".into(), ttl_ms: Some(60_000) });
        token::create(&scene.store, scene.environment, NewToken { idempotency, ..NewToken::default() })
    };
    let made = futures_util::future::join_all((0..5).map(|_| create())).await;
    let made: Vec<token::Created> = made.into_iter().map(Result::unwrap).collect();
    assert!(made.iter().all(|other| other.id == made[0].id));
    assert_eq!(made.iter().filter(|made| !made.is_cached).count(), 1);
    scene.advance(secs(61)).await;
    assert!(!create().await.unwrap().is_cached);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn tokens_are_listed_newest_first_and_filtered(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut ids = Vec::new();
    for tag in ["a", "b", "a"] {
        let token = NewToken { tags: vec![tag.into()], ..NewToken::default() };
        ids.push(token::create(&scene.store, scene.environment, token).await.unwrap().id);
    }
    scene.complete(ids[0], 1).await;
    let list = async |filter: Filter| {
        let page = Page { size: 10, start: Start::Newest };
        let listing = waitpoints::list_tokens(&scene.store, scene.environment, &filter, page).await.unwrap();
        listing.items.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };
    assert_eq!(list(Filter::default()).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(list(Filter { tags: vec!["a".into()], ..Filter::default() }).await, [ids[2], ids[0]]);
    let done = Filter { statuses: vec![WaitpointStatus::Completed], ..Filter::default() };
    assert_eq!(list(done).await, [ids[0]]);
}
