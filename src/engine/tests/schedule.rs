//! Schedules: made, changed, declared, and fired once for each time by any number of servers.

use serde_json::Value;

use super::*;
use crate::{
    engine::schedule::{activate, create, deactivate, delete, next_due, update},
    model::{
        id::ScheduleId,
        schedule::{MAX_SCHEDULES, NewSchedule, Schedule, ScheduleKind, Timing},
        task::ScheduleDefinition,
    },
    reconcile,
    store::schedules,
};

fn scheduled(id: &str) -> TaskDefinition {
    // Hours pass in these tests, for which nothing stands in line in development unless it says so.
    TaskDefinition { kind: TaskKind::Scheduled, ttl_ms: Some(0), ..task(id) }
}

fn declaring(id: &str, cron: &str) -> TaskDefinition {
    let schedule = ScheduleDefinition { cron: cron.into(), timezone: "UTC".into(), environments: Vec::new(), window: None };
    TaskDefinition { schedule: Some(schedule), ..scheduled(id) }
}

fn hourly() -> NewSchedule {
    of("0 * * * *")
}

fn of(cron: &str) -> NewSchedule {
    NewSchedule { task: "report".into(), timing: Timing::parse(cron, None, None).unwrap(), external_id: None }
}

impl Scene {
    /// With the scheduled task `report`.
    async fn with_report(pool: PgPool) -> Scene {
        let scene = Scene::empty(pool).await;
        scene.deploy(vec![scheduled("report"), task("plain")], vec![]).await;
        scene
    }

    async fn schedule(&self, key: &str, new: NewSchedule) -> Schedule {
        create(&self.store, self.environment, key.into(), new).await.unwrap()
    }

    async fn get(&self, id: ScheduleId) -> Option<Schedule> {
        schedules::get(&self.store, self.environment, id).await.unwrap()
    }

    async fn declared(&self) -> Vec<Schedule> {
        let (found, _) = schedules::list(&self.store, self.environment, 0, 100).await.unwrap();
        found.into_iter().filter(|schedule| schedule.kind == ScheduleKind::Declarative).collect()
    }

    /// Puts the clock to this long after what comes next.
    async fn until_after(&self, schedule: &Schedule, by: Duration) {
        let due = schedule.next.expect("something comes next").due_at;
        let left = (due - self.now().await).to_std().unwrap_or_default();
        self.advance(left + by).await;
    }

    /// Fires what is due, and returns what the runs are told that it made, oldest first.
    async fn fired(&self) -> Vec<Value> {
        reconcile::schedules::tick(&self.store).await.unwrap();
        let payloads: Vec<Vec<u8>> = sqlx::query_scalar("select payload from runs where schedule_id is not null order by id")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        payloads.iter().map(|payload| serde_json::from_slice::<Value>(payload).unwrap()["json"].clone()).collect()
    }
}

