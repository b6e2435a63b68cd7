//! Lists and logs, and what the store does with connections.

use serde_json::{Map, Value};
use sqlx::ConnectOptions;

use super::*;
use crate::{
    model::{
        log::{Level, LogRecord, Source},
        trace::{Measured, Record, SpanBegin, SpanEnd, SpanId},
    },
    store::{
        Page, Start, StoreError,
        listen::{Listening, listen},
        logs,
        runs::{Filter, Read},
        traces::{self, Below, Events, Extent},
    },
};

pub(super) fn line(message: &str) -> LogRecord {
    LogRecord {
        at: Utc::now(),
        level: Level::Info,
        source: Source::Logger,
        message: message.into(),
        attributes: json!({"z": 1, "a": 2}),
        span: None,
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_are_listed_newest_first_page_by_page(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(scene.trigger(hello()).await);
    }
    ids.reverse();
    let list = async |start| {
        let page = Page { size: 2, start };
        let listing = runs::list(&scene.store, scene.environment, &Filter::default(), page).await.unwrap();
        (listing.items.iter().map(|run| run.id).collect::<Vec<_>>(), listing.previous, listing.next)
    };
    assert_eq!(list(Start::Newest).await, (ids[..2].to_vec(), None, Some(ids[1])));
    assert_eq!(list(Start::After(ids[1])).await, (ids[2..4].to_vec(), Some(ids[2]), Some(ids[3])));
    assert_eq!(list(Start::After(ids[3])).await, (ids[4..].to_vec(), Some(ids[4]), None));
    assert_eq!(list(Start::Before(ids[4])).await, (ids[2..4].to_vec(), Some(ids[2]), Some(ids[3])));
    assert_eq!(list(Start::Before(ids[2])).await, (ids[..2].to_vec(), None, Some(ids[1])));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn runs_that_are_read_together_are_told_apart(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let small = scene.trigger(hello()).await;
    let large = scene.trigger(NewRun::of("hello", Packet::json(&json!("x".repeat(2000))))).await;
    let (own, foreign, missing) = (scene.environment, EnvironmentId::new(), RunId::new());
    let asked = [(own, large), (own, small), (foreign, small), (own, missing), (own, small)];
    let read = runs::details(&scene.store, &asked, 1000).await.unwrap();
    let told = |read: &Read| match read {
        Read::Run(detail) => format!("{}", detail.run.id),
        Read::Nothing => "nothing".to_owned(),
        Read::Large => "large".to_owned(),
    };
    let small = small.to_string();
    assert_eq!(read.iter().map(told).collect::<Vec<_>>(), ["large", &small, "nothing", "nothing", &small]);
    let alone = runs::detail(&scene.store, own, large).await.unwrap().unwrap();
    assert_eq!(alone.payload.data.len(), 2002);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_list_shows_what_its_filters_say(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let old = scene.trigger(NewRun { tags: vec!["a".into()], ..hello() }).await;
    scene.advance(secs(3600)).await;
    let tagged = scene.trigger(NewRun { tags: vec!["b".into(), "c".into()], ..hello() }).await;
    let other = scene.trigger(NewRun::of("other", Packet::empty())).await;
    let list = async |filter: Filter| {
        let page = Page { size: 10, start: Start::Newest };
        let listing = runs::list(&scene.store, scene.environment, &filter, page).await.unwrap();
        listing.items.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    assert_eq!(list(Filter { tags: strings(&["a", "b"]), ..Filter::default() }).await, [tagged, old]);
    assert_eq!(list(Filter { tasks: strings(&["other"]), ..Filter::default() }).await, [other]);
    let statuses = vec![RunStatus::PendingVersion, RunStatus::Completed];
    assert_eq!(list(Filter { statuses, ..Filter::default() }).await, [other]);
    let middle = scene.now().await - secs(1800);
    assert_eq!(list(Filter { created_from: Some(middle), ..Filter::default() }).await, [other, tagged]);
    assert_eq!(list(Filter { created_to: Some(middle), ..Filter::default() }).await, [old]);
    let foreign = environment(&scene.store, "proj_other").await;
    assert!(runs::get(&scene.store, foreign, old).await.unwrap().is_none());
    assert!(runs::detail(&scene.store, foreign, old).await.unwrap().is_none());
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn log_lines_are_kept_in_order_and_read_from_a_cursor(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let append = |lines: Vec<LogRecord>| engine::log::append(&scene.store, &lease, lines);
    assert_eq!(append(vec![line("one"), line("nul\0l")]).await.unwrap(), 2);
    scene.finish(&lease, completed()).await.unwrap();
    assert_eq!(append(vec![LogRecord { attributes: Value::Null, ..line("after the end") }]).await.unwrap(), 1);
    let lines = logs::after(&scene.store, lease.run, 0, 10).await.unwrap();
    let texts: Vec<&str> = lines.iter().map(|line| line.record.message.as_str()).collect();
    assert_eq!(texts, ["one", "null", "after the end"]);
    assert_eq!(lines[0].record.attributes.to_string(), r#"{"z":1,"a":2}"#);
    assert_eq!(logs::after(&scene.store, lease.run, 2, 10).await.unwrap(), lines[2..]);
    let stale = Lease { epoch: lease.epoch - 1, ..lease };
    assert!(matches!(engine::log::append(&scene.store, &stale, vec![line("x")]).await, Err(Error::LostLease)));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_log_is_bounded_and_says_so(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let batches = (0..11).map(|_| engine::log::append(&scene.store, &lease, vec![line("x"); 1000]));
    let kept: u32 = futures_util::future::join_all(batches).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(kept, engine::log::MAX_LINES);
    let last = logs::after(&scene.store, lease.run, engine::log::MAX_LINES - 1, 10).await.unwrap();
    assert_eq!(last.len(), 1);
    assert!(last[0].record.message.contains("10000 lines"));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_verb_runs_to_its_end_when_its_caller_goes_away(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut blocker = scene.pool.begin().await.unwrap();
    sqlx::query("lock table runs in share mode").execute(&mut *blocker).await.unwrap();
    let trigger = engine::trigger::trigger(&scene.store, scene.environment, hello());
    // The caller waits until the insert stands before the lock, and goes.
    tokio::select! {
        _ = trigger => panic!("the table is locked"),
        () = async {
            while scene.count("select count(*) from pg_locks where not granted").await == 0 {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    blocker.commit().await.unwrap();
    while scene.count("select count(*) from runs where status = 'QUEUED'").await == 0 {
        tokio::task::yield_now().await;
    }
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn a_transaction_that_fails_leaves_nothing_behind(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let answer: Result<(), StoreError> = scene
        .store
        .tx(|tx| {
            Box::pin(async move {
                sqlx::query("delete from projects").execute(&mut *tx).await?;
                Ok(())
            })
        })
        .await;
    assert!(matches!(answer, Err(StoreError::Query(_))), "{answer:?}");
    assert_eq!(scene.count("select count(*) from projects").await, 1);
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn listeners_hear_of_runs_and_waitpoints(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let tasks = tokio_util::task::TaskTracker::new();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut signals = listen(&scene.store, Listening::On, &tasks, stop.clone());
    signals.reconnected.changed().await.unwrap();
    let (mut heard_runs, mut heard_waitpoints) = (signals.runs.subscribe(), signals.waitpoints.subscribe());
    signals.line.mark_unchanged();
    let run = scene.trigger(hello()).await;
    signals.line.changed().await.unwrap();
    assert_eq!(heard_runs.recv().await.unwrap(), run);
    let token = scene.token().await;
    scene.complete(token, 1).await;
    assert_eq!(heard_waitpoints.recv().await.unwrap(), token);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[sqlx::test]
async fn processes_that_start_together_migrate_once(pool: PgPool) {
    let url = pool.connect_options().to_url_lossy().to_string();
    let stores = futures_util::future::join_all((0..4).map(|_| Store::connect(&url, 2))).await;
    for store in stores {
        store.unwrap().ping().await.unwrap();
    }
    let applied: i64 = sqlx::query_scalar("select count(*) from _sqlx_migrations where success").fetch_one(&pool).await.unwrap();
    assert!(applied > 0);
}

/// The transaction's start is the statement's own only outside a transaction. In the simple protocol: in the extended one, parsing
/// begins the transaction and binding the statement.
async fn is_outside_a_transaction(store: &Store) -> bool {
    let row = sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(&mut *store.read().await.unwrap()).await;
    sqlx::Row::get(&row.unwrap(), 0)
}

#[sqlx::test]
async fn a_verb_that_fails_panics_or_loses_its_connection_leaves_no_transaction_behind(pool: PgPool) {
    let store = Store::connect(pool.connect_options().to_url_lossy().as_str(), 1).await.unwrap();
    let ending = |how: &'static str| {
        store.tx(move |tx| {
            Box::pin(async move {
                sqlx::query("select pg_advisory_xact_lock(7)").execute(&mut *tx).await.map_err(StoreError::from)?;
                match how {
                    "panics" => panic!("as asked"),
                    "is cut off" => {
                        let end = sqlx::query("select pg_terminate_backend(pg_backend_pid())").execute(&mut *tx).await;
                        end.map(drop).map_err(StoreError::from)
                    }
                    _ => Err(StoreError::Unknown { table: "none", what: how.into() }),
                }
            })
        })
    };
    for how in ["fails", "panics", "is cut off"] {
        let error = ending(how).await.unwrap_err();
        let is_told = match how {
            "fails" => matches!(error, StoreError::Unknown { .. }),
            "panics" => matches!(error, StoreError::BrokenOff(_)),
            _ => matches!(error, StoreError::Unavailable(_)),
        };
        assert!(is_told, "{how}: {error:?}");
        // The server hears of a closed connection when it gets to it.
        let mut tries = 0;
        while !sqlx::query_scalar::<_, bool>("select pg_try_advisory_xact_lock(7)").fetch_one(&pool).await.unwrap() {
            tries += 1;
            assert!(tries < 100, "{how}: its lock is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(is_outside_a_transaction(&store).await, "{how}");
    }
}

/// The beginning of a span.
pub(super) fn span(lease: &Lease, ordinal: u64) -> Record {
    let begin = SpanBegin { at: Utc::now(), name: format!("span {ordinal}"), attributes: Map::new(), parent: None };
    Record::Begin(SpanId::guest(lease.run, lease.attempt, 0, ordinal), begin)
}

async fn measured(scene: &Scene, run: RunId) -> Vec<Measured> {
    let extent = Extent { below: Below::None, events: Events::None, whole: None };
    traces::of_run(&scene.store, scene.environment, run, extent).await.unwrap().measured
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn what_a_run_that_lost_its_host_measures_again_is_there_once_as_it_was_the_last_time(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let append = |records: Vec<Record>| engine::log::append(&scene.store, &lease, records);
    let end = |ordinal| {
        let id = SpanId::guest(lease.run, lease.attempt, 0, ordinal);
        Record::End(SpanEnd { id, at: Utc::now(), attributes: Map::new(), error: Some("lost".into()) })
    };
    append(vec![span(&lease, 0), span(&lease, 1), end(0)]).await.unwrap();
    append(vec![end(1), end(7)]).await.unwrap();
    append(vec![span(&lease, 0)]).await.unwrap();
    let mut spans = measured(&scene, lease.run).await;
    spans.sort_by_key(|span| span.name.clone());
    let told: Vec<(&str, bool)> = spans.iter().map(|span| (span.name.as_str(), span.end.is_some())).collect();
    assert_eq!(told, [("span 0", false), ("span 1", true)]);
    assert_eq!((&spans[0].error, spans[1].error.as_deref()), (&None, Some("lost")));
    let stale = Lease { epoch: lease.epoch - 1, ..lease };
    assert!(matches!(engine::log::append(&scene.store, &stale, vec![span(&lease, 2)]).await, Err(Error::LostLease)));
}

#[sqlx::test(migrations = "src/store/migrations")]
async fn spans_are_bounded_and_a_line_says_so(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let lease = scene.executing().await;
    let most = u64::from(engine::log::MAX_SPANS);
    let all: Vec<Record> = (0..most + 700).map(|ordinal| span(&lease, ordinal)).collect();
    // Not at a multiple of the batches.
    for some in std::iter::once(&all[..300]).chain(all[300..].chunks(1000)) {
        engine::log::append(&scene.store, &lease, some.to_vec()).await.unwrap();
    }
    assert_eq!(measured(&scene, lease.run).await.len() as u64, most);
    let lines = logs::after(&scene.store, lease.run, 0, 10).await.unwrap();
    assert_eq!((lines.len(), lines[0].record.message.as_str()), (1, "a run has at most 5000 spans: later ones are not kept"));
}
