//! Random histories of runs against a small model: whatever is done to them in whatever order, by workers that die and come back, the
//! rules hold after every step, and in the end every run is final.
//!
//! `MODEL_CASES` is how many histories, `MODEL_SEED` begins another series. A history that breaks a rule is made shorter as long as
//! it still does, and printed.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::join_all;
use proptest::{
    bool::ANY,
    prelude::{Just, Strategy, prop, prop_oneof},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use uuid::Uuid;

use super::*;
use crate::{
    engine::{children, claim::claim, intake::Intake, journal::Call},
    model::{child::Intent, trigger::RunIdempotency},
};

/// Histories in the suite.
const CASES: u32 = 48;
/// Steps of a history, at most.
const STEPS: usize = 60;
/// Workers.
const WORKERS: usize = 3;
/// Rounds after which every run has to be final once nothing hinders it.
const ROUNDS: u32 = 60;
/// Attempts of the task.
const ATTEMPTS: i32 = 3;

/// Something that happens. A number names one of what there is, by its place, from the beginning again after the end.
#[derive(Debug, Clone)]
enum Step {
    Trigger { is_limited: bool, key: u8, delay_secs: u8, ttl_secs: u8, idempotency: Option<u8> },
    TriggerBesideAWorker { worker: usize, room: u32, count: u8, is_limited: bool, key: u8 },
    Claim { worker: usize, max: u32 },
    Finish { lease: usize, is_good: bool },
    Sleep { lease: usize, secs: u8 },
    WaitForToken { lease: usize, token: usize, is_new: bool },
    WaitForChild { lease: usize },
    GiveBack { lease: usize },
    Renew { worker: usize },
    Die { worker: usize },
    ActOnALostLease { lease: usize, is_finish: bool },
    Complete { token: usize },
    Cancel { run: usize },
    Pass { secs: u8 },
    Sweep,
    Limit { limit: u8 },
    Pause { is_paused: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let small = 0..8usize;
    prop_oneof![
        6 => (ANY, 0..3u8, prop_oneof![4 => Just(0), 1 => 1..90u8], prop_oneof![4 => Just(0), 1 => 1..90u8],
            prop::option::weighted(0.2, 0..3u8)).prop_map(|(is_limited, key, delay_secs, ttl_secs, idempotency)| Step::Trigger {
                is_limited, key, delay_secs, ttl_secs, idempotency
            }),
        4 => (0..WORKERS, 1..4u32, 1..4u8, prop::bool::weighted(0.3), 0..2u8).prop_map(|(worker, room, count, is_limited, key)| {
            Step::TriggerBesideAWorker { worker, room, count, is_limited, key }
        }),
        6 => (0..WORKERS, 1..5u32).prop_map(|(worker, max)| Step::Claim { worker, max }),
        4 => (small.clone(), ANY).prop_map(|(lease, is_good)| Step::Finish { lease, is_good }),
        2 => (small.clone(), 0..90u8).prop_map(|(lease, secs)| Step::Sleep { lease, secs }),
        2 => (small.clone(), small.clone(), ANY)
            .prop_map(|(lease, token, is_new)| Step::WaitForToken { lease, token, is_new }),
        2 => small.clone().prop_map(|lease| Step::WaitForChild { lease }),
        1 => small.clone().prop_map(|lease| Step::GiveBack { lease }),
        2 => (0..WORKERS).prop_map(|worker| Step::Renew { worker }),
        1 => (0..WORKERS).prop_map(|worker| Step::Die { worker }),
        1 => (small.clone(), ANY).prop_map(|(lease, is_finish)| Step::ActOnALostLease { lease, is_finish }),
        2 => small.clone().prop_map(|token| Step::Complete { token }),
        1 => small.prop_map(|run| Step::Cancel { run }),
        2 => (1..120u8).prop_map(|secs| Step::Pass { secs }),
        3 => Just(Step::Sweep),
        1 => (0..4u8).prop_map(|limit| Step::Limit { limit }),
        1 => ANY.prop_map(|is_paused| Step::Pause { is_paused }),
    ]
}

/// What the model knows: who holds what, and what was seen of each run.
struct Model<'s> {
    scene: &'s Scene,
    workers: [WorkerId; WORKERS],
    /// Leases that a worker takes for its own, with the checkpoint that the run went on from.
    held: Vec<(usize, Lease, u64)>,
    /// Leases that were given up or died with their worker.
    lost: Vec<Lease>,
    runs: Vec<RunId>,
    tokens: Vec<WaitpointId>,
    limit: u32,
    is_paused: bool,
    seen: HashMap<Uuid, Row>,
    /// What this step claimed.
    fresh: Vec<Uuid>,
}

/// A run as a step left it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
struct Row {
    id: Uuid,
    status: String,
    epoch: i64,
    attempt: i32,
    is_final: bool,
    is_leased: bool,
    is_due: bool,
    has_edge: bool,
    has_position: bool,
    output: Option<Vec<u8>>,
    error: Option<String>,
    finished_at: Option<DateTime<Utc>>,
    attempts: i64,
}

const ROWS: &str = "select r.id, r.status, r.epoch, r.attempt, r.finished_at is not null as is_final,
        r.lease_worker is not null as is_leased, r.due_at is not null as is_due,
        exists (select from run_waits w where w.run_id = r.id) as has_edge, r.position is not null as has_position,
        r.output, r.error::text as error, r.finished_at, (select count(*) from attempts a where a.run_id = r.id) as attempts
    from runs r";

fn pick<T: Copy>(from: &[T], place: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[place % from.len()])
}

