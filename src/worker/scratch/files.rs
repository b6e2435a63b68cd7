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
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 30;
    const QUOTA: Quota = Quota { bytes: LIMIT, files: 1000, names: 10_000 };

    fn pack(folder: &Path, run: RunId, known: &Known, quota: &Quota) -> Result<Packed, Error> {
        super::pack(folder, run, known, &plan(folder, known, quota)?)
    }

    /// What can be seen of a directory.
    fn seen(folder: &Path) -> Vec<(String, String, Option<SystemTime>)> {
        let describe = |(path, _): &(PathBuf, Stat)| {
            let absolute = folder.join(path);
            let found = fs::symlink_metadata(&absolute).unwrap();
            let content = match () {
                () if found.is_dir() => "folder".to_owned(),
                () if found.is_symlink() => format!("-> {}", fs::read_link(absolute).unwrap().display()),
                () => String::from_utf8(fs::read(absolute).unwrap()).unwrap(),
            };
            (path.display().to_string(), content, found.is_file().then(|| found.modified().unwrap()))
        };
        let mut all = list(folder, &QUOTA).unwrap();
        all.sort_by(|(left, _), (right, _)| left.cmp(right));
        all.iter().map(describe).collect()
    }

    /// Packs of one run, as the blob store holds them.
    struct Kept {
        blobs: HashMap<String, Bytes>,
        files: Option<KeptFiles>,
    }

    impl Kept {
        fn take(&mut self, packed: Packed) {
            self.blobs.extend(packed.pack.map(|pack| (Blobs::digest(&pack), pack)));
            self.files = packed.kept;
        }

        fn unpack(&self, folder: &Path) -> io::Result<Known> {
            let files = self.files.as_ref().expect("there are files");
            let packs: Vec<Bytes> = files.packs.iter().map(|digest| self.blobs[digest].clone()).collect();
            unpack(folder, files, &packs, LIMIT)
        }
    }

    #[test]
    fn a_directory_comes_back_as_it_was_and_only_what_was_written_is_packed_again() {
        let (run, mut kept) = (RunId::new(), Kept { blobs: HashMap::new(), files: None });
        let first = tempfile::tempdir().unwrap();
        let at = |name: &str| first.path().join(name);
        fs::create_dir_all(at("a/deep/folder")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::write(at("a/deep/folder/file"), "text ".repeat(1000)).unwrap();
        fs::write(at("a/none"), "").unwrap();
        fs::write(at("a file"), "one").unwrap();
        std::os::unix::fs::symlink("../../outside", at("a/link")).unwrap();
        kept.take(pack(first.path(), run, &Known::default(), &QUOTA).unwrap());

        let second = tempfile::tempdir().unwrap();
        let known = kept.unpack(second.path()).unwrap();
        assert_eq!(seen(second.path()), seen(first.path()));
        assert!(pack(second.path(), run, &known, &QUOTA).unwrap().pack.is_none(), "nothing was written");

        fs::write(second.path().join("a file"), "two").unwrap();
        fs::remove_file(second.path().join("a/none")).unwrap();
        let packed = pack(second.path(), run, &known, &QUOTA).unwrap();
        let size = packed.pack.as_ref().expect("one was written").len();
        assert!(size < HEADER + 100, "only that one is packed: {size} bytes");
        kept.take(packed);
        assert_eq!(kept.files.as_ref().unwrap().packs.len(), 2);
        let third = tempfile::tempdir().unwrap();
        kept.unpack(third.path()).unwrap();
        assert_eq!(seen(third.path()), seen(second.path()));
    }

    #[test]
    fn a_file_that_is_overwritten_as_soon_as_it_is_back_is_packed_again() {
        let (run, mut kept) = (RunId::new(), Kept { blobs: HashMap::new(), files: None });
        let first = tempfile::tempdir().unwrap();
        fs::write(first.path().join("file"), "one").unwrap();
        kept.take(pack(first.path(), run, &Known::default(), &QUOTA).unwrap());
        for _ in 0..20 {
            let second = tempfile::tempdir().unwrap();
            let known = kept.unpack(second.path()).unwrap();
            fs::write(second.path().join("file"), "two").unwrap();
            assert!(pack(second.path(), run, &known, &QUOTA).unwrap().pack.is_some());
        }
    }

    #[test]
    fn a_clock_that_stands_still_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let now = tick(folder.path(), (0, 0), Duration::ZERO).unwrap();
        let later = tick(folder.path(), now, TICK).unwrap();
        assert!(later > now);
        let far = (i64::MAX, 0);
        assert!(tick(folder.path(), far, TICK).unwrap() < far);
    }

    #[test]
    fn an_empty_directory_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let packed = pack(folder.path(), RunId::new(), &Known::default(), &QUOTA).unwrap();
        assert!(packed.kept.is_none() && packed.pack.is_none());
    }

    #[test]
    fn packs_with_more_waste_than_use_are_left_behind() {
        let (run, mut kept) = (RunId::new(), Kept { blobs: HashMap::new(), files: None });
        let first = tempfile::tempdir().unwrap();
        let noise: Vec<u8> = (0..3_000_000).map(|_| rand::random()).collect();
        fs::write(first.path().join("large"), &noise).unwrap();
        fs::write(first.path().join("small"), "small").unwrap();
        kept.take(pack(first.path(), run, &Known::default(), &QUOTA).unwrap());
        let second = tempfile::tempdir().unwrap();
        let known = kept.unpack(second.path()).unwrap();
        fs::remove_file(second.path().join("large")).unwrap();
        let packed = pack(second.path(), run, &known, &QUOTA).unwrap();
        assert!(packed.pack.as_ref().expect("the small one is packed anew").len() < 100);
        kept.take(packed);
        assert_eq!(kept.files.as_ref().unwrap().packs.len(), 1);
        let third = tempfile::tempdir().unwrap();
        kept.unpack(third.path()).unwrap();
        assert_eq!(seen(third.path()), seen(second.path()));
    }

    #[test]
    fn more_than_the_quota_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let packed = |quota| pack(folder.path(), RunId::new(), &Known::default(), &quota);
        let sparse = fs::File::create(folder.path().join("sparse")).unwrap();
        sparse.set_len(64 << 30).unwrap();
        assert!(matches!(packed(QUOTA), Err(Error::TooMuch)));
        sparse.set_len(1 << 20).unwrap();
        assert!(packed(QUOTA).is_ok());
        assert!(matches!(packed(Quota { bytes: 1 << 19, ..QUOTA }), Err(Error::TooMuch)));
        std::os::unix::fs::symlink("x".repeat(500), folder.path().join("link")).unwrap();
        assert!(matches!(packed(Quota { files: 1, ..QUOTA }), Err(Error::TooMuch)));
        assert!(matches!(packed(Quota { names: 500, ..QUOTA }), Err(Error::TooMuch)));
        assert!(packed(QUOTA).is_ok());
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_is_not_read_on() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "text").unwrap();
        let listed = list(folder.path(), &QUOTA).unwrap().remove(0).1;
        assert_eq!(read(folder.path(), Path::new("file"), &listed).unwrap(), b"text");
        fs::write(folder.path().join("file"), "texts").unwrap();
        assert!(read(folder.path(), Path::new("file"), &listed).is_err());
    }

    #[test]
    fn a_file_written_in_each_of_many_suspensions_does_not_make_many_packs() {
        let (run, mut kept) = (RunId::new(), Kept { blobs: HashMap::new(), files: None });
        let mut folder = tempfile::tempdir().unwrap();
        let mut known = Known::default();
        for round in 0..2 * MAX_PACKS {
            fs::write(folder.path().join(format!("file-{round}")), "text").unwrap();
            kept.take(pack(folder.path(), run, &known, &QUOTA).unwrap());
            assert!(kept.files.as_ref().unwrap().packs.len() <= MAX_PACKS);
            let next = tempfile::tempdir().unwrap();
            known = kept.unpack(next.path()).unwrap();
            folder = next;
        }
        assert_eq!(seen(folder.path()).len(), 2 * MAX_PACKS);
    }

    #[test]
    fn what_is_damaged_writes_nothing_outside() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let outside = outside.path().join("written");
        let refused = |entries: Vec<(&str, Kind)>| {
            let entries = entries.into_iter().map(|(path, kind)| (path.to_owned(), kind)).collect();
            let manifest = postcard::to_stdvec(&Manifest { packs: vec![], entries }).unwrap();
            let kept = KeptFiles { manifest: zstd::bulk::compress(&manifest, 1).unwrap().into(), packs: vec![] };
            unpack(folder.path(), &kept, &[], LIMIT).unwrap_err().kind()
        };
        assert_eq!(refused(vec![(&"x".repeat(300), Kind::Folder)]), io::ErrorKind::InvalidData);
        let place = Some(Place { pack: 3, offset: u64::MAX, stored: 9, size: 9 });
        assert_eq!(refused(vec![("../up", Kind::Folder)]), io::ErrorKind::InvalidData);
        assert_eq!(refused(vec![("/abs", Kind::Folder)]), io::ErrorKind::InvalidData);
        assert_eq!(refused(vec![("file", Kind::File { modified: Duration::ZERO, place })]), io::ErrorKind::InvalidData);
        let through =
            vec![("l", Kind::Link(outside.display().to_string())), ("l", Kind::File { modified: Duration::ZERO, place: None })];
        assert_eq!(refused(through), io::ErrorKind::AlreadyExists);
        let below = vec![("m", Kind::Link("..".into())), ("m/file", Kind::File { modified: Duration::ZERO, place: None })];
        assert_eq!(refused(below), io::ErrorKind::InvalidData);
        assert!(!outside.exists());
        let no_manifest = KeptFiles { manifest: b"no frame".to_vec().into(), packs: vec![] };
        assert_eq!(weigh(&no_manifest).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(unpack(folder.path(), &no_manifest, &[], LIMIT).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_damaged_pack_is_told_from_a_disk_that_fails() {
        let (run, mut kept) = (RunId::new(), Kept { blobs: HashMap::new(), files: None });
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(first.path().join("file"), "text ".repeat(1000)).unwrap();
        kept.take(pack(first.path(), run, &Known::default(), &QUOTA).unwrap());
        let weight = weigh(kept.files.as_ref().unwrap()).unwrap();
        assert!((5000 + HEADER as u64..6000).contains(&weight), "{weight}");
        for pack in kept.blobs.values_mut() {
            *pack = vec![0; pack.len()].into();
        }
        assert_eq!(kept.unpack(second.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
