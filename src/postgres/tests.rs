use std::{os::unix::fs::PermissionsExt, time::Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};

use super::*;

/// A data folder whose parents every user can pass, as the default one has when nobody runs the server as root.
fn data_dir() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

async fn count(postgres: &PrivatePostgres) -> Result<i64, sqlx::Error> {
    let mut connection = PgConnection::connect(postgres.database_url()).await?;
    sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connection).await
}

async fn keep_one_row(postgres: &PrivatePostgres) {
    let mut connection = PgConnection::connect(postgres.database_url()).await.unwrap();
    sqlx::raw_sql("create table kept (n int); insert into kept values (1)").execute(&mut connection).await.unwrap();
}

fn postmaster(data_dir: &Path) -> Pid {
    let text = std::fs::read_to_string(data_dir.join("postgres/postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
}

fn parent(process: Pid) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    Pid::from_raw(line.trim().parse().unwrap()).unwrap()
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, attempt: impl Fn() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cluster_keeps_its_rows_over_a_restart_and_over_a_pid_file_that_names_a_stranger() {
    let folder = data_dir();
    let postgres = PrivatePostgres::start(folder.path()).await.unwrap();
    assert_eq!(postgres.notice(), None);
    keep_one_row(&postgres).await;
    let second = PrivatePostgres::start(folder.path()).await.unwrap_err().to_string();
    assert!(second.contains(&format!("in use by another dormouse (process {})", std::process::id())), "{second}");
    let pid_file = std::fs::read_to_string(folder.path().join("postgres/postmaster.pid")).unwrap();
    postgres.stop().await;
    assert!(!folder.path().join("postgres/postmaster.pid").exists(), "a stopped cluster has no postmaster");

    // As after a restart of the machine: the number in the file belongs to a living process that is no postmaster.
    let old = pid_file.lines().next().unwrap();
    let stale = pid_file.replacen(old, &std::process::id().to_string(), 1);
    std::fs::write(folder.path().join("postgres/postmaster.pid"), stale).unwrap();
    let postgres = PrivatePostgres::start(folder.path()).await.unwrap();
    assert_eq!(count(&postgres).await.unwrap(), 1);
    postgres.stop().await;
}

#[tokio::test]
async fn a_killed_postmaster_and_one_that_lost_its_guard_are_replaced() {
    let folder = data_dir();
    let postgres = PrivatePostgres::start(folder.path()).await.unwrap();
    keep_one_row(&postgres).await;

    let first = postmaster(folder.path());
    kill_process(first, Signal::KILL).unwrap();
    eventually("the restart after SIGKILL", async || count(&postgres).await.ok()).await;
    let second = postmaster(folder.path());
    assert_ne!(first, second);

    // Without its guard nobody would ever stop it.
    kill_process(parent(second), Signal::KILL).unwrap();
    eventually("the replacement of the orphan", async || {
        let pid = std::fs::read_to_string(folder.path().join("postgres/postmaster.pid")).unwrap_or_default();
        let replaced = pid.lines().next().is_some_and(|pid| pid != second.as_raw_nonzero().to_string());
        if replaced { count(&postgres).await.ok() } else { None }
    })
    .await;
    postgres.stop().await;
}

#[test]
fn a_server_that_vanishes_takes_its_postmaster_along() {
    let folder = data_dir();
    let start = || tokio::runtime::Runtime::new().unwrap();
    let first = start();
    let postgres = first.block_on(PrivatePostgres::start(folder.path())).unwrap();
    let process = postmaster(folder.path());
    let socket_folder = postgres.database_url().split_once("host=").unwrap().1.split('&').next().unwrap().to_owned();
    // Nothing of ours runs any more, as after SIGKILL; only the kernel closes the pipe.
    std::mem::forget(postgres);
    first.shutdown_background();
    start().block_on(eventually("the end of the postmaster", async || {
        rustix::process::test_kill_process(process).is_err().then_some(())
    }));
    std::fs::remove_dir_all(socket_folder).unwrap();
}

#[tokio::test]
async fn a_data_folder_that_the_unprivileged_user_cannot_reach_is_said_and_works() {
    if rustix::process::geteuid().as_raw() != 0 {
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let folder = closed.path().join("data");
    let postgres = PrivatePostgres::start(&folder).await.unwrap();
    let notice = postgres.notice().unwrap().to_owned();
    assert!(notice.contains("cannot reach") && notice.contains("/var/lib/dormouse/"), "{notice}");
    keep_one_row(&postgres).await;
    postgres.stop().await;
    let again = PrivatePostgres::start(&folder).await.unwrap();
    assert_eq!(count(&again).await.unwrap(), 1);
    again.stop().await;
    let elsewhere = notice.rsplit(' ').next().unwrap();
    std::fs::remove_dir_all(elsewhere).unwrap();
}

#[tokio::test]
async fn a_start_that_fails_shows_what_postgres_said() {
    let folder = data_dir();
    PrivatePostgres::start(folder.path()).await.unwrap().stop().await;
    std::fs::write(folder.path().join("postgres/global/pg_control"), "damaged").unwrap();
    let error = PrivatePostgres::start(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("starting PostgreSQL failed") && error.contains("pg_control"), "{error}");
}
