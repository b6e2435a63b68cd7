//! Rewritten components: which is used, and when one goes.

use super::*;
use crate::{
    engine::rewriting::{self, GRACE, Swept},
    model::rewriting::Rewriting,
    reconcile::gc,
};

fn of(rewriter: u32, digest: &str) -> Rewriting {
    Rewriting { component: "c0ffee".into(), rewriter, digest: digest.into() }
}

impl Scene {
    async fn keep(&self, rewriter: u32, digest: &str) -> Rewriting {
        rewriting::keep(&self.store, of(rewriter, digest)).await.unwrap()
    }

    /// Claims the one run in line as a process with this version of the rewriter does.
    async fn claim_with(&self, rewriter: u32) -> Claimed {
        engine::claim::claim(&self.store, Terms { rewriter, ..terms(self.worker, 1, LEASE) }).await.unwrap().runs.remove(0)
    }

    /// Suspends a run for a minute with a snapshot that fits this rewritten component.
    async fn suspend_on(&self, lease: &Lease, rewritten: Option<&str>) {
        let checkpoint = Checkpoint { rewritten: rewritten.map(Into::into), ..checkpoint(1) };
        let wait = WaitRequest::Sleep { at: self.now().await + secs(60) };
        engine::suspend::suspend(&self.store, Suspension::new(*lease, checkpoint, wait, 0)).await.unwrap();
    }

    async fn wake(&self) {
        self.advance(secs(61)).await;
        assert_eq!(self.fire().await, 1);
    }

    /// How many were dropped, and which were forgotten.
    async fn sweep(&self, current: u32) -> (u64, Vec<String>) {
        let Swept { dropped, forgotten } = gc::rewritings_tick(&self.store, current).await.unwrap();
        (dropped, forgotten.into_iter().map(|rewriting| rewriting.digest).collect())
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_begins_gets_the_version_asked_for_and_one_that_goes_on_what_it_began_with(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.trigger(hello()).await;
    let claimed = scene.claim_with(1).await;
    assert_eq!(claimed.rewriting, None, "nobody has rewritten it yet");
    assert_eq!(scene.keep(1, "r1").await, of(1, "r1"));
    assert_eq!(scene.keep(1, "r1-too-late").await, of(1, "r1"), "the first one counts");
    scene.keep(2, "r2").await;
    scene.suspend_on(&claimed.lease, Some("r1")).await;
    scene.wake().await;
    let claimed = scene.claim_with(2).await;
    assert_eq!(claimed.rewriting, Some(of(1, "r1")));
    assert_eq!(claimed.resume.unwrap().checkpoint.rewritten.as_deref(), Some("r1"));
    scene.trigger(hello()).await;
    assert_eq!(scene.claim_with(2).await.rewriting, Some(of(2, "r2")));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_that_sleeps_in_a_later_version_is_left_to_a_server_that_has_it(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.keep(3, "r3").await;
    scene.trigger(hello()).await;
    let claimed = scene.claim_with(3).await;
    scene.suspend_on(&claimed.lease, Some("r3")).await;
    scene.wake().await;
    let behind = scene.trigger(hello()).await;
    assert_eq!(scene.claim_with(2).await.lease.run, behind, "it holds up nothing");
    assert_eq!(scene.claim_with(3).await.lease.run, claimed.lease.run);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_checkpoint_from_before_rewritten_components_were_kept_gets_the_current_one(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.keep(2, "r2").await;
    let lease = scene.executing().await;
    scene.suspend_on(&lease, None).await;
    scene.wake().await;
    assert_eq!(scene.claim_with(2).await.rewriting, Some(of(2, "r2")));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn one_of_an_earlier_version_stays_until_no_run_needs_it_and_a_day_longer(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.keep(1, "r1").await;
    scene.keep(2, "r2").await;
    scene.keep(3, "r3").await;
    scene.trigger(hello()).await;
    let lease = scene.claim_with(1).await.lease;
    scene.advance(GRACE).await;
    assert_eq!(scene.sweep(2).await, (0, vec![]), "a run executes it");
    scene.suspend_on(&lease, Some("r1")).await;
    assert_eq!(scene.sweep(2).await, (0, vec![]), "a checkpoint names it");
    scene.wake().await;
    let claimed = scene.claim_with(2).await;
    assert_eq!(scene.sweep(2).await, (0, vec![]));
    scene.finish(&claimed.lease, completed()).await.unwrap();
    assert_eq!(scene.sweep(2).await, (1, vec![]), "dropped, and not gone yet");
    assert_eq!(scene.sweep(2).await, (0, vec![]));
    let blobs = ["r1", "r2", "r3"].map(String::from);
    assert_eq!(gc::orphans(&scene.store, &blobs).await.unwrap(), Vec::<String>::new());
    scene.advance(GRACE).await;
    assert_eq!(scene.sweep(2).await, (0, vec!["r1".to_owned()]));
    assert_eq!(gc::orphans(&scene.store, &blobs).await.unwrap(), ["r1"], "the current and the later version stay");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn one_that_is_used_after_it_was_dropped_stays(pool: PgPool) {
    let scene = Scene::new(pool).await;
    scene.keep(1, "r1").await;
    scene.advance(GRACE).await;
    assert_eq!(scene.sweep(2).await, (1, vec![]));
    scene.trigger(hello()).await;
    let claimed = scene.claim_with(1).await;
    assert_eq!(claimed.rewriting, None, "a new run does not get it unasked");
    let taken_up = rewriting::take_up(&scene.store, claimed.component, 1).await.unwrap();
    assert_eq!(taken_up, Some(of(1, "r1")));
    scene.suspend_on(&claimed.lease, Some("r1")).await;
    scene.advance(GRACE + GRACE).await;
    assert_eq!(scene.sweep(2).await, (0, vec![]));
    scene.fire().await;
    let claimed = scene.claim_with(2).await;
    assert_eq!(claimed.rewriting, Some(of(1, "r1")));
    scene.finish(&claimed.lease, completed()).await.unwrap();
    assert_eq!(scene.sweep(2).await, (1, vec![]));
    scene.advance(GRACE).await;
    assert_eq!(scene.sweep(2).await, (0, vec!["r1".to_owned()]));
    assert_eq!(rewriting::take_up(&scene.store, "c0ffee".into(), 1).await.unwrap(), None);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn one_of_a_component_that_was_never_deployed_goes(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let stray = Rewriting { component: "decaf".into(), rewriter: 2, digest: "r".into() };
    rewriting::keep(&scene.store, stray).await.unwrap();
    assert_eq!(scene.sweep(2).await, (0, vec![]), "its deployment may be under way");
    scene.advance(GRACE).await;
    assert_eq!(scene.sweep(2).await, (1, vec![]));
}
