//! Ends what remains of an earlier postmaster, and only that.
//!
//! The caller holds the data folder's lock, so no living server uses these processes. They are recognised by the cluster's name
//! in their command lines; process numbers in files are not trusted, for after a restart of the machine (or container) they
//! belong to others, and PostgreSQL would then refuse to start. Where there is no `/proc`, PostgreSQL's own check remains.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::{Error, cluster::Cluster, doing};

/// How long each kind of ending may take before the next, harsher one.
const PATIENCE: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(20)), // fast shutdown
    (Signal::QUIT, Duration::from_secs(5)), // immediate shutdown; the next start recovers
    (Signal::KILL, Duration::from_secs(5)),
];

struct Remainder {
    pid: Pid,
    postmaster: bool,
}

/// Waits for and if need be ends every process of the cluster, then removes the files in which they would still be named.
pub(super) async fn clear(cluster: &Cluster) -> Result<(), Error> {
    for (signal, patience) in PATIENCE {
        let remaining = find(&cluster.tag);
        if remaining.is_empty() {
            break;
        }
        tracing::info!(processes = remaining.len(), ?signal, "ending what an earlier start left of the private PostgreSQL");
        for process in remaining {
            // Backends follow their postmaster; one without a postmaster notices by itself, unless it is stuck.
            if process.postmaster || signal != Signal::INT {
                // It may be gone by now; and if it cannot be ended, that shows below.
                let _ = kill_process(process.pid, signal);
            }
        }
        let deadline = Instant::now() + patience;
        while !find(&cluster.tag).is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    if !find(&cluster.tag).is_empty() {
        return Err(Error::Unusable("an earlier PostgreSQL of this data folder still runs and cannot be ended".into()));
    }
    if fs::exists("/proc/self/cmdline").unwrap_or(false) {
        remove(cluster, "postmaster.pid")?;
    }
    cluster.clear_socket_folder()
}

fn remove(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let path = cluster.folder.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => doing(other, || format!("remove {}", path.display())),
    }
}

fn find(tag: &str) -> Vec<Remainder> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command);
            // A postmaster shows its arguments, the processes below it a title: `postgres: <cluster name>: checkpointer`.
            let program = command.split('\0').next()?;
            let postmaster = program.ends_with("/postgres");
            let ours = (postmaster || program.starts_with("postgres: ")) && command.contains(tag);
            ours.then_some(Remainder { pid, postmaster })
        })
        .collect()
}
