//! How much an attempt may have in its directory.

use std::{io, os::unix::ffi::OsStrExt, path::Path};

use rustix::fs::{FileType, Stat};

use super::tree::{MAX_LEVELS, MAX_PATH};

/// Bytes of one unit of `st_blocks`.
const BLOCK: u64 = 512;

/// Why a directory is not kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is more in it than an attempt may have.
    #[error("there are more files than allowed")]
    TooMuch,
    /// It cannot be read now.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Error {
        Error::Io(error.into())
    }
}

/// What one attempt's files may take.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Bytes of all files: as they read or as they lie on the disk, whichever is more.
    pub bytes: u64,
    /// Files and folders.
    pub files: u64,
    /// Bytes of all paths, and of what links lead to.
    pub names: u64,
}

impl Quota {
    /// The words for the user whose task has more.
    pub fn words(&self) -> String {
        let Quota { bytes, files, names } = self;
        format!(
            "the task's files take more than it may have: {files} files and folders, {MAX_LEVELS} levels of them, {MAX_PATH} bytes of a \
             path and {} KiB of all paths, {} MiB in all",
            names >> 10,
            bytes >> 20
        )
    }
}

/// What was counted of a directory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Usage {
    bytes: u64,
    files: u64,
    names: u64,
}

impl Usage {
    /// Counts a file or folder.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if it is one too many.
    pub fn add(&mut self, path: &Path, found: &Stat, quota: &Quota) -> Result<(), Error> {
        self.files += 1;
        self.names += path.as_os_str().as_bytes().len() as u64;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            self.names += found.st_size as u64;
        }
        // What a sparse file does not take on the disk it takes in memory when it is kept.
        self.add_bytes((found.st_size as u64).max(found.st_blocks as u64 * BLOCK), quota)
    }

    /// Counts bytes of no file or folder.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if they are too many.
    pub fn add_bytes(&mut self, bytes: u64, quota: &Quota) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        let is_within = self.bytes <= quota.bytes && self.files <= quota.files && self.names <= quota.names;
        if is_within { Ok(()) } else { Err(Error::TooMuch) }
    }
}
