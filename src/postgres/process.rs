//! The postmaster and its guard.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use tokio::{
    process::{Child, ChildStdin},
    time::Instant,
};

use super::{Error, cluster, cluster::Cluster, doing, leftovers};

/// Starts the postmaster and asks it to stop (fast) when standard input ends. It runs in a process group of its own, because
/// ctrl-c in a terminal must reach the server alone, which still needs its database to end properly.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- & postmaster=$!
{ read -r _ <&3; kill -INT $postmaster; } & guard=$!
exec 3<&-
wait $postmaster; status=$?
kill $guard 2>/dev/null
exit $status
"#;

/// Longest time a cluster may take to answer: after a crash it first replays what its log holds.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// Longest time for a fast shutdown, which writes a checkpoint.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// A longer log is moved aside at the next start.
const LOG_BYTES: u64 = 8 << 20;
const LOG_TAIL_LINES: usize = 15;

/// A running postmaster.
#[derive(Debug)]
pub(super) struct Process {
    guard: Child,
    /// Its end is the signal to stop. Kept apart from the child, whose `wait` would close it.
    pipe: Option<ChildStdin>,
}

impl Process {
    /// Ends what is left of an earlier one, starts, and waits until connections are accepted.
    pub(super) async fn start(cluster: &Cluster) -> Result<Process, Error> {
        leftovers::clear(cluster).await?;
        let (log, log_start) = open_log(&cluster.log)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "dormouse-postgres"]).arg(cluster.binaries.program("postgres"));
        command.arg("-D").arg(&cluster.folder).args(settings(cluster));
        cluster::clean(&mut command);
        cluster.account.runs(&mut command);
        command.process_group(0).stdin(Stdio::piped());
        command.stdout(doing(log.try_clone(), || "open the log of PostgreSQL".into())?).stderr(log);
        let mut guard = doing(tokio::process::Command::from(command).spawn(), || {
            format!("start PostgreSQL as user {}", cluster.account.name)
        })?;
        let pipe = guard.stdin.take();
        let mut process = Process { guard, pipe };
        if let Err(error) = process.ready(cluster, log_start).await {
            process.stop().await;
            cluster.remove_socket_folder();
            return Err(error);
        }
        Ok(process)
    }

    async fn ready(&mut self, cluster: &Cluster, log_start: u64) -> Result<(), Error> {
        let options: PgConnectOptions = cluster.database_url().parse().expect("our own URL is well formed");
        let options = options.disable_statement_logging();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            tokio::select! {
                status = self.guard.wait() => {
                    tracing::debug!(?status, "PostgreSQL ended while starting");
                    return Err(Error::Failed { doing: "starting PostgreSQL", output: log_tail(&cluster.log, log_start) });
                }
                connection = sqlx::PgConnection::connect_with(&options) => match connection {
                    Ok(connection) => {
                        // It has shown what it was opened for; how its end goes does not matter.
                        let _ = connection.close().await;
                        return Ok(());
                    }
                    Err(error) if Instant::now() > deadline => {
                        let output = format!("{}\n{error}", log_tail(&cluster.log, log_start));
                        return Err(Error::Failed { doing: "connecting to the private PostgreSQL", output });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
                }
            }
        }
    }

    /// Waits until it has died by itself.
    pub(super) async fn died(&mut self) -> String {
        let status = self.guard.wait().await;
        status.as_ref().map_or_else(ToString::to_string, ExitStatus::to_string)
    }

    /// Fast shutdown; what has not ended by then is killed at the next start.
    pub(super) async fn stop(mut self) {
        drop(self.pipe.take());
        match tokio::time::timeout(STOPPED_WITHIN, self.guard.wait()).await {
            Ok(Ok(status)) => tracing::debug!(%status, "the private PostgreSQL has stopped"),
            Ok(Err(error)) => tracing::error!(%error, "could not wait for the private PostgreSQL to stop"),
            Err(_) => tracing::error!("the private PostgreSQL has not stopped in {STOPPED_WITHIN:?}"),
        }
    }
}

/// Nothing is risked for speed (fsync and synchronous_commit are on); memory is what a laptop does not notice.
fn settings(cluster: &Cluster) -> Vec<String> {
    let fixed = [
        "listen_addresses=",
        "port=5432",
        "unix_socket_permissions=0700",
        "fsync=on",
        "synchronous_commit=on",
        "full_page_writes=on",
        "max_connections=100",
        "shared_buffers=64MB",
        "max_wal_size=512MB",
        "wal_level=minimal",
        "max_wal_senders=0",
        "jit=off",
        "timezone=UTC",
        "log_timezone=UTC",
        "log_min_messages=warning",
        // Values of users do not belong in the log.
        "log_min_error_statement=panic",
        "log_error_verbosity=terse",
    ];
    let own = [format!("unix_socket_directories={}", cluster.socket_folder.display()), format!("cluster_name={}", cluster.tag)];
    fixed.into_iter().map(String::from).chain(own).flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

fn open_log(path: &Path) -> Result<(File, u64), Error> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES) {
        // Losing an old log is no reason not to start.
        let _ = fs::rename(path, path.with_extension("log.old"));
    }
    let file = doing(File::options().create(true).append(true).open(path), || format!("open {}", path.display()))?;
    let start = doing(file.metadata(), || format!("look at {}", path.display()))?.len();
    Ok((file, start))
}

/// The last lines that were written since `start`.
fn log_tail(path: &Path, start: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.take(LOG_BYTES).read_to_end(&mut text)
    });
    if let Err(error) = read {
        return format!("({}: {error})", path.display());
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
    format!("{}\n(more in {})", last.join("\n"), path.display())
}
