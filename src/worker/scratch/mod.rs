//! Scratch directories: one for each attempt that is in memory here, bounded. A suspended run has none: its files are part of its
//! checkpoint, and are there again, wherever it goes on.
//!
//! A guest writes through handles that the host opened for it, so no call says how much there is in all: now and then the
//! folder is measured. What it may hold is far above what a task keeps beside its memory, and far below what fills a disk.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rustix::io::Errno;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::{
    host::OpenFiles,
    model::{attempt::Lease, checkpoint::KeptFiles, id::RunId},
};

mod files;
mod home;
mod quota;
mod tree;

pub use files::Packed;
pub use home::Home;

use quota::{Error, Quota, Usage};

/// What one attempt's files may take. All of them are in memory for a moment when they have been written to and the run is
/// suspended, and when it goes on; a checkpoint's row names each.
const QUOTA: Quota = Quota { bytes: 256 << 20, files: 10_000, names: 2 << 20 };
/// Bytes of memory that packing and unpacking may take in this process, in [`UNIT`]s. What takes more than all has all.
static MEMORY: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(UNITS as usize)));
const UNIT: u64 = 64 << 10;
const UNITS: u32 = 16 << 10;
/// How often they are measured.
const MEASURE: Duration = Duration::from_secs(1);

/// Why the files are not in a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There are more than an attempt may have, in words for its user.
    #[error("{0}")]
    TooMuch(String),
    /// They cannot be read now.
    #[error(transparent)]
    Io(io::Error),
}

impl From<Error> for PackError {
    fn from(error: Error) -> PackError {
        match error {
            Error::TooMuch => PackError::TooMuch(QUOTA.words()),
            Error::Io(error) => PackError::Io(error),
        }
    }
}

/// The folder of a run for as long as one lease is held. The host makes it when the guest asks for it, unless there are files for it. Under the next lease it has another: a run that was suspended may go on, in
/// this very process, before whoever suspended it has cleared up.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    run: RunId,
    /// What the run has open in it.
    open_files: OpenFiles,
    state: Arc<Mutex<State>>,
}

/// Locked while the folder is made, packed or removed: work goes on to its end when nobody waits for it any more.
#[derive(Debug, Default)]
struct State {
    /// What its checkpoint has of the files that are in it.
    known: files::Known,
    is_removed: bool,
}

/// Memory for files on their way, until it is dropped.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "it is there to be dropped")] OwnedSemaphorePermit);

