//! The folder that this process has for the scratch directories of its runs.
//!
//! What is in it is of use to this process alone: a run that goes on elsewhere, or later, gets its files from its checkpoint. So
//! what another process left behind when it was killed is removed by the next one that starts on the same folder.

use std::{
    fs::{self, File},
    io,
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
}

impl Home {
    /// Makes the folder of `worker` below `all`, and removes those whose processes are gone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(all: &Path, worker: WorkerId) -> io::Result<Home> {
        fs::create_dir_all(all)?;
        for entry in fs::read_dir(all)? {
            let path = entry?.path();
            if let Err(error) = remove_if_abandoned(&path) {
                tracing::warn!(folder = %path.display(), %error, "old scratch files could not be removed");
            }
        }
        let folder = all.join(worker.to_string());
        // Locked before the folder is there, so that it is never there without an owner.
        let lock = File::create(lock_of(&folder))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::create_dir(&folder)?;
        Ok(Home { folder, _lock: lock })
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

fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    if path.extension().is_some() {
        return Ok(()); // a lock goes with its folder
    }
    let lock = lock_of(path);
    if let Ok(file) = File::open(&lock)
        && flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
    {
        return Ok(());
    }
    tree::remove(path)?;
    match fs::remove_file(lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_removes_what_a_killed_one_left_and_nothing_of_a_live_one() {
        let all = tempfile::tempdir().unwrap();
        let killed = all.path().join(WorkerId::new().to_string());
        fs::create_dir_all(killed.join("run/1")).unwrap();
        tree::tests::make_deep(&killed.join("run"), 300);
        File::create(lock_of(&killed)).unwrap();
        let live = Home::open(all.path(), WorkerId::new()).unwrap();
        assert!(!killed.exists() && !lock_of(&killed).exists());
        fs::create_dir(live.path().join("run")).unwrap();
        let second = Home::open(all.path(), WorkerId::new()).unwrap();
        assert!(live.path().join("run").exists());
        drop((live, second));
        assert_eq!(fs::read_dir(all.path()).unwrap().count(), 0);
    }
}
