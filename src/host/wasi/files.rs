//! The files a guest has open: how many, and what those take on the disk that no folder names any more.
//!
//! Each has one file descriptor of this process, which the streams made of it share and keep.

use std::{
    collections::HashSet,
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    sync::{
        Arc, LazyLock, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rustix::process::{Resource as Limited, getrlimit};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemView},
    p2::{
        FsResult,
        bindings::filesystem::types::{DescriptorFlags, DirectoryEntryStream, ErrorCode, HostDescriptor, OpenFlags, PathFlags},
    },
};

use super::{
    generated::Kind,
    ids::{Entry, Location, Reopen},
};
use crate::host::{
    HostState,
    limits::{MAX_LISTINGS, MAX_OPEN_FILES},
};

/// Bytes of one unit of `st_blocks`.
const BLOCK: u64 = 512;

/// Files that all runs of this process have open.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// How many of them there may be: the other half of the descriptors is for connections.
static MAX_OPEN: LazyLock<usize> = LazyLock::new(|| {
    let soft = getrlimit(Limited::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(soft / 2).unwrap_or(usize::MAX)
});

/// The open files of one run, in whichever instance. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct OpenFiles(Arc<Opened>);

#[derive(Debug, Default)]
struct Opened(Mutex<Vec<Weak<File>>>);

impl OpenFiles {
    /// Bytes on the disk of files that were deleted while they were open.
    pub fn deleted_bytes(&self) -> u64 {
        // A descriptor that is closed meanwhile is closed here, after the lock.
        let open: Vec<Arc<File>> = self.0.in_use(|open| open.iter().filter_map(Weak::upgrade).collect());
        let found = open.iter().filter_map(|file| file.metadata().ok()).filter(|found| found.nlink() == 0);
        let mut seen = HashSet::new();
        found.filter(|found| seen.insert(identity(found))).map(|found| found.blocks() * BLOCK).sum()
    }

    /// How many there are.
    pub(in crate::host) fn count(&self) -> usize {
        self.0.in_use(|open| open.len())
    }

    fn has_room(&self) -> bool {
        self.count() < MAX_OPEN_FILES && OPEN.load(Relaxed) < *MAX_OPEN
    }

    fn note(&self, descriptor: &Descriptor) {
        OPEN.fetch_add(1, Relaxed);
        self.0.in_use(|open| open.push(Arc::downgrade(file_of(descriptor))));
    }
}

impl Opened {
    /// Works on those that are still open.
    fn in_use<T>(&self, work: impl FnOnce(&mut Vec<Weak<File>>) -> T) -> T {
        let mut open = self.0.lock().expect("nobody panics with it");
        let before = open.len();
        open.retain(|file| file.strong_count() > 0);
        OPEN.fetch_sub(before - open.len(), Relaxed);
        work(&mut open)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        OPEN.fetch_sub(self.0.get_mut().map_or(0, |open| open.len()), Relaxed);
    }
}

/// Which file it is, whatever it is called: device and inode.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

/// Which file is open behind a handle's place in the table.
pub(super) fn identity_of(table: &ResourceTable, place: u32) -> Option<Identity> {
    let descriptor = table.get(&Resource::<Descriptor>::new_borrow(place)).ok()?;
    file_of(descriptor).metadata().ok().as_ref().map(identity)
}

fn file_of(descriptor: &Descriptor) -> &Arc<File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(directory) => &directory.dir,
    }
}

impl HostState {
    /// How something made of file `id` is made again.
    pub(super) fn of_file(&self, id: u32, make: impl FnOnce(Location) -> Reopen) -> Reopen {
        match self.ids.get(id) {
            Some(Entry { reopen: Reopen::File(location), place: Ok(place), .. }) => {
                make(Location { identity: identity_of(&self.table, *place), ..location.clone() })
            }
            _ => Reopen::Never,
        }
    }
}

/// `wasi:filesystem/types.descriptor.open-at`; `insufficient-memory`: too many are open.
pub(super) async fn open_at(
    state: &mut HostState,
    directory: Resource<Descriptor>,
    path_flags: PathFlags,
    path: String,
    open_flags: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<Resource<Descriptor>> {
    if state.run.as_ref().is_some_and(|run| !run.open_files.has_room()) {
        return Err(ErrorCode::InsufficientMemory.into());
    }
    open_again(state, directory, path_flags, path, open_flags, flags).await
}

/// As [`open_at`], for what was open before the run was suspended, which was not too much then.
pub(super) async fn open_again(
    state: &mut HostState,
    directory: Resource<Descriptor>,
    path_flags: PathFlags,
    path: String,
    open_flags: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<Resource<Descriptor>> {
    let opened = state.filesystem().open_at(directory, path_flags, path, open_flags, flags).await?;
    if let Some(run) = &state.run {
        run.open_files.note(state.table.get(&opened)?);
    }
    Ok(opened)
}

/// `wasi:filesystem/types.descriptor.read-directory`, which reads the whole listing into memory; `insufficient-memory`: too many
/// are open.
pub(super) async fn read_directory(
    state: &mut HostState,
    directory: Resource<Descriptor>,
) -> FsResult<Resource<DirectoryEntryStream>> {
    let open = state.ids.iter().filter(|(_, entry)| entry.kind == Kind::DirectoryEntryStream).count();
    if open >= MAX_LISTINGS {
        return Err(ErrorCode::InsufficientMemory.into());
    }
    state.filesystem().read_directory(directory).await
}
