//! Schedules of a deployed component: fired by a server, by one that was killed meanwhile, and managed from the command line.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dormouse::postgres::PrivatePostgres;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{eventually, guests::guest, server::Server};

const SOON: Duration = Duration::from_secs(30);

/// A server with the example `report`, on a database that the test reaches too.
struct Scene {
    server: Server,
    database: PgConnection,
    postgres: PrivatePostgres,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let postgres = PrivatePostgres::start(&folder.path().canonicalize().unwrap()).await.unwrap();
        let server = Server::start_with(&[], &[("DATABASE_URL", postgres.database_url())]).await;
        server.deploy(guest("report")).await;
        let database = PgConnection::connect(postgres.database_url()).await.unwrap();
        Scene { server, database, postgres, _folder: folder }
    }

    /// Lets the schedule's next time be this many milliseconds from now, and returns that time.
    async fn due_in(&mut self, schedule: &Value, ms: i32) -> DateTime<Utc> {
        let at = sqlx::query_scalar(
            "update schedules set next_run_at = at, due_at = at
             from (select date_trunc('milliseconds', now() + $2 * interval '1 millisecond') as at) t
             where task = $1 returning at",
        )
        .bind(schedule["task"].as_str().unwrap())
        .bind(ms)
        .fetch_one(&mut self.database)
        .await
        .unwrap();
        sqlx::query("notify schedules").execute(&mut self.database).await.unwrap();
        at
    }

    async fn schedules(&self) -> Vec<Value> {
        self.server.get("/api/v1/schedules").await["data"].as_array().unwrap().clone()
    }

    async fn runs_of(&self, schedule: &Value) -> Vec<Value> {
        let path = format!("/api/v1/runs?filter%5Bschedule%5D={}", schedule["id"].as_str().unwrap());
        self.server.get(&path).await["data"].as_array().unwrap().clone()
    }

    /// The one run of a schedule, once it has ended.
    async fn finished(&self, schedule: &Value) -> Value {
        let run = eventually("the schedule starts a run", SOON, async || self.runs_of(schedule).await.pop()).await;
        self.server.finished(run["id"].as_str().unwrap(), SOON).await
    }

    async fn end(self) {
        drop((self.server, self.database));
        self.postgres.stop().await;
    }
}

fn shown(at: DateTime<Utc>) -> Value {
    json!(at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_declares_a_schedule_is_started_and_told_the_time() {
    let mut scene = Scene::new().await;
    let schedules = scene.schedules().await;
    let schedule = &schedules[0];
    assert_eq!((schedules.len(), &schedule["task"], &schedule["type"]), (1, &json!("daily-report"), &json!("DECLARATIVE")));
    assert_eq!(schedule["generator"]["description"], "At 09:00, Monday through Friday");
    assert!(schedule["nextRun"].is_string(), "{schedule}");

    let at = scene.due_in(schedule, 300).await;
    let run = scene.finished(schedule).await;
    assert_eq!(run["status"], "COMPLETED", "{run:#}");
    assert_eq!((&run["payload"]["timestamp"], &run["payload"]["timezone"]), (&shown(at), &json!("Europe/Berlin")));
    assert_eq!((&run["output"]["at"], &run["output"]["is_declared"]), (&json!(at.timestamp()), &json!(true)));
    assert_eq!(run["output"]["covers"], json!(null), "it is the first");
    assert_eq!(run["schedule"]["id"], schedule["id"]);
    let late = DateTime::parse_from_rfc3339(run["createdAt"].as_str().unwrap()).unwrap().to_utc() - at;
    println!("fired {} ms after it was due", late.num_milliseconds());
    assert!(late < chrono::TimeDelta::seconds(1), "a signal or the clock wakes the server, not its next look: {late}");

    let next = &scene.schedules().await[0]["nextRun"];
    assert_eq!(next, &run["payload"]["upcoming"][0]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_whose_time_comes_while_the_server_is_dead_fires_once_when_it_is_back() {
    let mut scene = Scene::new().await;
    let schedule = scene.schedules().await.remove(0);
    scene.server.kill();
    let at = scene.due_in(&schedule, 0).await;
    scene.server.start_again().await;
    let run = scene.finished(&schedule).await;
    assert_eq!((&run["status"], &run["payload"]["timestamp"]), (&json!("COMPLETED"), &shown(at)), "{run:#}");

    scene.server.kill();
    scene.server.start_again().await;
    let later = scene.due_in(&schedule, 0).await;
    let second =
        eventually("a second run", SOON, async || Some(scene.runs_of(&schedule).await).filter(|runs| runs.len() > 1)).await;
    let second = scene.server.finished(second[0]["id"].as_str().unwrap(), SOON).await;
    assert_eq!(second["payload"]["timestamp"], shown(later));
    assert_eq!(second["payload"]["lastTimestamp"], shown(at));
    assert_eq!(scene.runs_of(&schedule).await.len(), 2, "each time has one run");
    scene.end().await;
}

/// Runs `dormouse schedules …` and returns what it prints as JSON, or else what it complains about.
fn command(server: &Server, arguments: &[&str]) -> Result<Value, String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dormouse"));
    command.arg("schedules").args(arguments).arg("--json");
    command.env("DORMOUSE_API_URL", &server.url).env("DORMOUSE_SECRET_KEY", &server.key);
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_manages_schedules() {
    let mut scene = Scene::new().await;
    let create = ["create", "reminder", "0 8 * * *", "--key", "k", "--external-id", "ann", "--timezone", "Asia/Tokyo"];
    let made = command(&scene.server, &create).unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["timezone"], &made["externalId"]), (&json!("Asia/Tokyo"), &json!("ann")));
    assert_eq!(command(&scene.server, &["list"]).unwrap()["pagination"]["count"], 2);
    scene.due_in(&made, 0).await;
    let run = scene.finished(&made).await;
    assert_eq!(run["output"], "reminded ann", "{run:#}");

    let changed = command(&scene.server, &["update", &id, "--cron", "*/5 * * * *", "--window", "2m"]).unwrap();
    assert_eq!((&changed["timezone"], &changed["externalId"]), (&json!("Asia/Tokyo"), &json!("ann")), "what is left out stays");
    assert_eq!((&changed["generator"]["expression"], &changed["window"]), (&json!("*/5 * * * *"), &json!("2m")));
    assert_eq!(command(&scene.server, &["get", &id]).unwrap(), changed);
    assert_eq!(command(&scene.server, &["deactivate", &id]).unwrap()["active"], false);
    assert_eq!(command(&scene.server, &["activate", &id]).unwrap()["active"], true);
    assert_eq!(command(&scene.server, &["delete", &id]).unwrap(), json!({"id": id}));
    assert!(command(&scene.server, &["get", &id]).unwrap_err().contains("Schedule not found (404)"));
    let wrong = command(&scene.server, &["create", "reminder", "0 8 * *", "--key", "k"]).unwrap_err();
    assert!(wrong.contains("cron: 4 fields instead of five"), "{wrong}");
    scene.end().await;
}