impl Scratch {
    /// The folder that this lease has or would have below `all`.
    pub fn of(all: &Path, lease: &Lease) -> Scratch {
        Scratch {
            folder: all.join(format!("{}-{}", lease.run, lease.epoch)),
            run: lease.run,
            open_files: OpenFiles::default(),
            state: Arc::default(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// For the run to note what it has open.
    pub fn open_files(&self) -> OpenFiles {
        self.open_files.clone()
    }

    /// Waits for the memory that [`Self::restore`] takes with its packs: before they are fetched.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if what is kept is damaged.
    pub async fn room_for(kept: &KeptFiles) -> io::Result<Room> {
        let kept = kept.clone();
        Ok(room(in_background(move || files::weigh(&kept)).await?).await)
    }

    /// Makes the folder with the files of a checkpoint, of which these are the packs.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if what is kept is damaged; any other if the folder or a file cannot be made.
    pub async fn restore(&self, kept: KeptFiles, packs: Vec<Bytes>, room: Room) -> io::Result<()> {
        let (folder, state) = (self.folder.clone(), self.state.clone());
        in_background(move || {
            let mut state = lock(&state);
            if state.is_removed {
                return Err(io::Error::other("the attempt is over"));
            }
            tree::remove(&folder)?;
            std::fs::create_dir_all(&folder)?;
            state.known = files::unpack(&folder, &kept, &packs, QUOTA.bytes)?;
            drop((packs, room));
            Ok(())
        })
        .await
    }

    /// The files for a checkpoint, and the memory they take until they are stored.
    ///
    /// # Errors
    /// If there are more than an attempt may have, or a file cannot be read.
    pub async fn pack(&self) -> Result<(Packed, Room), PackError> {
        // Most have none, and need no thread to find that out.
        if matches!(self.folder.try_exists(), Ok(false)) {
            return Ok((Packed::default(), room(0).await));
        }
        let (folder, state) = (self.folder.clone(), self.state.clone());
        let plan = in_background(move || files::plan(&folder, &lock(&state).known, &QUOTA)).await?;
        let room = room(plan.in_memory).await;
        let (folder, run, state) = (self.folder.clone(), self.run, self.state.clone());
        Ok(in_background(move || Ok::<_, Error>((files::pack(&folder, run, &lock(&state).known, &plan)?, room))).await?)
    }

    /// Returns when there is more in the folder than an attempt may have, with the words for its user.
    pub async fn overflow(&self) -> String {
        tokio::time::sleep(MEASURE).await;
        self.beyond(&QUOTA).await
    }

    async fn beyond(&self, quota: &Quota) -> String {
        let mut beat = tokio::time::interval(MEASURE);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let (folder, open, within) = (self.folder.clone(), self.open_files.clone(), *quota);
            match spawn_blocking(move || measure(&folder, &open, &within)).await {
                Ok(Ok(_)) => {}
                // The machine's fault, not the folder's.
                Ok(Err(Error::Io(error))) if is_shortage(&error) => {
                    tracing::debug!(%error, "a scratch directory was not measured")
                }
                // What cannot be measured is not bounded.
                Ok(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a scratch directory is beyond its bounds");
                    return quota.words();
                }
                Err(error) => tracing::error!(%error, "measuring a scratch directory failed"),
            }
        }
    }

    /// Removes the folder; to the end, even if nobody waits for it.
    pub async fn remove(&self) {
        // Most have none, and need nobody to look after it.
        if let Ok(mut state) = self.state.try_lock()
            && !self.folder.exists()
        {
            return state.is_removed = true;
        }
        let (folder, state) = (self.folder.clone(), self.state.clone());
        let removed = in_background(move || {
            let mut state = lock(&state);
            state.is_removed = true;
            tree::remove(&folder)
        });
        if let Err(error) = removed.await {
            tracing::debug!(%error, "a scratch directory could not be removed");
        }
    }
}

async fn room(bytes: u64) -> Room {
    let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(UNITS).min(UNITS);
    Room(MEMORY.clone().acquire_many_owned(units).await.expect("the semaphore is never closed"))
}

/// To the end, even if nobody waits for it.
async fn in_background<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A panic in between leaves nothing that cannot be removed.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether descriptors or memory are lacking.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// What the files take, those included that were deleted while they are open.
fn measure(folder: &Path, open_files: &OpenFiles, quota: &Quota) -> Result<Usage, Error> {
    let mut usage = Usage::default();
    usage.add_bytes(open_files.deleted_bytes(), quota)?;
    tree::walk(folder, |path, found| usage.add(path, found, quota))?;
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::WorkerId;

    /// As a guest would have it.
    fn made(scratch: &Scratch) -> &Path {
        std::fs::create_dir_all(scratch.path()).unwrap();
        scratch.path()
    }

    fn lease(epoch: i64) -> Lease {
        Lease { run: RunId::new(), worker: WorkerId::new(), epoch, attempt: 1 }
    }

    #[tokio::test]
    async fn an_attempt_that_begins_finds_nothing_and_one_that_goes_on_finds_its_files_anywhere() {
        let all = tempfile::TempDir::new().unwrap();
        let lease = lease(1);
        let (first, second) = (Scratch::of(all.path(), &lease), Scratch::of(all.path(), &Lease { epoch: 2, ..lease }));
        assert!(first.pack().await.unwrap().0.kept.is_none());
        std::fs::write(made(&first).join("file"), "text").unwrap();
        let (Packed { kept, pack }, room) = first.pack().await.unwrap();
        let elsewhere = tempfile::TempDir::new().unwrap();
        let moved = Scratch::of(elsewhere.path(), &lease);
        moved.restore(kept.unwrap(), vec![pack.unwrap()], room).await.unwrap();
        assert_eq!(std::fs::read_to_string(moved.path().join("file")).unwrap(), "text");
        made(&second);
        first.remove().await;
        assert!(!first.path().exists() && second.path().exists());
        second.remove().await;
        second.remove().await;
        assert_eq!(std::fs::read_dir(all.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_does_not_bring_a_removed_folder_back() {
        let all = tempfile::TempDir::new().unwrap();
        let scratch = Scratch::of(all.path(), &lease(1));
        std::fs::write(made(&scratch).join("file"), "text").unwrap();
        let (Packed { kept, pack }, _) = scratch.pack().await.unwrap();
        let (kept, packs) = (kept.unwrap(), vec![pack.unwrap()]);
        let restore = async |scratch: &Scratch| scratch.restore(kept.clone(), packs.clone(), room(0).await).await;
        for _ in 0..50 {
            let _ = tokio::time::timeout(Duration::ZERO, restore(&scratch)).await;
        }
        scratch.remove().await;
        assert!(restore(&scratch).await.is_err());
        assert!(!scratch.path().exists());
        let never_made = Scratch::of(all.path(), &lease(2));
        never_made.remove().await;
        assert!(restore(&never_made).await.is_err());
        assert!(!never_made.path().exists());
    }

    #[tokio::test]
    async fn memory_is_taken_by_weight_and_given_back() {
        let all = room(u64::MAX).await;
        let more = tokio::time::timeout(Duration::from_millis(10), room(1)).await;
        assert!(more.is_err());
        room(0).await;
        drop(all);
        room(1).await;
    }

    #[tokio::test]
    async fn more_files_or_bytes_than_allowed_are_noticed_and_links_are_not_followed() {
        let all = tempfile::TempDir::new().unwrap();
        let scratch = Scratch::of(all.path(), &lease(1));
        made(&scratch);
        std::os::unix::fs::symlink("/", scratch.path().join("link")).unwrap();
        std::fs::create_dir(scratch.path().join("folder")).unwrap();
        std::fs::write(scratch.path().join("folder/file"), vec![1; 100_000]).unwrap();
        let none = OpenFiles::default();
        let within = |bytes, files| Quota { bytes, files, names: 1000 };
        assert!(measure(scratch.path(), &none, &within(200_000, 3)).is_ok());
        assert!(matches!(measure(scratch.path(), &none, &within(90_000, 3)), Err(Error::TooMuch)));
        assert!(matches!(measure(scratch.path(), &none, &Quota { names: 10, ..within(200_000, 3) }), Err(Error::TooMuch)));
        assert!(scratch.beyond(&within(50_000, 10)).await.contains("10 files"));
        assert!(scratch.beyond(&within(1 << 30, 2)).await.contains("2 files"));
        let fits = within(1 << 30, 10);
        assert!(tokio::time::timeout(Duration::from_millis(20), scratch.beyond(&fits)).await.is_err());
        assert!(measure(&scratch.path().join("gone"), &none, &fits).is_ok());
    }

    #[tokio::test]
    async fn a_tree_that_is_too_deep_is_noticed_not_kept_and_removed() {
        let all = tempfile::TempDir::new().unwrap();
        let scratch = Scratch::of(all.path(), &lease(1));
        made(&scratch);
        tree::tests::make_deep(scratch.path(), 1000);
        assert!(scratch.beyond(&QUOTA).await.contains("64 levels"));
        let refused = scratch.pack().await.unwrap_err();
        assert!(matches!(&refused, PackError::TooMuch(words) if words.contains("64 levels")), "{refused}");
        scratch.remove().await;
        assert_eq!(std::fs::read_dir(all.path()).unwrap().count(), 0);
    }
}
