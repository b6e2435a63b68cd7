//! Scratch directories: one for each attempt that is in memory here, bounded. A suspended run has none: its files are part of its
//! checkpoint, and are there again, wherever it goes on.
//!
//! A guest writes through handles that the host opened for it, so no call says how much there is in all: now and then the
//! folder is measured. What it may hold is far above what a task keeps beside its memory, and far below what fills a disk.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::model::{attempt::Lease, checkpoint::KeptFiles, id::RunId};

mod files;
mod home;

pub use files::Packed;
pub use home::Home;

/// Bytes on disk that one attempt's files may take. All of them are in memory for a moment when they have been written to and the
/// run is suspended, and when it goes on.
const MAX_BYTES: u64 = 256 << 20;
/// Files and folders that one attempt may have. A checkpoint's row names each.
const MAX_FILES: u64 = 10_000;
/// Directories that are packed or unpacked at a time.
static PACKING: Semaphore = Semaphore::const_new(2);
/// How often they are measured.
const MEASURE: Duration = Duration::from_secs(1);

/// The folder of a run for as long as one lease is held. Under the next lease it has another: a run that was suspended may go on, in
/// this very process, before whoever suspended it has cleared up.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    run: RunId,
    /// What its checkpoint has of the files that are in it.
    known: Arc<Mutex<files::Known>>,
}

impl Scratch {
    /// The folder that this lease has or would have below `all`.
    pub fn of(all: &Path, lease: &Lease) -> Scratch {
        Scratch { folder: all.join(format!("{}-{}", lease.run, lease.epoch)), run: lease.run, known: Arc::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder with the files of a checkpoint, of which these are the packs, or empty.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if what is kept is damaged; any other if the folder or a file cannot be made.
    pub async fn prepare(&self, kept: Option<(KeptFiles, Vec<Bytes>)>) -> io::Result<()> {
        let (folder, known) = (self.folder.clone(), self.known.clone());
        let make = move || {
            remove_files(&folder)?;
            std::fs::create_dir_all(&folder)?;
            if let Some((kept, packs)) = kept {
                *known.lock().expect("nobody panics with it") = files::unpack(&folder, &kept, &packs, 2 * MAX_BYTES)?;
            }
            Ok(())
        };
        blocking(make).await
    }

    /// The files for a checkpoint.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub async fn pack(&self) -> io::Result<Packed> {
        let (folder, run, known) = (self.folder.clone(), self.run, self.known.clone());
        blocking(move || files::pack(&folder, run, &known.lock().expect("nobody panics with it"))).await
    }

    /// Returns when there is more in the folder than an attempt may have, with the words for its user.
    pub async fn overflow(&self) -> String {
        tokio::time::sleep(MEASURE).await;
        self.beyond(MAX_BYTES, MAX_FILES).await
    }

    async fn beyond(&self, max_bytes: u64, max_files: u64) -> String {
        let mut beat = tokio::time::interval(MEASURE);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let folder = self.folder.clone();
            // A folder that changes while it is read is measured again at the next beat.
            let Ok(Ok((bytes, files))) = spawn_blocking(move || measure(&folder, max_bytes, max_files)).await else { continue };
            if bytes > max_bytes || files > max_files {
                return format!(
                    "the task's files take more than the {max_files} files and folders, or {} MiB, that it may have",
                    max_bytes >> 20
                );
            }
        }
    }

    /// Removes the folder; to the end, even if nobody waits for it.
    pub async fn remove(&self) {
        let folder = self.folder.clone();
        let removed = spawn_blocking(move || remove_files(&folder));
        if let Ok(Err(error)) = removed.await {
            tracing::debug!(%error, "a scratch directory could not be removed");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let _turn = PACKING.acquire().await.expect("the semaphore is never closed");
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn remove_files(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes on disk, and files and folders; stops counting once there are too many. Follows no links.
fn measure(folder: &Path, max_bytes: u64, max_files: u64) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    const BLOCK: u64 = 512;
    let (mut bytes, mut files) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let found = entry.metadata()?;
            // A sparse file takes what is in it.
            bytes += found.blocks() * BLOCK;
            files += 1;
            if bytes > max_bytes || files > max_files {
                return Ok((bytes, files));
            }
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok((bytes, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::WorkerId;

    fn lease(epoch: i64) -> Lease {
        Lease { run: RunId::new(), worker: WorkerId::new(), epoch, attempt: 1 }
    }

    #[tokio::test]
    async fn an_attempt_that_begins_finds_nothing_and_one_that_goes_on_finds_its_files_anywhere() {
        let all = tempfile::TempDir::new().unwrap();
        let lease = lease(1);
        let (first, second) = (Scratch::of(all.path(), &lease), Scratch::of(all.path(), &Lease { epoch: 2, ..lease }));
        first.prepare(None).await.unwrap();
        std::fs::write(first.path().join("file"), "text").unwrap();
        let Packed { kept, pack } = first.pack().await.unwrap();
        first.prepare(None).await.unwrap();
        assert!(!first.path().join("file").exists());
        let elsewhere = tempfile::TempDir::new().unwrap();
        let moved = Scratch::of(elsewhere.path(), &lease);
        moved.prepare(Some((kept.unwrap(), vec![pack.unwrap()]))).await.unwrap();
        assert_eq!(std::fs::read_to_string(moved.path().join("file")).unwrap(), "text");
        second.prepare(None).await.unwrap();
        first.remove().await;
        assert!(!first.path().exists() && second.path().exists());
        second.remove().await;
        second.remove().await;
        assert_eq!(std::fs::read_dir(all.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn more_files_or_bytes_than_allowed_are_noticed_and_links_are_not_followed() {
        let all = tempfile::TempDir::new().unwrap();
        let scratch = Scratch::of(all.path(), &lease(1));
        scratch.prepare(None).await.unwrap();
        std::os::unix::fs::symlink("/", scratch.path().join("link")).unwrap();
        std::fs::create_dir(scratch.path().join("folder")).unwrap();
        std::fs::write(scratch.path().join("folder/file"), vec![1; 100_000]).unwrap();
        let (bytes, files) = measure(scratch.path(), u64::MAX, u64::MAX).unwrap();
        assert!(files == 3 && (100_000..200_000).contains(&bytes), "{files} files, {bytes} bytes");
        assert!(scratch.beyond(50_000, 10).await.contains("10 files"));
        assert!(scratch.beyond(1 << 30, 2).await.contains("2 files"));
        let within = scratch.beyond(1 << 30, 10);
        assert!(tokio::time::timeout(Duration::from_millis(20), within).await.is_err());
    }
}
