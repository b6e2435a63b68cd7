//! The hot queries use their indexes on a table with many runs; `EXPLAIN_ROWS` is how many.

use super::*;

/// Runs in the suite.
const ROWS: i64 = 20_000;

async fn seed(scene: &Scene) {
    let rows = std::env::var("EXPLAIN_ROWS").map_or(ROWS, |text| text.parse().expect("EXPLAIN_ROWS is a number"));
    // One in a hundred is in line, sleeps or is leased; the rest is history.
    sqlx::query(
        "insert into runs (id, environment_id, task, status, payload, payload_type, root_id, queue_id, position, due_at,
             lease_worker, lease_expires_at, finished_at)
         select gen_random_uuid(), $1, 'hello', s.status, '', 'application/json', gen_random_uuid(), gen_random_uuid(),
             now() - n * interval '1 second', case when s.status = 'WAITING' then now() + (n - 5000) * interval '1 second' end,
             case when s.status = 'EXECUTING' then gen_random_uuid() end,
             case when s.status = 'EXECUTING' then now() + (n - 5000) * interval '1 second' end,
             case when s.status = 'COMPLETED' then now() end
         from generate_series(1, $2) n
         cross join lateral (select case n % 100 when 0 then 'QUEUED' when 1 then 'WAITING' when 2 then 'EXECUTING'
             else 'COMPLETED' end as status) s",
    )
    .bind(scene.environment.uuid())
    .bind(rows)
    .execute(&scene.pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into waitpoints (id, environment_id, kind, status, due_at, completed_at)
         select gen_random_uuid(), $1, 'TIMER', case when n % 100 = 0 then 'WAITING' else 'COMPLETED' end,
             now() + (n - 5000) * interval '1 second', case when n % 100 = 0 then null else now() end
         from generate_series(1, 20000) n",
    )
    .bind(scene.environment.uuid())
    .execute(&scene.pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into run_waits (run_id, index, waitpoint_id)
         select r.id, 0, w.id from (select id, row_number() over () as n from runs) r
         join (select id, row_number() over () as n from waitpoints) w using (n)",
    )
    .execute(&scene.pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into schedules (id, project_id, environment_id, kind, task, deduplication_key, cron, timezone, active,
             next_run_at, due_at)
         select gen_random_uuid(), e.project_id, e.id, 'IMPERATIVE', 'hello', n::text, '0 0 * * *', 'UTC', true, at, at
         from environments e, generate_series(1, 10000) n cross join lateral (select now() + (n - 50) * interval '1 second' as at) t
         where e.id = $1",
    )
    .bind(scene.environment.uuid())
    .execute(&scene.pool)
    .await
    .unwrap();
    sqlx::query("update runs set parent_id = gen_random_uuid(), root_id = id where status <> 'COMPLETED' or random() < 0.5")
        .execute(&scene.pool)
        .await
        .unwrap();
    sqlx::query(
        "insert into batches (id, environment_id, stage, run_count, updated_at)
         select gen_random_uuid(), $1, case n % 100 when 0 then 'MAKING' when 1 then 'FILLING' else 'MADE' end, 10,
             now() + (n - 5000) * interval '1 second'
         from generate_series(1, 20000) n",
    )
    .bind(scene.environment.uuid())
    .execute(&scene.pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into batch_items (batch_id, index, task, run_id)
         select id, index, 'hello', case when stage = 'MADE' then gen_random_uuid() end
         from batches cross join generate_series(0, 2) index",
    )
    .execute(&scene.pool)
    .await
    .unwrap();
    sqlx::raw_sql("update runs set schedule_id = gen_random_uuid() where status = 'WAITING'").execute(&scene.pool).await.unwrap();
    for table in ["runs", "waitpoints", "run_waits", "batches", "batch_items", "schedules"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("analyze {table}"))).execute(&scene.pool).await.unwrap();
    }
}