impl Model<'_> {
    async fn take(&mut self, step: &Step) -> Result<(), String> {
        self.fresh.clear();
        let (store, environment) = (&self.scene.store, self.scene.environment);
        match *step {
            Step::Trigger { is_limited, key, delay_secs, ttl_secs, idempotency } => {
                let now = self.scene.now().await;
                let run = self.scene.trigger(NewRun {
                    queue: is_limited.then(|| "narrow".into()),
                    concurrency_key: (key > 0).then(|| key.to_string()),
                    delay_until: (delay_secs > 0).then(|| now + secs(delay_secs.into())),
                    ttl_ms: (ttl_secs > 0).then(|| u64::from(ttl_secs) * 1000),
                    idempotency: idempotency.map(|key| RunIdempotency { key: key.to_string(), ..RunIdempotency::default() }),
                    ..hello()
                });
                self.runs.push(run.await);
            }
            Step::TriggerBesideAWorker { worker, room, count, is_limited, key } => {
                let bench = intake::Bench::new(self.workers[worker], room);
                let intake = Intake::new(store.clone(), Some(Arc::new(bench.clone())));
                let new = NewRun {
                    queue: is_limited.then(|| "narrow".into()),
                    concurrency_key: (key > 0).then(|| key.to_string()),
                    ..hello()
                };
                let made = join_all((0..count).map(|_| intake.trigger(environment, new.clone()))).await;
                self.runs.extend(made.into_iter().map(|made| made.unwrap().id));
                return self.begin(worker, bench.take());
            }
            Step::Claim { worker, max } => {
                let claimed = claim(store, terms(self.workers[worker], max, LEASE)).await.unwrap();
                return self.begin(worker, claimed.runs);
            }
            Step::Finish { lease, is_good } => {
                let Some((_, lease, _)) = self.let_go(lease) else { return Ok(()) };
                let outcome = if is_good { completed() } else { failed(RetryDecision::Policy) };
                let result = self.scene.finish(&lease, outcome).await.map(drop);
                return self.expect(&lease, result);
            }
            Step::Sleep { lease, secs: seconds } => {
                let at = self.scene.now().await + secs(seconds.into());
                return self.suspend(lease, WaitRequest::Sleep { at }).await;
            }
            Step::WaitForToken { lease, token, is_new } => {
                if self.held.is_empty() {
                    return Ok(());
                }
                if is_new || self.tokens.is_empty() {
                    self.tokens.push(self.scene.token().await);
                }
                let token = if is_new { *self.tokens.last().unwrap() } else { pick(&self.tokens, token).unwrap() };
                return self.suspend(lease, super::any(&[token])).await;
            }
            Step::WaitForChild { lease } => {
                let Some((_, held, sequence)) = pick(&self.held, lease) else { return Ok(()) };
                let call = Call { sequence, ordinal: 0 };
                match children::trigger(store, &held, call, hello(), Intent::Wait).await {
                    Ok(child) => {
                        self.runs.push(child.id);
                        return self.suspend(lease, super::any(&[child.id])).await;
                    }
                    Err(error) => {
                        self.let_go(lease);
                        return self.expect(&held, Err(error));
                    }
                }
            }
            Step::GiveBack { lease } => {
                let Some((_, lease, _)) = self.let_go(lease) else { return Ok(()) };
                let result = engine::lease::give_back(store, &lease).await;
                return self.expect(&lease, result);
            }
            Step::Renew { worker } => {
                let own: Vec<Lease> = self.held.iter().filter(|(of, ..)| *of == worker).map(|(_, lease, _)| *lease).collect();
                let asked: Vec<_> = own.iter().map(|lease| (lease.run, lease.epoch)).collect();
                let renewed = engine::lease::renew(store, self.workers[worker], &asked, LEASE).await.unwrap();
                for lease in own.into_iter().filter(|lease| renewed.lost.contains(&lease.run)) {
                    self.held.retain(|(_, held, _)| *held != lease);
                    self.lost.push(lease);
                }
            }
            Step::Die { worker } => {
                let dead: Vec<Lease> = self.held.iter().filter(|(of, ..)| *of == worker).map(|(_, lease, _)| *lease).collect();
                self.held.retain(|(of, ..)| *of != worker);
                self.lost.extend(dead);
            }
            Step::ActOnALostLease { lease, is_finish } => {
                let Some(lease) = pick(&self.lost, lease) else { return Ok(()) };
                let result = match is_finish {
                    true => self.scene.finish(&lease, completed()).await.map(drop),
                    false => engine::lease::give_back(store, &lease).await,
                };
                return self.expect(&lease, result);
            }
            Step::Complete { token } => {
                if let Some(token) = pick(&self.tokens, token) {
                    self.scene.complete(token, 1).await;
                }
            }
            Step::Cancel { run } => {
                if let Some(run) = pick(&self.runs, run) {
                    engine::cancel::cancel(store, environment, run).await.unwrap();
                }
            }
            Step::Pass { secs: seconds } => self.scene.advance(secs(seconds.into())).await,
            Step::Sweep => self.sweep().await,
            Step::Limit { limit } => {
                self.limit = limit.into();
                self.change(Some(self.limit), self.is_paused).await;
            }
            Step::Pause { is_paused } => {
                self.is_paused = is_paused;
                self.change(Some(self.limit), is_paused).await;
            }
        }
        Ok(())
    }

    fn let_go(&mut self, lease: usize) -> Option<(usize, Lease, u64)> {
        (!self.held.is_empty()).then(|| self.held.remove(lease % self.held.len()))
    }

    fn begin(&mut self, worker: usize, claimed: Vec<Claimed>) -> Result<(), String> {
        for run in claimed {
            let before = self.seen.get(&run.lease.run.uuid());
            if let Some(twice) = self.held.iter().find(|(_, held, _)| held.run == run.lease.run && held.epoch >= run.lease.epoch)
            {
                return Err(format!("{:?} was leased while {twice:?} had it", run.lease));
            }
            if before.is_some_and(|row| row.epoch >= run.lease.epoch) {
                return Err(format!("{:?}: its epoch did not grow", run.lease));
            }
            let sequence = run.resume.as_ref().map_or(0, |resume| resume.checkpoint.sequence);
            self.held.push((worker, run.lease, sequence));
            self.fresh.push(run.lease.run.uuid());
        }
        Ok(())
    }

    async fn suspend(&mut self, lease: usize, wait: WaitRequest) -> Result<(), String> {
        let Some((_, lease, sequence)) = self.let_go(lease) else { return Ok(()) };
        let result = self.scene.suspend(&lease, sequence + 1, wait).await.map(drop);
        self.expect(&lease, result)
    }

    /// What a lease allows, if it is the run's newest one and nobody took it; else it must be refused, and nothing written.
    fn expect(&mut self, lease: &Lease, result: Result<(), Error>) -> Result<(), String> {
        let row = self.seen.get(&lease.run.uuid()).expect("a run that was leased was seen");
        let is_good = row.is_leased && row.epoch == lease.epoch && !row.is_final;
        match (is_good, result) {
            (true, Ok(())) => {
                self.lost.retain(|lost| lost != lease);
                self.held.retain(|(_, held, _)| held != lease);
                Ok(())
            }
            (false, Err(Error::LostLease | Error::Conflict(_) | Error::NotFound { .. })) => Ok(()),
            (_, result) => Err(format!("{lease:?} of a run that is {row:?}: {result:?}")),
        }
    }

    async fn sweep(&self) {
        let store = &self.scene.store;
        engine::lease::expire(store, 100).await.unwrap();
        self.scene.fire().await;
        while children::cancel_some(store).await.unwrap() {}
    }

    async fn change(&self, limit: Option<u32>, is_paused: bool) {
        let (store, environment) = (&self.scene.store, self.scene.environment);
        let which = crate::store::queues::Which::Name("narrow".into());
        let queue = crate::store::queues::get(store, environment, &which).await.unwrap().unwrap().id;
        engine::queue::set_limit(store, environment, queue, limit).await.unwrap();
        match is_paused {
            true => engine::queue::pause(store, environment, queue).await.unwrap(),
            false => engine::queue::resume(store, environment, queue).await.unwrap(),
        };
    }

    /// Looks at every run, and says which rule is broken.
    async fn check(&mut self) -> Result<(), String> {
        let rows: Vec<Row> = sqlx::query_as(ROWS).fetch_all(&self.scene.pool).await.unwrap();
        for row in rows {
            let broken = |rule: &str| Err(format!("{rule}: {row:?}"));
            if let Some(before) = self.seen.get(&row.id) {
                if row.epoch < before.epoch {
                    return broken("an epoch only grows");
                }
                if before.is_final && *before != row {
                    return broken("what is final stays as it is");
                }
            }
            if row.attempt > ATTEMPTS || row.attempts > i64::from(ATTEMPTS) {
                return broken("a run has at most three attempts");
            }
            let has_owner = match row.status.as_str() {
                "QUEUED" => row.has_position && !row.is_leased,
                "DELAYED" => row.is_due && !row.is_leased,
                "EXECUTING" => row.is_leased != row.is_due,
                "WAITING" => (row.is_due || row.has_edge) && !row.is_leased,
                _ => row.is_final && !row.is_leased && !row.is_due && !row.has_edge,
            };
            if !has_owner {
                return broken("each run has somebody who moves it on, and one that is final nobody");
            }
            self.seen.insert(row.id, row);
        }
        self.check_limits().await?;
        self.check_edges().await
    }

    /// A pool may have more runs than its limit if that was higher when they began; none is added then.
    async fn check_limits(&self) -> Result<(), String> {
        let limit = if self.is_paused { 0 } else { self.limit };
        let over: Vec<(String, i64, bool)> = sqlx::query_as(
            "select r.concurrency_key, count(*), bool_or(r.id = any($2))
             from runs r join queues q on q.id = r.queue_id
             where q.name = 'narrow' and r.lease_worker is not null group by 1 having count(*) > $1",
        )
        .bind(i64::from(limit))
        .bind(&self.fresh)
        .fetch_all(&self.scene.pool)
        .await
        .unwrap();
        match over.iter().find(|(_, _, is_new)| *is_new) {
            Some((key, count, _)) => Err(format!("{count} runs of key {key:?} execute; the limit is {limit}")),
            None => Ok(()),
        }
    }

    async fn check_edges(&self) -> Result<(), String> {
        let dangling = self
            .scene
            .count(
                "select count(*) from run_waits w join runs r on r.id = w.run_id
                 left join waitpoints p on p.id = w.waitpoint_id left join runs c on c.id = w.waitpoint_id
                 where r.status <> 'WAITING' or coalesce(p.completed_at, c.finished_at) is not null",
            )
            .await;
        if dangling > 0 { Err("a run waits for what is over".into()) } else { Ok(()) }
    }
}

