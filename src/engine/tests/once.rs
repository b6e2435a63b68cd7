//! Tokens that are good for one call.

use chrono::TimeDelta;

use super::*;
use crate::{
    engine::once::{self, Ticket},
    model::{batch::NewBatch, trigger::Triggered},
    reconcile::gc,
};

impl Scene {
    async fn ticket(&self, letter: u8) -> Ticket {
        let now = crate::store::clock::now(&mut self.store.read().await.unwrap()).await.unwrap();
        Ticket { digest: [letter; 32], expires_at: now + TimeDelta::days(3) }
    }

    async fn redeem(&self, ticket: Ticket, request: Option<&str>) -> Result<Triggered, Error> {
        let new = NewRun { request_key: request.map(String::from), ..hello() };
        once::trigger(&self.store, self.environment, ticket, new).await
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_token_is_used_up_by_the_request_that_makes_a_run_and_remembered_as_long_as_it_could_be_used(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let ticket = scene.ticket(1).await;
    let first = scene.redeem(ticket, Some("a")).await.unwrap();
    assert_eq!(scene.redeem(ticket, Some("a")).await.unwrap().id, first.id);
    // Notes of requests are kept for a day; the token is not void yet.
    scene.advance(Duration::from_secs(2 * 24 * 60 * 60)).await;
    gc::tick(&scene.store).await.unwrap();
    assert_eq!(scene.redeem(ticket, Some("a")).await.unwrap().id, first.id);
    for request in [Some("b"), None] {
        assert!(matches!(scene.redeem(ticket, request).await, Err(Error::Conflict(_))), "{request:?}");
    }
    assert_eq!(scene.count("select count(*) from runs").await, 1);
    scene.advance(Duration::from_secs(2 * 24 * 60 * 60)).await;
    gc::tick(&scene.store).await.unwrap();
    assert_eq!(scene.count("select count(*) from one_time_tokens").await, 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn of_many_requests_with_a_token_at_once_one_makes_a_run(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let ticket = scene.ticket(2).await;
    let requests: Vec<String> = (0..8).map(|n| format!("request {n}")).collect();
    let redeemed = futures_util::future::join_all(requests.iter().map(|request| scene.redeem(ticket, Some(request)))).await;
    assert_eq!(redeemed.iter().filter(|redeemed| redeemed.is_ok()).count(), 1);
    assert_eq!(scene.count("select count(*) from runs").await, 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_call_that_is_refused_leaves_the_token_good_and_a_batch_uses_it_too(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let ticket = scene.ticket(3).await;
    let wrong = NewRun { version: Some("20200101.1".into()), ..hello() };
    assert!(once::trigger(&scene.store, scene.environment, ticket, wrong).await.is_err());
    let batch = |request: &str| NewBatch {
        run_count: 2,
        parent: None,
        awaited: false,
        idempotency: None,
        request_key: Some(request.into()),
    };
    let made = once::create_batch(&scene.store, scene.environment, ticket, batch("a"), None).await.unwrap();
    let again = once::create_batch(&scene.store, scene.environment, ticket, batch("a"), None).await.unwrap();
    assert_eq!(made, again);
    assert!(once::create_batch(&scene.store, scene.environment, ticket, batch("b"), None).await.is_err());
    assert!(scene.redeem(ticket, Some("b")).await.is_err());
}
