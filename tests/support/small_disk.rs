//! A small file system for one folder of one server.
//!
//! It is mounted in a mount namespace that only the server has: whatever happens to the test, the mount is gone with the server's last
//! process, and nobody else ever sees it. The test reaches into it by way of the server's `/proc`.

use std::{
    fs::File,
    io::{ErrorKind, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// Mounts four megabytes on the folder `$0`, then becomes the command that follows.
const FOR_BLOBS: &str = r#"mount -t tmpfs -o size=4m,mode=0777 tmpfs "$0" && exec "$@""#;
/// Mounts 256 megabytes on the folder `$0` of a cluster that nobody uses any more, with what is in it, then becomes the command that
/// follows.
const FOR_POSTGRES: &str = r#"while [ -e "$0/postmaster.pid" ]; do sleep 0.1; done
    cp -a "$0" "$0.copy" && mount -t tmpfs -o size=256m tmpfs "$0" && cp -a "$0.copy/." "$0" && rm -rf "$0.copy" && exec "$@""#;

/// Whose disk is small.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of the blobs: four megabytes.
    Blobs,
    /// That of the private cluster, which must be there and not in use: 256 megabytes.
    Postgres,
}

/// The words before a command that give it the file system on `folder`, by whichever way this machine allows: as root, or in a user
/// namespace, within another one in which the command is again who it was (or nobody, if it was root: a database does not run as root).
///
/// # Errors
/// What each way failed with.
pub fn launcher(folder: &Path, whose: Whose) -> Result<Vec<String>, String> {
    let mount = if whose == Whose::Blobs { FOR_BLOBS } else { FOR_POSTGRES };
    let id = |option: &str| {
        let output = Command::new("id").arg(option).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    let not_root = |id: u32| if id == 0 { 65534 } else { id };
    let (user, group) = (format!("--map-user={}", not_root(id("-u"))), format!("--map-group={}", not_root(id("-g"))));
    let folder = folder.to_str().unwrap();
    let as_root = ["unshare", "--mount", "sh", "-c"];
    let as_user = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];
    let (nobody, own_again) = ([].as_slice(), ["unshare", "--user", &user, &group]);
    let mut reasons = Vec::new();
    for (words, then) in [(&as_root[..], nobody), (&as_user[..], &own_again)] {
        let try_out = [&words[1..], &[FOR_BLOBS, folder], then, &["true"]].concat();
        match Command::new(words[0]).args(try_out).output() {
            Ok(output) if output.status.success() => {
                return Ok([words, &[mount, folder], then].concat().into_iter().map(ToOwned::to_owned).collect());
            }
            Ok(output) => reasons.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => reasons.push(format!("unshare: {error}")),
        }
    }
    Err(reasons.join("; "))
}

/// The folder as the process `pid` sees it.
pub fn seen_by(pid: u32, folder: &Path) -> PathBuf {
    Path::new(&format!("/proc/{pid}/root")).join(folder.strip_prefix("/").expect("the folder's path is absolute"))
}

/// What takes the room of a small file system, and gives it back.
pub struct Ballast {
    path: PathBuf,
    file: File,
}

impl Ballast {
    /// Nothing yet, on the file system that `folder` is on.
    pub fn new(folder: &Path) -> Ballast {
        let path = folder.join("ballast");
        Ballast { file: File::create(&path).unwrap(), path }
    }

    /// Takes all the room that is left, but for what others free at the same moment.
    pub fn fill(&mut self) {
        for size in [1 << 20, 1 << 16, 1 << 12] {
            let error = loop {
                if let Err(error) = self.file.write_all(&vec![1; size]) {
                    break error;
                }
                assert!(self.file.metadata().unwrap().len() < 512 << 20, "this is not the small file system");
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    /// Gives all of it back.
    pub fn free(&mut self) {
        self.file.set_len(0).unwrap();
        self.file.rewind().unwrap();
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