fn shown(at: DateTime<Utc>) -> Value {
    json!(at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_schedule_starts_a_run_of_its_task_each_time_its_time_comes(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let new = NewSchedule { external_id: Some("user_1".into()), ..hourly() };
    let schedule = scene.schedule("k", new).await;
    let first = schedule.next.unwrap().at;
    assert!(first > scene.now().await && first <= scene.now().await + secs(3600));
    assert!(scene.fired().await.is_empty(), "not before its time");

    scene.until_after(&schedule, Duration::ZERO).await;
    let told = scene.fired().await;
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["timestamp"], &told[0]["scheduleId"]), (&shown(first), &json!(schedule.id)));
    assert_eq!((&told[0]["externalId"], &told[0]["type"]), (&json!("user_1"), &json!("IMPERATIVE")));
    assert!(told[0].get("lastTimestamp").is_none());
    let now = scene.get(schedule.id).await.unwrap();
    assert_eq!((now.last_run_at, now.next.map(|next| next.at)), (Some(first), Some(first + secs(3600))));

    scene.until_after(&now, Duration::ZERO).await;
    let told = scene.fired().await;
    assert_eq!((told.len(), &told[1]["lastTimestamp"]), (2, &shown(first)));
    assert_eq!(scene.fired().await.len(), 2, "nothing is fired twice");
    let claimed = scene.claim(10).await;
    assert_eq!(claimed.iter().map(|claimed| claimed.task.as_str()).collect::<Vec<_>>(), ["report", "report"]);
    assert_eq!(claimed[0].payload.content_type, "application/super+json");
    let detail = crate::store::runs::detail(&scene.store, scene.environment, claimed[0].lease.run).await.unwrap().unwrap();
    assert_eq!(detail.schedule.map(|schedule| schedule.id), Some(schedule.id));
    assert_eq!(scene.story(claimed[0].lease.run).await, ["triggered", "claimed"]);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn servers_side_by_side_fire_each_schedule_once(pool: PgPool) {
    let scene = Scene::with_report(pool.clone()).await;
    let mut last = None;
    for n in 0..120 {
        last = Some(scene.schedule(&n.to_string(), hourly()).await);
    }
    scene.until_after(&last.unwrap(), secs(1)).await;
    let others: Vec<Store> = (0..4).map(|_| Store::over(pool.clone())).collect();
    let sweeps = others.iter().map(reconcile::schedules::tick);
    let looked_at: u64 = futures_util::future::join_all(sweeps).await.into_iter().map(|swept| swept.unwrap().0).sum();
    assert_eq!(looked_at, 120);
    let distinct = "select count(distinct schedule_id) from runs where schedule_id is not null";
    assert_eq!((scene.fired().await.len(), scene.count(distinct).await), (120, 120));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_run_and_the_next_time_are_written_together_or_not_at_all(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let schedule = scene.schedule("k", hourly()).await;
    scene.until_after(&schedule, secs(1)).await;
    // The server is gone between the two: the run is written, and the schedule cannot be.
    sqlx::raw_sql(
        "create function die() returns trigger language plpgsql
         as $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
         create trigger die before update on schedules for each row execute function die()",
    )
    .execute(&scene.pool)
    .await
    .unwrap();
    reconcile::schedules::tick(&scene.store).await.unwrap_err();
    assert_eq!(scene.count("select count(*) from runs").await, 0);
    assert_eq!(scene.get(schedule.id).await.unwrap(), schedule);
    sqlx::raw_sql("drop trigger die on schedules").execute(&scene.pool).await.unwrap();
    assert_eq!(scene.fired().await.len(), 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_was_missed_is_not_made_up_for(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let schedule = scene.schedule("k", hourly()).await;
    let first = schedule.next.unwrap().at;
    scene.until_after(&schedule, secs(5 * 3600 + 60)).await;
    let told = scene.fired().await;
    assert_eq!(told.len(), 1, "five were missed");
    assert_eq!(told[0]["timestamp"], shown(first + secs(5 * 3600)), "the newest is a minute late");
    let now = scene.get(schedule.id).await.unwrap();
    assert_eq!(now.next.map(|next| next.at), Some(first + secs(6 * 3600)));

    scene.until_after(&now, secs(11 * 60)).await;
    assert_eq!(scene.fired().await.len(), 1, "too late");
    let now = scene.get(schedule.id).await.unwrap();
    assert_eq!(now.next.map(|next| next.at), Some(first + secs(7 * 3600)));
    assert_eq!(now.last_run_at, Some(first + secs(5 * 3600)));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_schedule_fires_only_while_the_current_deployment_has_its_task(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let schedule = scene.schedule("k", hourly()).await;
    for tasks in [vec![task("plain")], vec![task("report")]] {
        scene.deploy(tasks, vec![]).await;
        scene.until_after(&scene.get(schedule.id).await.unwrap(), secs(1)).await;
        assert!(scene.fired().await.is_empty());
    }
    scene.deploy(vec![scheduled("report")], vec![]).await;
    assert!(scene.fired().await.is_empty(), "what was due meanwhile is not made up for");
    scene.until_after(&scene.get(schedule.id).await.unwrap(), secs(1)).await;
    assert_eq!(scene.fired().await.len(), 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_key_is_the_same_schedule_in_the_whole_project(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let first = scene.schedule("k", hourly()).await;
    let again = scene.schedule("k", hourly()).await;
    assert_eq!(again, first, "the same call twice changes nothing");
    let changed = scene.schedule("k", of("30 3 * * *")).await;
    assert_eq!((changed.id, changed.timing.cron.as_str()), (first.id, "30 3 * * *"));
    assert_eq!(changed.next.unwrap().at.format("%H:%M").to_string(), "03:30");
    assert_ne!(scene.schedule("other", hourly()).await.id, first.id);

    let key = NewApiKey {
        name: "root".into(),
        secret: SecretString::from("tr_prod_x".to_owned()),
        kind: ApiKeyKind::Root,
        expires_at: None,
    };
    let same = NewProject { project_ref: "proj_tests".into(), name: "Tests".into() };
    let production = project::ensure(&scene.store, same, EnvironmentKind::Production, key).await.unwrap().id;
    engine::deploy::deploy(&scene.store, production, bundle(vec![scheduled("report")], vec![])).await.unwrap();
    let moved = create(&scene.store, production, "k".into(), hourly()).await.unwrap();
    assert_eq!((moved.id, moved.environment), (first.id, production), "the last call says where it is");
    assert_eq!(scene.get(first.id).await, None);

    let stranger = environment(&scene.store, "proj_other").await;
    engine::deploy::deploy(&scene.store, stranger, bundle(vec![scheduled("report")], vec![])).await.unwrap();
    assert_ne!(create(&scene.store, stranger, "k".into(), hourly()).await.unwrap().id, first.id);
    assert!(matches!(delete(&scene.store, stranger, first.id).await, Err(Error::NotFound { .. })));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_same_key_sent_many_times_at_once_makes_one_schedule(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let calls = (0..8).map(|_| scene.schedule("k", hourly()));
    let made = futures_util::future::join_all(calls).await;
    assert!(made.iter().all(|schedule| schedule.id == made[0].id));
    assert_eq!(scene.count("select count(*) from schedules").await, 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_schedule_that_is_stopped_does_not_fire_and_goes_on_from_now(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let schedule = scene.schedule("k", of("*/5 * * * *")).await;
    let stopped = deactivate(&scene.store, scene.environment, schedule.id).await.unwrap();
    assert_eq!((stopped.is_active, stopped.next), (false, None));
    assert_eq!(deactivate(&scene.store, scene.environment, schedule.id).await.unwrap(), stopped, "twice is once");
    let changed = update(&scene.store, scene.environment, schedule.id, of("*/10 * * * *")).await.unwrap();
    assert_eq!((changed.is_active, changed.next), (false, None), "a change does not let it go on");
    scene.advance(secs(3600)).await;
    assert!(scene.fired().await.is_empty());
    assert_eq!(next_due(&scene.store).await.unwrap(), None);

    let active = activate(&scene.store, scene.environment, schedule.id).await.unwrap();
    assert!(active.next.unwrap().at > scene.now().await, "nothing of the time in between is made up for");
    assert_eq!(activate(&scene.store, scene.environment, schedule.id).await.unwrap(), active, "twice is once");
    scene.until_after(&active, secs(1)).await;
    assert_eq!(scene.fired().await.len(), 1);
    delete(&scene.store, scene.environment, schedule.id).await.unwrap();
    assert!(matches!(delete(&scene.store, scene.environment, schedule.id).await, Err(Error::NotFound { .. })));
    scene.advance(secs(3600)).await;
    assert_eq!(scene.fired().await.len(), 1);
    let claimed = scene.claim_one().await;
    let detail = crate::store::runs::detail(&scene.store, scene.environment, claimed.lease.run).await.unwrap().unwrap();
    assert_eq!(detail.schedule, None, "the run stays");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_change_keeps_what_comes_next_unless_the_timing_changes(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let schedule = scene.schedule("k", hourly()).await;
    scene.until_after(&schedule, secs(1)).await;
    let named = NewSchedule { external_id: Some("x".into()), ..hourly() };
    let changed = update(&scene.store, scene.environment, schedule.id, named).await.unwrap();
    assert_eq!((changed.next, changed.external_id.as_deref()), (schedule.next, Some("x")), "it is due this moment");
    let other = NewSchedule { timing: Timing::parse("0 * * * *", Some("Asia/Kolkata"), None).unwrap(), ..hourly() };
    let changed = update(&scene.store, scene.environment, schedule.id, other).await.unwrap();
    assert!(changed.next.unwrap().at > scene.now().await);
    assert_eq!(changed.external_id, None, "what is left out is gone");
    assert!(scene.fired().await.is_empty());
    let nowhere = update(&scene.store, EnvironmentId::new(), schedule.id, hourly()).await;
    assert!(matches!(nowhere, Err(Error::NotFound { .. })));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_schedule_that_breaks_a_rule_is_refused(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let refused = async |key: &str, new: NewSchedule| match create(&scene.store, scene.environment, key.into(), new).await {
        Err(Error::Invalid { field, message }) => format!("{field}: {message}"),
        other => panic!("{other:?}"),
    };
    let of_task = |task: &str| NewSchedule { task: task.into(), ..hourly() };
    let named = |id: &str| NewSchedule { external_id: Some(id.into()), ..hourly() };
    assert!(refused("k", of_task("plain")).await.contains("\"plain\" is not a scheduled task"));
    assert!(refused("k", of_task("absent")).await.contains("no task \"absent\""));
    assert!(refused("", hourly()).await.starts_with("deduplicationKey"));
    assert!(refused("nul\0", hourly()).await.starts_with("deduplicationKey"));
    assert!(refused(&"x".repeat(513), hourly()).await.starts_with("deduplicationKey"));
    assert!(refused("k", named("")).await.starts_with("externalId"));
    assert!(refused("k", named(&"x".repeat(513))).await.starts_with("externalId"));
    scene.schedule(&"ü".repeat(512), named(&"ü".repeat(512))).await;
    assert!(matches!(
        create(&scene.store, EnvironmentId::new(), "k".into(), hourly()).await,
        Err(Error::NotFound { what: "environment" })
    ));
    assert_eq!(scene.count("select count(*) from schedules").await, 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_project_has_a_bounded_number_of_schedules(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let kept = scene.schedule("0", hourly()).await;
    sqlx::query(
        "insert into schedules (id, project_id, environment_id, kind, task, deduplication_key, cron, timezone, active)
         select gen_random_uuid(), project_id, environment_id, kind, task, n::text, cron, timezone, false
         from schedules, generate_series(1, $1) n",
    )
    .bind(MAX_SCHEDULES as i32 - 1)
    .execute(&scene.pool)
    .await
    .unwrap();
    let beyond = create(&scene.store, scene.environment, "one more".into(), hourly()).await;
    assert!(matches!(&beyond, Err(Error::Invalid { message, .. }) if message.contains("at most 10000")), "{beyond:?}");
    let new = bundle(vec![declaring("report", "0 9 * * *")], vec![]);
    let deployed = engine::deploy::deploy(&scene.store, scene.environment, new.clone()).await;
    assert!(matches!(&deployed, Err(Error::Invalid { field: "schedules", .. })), "{deployed:?}");
    assert_eq!(scene.count("select count(*) from deployments").await, 1, "nothing is half deployed");
    scene.schedule("0", of("1 1 * * *")).await;
    delete(&scene.store, scene.environment, kept.id).await.unwrap();
    engine::deploy::deploy(&scene.store, scene.environment, new).await.unwrap();
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_tasks_declare_comes_changes_and_goes_with_deployments(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let both = scene.deploy(vec![declaring("report", "0 9 * * *"), declaring("tidy", "0 3 * * *")], vec![]).await;
    let first = scene.declared().await;
    assert_eq!(first.iter().map(|schedule| schedule.task.as_str()).collect::<Vec<_>>(), ["tidy", "report"]);
    assert!(first.iter().all(|schedule| schedule.is_active && schedule.next.is_some()));

    let earlier = first[1].clone();
    scene.until_after(&earlier, secs(1)).await;
    scene.deploy(vec![declaring("report", "0 9 * * *"), scheduled("tidy")], vec![]).await;
    assert_eq!(scene.declared().await, std::slice::from_ref(&earlier), "as before, and still due");
    let told = scene.fired().await;
    assert_eq!((told.len(), &told[0]["type"]), (1, &json!("DECLARATIVE")));

    scene.deploy(vec![declaring("report", "0 10 * * *")], vec![]).await;
    let changed = scene.declared().await.remove(0);
    assert_eq!((changed.id, changed.last_run_at), (earlier.id, earlier.next.map(|next| next.at)));
    assert_eq!(changed.next.unwrap().at.format("%H:%M").to_string(), "10:00");

    let skipped = NewDeployment { promotion: Promotion::Skip, ..bundle(vec![scheduled("report")], vec![]) };
    let skipped = engine::deploy::deploy(&scene.store, scene.environment, skipped).await.unwrap();
    assert_eq!(scene.declared().await, [changed], "not current yet");
    engine::deploy::promote(&scene.store, scene.environment, skipped.version).await.unwrap();
    assert_eq!(scene.declared().await, []);
    engine::deploy::promote(&scene.store, scene.environment, both.version).await.unwrap();
    assert_eq!(scene.declared().await.len(), 2, "a rollback brings them back");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_declared_schedule_holds_only_where_it_says_and_is_not_changed_by_hand(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let mut elsewhere = declaring("elsewhere", "0 9 * * *");
    elsewhere.schedule.as_mut().unwrap().environments = vec!["PRODUCTION".into(), "STAGING".into()];
    let mut here = declaring("report", "0 9 * * *");
    here.schedule.as_mut().unwrap().environments = vec!["DEVELOPMENT".into()];
    scene.deploy(vec![elsewhere, here], vec![]).await;
    let declared = scene.declared().await;
    assert_eq!(declared.iter().map(|schedule| schedule.task.as_str()).collect::<Vec<_>>(), ["report"]);
    let id = declared[0].id;
    let refusals = [
        update(&scene.store, scene.environment, id, hourly()).await.map(drop),
        delete(&scene.store, scene.environment, id).await,
        activate(&scene.store, scene.environment, id).await.map(drop),
        deactivate(&scene.store, scene.environment, id).await.map(drop),
    ];
    for refusal in refusals {
        assert!(matches!(&refusal, Err(Error::Conflict(text)) if text.contains("declares this schedule")), "{refusal:?}");
    }
    assert_eq!(scene.declared().await, declared);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_declared_schedule_that_cannot_be_understood_is_refused_with_its_deployment(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let no_kind = TaskDefinition { kind: TaskKind::Standard, ..declaring("report", "0 9 * * *") };
    for (wrong, says) in [(declaring("report", "0 9 * *"), "4 fields"), (no_kind, "no scheduled task")] {
        let refused = engine::deploy::deploy(&scene.store, scene.environment, bundle(vec![wrong], vec![])).await;
        assert!(matches!(&refused, Err(Error::Invalid { message, .. }) if message.contains(says)), "{refused:?}");
    }
    assert_eq!(scene.count("select count(*) from deployments").await, 0);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_schedule_that_this_version_does_not_understand_does_not_hold_up_the_others(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let odd = scene.schedule("odd", of("* * * * *")).await;
    let sound = scene.schedule("sound", of("* * * * *")).await;
    let blocked = scene.schedule("blocked", of("* * * * *")).await;
    for (id, change) in [(odd.id, "cron = 'whenever'"), (blocked.id, "external_id = repeat('x', 4000000)")] {
        let sql = format!("update schedules set {change}, due_at = due_at - interval '1 hour' where id = $1");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.uuid()).execute(&scene.pool).await.unwrap();
    }
    scene.until_after(&sound, secs(1)).await;
    let told = scene.fired().await;
    assert_eq!(told.iter().map(|told| &told["scheduleId"]).collect::<Vec<_>>(), [&json!(sound.id)]);
    let next = next_due(&scene.store).await.unwrap().unwrap();
    assert!(next > secs(30), "they are looked at again in a minute, not at once: {next:?}");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn the_next_due_time_is_that_of_the_nearest_schedule_within_its_window(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    assert_eq!(next_due(&scene.store).await.unwrap(), None);
    let spread = NewSchedule { timing: Timing::parse("0 0 * * *", None, Some("24h")).unwrap(), ..hourly() };
    let spread = scene.schedule("spread", spread).await;
    let next = spread.next.unwrap();
    assert!(next.due_at >= next.at && next.due_at < next.at + secs(24 * 3600));
    let left = (next.due_at - scene.now().await).to_std().unwrap();
    let due = next_due(&scene.store).await.unwrap().unwrap();
    assert!(due <= left + secs(1) && due + secs(5) >= left, "{due:?} {left:?}");
    scene.until_after(&spread, secs(0)).await;
    assert_eq!(next_due(&scene.store).await.unwrap(), Some(Duration::ZERO));
    assert_eq!(scene.fired().await[0]["timestamp"], shown(next.at), "the time is that of the expression");
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_schedule_that_this_version_does_not_understand_is_left_out_and_can_be_replaced_or_deleted(pool: PgPool) {
    let scene = Scene::with_report(pool).await;
    let [odd, other, sound] =
        [scene.schedule("odd", hourly()).await, scene.schedule("other", hourly()).await, scene.schedule("sound", hourly()).await];
    scene.deploy(vec![declaring("report", "0 9 * * *")], vec![]).await;
    let declared = scene.declared().await;
    sqlx::query("update schedules set cron = 'whenever' where id = any($1) or kind = 'DECLARATIVE'")
        .bind([odd.id.uuid(), other.id.uuid()])
        .execute(&scene.pool)
        .await
        .unwrap();
    let (listed, count) = schedules::list(&scene.store, scene.environment, 0, 100).await.unwrap();
    assert_eq!((listed.iter().map(|schedule| schedule.id).collect::<Vec<_>>(), count), (vec![sound.id], 4));
    assert_eq!(schedules::get(&scene.store, scene.environment, odd.id).await.unwrap(), None);
    let refused = engine::schedule::deactivate(&scene.store, scene.environment, odd.id).await;
    assert!(matches!(&refused, Err(Error::Conflict(text)) if text.contains("change it or delete it")), "{refused:?}");

    let changed = engine::schedule::update(&scene.store, scene.environment, odd.id, hourly()).await.unwrap();
    assert_eq!((changed.id, changed.deduplication_key.as_deref(), changed.is_active), (odd.id, Some("odd"), true));
    assert!(changed.next.is_some());
    let again = engine::schedule::create(&scene.store, scene.environment, "odd".into(), hourly()).await.unwrap();
    assert_eq!(again, changed);
    engine::schedule::delete(&scene.store, scene.environment, other.id).await.unwrap();

    scene.deploy(vec![declaring("report", "0 9 * * *")], vec![]).await;
    assert_eq!(scene.declared().await, declared, "a deployment brings it back as the task declares it");
}