/// Lets a history happen, and then all that is left come to an end.
async fn happens(scene: &Scene, steps: &[Step]) -> Result<(), String> {
    sqlx::raw_sql(
        "truncate runs, waitpoints, run_waits, checkpoints, journal, attempts, run_events, trigger_requests, cancelled_parents cascade",
    )
    .execute(&scene.pool)
    .await
    .unwrap();
    let mut model = Model {
        scene,
        workers: std::array::from_fn(|_| WorkerId::new()),
        held: Vec::new(),
        lost: Vec::new(),
        runs: Vec::new(),
        tokens: Vec::new(),
        limit: 2,
        is_paused: false,
        seen: HashMap::new(),
        fresh: Vec::new(),
    };
    model.change(Some(2), false).await;
    for (place, step) in steps.iter().enumerate() {
        let done = model.take(step).await;
        let done = if done.is_ok() { model.check().await } else { done };
        done.map_err(|why| format!("step {place}, {step:?}: {why}"))?;
    }
    model.ends().await
}

impl Model<'_> {
    /// Nothing hinders the runs any more: each comes to its end, whoever has died.
    async fn ends(&mut self) -> Result<(), String> {
        self.take(&Step::Limit { limit: 3 }).await?;
        self.take(&Step::Pause { is_paused: false }).await?;
        for token in self.tokens.clone() {
            self.scene.complete(token, 1).await;
        }
        for _ in 0..ROUNDS {
            let left = self.scene.count("select count(*) from runs where finished_at is null").await;
            if left == 0 {
                return Ok(());
            }
            self.sweep().await;
            self.check().await?;
            self.take(&Step::Claim { worker: 0, max: 50 }).await?;
            self.check().await?;
            while !self.held.is_empty() {
                self.take(&Step::Finish { lease: 0, is_good: true }).await?;
            }
            self.check().await?;
            self.scene.advance(secs(31)).await;
        }
        let stuck: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{ROWS} where finished_at is null")))
            .fetch_all(&self.scene.pool)
            .await
            .unwrap();
        Err(format!("these do not end: {stuck:?}"))
    }
}

/// A history that breaks a rule, as short as it gets.
async fn shortened(scene: &Scene, tree: &mut impl ValueTree<Value = Vec<Step>>, why: String) -> (Vec<Step>, String) {
    let mut worst = (tree.current(), why);
    let mut may_go_on = tree.simplify();
    for _ in 0..200 {
        if !may_go_on {
            break;
        }
        may_go_on = match happens(scene, &tree.current()).await {
            Err(why) => {
                worst = (tree.current(), why);
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
    }
    worst
}

fn setting(name: &str, usual: u32) -> u32 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn whatever_happens_in_whatever_order_the_rules_hold_and_every_run_ends(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let queues = vec![QueueDefinition { name: "narrow".into(), concurrency_limit: None }];
    scene.deploy(vec![task("hello")], queues).await;
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&setting("MODEL_SEED", 1).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let histories = prop::collection::vec(step(), 1..STEPS);
    for case in 0..setting("MODEL_CASES", CASES) {
        let mut tree = histories.new_tree(&mut runner).unwrap();
        if let Err(why) = happens(&scene, &tree.current()).await {
            let (steps, why) = shortened(&scene, &mut tree, why).await;
            panic!("case {case}: {why}\n{steps:#?}");
        }
    }
}
