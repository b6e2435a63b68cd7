//! Finds the machine's PostgreSQL programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::Error;

/// The oldest major version whose SQL we use.
pub(super) const OLDEST: u32 = 15;

const HOW_TO_INSTALL: &str = "Install it (Debian and Ubuntu: `apt-get install postgresql`; Fedora: `dnf install postgresql-server`; \
     macOS: `brew install postgresql@17`), or name a server with --database-url or DATABASE_URL.";

/// A folder with `postgres` and `initdb` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// The newest installed ones, or for an existing cluster those of its version (`PG_VERSION`).
    pub(super) fn find(cluster: Option<u32>) -> Result<Binaries, Error> {
        choose(folders().iter().filter_map(|folder| inspect(folder)).collect(), cluster)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn choose(found: Vec<Binaries>, cluster: Option<u32>) -> Result<Binaries, Error> {
    let newest = found.iter().map(|binaries| binaries.major).max();
    if let Some(wanted) = cluster {
        return found.into_iter().find(|binaries| binaries.major == wanted).ok_or_else(|| {
            Error::Missing(format!(
                "The database in the data folder was made by PostgreSQL {wanted}, whose programs are not installed. {HOW_TO_INSTALL}"
            ))
        });
    }
    match newest {
        Some(major) if major >= OLDEST => Ok(found.into_iter().find(|b| b.major == major).expect("it was just found")),
        Some(major) => {
            Err(Error::Missing(format!("PostgreSQL {major} is too old, {OLDEST} or newer is needed. {HOW_TO_INSTALL}")))
        }
        None => Err(Error::Missing(format!("No PostgreSQL programs (postgres, initdb) were found. {HOW_TO_INSTALL}"))),
    }
}

/// Where packages put them: the search path, the folders of Debian, Red Hat and Homebrew, and what `pg_config` says.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    for (parent, prefix) in
        [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/usr/local/opt", "postgresql@"), ("/opt/homebrew/opt", "postgresql@")]
    {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        folders.extend(named.map(|entry| entry.path().join("bin")));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    folders
}

fn inspect(folder: &Path) -> Option<Binaries> {
    // Through symbolic links to the real folder, so that initdb finds its files beside itself.
    let folder = folder.join("postgres").canonicalize().ok()?.parent()?.to_owned();
    if !folder.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    Some(Binaries { major: major(&String::from_utf8_lossy(&output.stdout))?, folder })
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` is 15, `postgres (PostgreSQL) 18beta1` is 18.
fn major(version: &str) -> Option<u32> {
    let number = version.split("(PostgreSQL)").nth(1)?.trim_start();
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(majors: &[u32]) -> Vec<Binaries> {
        majors.iter().map(|major| Binaries { folder: format!("/pg/{major}").into(), major: *major }).collect()
    }

    #[test]
    fn a_version_is_read_whatever_follows_it() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("something else"), None);
    }

    #[test]
    fn a_new_cluster_gets_the_newest_version_and_an_old_one_its_own() {
        assert_eq!(choose(installed(&[15, 17, 16]), None).unwrap().major, 17);
        assert_eq!(choose(installed(&[15, 17, 16]), Some(15)).unwrap().major, 15);
    }

    #[test]
    fn what_is_missing_is_said_together_with_what_to_install() {
        let said = |found: &[u32], cluster| choose(installed(found), cluster).unwrap_err().to_string();
        assert!(said(&[], None).starts_with("No PostgreSQL programs"), "{}", said(&[], None));
        assert!(said(&[13, 14], None).starts_with("PostgreSQL 14 is too old, 15 or newer"), "{}", said(&[14], None));
        assert!(said(&[15], Some(17)).contains("made by PostgreSQL 17"));
        for text in [said(&[], None), said(&[14], None), said(&[15], Some(17))] {
            assert!(text.contains("apt-get install postgresql") && text.contains("DATABASE_URL"), "{text}");
        }
    }
}
