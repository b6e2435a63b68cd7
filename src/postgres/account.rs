//! Which user of the machine the cluster belongs to.

use std::{
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use super::{Error, doing};

/// A user that runs PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) name: String,
}

impl Account {
    /// The user this process runs as.
    pub(super) fn own() -> Result<Account, Error> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        // A user without an entry in passwd has no name; PostgreSQL says so itself when it is asked to start.
        Ok(Account { uid, gid, name: id(&["-un"]).unwrap_or_else(|| uid.to_string()) })
    }

    /// The user that shall run the cluster in `folder`: whoever it belongs to, else this process's user, and never root.
    pub(super) fn for_cluster(folder: &Path) -> Result<Account, Error> {
        let own = Account::own()?;
        let owner = folder.join("PG_VERSION").metadata().ok().map(|metadata| (metadata.uid(), metadata.gid()));
        match owner {
            Some((uid, gid)) if own.uid == 0 && uid != 0 => Ok(Account { uid, gid, name: user_name(uid) }),
            Some((uid, _)) if uid != own.uid || own.uid == 0 => Err(Error::Unusable(format!(
                "{} belongs to user {}; start dormouse as that user, or choose another --data-dir",
                folder.display(),
                user_name(uid),
            ))),
            None if own.uid == 0 => Account::unprivileged(),
            _ => Ok(own),
        }
    }

    fn unprivileged() -> Result<Account, Error> {
        ["postgres", "nobody"].iter().find_map(|name| Account::named(name)).ok_or_else(|| {
            Error::Unusable(
                "PostgreSQL does not run as root, and there is neither a user postgres nor nobody to run it as".into(),
            )
        })
    }

    fn named(name: &str) -> Option<Account> {
        Some(Account { uid: id(&["-u", name])?.parse().ok()?, gid: id(&["-g", name])?.parse().ok()?, name: name.into() })
    }

    /// Makes `command` run as this user. For another user than our own, every further group is dropped with the change.
    pub(super) fn runs(&self, command: &mut Command) {
        if self.uid != rustix::process::geteuid().as_raw() {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Whether this user can enter `folder`, asked by trying: mode bits alone do not tell (access lists, mount options).
    pub(super) fn reaches(&self, folder: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"cd -- "$1" && test -w ."#, "sh"]).arg(folder).current_dir("/");
        self.runs(&mut command);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    /// Gives a file or folder to this user.
    pub(super) fn takes(&self, path: &Path) -> Result<(), Error> {
        doing(std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid)), || {
            format!("give {} to user {}", path.display(), self.name)
        })
    }
}

fn user_name(uid: u32) -> String {
    id(&["-un", &uid.to_string()]).unwrap_or_else(|| uid.to_string())
}

/// Asks `id`, which knows every source of users the machine has.
fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
