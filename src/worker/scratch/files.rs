//! The files of a scratch directory as a checkpoint keeps them.
//!
//! ```text
//!  checkpoint's row                        blobs
//!  ┌──────────────────────────────┐        ┌─────────────────────────┐
//!  │ packs: names of blobs ───────┼──────► │ 16 B run, 16 B nonce    │
//!  │ manifest: every path, and    │        │ contents, each a zstd   │
//!  │   for each file its pack and │        │ frame, one after another│
//!  │   place in it                │        └─────────────────────────┘
//!  └──────────────────────────────┘
//! ```
//!
//! A suspension writes one pack with the files that were written since the last, and none if there are none. What earlier packs
//! hold of files that have gone stays in them until it is more than what is needed; then all files are written anew. A pack is
//! of one run, and no two are the same bytes, so whoever replaces a checkpoint may delete the packs that only it named.
//!
//! Kept are names, contents, links and times of modification. Two names of one file become two files.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use super::{
    quota::{Error, Quota, Usage},
    tree,
};
use crate::{
    blobs::Blobs,
    model::{checkpoint::KeptFiles, id::RunId},
};

/// Run and nonce, at the beginning of a pack.
const HEADER: usize = 32;
/// Fast, since a task waits for it.
const LEVEL: i32 = 1;
/// Bytes of packs that may be of no use however little is.
const WASTE: u64 = 1 << 20;
/// Packs of one checkpoint.
const MAX_PACKS: usize = 64;
/// Bytes of a manifest, unpacked. The quota of names and files keeps those that are written far below.
const MAX_MANIFEST: usize = 8 << 20;

/// How long [`unpack`] waits for the next tick of the file system's clock: on most, 1 to 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// What a checkpoint names, and the pack that has to be stored before it.
#[derive(Debug, Default)]
pub struct Packed {
    /// For the checkpoint; none: the directory is empty.
    pub kept: Option<KeptFiles>,
    /// The new pack; none: nothing was written since the last.
    pub pack: Option<Bytes>,
}

/// What is to be packed.
#[derive(Debug)]
pub struct Plan {
    found: Vec<(PathBuf, Stat)>,
    /// Whether the packs of the last checkpoint are named by the next.
    keeps: bool,
    /// Bytes of memory that it takes.
    pub in_memory: u64,
}

/// Which contents the packs of the last checkpoint hold.
#[derive(Debug, Default)]
pub struct Known {
    packs: Vec<Pack>,
    files: HashMap<PathBuf, (Stamp, Place)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    packs: Vec<Pack>,
    /// Folders before what is in them.
    entries: Vec<(String, Kind)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pack {
    digest: String,
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Kind {
    Folder,
    Link(String),
    /// Without a place it is empty.
    File {
        modified: Duration,
        place: Option<Place>,
    },
}

/// A file's content.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Place {
    /// Which of the manifest's packs.
    pack: usize,
    offset: u64,
    stored: u64,
    /// Bytes of the content.
    size: u64,
}

/// Changes whenever a file is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    #[expect(clippy::unnecessary_cast, reason = "the fields' types are the system's")]
    fn of(found: &Stat) -> Stamp {
        let changed = (found.st_ctime as i64, found.st_ctime_nsec as i64);
        Stamp { inode: found.st_ino as u64, size: found.st_size as u64, changed }
    }
}

impl Known {
    /// Where the content is, if it is what it was.
    fn place(&self, path: &Path, found: &Stat) -> Option<Place> {
        self.files.get(path).filter(|(before, _)| *before == Stamp::of(found)).map(|(_, place)| *place)
    }
}

/// Looks through `folder`; `known` is what [`unpack`] left there, or nothing.
///
/// # Errors
/// If there is more than `quota`, or a folder cannot be read.
pub fn plan(folder: &Path, known: &Known, quota: &Quota) -> Result<Plan, Error> {
    let found = list(folder, quota)?;
    let needed: u64 = found.iter().filter_map(|(path, found)| known.place(path, found)).map(|place| place.stored).sum();
    let held: u64 = known.packs.iter().map(|pack| pack.bytes).sum();
    let keeps = held <= needed * 2 + WASTE && known.packs.len() < MAX_PACKS;
    let read = found.iter().filter(|(path, found)| !keeps || known.place(path, found).is_none());
    let sizes = read.map(|(_, found)| found.st_size as u64);
    // A file whole, and all of them packed.
    let (all, largest) = sizes.fold((0, 0), |(all, largest), size| (all + size, size.max(largest)));
    Ok(Plan { found, keeps, in_memory: all + largest })
}

