//! A file system of a few megabytes for one folder of one server.
//!
//! It is mounted in a mount namespace that only the server has: whatever happens to the test, the mount is gone with the server's last
//! process, and nobody else ever sees it. The test reaches into it by way of the server's `/proc`.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// Mounts the file system on the folder `$0`, then becomes the command that follows.
const MOUNT: &str = r#"mount -t tmpfs -o size=4m,mode=0777 tmpfs "$0" && exec "$@""#;

/// The words before a command that give it the file system on `folder`, by whichever way this machine allows: as root, or in a user
/// namespace, within another one in which the command is again who it was (or nobody, if it was root: a database does not run as root).
///
/// # Errors
/// What each way failed with.
pub fn launcher(folder: &Path) -> Result<Vec<String>, String> {
    let id = |option: &str| {
        let output = Command::new("id").arg(option).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    let not_root = |id: u32| if id == 0 { 65534 } else { id };
    let (user, group) = (format!("--map-user={}", not_root(id("-u"))), format!("--map-group={}", not_root(id("-g"))));
    let folder = folder.to_str().unwrap();
    let as_root = ["unshare", "--mount", "sh", "-c", MOUNT, folder];
    let as_user =
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, folder, "unshare", "--user", &user, &group];
    let mut reasons = Vec::new();
    for words in [&as_root[..], &as_user[..]] {
        match Command::new(words[0]).args(&words[1..]).arg("true").output() {
            Ok(output) if output.status.success() => return Ok(words.iter().map(ToString::to_string).collect()),
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

/// Fills what is left of the file system that `folder` is on, with one file; removing it makes room again.
pub fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut file = File::create(&path).unwrap();
    for size in [1 << 16, 1 << 12] {
        let error = loop {
            if let Err(error) = file.write_all(&vec![1; size]) {
                break error;
            }
            assert!(file.metadata().unwrap().len() < 64 << 20, "this is not the small file system");
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
    path
}
