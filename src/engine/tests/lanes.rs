//! Who gets a turn, and whom limits hold back.

use std::collections::HashMap;

use super::*;
use crate::{
    engine::claim::{Claim, Rest, claim},
    model::trigger::NewRun,
};

impl Scene {
    /// Another environment, of a project of its own, with the same task.
    async fn neighbour(&self, project: &str) -> Scene {
        let environment = environment(&self.store, project).await;
        let scene =
            Scene { store: self.store.clone(), pool: self.pool.clone(), environment, clock: ManualClock::default(), ..*self };
        scene.deploy(vec![task("hello")], vec![]).await;
        scene
    }

    async fn take(&self, turn: &mut Turn, max: u32) -> Claim {
        let claimed = claim(&self.store, Terms { turn: turn.clone(), ..terms(self.worker, max, LEASE) }).await.unwrap();
        *turn = claimed.turn.clone();
        claimed
    }
}

fn keyed(key: usize) -> NewRun {
    NewRun { concurrency_key: Some(format!("key {key}")), ..hello() }
}

fn count_by<K: std::hash::Hash + Eq>(claim: &Claim, of: impl Fn(&Claimed) -> K) -> HashMap<K, usize> {
    claim.runs.iter().fold(HashMap::new(), |mut counts, run| {
        *counts.entry(of(run)).or_default() += 1;
        counts
    })
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_environment_with_many_runs_does_not_keep_another_waiting(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for n in 0..40 {
        scene.trigger(if n % 2 == 0 { hello() } else { keyed(n) }).await;
    }
    let neighbour = scene.neighbour("proj_neighbours").await;
    for _ in 0..3 {
        neighbour.trigger(hello()).await;
    }
    let claimed = scene.take(&mut Turn::default(), 8).await;
    let of = count_by(&claimed, |run| run.context.environment);
    assert_eq!((of[&scene.environment], of[&neighbour.environment], claimed.rest), (5, 3, Rest::Unknown));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_key_with_many_runs_does_not_keep_the_others_waiting(pool: PgPool) {
    let scene = Scene::new(pool).await;
    for _ in 0..30 {
        scene.trigger(keyed(0)).await;
    }
    for key in 1..5 {
        scene.trigger(keyed(key)).await;
        scene.trigger(keyed(key)).await;
    }
    let claimed = scene.take(&mut Turn::default(), 10).await;
    let mut of: Vec<usize> = count_by(&claimed, |run| run.context.concurrency_key.clone()).into_values().collect();
    of.sort();
    assert_eq!(of, [2, 2, 2, 2, 2]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn small_claims_take_from_one_lane_after_the_other(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let neighbour = scene.neighbour("proj_neighbours").await;
    for key in 0..20 {
        for _ in 0..3 {
            scene.trigger(keyed(key)).await;
        }
    }
    for _ in 0..30 {
        neighbour.trigger(hello()).await;
    }
    let (mut turn, mut keys, mut neighbours) = (Turn::default(), HashMap::<_, usize>::new(), 0);
    for _ in 0..40 {
        let claimed = scene.take(&mut turn, 1).await;
        match &claimed.runs[0].context.concurrency_key {
            Some(key) => *keys.entry(key.clone()).or_default() += 1,
            None => neighbours += 1,
        }
    }
    assert_eq!((neighbours, keys.len()), (20, 20), "{keys:?}");
    assert!(keys.values().all(|count| *count == 1), "{keys:?}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_is_held_back_does_not_hide_what_stands_behind_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let closed = QueueDefinition { name: "closed".into(), concurrency_limit: Some(0) };
    let single = QueueDefinition { name: "single".into(), concurrency_limit: Some(1) };
    scene.deploy(vec![task("hello")], vec![closed, single]).await;
    for key in 0..150 {
        scene.trigger(NewRun { queue: Some("closed".into()), ..keyed(key) }).await;
    }
    for key in 0..100 {
        let of_single = || NewRun { queue: Some("single".into()), ..keyed(key) };
        scene.trigger(of_single()).await;
        scene.trigger(of_single()).await;
    }
    let mut turn = Turn::default();
    for _ in 0..5 {
        assert_eq!(scene.take(&mut turn, 20).await.runs.len(), 20);
    }
    let none = scene.take(&mut turn, 20).await;
    assert_eq!((none.runs.len(), none.rest), (0, Rest::Held), "each key executes one, and the other queue is closed");
    let free = scene.trigger(hello()).await;
    let claimed = scene.take(&mut turn, 20).await;
    assert_eq!(claimed.runs.iter().map(|run| run.lease.run).collect::<Vec<_>>(), [free]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn an_environment_has_a_limit_of_all_its_runs_and_can_be_paused(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let neighbour = scene.neighbour("proj_neighbours").await;
    for key in 0..6 {
        scene.trigger(keyed(key)).await;
        neighbour.trigger(hello()).await;
    }
    let set = |limit, paused| engine::environment::set(&scene.store, scene.environment, Some(limit), Some(paused));
    set(Some(4), false).await.unwrap();
    let mut turn = Turn::default();
    let claimed = scene.take(&mut turn, 50).await;
    let of = count_by(&claimed, |run| run.context.environment);
    assert_eq!((of[&scene.environment], of[&neighbour.environment], claimed.rest), (4, 6, Rest::Held));
    let own = claimed.runs.iter().find(|run| run.context.environment == scene.environment).unwrap();
    scene.finish(&own.lease, completed()).await.unwrap();
    set(Some(4), true).await.unwrap();
    assert_eq!(scene.take(&mut turn, 50).await.runs.len(), 0, "it is paused");
    set(Some(4), false).await.unwrap();
    assert_eq!(scene.take(&mut turn, 50).await.runs.len(), 1);
    let standing = set(None, false).await.unwrap();
    assert_eq!((standing.concurrency_limit, standing.queued, standing.running), (None, 1, 4));
    assert_eq!(scene.take(&mut turn, 50).await.runs.len(), 1);
    assert_eq!(scene.take(&mut turn, 50).await.rest, Rest::Nothing);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn more_that_is_closed_than_a_claim_looks_at_neither_keeps_it_busy_nor_hides_what_is_open(pool: PgPool) {
    let scene = Scene::new(pool).await;
    sqlx::raw_sql(
        "with projects as (
            insert into projects (id, ref, name) select gen_random_uuid(), 'proj_' || n, 'closed' from generate_series(1, 700) n
            returning id
         ), closed as (
            insert into environments (id, project_id, kind, paused) select gen_random_uuid(), id, 'dev', true from projects
            returning id
         )
         insert into runs (id, environment_id, task, status, payload, payload_type, root_id, queue_id, position)
         select gen_random_uuid(), id, 'hello', 'QUEUED', '', 'application/json', gen_random_uuid(), gen_random_uuid(), now()
         from closed",
    )
    .execute(&scene.pool)
    .await
    .unwrap();
    let mut turn = Turn::default();
    assert_eq!(scene.take(&mut turn, 5).await.rest, Rest::Held, "it pauses");
    let open = scene.trigger(hello()).await;
    for _ in 0..4 {
        if let Some(run) = scene.take(&mut turn, 5).await.runs.first() {
            assert_eq!(run.lease.run, open);
            return;
        }
    }
    panic!("a claim goes on where the one before stopped");
}