/// Reads what is in `folder`.
///
/// # Errors
/// If a file cannot be read.
pub fn pack(folder: &Path, run: RunId, known: &Known, plan: &Plan) -> Result<Packed, Error> {
    let Plan { found, keeps, .. } = plan;
    if found.is_empty() {
        return Ok(Packed::default());
    }
    let mut manifest = Manifest { packs: if *keeps { known.packs.clone() } else { vec![] }, entries: vec![] };
    let mut pack = [run.uuid().as_bytes(), &rand::random::<[u8; 16]>()[..]].concat();
    for (path, found) in found {
        let kind = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link(text(&fs::read_link(folder.join(path))?)?),
            _ => {
                let place = match known.place(path, found).filter(|_| *keeps) {
                    Some(place) => Some(place),
                    None => append(&mut pack, &read(folder, path, found)?, manifest.packs.len())?,
                };
                Kind::File { modified: modified(found), place }
            }
        };
        manifest.entries.push((text(path)?, kind));
    }
    let pack = (pack.len() > HEADER).then(|| Bytes::from(pack));
    if let Some(pack) = &pack {
        manifest.packs.push(Pack { digest: Blobs::digest(pack), bytes: pack.len() as u64 });
    }
    let used: Vec<bool> =
        (0..manifest.packs.len()).map(|pack| manifest.entries.iter().any(|(_, kind)| kind.is_in(pack))).collect();
    let packs = manifest.packs.iter().zip(used).filter(|(_, used)| *used).map(|(pack, _)| pack.digest.clone()).collect();
    let manifest = postcard::to_stdvec(&manifest).map_err(io::Error::other)?;
    Ok(Packed { kept: Some(KeptFiles { manifest: zstd::bulk::compress(&manifest, LEVEL)?.into(), packs }), pack })
}

/// Since 1970; before that it is not kept.
fn modified(found: &Stat) -> Duration {
    Duration::new(u64::try_from(found.st_mtime).unwrap_or_default(), u32::try_from(found.st_mtime_nsec).unwrap_or_default())
}

impl Kind {
    fn is_in(&self, pack: usize) -> bool {
        matches!(self, Kind::File { place: Some(place), .. } if place.pack == pack)
    }
}

fn append(pack: &mut Vec<u8>, content: &[u8], number: usize) -> io::Result<Option<Place>> {
    if content.is_empty() {
        return Ok(None);
    }
    let offset = pack.len() as u64;
    pack.extend(zstd::bulk::compress(content, LEVEL)?);
    Ok(Some(Place { pack: number, offset, stored: pack.len() as u64 - offset, size: content.len() as u64 }))
}

/// Bytes of memory that it takes to unpack the files of a checkpoint: all packs, and the largest file.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if what is kept is damaged.
pub fn weigh(kept: &KeptFiles) -> io::Result<u64> {
    let manifest = read_manifest(kept)?;
    let packs: u64 = manifest.packs.iter().filter(|pack| kept.packs.contains(&pack.digest)).map(|pack| pack.bytes).sum();
    let sizes = manifest.entries.iter().filter_map(|(_, kind)| match kind {
        Kind::File { place, .. } => place.map(|place| place.size),
        _ => None,
    });
    Ok(packs.saturating_add(sizes.max().unwrap_or_default()))
}

fn read_manifest(kept: &KeptFiles) -> io::Result<Manifest> {
    let manifest = zstd::bulk::decompress(&kept.manifest, MAX_MANIFEST).map_err(damaged)?;
    postcard::from_bytes(&manifest).map_err(damaged)
}

/// Makes the files of a checkpoint in the empty `folder`. `packs` are those that the checkpoint names, in its order.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if what is kept is damaged, or has names that there cannot be here; any other if a file cannot be
/// written.
pub fn unpack(folder: &Path, kept: &KeptFiles, packs: &[Bytes], limit: u64) -> io::Result<Known> {
    let manifest = read_manifest(kept)?;
    let mut known = make(folder, &manifest, kept, packs, limit).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidFilename => damaged(error),
        _ => error,
    })?;
    let newest = known.files.values().map(|(stamp, _)| stamp.changed).max();
    if let Some(newest) = newest {
        let now = tick(folder, newest, TICK)?;
        known.files.retain(|_, (stamp, _)| stamp.changed < now);
    }
    Ok(known)
}

