//! Round trips, damage, and what changes while nobody looks.

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
