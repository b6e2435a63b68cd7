//! Folders as guests make them: deeper than any path reaches, and changing while they are read.
//!
//! A guest makes folder in folder without ever naming a whole path. So here the way leads from open folder to open folder; no
//! link is followed, and neither file descriptors nor call stack grow with the depth.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, renameat, statat, unlinkat},
    io::Errno,
    path::Arg,
};

use super::quota::Error;

/// Levels that are walked, each with a file descriptor meanwhile.
pub const MAX_LEVELS: usize = 64;
/// Bytes of a path below the folder. With the folder's own before it, it is still one that the system takes.
pub const MAX_PATH: usize = 2048;

/// Shows everything below `folder`, by its path from there; folders before what is in them. What goes away meanwhile is left out.
///
/// # Errors
/// [`Error::TooMuch`] below [`MAX_LEVELS`] and for a path beyond [`MAX_PATH`]; what `visit` returns; or why a folder cannot be read.
pub fn walk(folder: &Path, mut visit: impl FnMut(&Path, &Stat) -> Result<(), Error>) -> Result<(), Error> {
    let Some(root) = if_there(open_folder(CWD, folder))? else { return Ok(()) };
    let mut levels = vec![(Dir::new(root)?, PathBuf::new())];
    while let Some((listing, inside)) = levels.last_mut() {
        let Some(entry) = listing.read() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name.to_bytes()) {
            continue;
        }
        let Some(found) = if_there(statat(listing.fd()?, name, AtFlags::SYMLINK_NOFOLLOW))? else { continue };
        let path = inside.join(OsStr::from_bytes(name.to_bytes()));
        let opened = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => match open_folder(listing.fd()?, name) {
                // Something else has its name now.
                Err(Errno::NOTDIR | Errno::LOOP) => continue,
                opened => if_there(opened)?,
            },
            _ => None,
        };
        if levels.len() > MAX_LEVELS || path.as_os_str().len() > MAX_PATH {
            return Err(Error::TooMuch);
        }
        visit(&path, &found)?;
        if let Some(opened) = opened {
            levels.push((Dir::new(opened)?, path));
        }
    }
    Ok(())
}

/// Opens a file below `folder` to be read.
///
/// # Errors
/// If there is none, or the way to it leads over a link.
pub fn open_file(folder: &Path, path: &Path) -> io::Result<File> {
    let mut at = open_folder(CWD, folder)?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        at = open_folder(&at, part.as_os_str())?;
    }
    let name = path.file_name().unwrap_or_default();
    Ok(openat(&at, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Removes a folder and all that is in it, however deep: what lies deeper than one level is first moved up to it. It is no error
/// if there is no such folder.
///
/// # Errors
/// If something cannot be removed.
pub fn remove(folder: &Path) -> io::Result<()> {
    let Some(root) = if_there(open_folder(CWD, folder))? else { return Ok(()) };
    loop {
        let (mut found, mut gone) = (0_u64, 0_u64);
        for entry in Dir::read_from(&root)? {
            let entry = entry?;
            if is_dots(entry.file_name().to_bytes()) {
                continue;
            }
            found += 1;
            gone += u64::from(remove_or_flatten(&root, entry.file_name())?);
        }
        if found == 0 {
            break;
        }
        // Somebody puts things in as fast as they are removed.
        if gone == 0 {
            return Err(Errno::NOTEMPTY.into());
        }
    }
    if_there(unlinkat(CWD, folder, AtFlags::REMOVEDIR))?;
    Ok(())
}

/// Removes a file, or a folder whose folders become its neighbours. Whether it is gone.
fn remove_or_flatten(root: &OwnedFd, name: &CStr) -> io::Result<bool> {
    if remove_file(root, name)? {
        return Ok(true);
    }
    let Some(inner) = if_there(open_folder(root, name))? else { return Ok(true) };
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_dots(name.to_bytes()) && !remove_file(&inner, name)? {
            if_there(renameat(&inner, name, root, format!("{:032x}", rand::random::<u128>())))?;
        }
    }
    match unlinkat(root, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// False: it is a folder.
fn remove_file(at: impl AsFd, name: &CStr) -> io::Result<bool> {
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        // Linux says the one, POSIX the other.
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn open_folder(at: impl AsFd, path: impl Arg) -> rustix::io::Result<OwnedFd> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// None: it went away.
fn if_there<T>(result: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Folders in one another, made as a guest makes them; the innermost has a file.
    pub fn make_deep(folder: &Path, levels: usize) {
        let mut at = open_folder(CWD, folder).unwrap();
        let name = "a folder with a name that is not short at all".repeat(4);
        for _ in 1..levels {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = open_folder(&at, &name).unwrap();
        }
        openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR | Mode::WUSR).unwrap();
    }

    fn depth(folder: &Path) -> Result<usize, Error> {
        let mut deepest = 0;
        walk(folder, |path, _| {
            deepest = deepest.max(path.components().count());
            Ok(())
        })?;
        Ok(deepest)
    }

    #[test]
    fn a_tree_too_deep_for_any_path_is_removed_and_one_that_is_too_deep_to_be_kept_is_not_walked() {
        let folder = tempfile::tempdir().unwrap();
        let all = folder.path().join("all");
        std::fs::create_dir(&all).unwrap();
        make_deep(&all, 5000);
        std::fs::create_dir_all(all.join("beside/it")).unwrap();
        assert!(matches!(depth(&all), Err(Error::TooMuch)));
        // The call stack of a thread that has almost none.
        let removed = all.clone();
        let remover = std::thread::Builder::new().stack_size(64 << 10).spawn(move || remove(&removed)).unwrap();
        remover.join().unwrap().unwrap();
        assert!(!all.exists());
        remove(&all).unwrap();
    }

    #[test]
    fn as_deep_as_allowed_is_walked_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let deepest: PathBuf = std::iter::repeat_n("d", MAX_LEVELS - 1).collect();
        std::fs::create_dir_all(folder.path().join(&deepest)).unwrap();
        std::fs::write(folder.path().join(deepest.join("file")), "text").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
        assert_eq!(depth(folder.path()).unwrap(), MAX_LEVELS);
        assert_eq!(io::read_to_string(open_file(folder.path(), &deepest.join("file")).unwrap()).unwrap(), "text");
        assert!(open_file(folder.path(), &Path::new("link").join(deepest.join("file"))).is_err());
        std::fs::create_dir(folder.path().join(deepest.join("folder"))).unwrap();
        std::fs::write(folder.path().join(deepest.join("folder/file")), "text").unwrap();
        assert!(matches!(depth(folder.path()), Err(Error::TooMuch)));
    }

    #[test]
    fn links_are_removed_and_what_they_lead_to_stays() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("file"), "text").unwrap();
        let all = folder.path().join("all");
        std::fs::create_dir_all(all.join("in/it")).unwrap();
        for place in ["link", "in/link", "in/it/link"] {
            std::os::unix::fs::symlink(other.path(), all.join(place)).unwrap();
        }
        remove(&all).unwrap();
        assert!(!all.exists() && other.path().join("file").exists());
    }
}