/// Waits until what is changed has a later time than `newest`, and tells that time. Within a tick of the file system's clock a file
/// could be changed and its stamp stay. If the clock is too slow, what has its time is not known, and packed again.
fn tick(folder: &Path, newest: (i64, i64), patience: Duration) -> io::Result<(i64, i64)> {
    let probe = fs::File::open(folder)?;
    let permissions = probe.metadata()?.permissions();
    let since = Instant::now();
    loop {
        // Changes nothing but the time.
        probe.set_permissions(permissions.clone())?;
        let now = Stamp::of(&rustix::fs::fstat(&probe)?).changed;
        if now > newest || since.elapsed() > patience {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn make(folder: &Path, manifest: &Manifest, kept: &KeptFiles, packs: &[Bytes], limit: u64) -> io::Result<Known> {
    let by_digest: HashMap<&str, &Bytes> = kept.packs.iter().map(String::as_str).zip(packs).collect();
    let mut known = Known { packs: manifest.packs.clone(), files: HashMap::new() };
    let (mut room, mut folders) = (limit, HashSet::from([PathBuf::new()]));
    for (path, kind) in &manifest.entries {
        let path = inside(path)?;
        if !path.parent().is_some_and(|parent| folders.contains(parent)) {
            return Err(damaged("a path that leads through something else than folders"));
        }
        let absolute = folder.join(&path);
        match kind {
            Kind::Folder => {
                fs::create_dir(&absolute)?;
                folders.insert(path);
            }
            Kind::Link(target) => std::os::unix::fs::symlink(target, &absolute)?,
            Kind::File { modified, place } => {
                let content = match place {
                    None => vec![],
                    Some(place) => {
                        room = room.checked_sub(place.size).ok_or_else(|| damaged("more than a directory may have"))?;
                        let pack = manifest.packs.get(place.pack).and_then(|pack| by_digest.get(pack.digest.as_str()));
                        let end = place.offset.checked_add(place.stored).ok_or_else(|| damaged("a place"))?;
                        let stored = pack.and_then(|pack| pack.get(place.offset as usize..end as usize));
                        zstd::bulk::decompress(stored.ok_or_else(|| damaged("a place outside of its pack"))?, place.size as usize)
                            .map_err(damaged)?
                    }
                };
                // Whatever is there already, a link above all, is not followed.
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&absolute)?;
                io::Write::write_all(&mut file, &content)?;
                file.set_modified(SystemTime::UNIX_EPOCH + *modified)?;
                if let Some(place) = place {
                    known.files.insert(path, (Stamp::of(&rustix::fs::fstat(&file)?), *place));
                }
            }
        }
    }
    Ok(known)
}

/// Every path below `folder`, relative to it, folders before what is in them.
fn list(folder: &Path, quota: &Quota) -> Result<Vec<(PathBuf, Stat)>, Error> {
    let (mut all, mut usage) = (vec![], Usage::default());
    tree::walk(folder, |path, found| {
        usage.add(path, found, quota)?;
        all.push((path.to_owned(), *found));
        Ok(())
    })?;
    Ok(all)
}

/// All of a file that is no longer than when it was listed.
fn read(folder: &Path, path: &Path, listed: &Stat) -> io::Result<Vec<u8>> {
    let size = listed.st_size as u64;
    let mut content = Vec::with_capacity(size as usize);
    tree::open_file(folder, path)?.take(size + 1).read_to_end(&mut content)?;
    if content.len() as u64 > size {
        return Err(io::Error::other(format!("{path:?} was written to while it was read")));
    }
    Ok(content)
}

/// A path of the manifest, which leads nowhere but into the directory.
fn inside(path: &str) -> io::Result<PathBuf> {
    let path = PathBuf::from(path);
    let is_inside = path.components().all(|component| matches!(component, Component::Normal(_)));
    if is_inside { Ok(path) } else { Err(damaged("a path that leads out of the directory")) }
}

/// Guests name files with Unicode.
fn text(path: &Path) -> io::Result<String> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| io::Error::other("a file name is not Unicode"))
}

fn damaged(reason: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kept files are damaged: {}", reason.to_string()))
}

#[cfg(test)]
mod tests;
