//! A PostgreSQL cluster of our own, for whoever has not set up a server: `dev`, the demo and the tests.
//!
//! The cluster lives in `<data dir>/postgres`, speaks only through a Unix socket in a folder nobody else may enter, and lives
//! exactly as long as the server: its stop signal is the end of a pipe that the server holds, so a server that was killed with
//! SIGKILL stops it just as one that ends properly. What still remains of an earlier one is stopped before a new one starts,
//! never adopted: a postmaster without our pipe would live on for ever.
//!
//! ```text
//! dormouse ──pipe──▶ sh ──▶ postgres ──▶ <socket dir>/.s.PGSQL.5432
//!                    │ reads the pipe; at its end: SIGINT (fast shutdown)
//! ```
//!
//! A postmaster that dies while the server runs is started again. PostgreSQL never runs as root, so when the server does, the
//! cluster belongs to `postgres` or `nobody`; if that user cannot reach the data folder the cluster goes to `/var/lib/dormouse`.

mod account;
mod binaries;
mod cluster;
mod leftovers;
mod process;

use std::{
    fs::{File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use cluster::Cluster;
use process::Process;

/// How long, and how often, the lock of a data folder is tried.
const LOCK_WITHIN: Duration = Duration::from_secs(1);
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// Why the private cluster could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable binaries.
    #[error("{0}")]
    Missing(String),
    /// Another server uses the data folder.
    #[error("{} is in use by another dormouse{}; stop it, or choose another --data-dir", .folder.display(), .owner)]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// " (process 123)", or empty.
        owner: String,
    },
    /// The cluster's folder cannot be used as it is.
    #[error("{0}")]
    Unusable(String),
    /// A program of PostgreSQL failed.
    #[error("{doing} failed{}", tail(.output))]
    Failed {
        /// What was done.
        doing: &'static str,
        /// The end of what it said.
        output: String,
    },
    /// A file or process could not be handled.
    #[error("could not {doing}: {source}")]
    Io {
        /// What was done.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

fn tail(output: &str) -> String {
    if output.trim().is_empty() { String::new() } else { format!(":\n{}", output.trim_end()) }
}

/// Puts what was being done before an I/O error.
fn doing<T>(result: std::io::Result<T>, what: impl FnOnce() -> String) -> Result<T, Error> {
    result.map_err(|source| Error::Io { doing: what(), source })
}

/// A running private cluster. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct PrivatePostgres {
    database_url: String,
    notice: Option<String>,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
    /// Held, not read: it keeps other servers off the data folder.
    _lock: File,
}

impl PrivatePostgres {
    /// Starts the cluster of `data_dir`, which is made if it is new, and waits until it answers.
    ///
    /// # Errors
    /// With words for people: which package to install, who uses the folder, the end of PostgreSQL's log.
    pub async fn start(data_dir: &Path) -> Result<PrivatePostgres, Error> {
        doing(std::fs::create_dir_all(data_dir), || format!("make {}", data_dir.display()))?;
        let data_dir = doing(data_dir.canonicalize(), || format!("find {}", data_dir.display()))?;
        let lock = lock(&data_dir).await?;
        let cluster = Cluster::prepare(&data_dir).await?;
        let process = Process::start(&cluster).await?;
        let stop = CancellationToken::new();
        let (database_url, notice) = (cluster.database_url(), cluster.notice.clone());
        let keeper = tokio::spawn(keep(cluster, process, stop.clone()));
        Ok(PrivatePostgres { database_url, notice, stop, keeper, _lock: lock })
    }

    /// Where the cluster answers, for sqlx and for `psql`.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// One line the user should see: that the cluster is not in the data folder, and where instead.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Stops the cluster (fast shutdown: open transactions are rolled back) and waits until it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.keeper).await {
            tracing::error!(%error, "the keeper of the private PostgreSQL did not end properly");
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Refuses a second server on one data folder. The kernel releases the lock with the process, however it ends, but not before a child
/// that was just being started has let go of it; so it is tried for a moment.
async fn lock(data_dir: &Path) -> Result<File, Error> {
    let path = data_dir.join("dormouse.lock");
    let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = doing(open, || format!("open {}", path.display()))?;
    let tried = Instant::now();
    let mut locked = file.try_lock();
    while matches!(locked, Err(TryLockError::WouldBlock)) && tried.elapsed() < LOCK_WITHIN {
        tokio::time::sleep(LOCK_AGAIN).await;
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            let owner = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
            return Err(Error::InUse { folder: data_dir.into(), owner });
        }
        Err(TryLockError::Error(source)) => return Err(Error::Io { doing: format!("lock {}", path.display()), source }),
    }
    doing(file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())), || format!("write {}", path.display()))?;
    Ok(file)
}

/// Starts the postmaster again whenever it dies, until it is told to stop.
async fn keep(cluster: Cluster, mut process: Process, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                process.stop().await;
                return cluster.remove_socket_folder();
            }
            status = process.died() => tracing::error!(%status, log = %cluster.log.display(), "the private PostgreSQL died; starting it again"),
        }
        process = loop {
            match Process::start(&cluster).await {
                Ok(process) => break process,
                Err(error) => tracing::error!(%error, "the private PostgreSQL does not start; trying again in a second"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        };
        tracing::info!("the private PostgreSQL runs again");
    }
}

#[cfg(test)]
mod tests;
