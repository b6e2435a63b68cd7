//! The folder that this process has for the scratch directories of its runs.
//!
//! What is in it is of use to this process alone: a run that goes on elsewhere, or later, gets its files from its checkpoint. So
//! what another process left behind when it was killed is removed by the next one that starts on the same folder, which so learns
//! whose leases are worth nothing any more.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::tree;
use crate::model::id::WorkerId;

/// A folder, and the lock that says whose it is for as long as this lives.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    _lock: File,
    killed: Vec<WorkerId>,
}

impl Home {
    /// Makes the folder of `worker` below `all`, and removes those whose processes are gone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(all: &Path, worker: WorkerId) -> io::Result<Home> {
        fs::create_dir_all(all)?;
        let (boot, mut killed) = (boot_id(), Vec::new());
        for entry in fs::read_dir(all)? {
            let path = entry?.path();
            match remove_if_abandoned(&path, &boot) {
                Ok(found) => killed.extend(found),
                Err(error) => tracing::warn!(folder = %path.display(), %error, "old scratch files could not be removed"),
            }
        }
        let folder = all.join(worker.to_string());
        // Locked before the folder is there, so that it is never there without an owner.
        let mut lock = File::create(lock_of(&folder))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        lock.write_all(boot.as_bytes())?;
        fs::create_dir(&folder)?;
        Ok(Home { folder, _lock: lock, killed })
    }

    /// The workers on this folder that are gone for certain, and left theirs.
    pub fn killed(&self) -> &[WorkerId] {
        &self.killed
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = tree::remove(&self.folder);
        let _ = fs::remove_file(lock_of(&self.folder));
    }
}

fn lock_of(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

/// Which start of which machine this is; empty if the system does not say.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Whose folder it was, if that process is gone for certain: its lock was made since this machine was started and nobody holds it.
/// On a folder that several machines share the lock of another one may be held where this one cannot see it.
fn remove_if_abandoned(path: &Path, boot: &str) -> io::Result<Option<WorkerId>> {
    if path.extension().is_some() {
        return Ok(None); // a lock goes with its folder
    }
    let lock = lock_of(path);
    let mut is_of_this_boot = false;
    if let Ok(file) = File::open(&lock) {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        is_of_this_boot = !boot.is_empty() && io::read_to_string(file).is_ok_and(|written| written == boot);
    }
    tree::remove(path)?;
    match fs::remove_file(lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let worker = path.file_name().and_then(|name| name.to_str()?.parse().ok());
    Ok(worker.filter(|_| is_of_this_boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_removes_what_a_killed_one_left_and_nothing_of_a_live_one() {
        let all = tempfile::tempdir().unwrap();
        let left_behind = |boot: &str| {
            let worker = WorkerId::new();
            let folder = all.path().join(worker.to_string());
            fs::create_dir_all(folder.join("run/1")).unwrap();
            tree::tests::make_deep(&folder.join("run"), 300);
            fs::write(lock_of(&folder), boot).unwrap();
            worker
        };
        let killed = left_behind(&boot_id());
        let unsure = [left_behind("another start"), left_behind("")];
        let live = Home::open(all.path(), WorkerId::new()).unwrap();
        assert_eq!(live.killed(), [killed]);
        for worker in [killed, unsure[0], unsure[1]] {
            let folder = all.path().join(worker.to_string());
            assert!(!folder.exists() && !lock_of(&folder).exists());
        }
        fs::create_dir(live.path().join("run")).unwrap();
        let second = Home::open(all.path(), WorkerId::new()).unwrap();
        assert!(second.killed().is_empty());
        assert!(live.path().join("run").exists());
        drop((live, second));
        assert_eq!(fs::read_dir(all.path()).unwrap().count(), 0);
    }
}