/// The plan of the one statement in `src/store` that contains `marker`, asked with these values.
async fn plan(scene: &Scene, source: &'static str, marker: &str, values: &[&str]) -> String {
    let at = source.find(marker).expect("the statement is there");
    let call = source[..at].rfind("query").expect("the statement is in a query");
    let start = call + source[call..].find('"').expect("the statement begins with a quote") + 1;
    let closing = if source[..start].ends_with("r#\"") { "\"#" } else { "\"" };
    let end = at + source[at..].find(closing).expect("the statement ends with a quote");
    let sql = &source[start..end];
    let is_list = marker.contains("cardinality");
    let connection = &mut *scene.pool.acquire().await.unwrap();
    // As the connections of a store have it, and those for lists.
    let settings = if is_list { "" } else { "set plan_cache_mode = force_generic_plan; set enable_seqscan = off;" };
    let values = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
    let prepare = format!("{settings} prepare statement as {sql}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection).await.unwrap();
    let explain = format!("explain execute statement {values}");
    let plan = sqlx::raw_sql(sqlx::AssertSqlSafe(explain)).fetch_all(&mut *connection).await.unwrap();
    let lines: Vec<String> = plan.iter().map(|line| sqlx::Row::get(line, 0)).collect();
    sqlx::raw_sql("deallocate statement; reset all").execute(connection).await.unwrap();
    lines.join("\n")
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_are_found_by_their_ids_also_with_a_plan_from_when_there_were_none(pool: PgPool) {
    let scene = Scene::empty(pool).await;
    let runs = include_str!("../../store/runs.rs");
    let checkpoints = include_str!("../../store/checkpoints.rs");
    let endings = include_str!("../../store/endings.rs");
    let leases = include_str!("../../store/leases.rs");
    for (source, marker, values) in [
        (runs, "r.id = any($1)", &["array[gen_random_uuid()]", "'micro'", "true", "65536"][..]),
        (checkpoints, "), frozen as (", &["null"; 21][..]),
        (endings, "), done as materialized (", &["null"; 11][..]),
        (leases, "as lease (id, epoch)", &["null"; 4][..]),
        (leases, "with granted as (", &["null"; 7][..]),
    ] {
        let found = plan(&scene, source, marker, values).await;
        let by_id = "Index Cond: (id = ANY ($";
        assert!(found.contains(by_id) && !found.contains("runs_newest") && !found.contains("runs_leased"), "{found}");
        assert!(!found.contains("journal") || found.contains("Index Cond: (run_id = ANY"), "{found}");
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn hot_queries_read_no_table_from_end_to_end(pool: PgPool) {
    let scene = Scene::new(pool).await;
    seed(&scene).await;
    let debounce = include_str!("../../store/debounce.rs");
    let leases = include_str!("../../store/leases.rs");
    let sweep = include_str!("../../store/sweep.rs");
    let waitpoints = include_str!("../../store/waitpoints.rs");
    let edges = include_str!("../../store/edges.rs");
    let checkpoints = include_str!("../../store/checkpoints.rs");
    let children = include_str!("../../store/children.rs");
    let batches = include_str!("../../store/batches.rs");
    let items = include_str!("../../store/batch_items.rs");
    let gates = include_str!("../../store/gates.rs");
    let lanes = include_str!("../../store/lanes.rs");
    let queues = include_str!("../../store/queues.rs");
    let retention = include_str!("../../store/retention.rs");
    let room = include_str!("../../store/room.rs");
    let runs = include_str!("../../store/runs.rs");
    let schedules = include_str!("../../store/schedules/due.rs");
    let stages = include_str!("../../store/stages.rs");
    let traces = include_str!("../../store/traces.rs");
    let exports = include_str!("../../store/trace_exports.rs");
    let some = "'0190a0a0-0000-7000-8000-000000000000'::uuid";
    let array = format!("array[{some}]");
    let environment = format!("'{}'", scene.environment.uuid());
    let lane_list = [array.as_str(), &array, "array['{}']", "array['']", "array[10]", &array];
    let way = [some, "32", &array, &array, &array, "array['{}']", "array['']", &array, &array, "64"];
    let none = "'{}'::text[]";
    let list_with = |others: &[(usize, &'static str)]| {
        let nothing = [
            "null", none, none, none, "null", "null", "null", none, "null", "null", none, none, "'micro'", "null", "null",
            "null", "25",
        ];
        let mut values = nothing.map(String::from);
        values[0].clone_from(&environment);
        others.iter().for_each(|(place, value)| values[place - 1] = (*value).to_owned());
        values
    };
    let (list, next_page, of_schedule) = (list_with(&[]), list_with(&[(15, some)]), list_with(&[(7, some)]));
    let [list, next_page, of_schedule] = [&list, &next_page, &of_schedule].map(|values| values.each_ref().map(String::as_str));
    for (source, marker, values, index) in [
        (lanes, "id <> all($6)", &lane_list[..], "runs_in_line"),
        (lanes, "with recursive environment", &way[..], "runs_in_line"),
        (
            stages,
            "exists (select from runs where status",
            &[&array, "array['hello']", none, "array['task/hello']", "2"][..],
            "runs_in_line",
        ),
        (leases, "order by lease_expires_at limit", &["50"][..], "runs_lease_end"),
        (debounce, "debounce_key = $3 and status", &[&environment, "'hello'", "'k'"][..], "runs_debounce"),
        (sweep, "from runs where due_at <= clock_now()\n", &["50"][..], "runs_due"),
        (sweep, "), woken as (", &["50", "''", "''", "200", "''"][..], "runs_due"),
        (sweep, "), woken as (", &["50", "''", "''", "200", "''"][..], "waitpoints_due"),
        (sweep, "select id from runs where logs_kept and finished_at", &["'30 days'", "100"][..], "runs_ended"),
        (sweep, "expires_at <= clock_now() order by", &["100"][..], "trigger_requests_end"),
        (sweep, "select min(due_at) from runs", &[][..], "runs_due"),
        (waitpoints, "due_at is not null and due_at <= clock_now()", &["50"][..], "waitpoints_due"),
        (edges, "select distinct run_id", &[array.as_str()][..], "run_waits_of_waitpoint"),
        (edges, "delete from run_waits where run_id = any", &[array.as_str(), &array, "''", "''", "''"][..], "run_waits_pkey"),
        (children, "where parent_id = $1 and finished_at is null", &[some, "100"][..], "runs_live_children"),
        (batches, "where stage = 'MAKING' and updated_at <=", &["'5s'", "100"][..], "batches_unmade"),
        (batches, "where stage = 'FILLING' and updated_at <=", &["'1h'", "100"][..], "batches_unmade"),
        (items, "batch_id = $1 and run_id is null\n        ) item", &[some, "1000", "100"][..], "batch_items_"),
        (room, "status = 'QUEUED' limit $3", &[&environment, some, "100"][..], "runs_in_line"),
        (items, "draft ->> 'queue'", &[some][..], "batch_items_"),
        (gates, "group by environment_id, queue_id", &[array.as_str()][..], "runs_leased"),
        (queues, "where q.environment_id = $1 and (q.id = $2", &[&environment, some, "''"][..], "runs_in_line"),
        (runs, "and (cardinality($2::text[]) = 0", &list[..], "runs_newest"),
        (runs, "and (cardinality($2::text[]) = 0", &next_page[..], "runs_newest"),
        (runs, "and (cardinality($2::text[]) = 0", &of_schedule[..], "runs_of_schedule"),
        (checkpoints, "from unnest($1::text[]) as asked (digest)", &["array['00']"][..], "runs_stored_payloads"),
        (retention, "from runs r where r.id > $1", &[some, some, "now()", "500"][..], "runs_pkey"),
        (retention, "from batches b where b.id > $1", &[some, some, "now()", "500"][..], "batches_pkey"),
        (retention, "from waitpoints w where w.id > $1", &[some, some, "now()", "500"][..], "waitpoints_pkey"),
        (retention, "delete from runs where id = any", &[array.as_str()][..], "attempts_pkey"),
        (traces, "with recursive tree", &[some, &environment, "20", "1001"][..], "runs_children"),
        (traces, "from run_events", &[array.as_str(), "array['suspended']", "100"][..], "run_events_pkey"),
        (traces, "from spans where run_id = any", &[array.as_str(), "100", "5", "4096"][..], "spans_pkey"),
        (traces, "left(message, $3)", &[array.as_str(), "100", "2000", "8192", "100", "5"][..], "logs_pkey"),
        (exports, "select id, finished_at", &["now()", some, "now()", "200"][..], "runs_ended"),
        (schedules, "where s.due_at <= clock_now()", &["50"][..], "schedules_due"),
        (schedules, "from schedules where due_at is not null", &[][..], "schedules_due"),
    ] {
        let plan = plan(&scene, source, marker, values).await;
        assert!(plan.contains(index), "{index} is not used:\n{plan}");
        let small = plan.replace("Seq Scan on environments", "").replace("Seq Scan on tasks", "");
        assert!(!small.contains("Seq Scan on"), "{plan}");
    }
}
