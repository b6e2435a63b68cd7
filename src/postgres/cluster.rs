//! The cluster's folders: where they are, whose they are, and how they are made.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Error, account::Account, binaries::Binaries, doing};

/// Longest folder for the socket, in bytes: with the socket's name behind it, it must stay below the kernel's 107.
const MAX_SOCKET_FOLDER: usize = 80;

/// The only role, who owns everything; told by the kernel who is who, not by a password.
const ROLE: &str = "dormouse";

/// A cluster that can be started.
#[derive(Debug)]
pub(super) struct Cluster {
    /// PostgreSQL's data.
    pub(super) folder: PathBuf,
    /// Where the socket is; nobody but the account (and root) may enter.
    pub(super) socket_folder: PathBuf,
    /// What PostgreSQL says.
    pub(super) log: PathBuf,
    pub(super) account: Account,
    pub(super) binaries: Binaries,
    /// `cluster_name`, unique to the folder: it is in the command line of every process of the cluster.
    pub(super) tag: String,
    pub(super) notice: Option<String>,
}

impl Cluster {
    /// Finds or makes the cluster of `data_dir` (an absolute path whose lock is held).
    pub(super) async fn prepare(data_dir: &Path) -> Result<Cluster, Error> {
        let data_dir = data_dir.to_owned();
        let prepare = tokio::task::spawn_blocking(move || Self::prepare_now(&data_dir));
        prepare.await.expect("preparing a cluster does not panic")
    }

    fn prepare_now(data_dir: &Path) -> Result<Cluster, Error> {
        let (folder, account, notice) = place(data_dir)?;
        let tag = format!("dormouse-{}", &digest(&folder)[..16]);
        let version = fs::read_to_string(folder.join("PG_VERSION")).ok().and_then(|text| text.trim().parse().ok());
        let binaries = Binaries::find(version)?;
        let socket_folder = socket_folder(&tag, &account);
        let log = data_dir.join("postgres.log");
        let cluster = Cluster { folder, socket_folder, log, account, binaries, tag, notice };
        if version.is_none() {
            cluster.make()?;
        }
        cluster.let_in()?;
        Ok(cluster)
    }

    /// Every setting is in it: variables such as `PGPORT` must not lead elsewhere.
    pub(super) fn database_url(&self) -> String {
        format!("postgres://{ROLE}@localhost:5432/postgres?host={}&sslmode=disable", self.socket_folder.display())
    }

    /// Makes the cluster beside its place and moves it there when it is whole, so that a start that is interrupted leaves
    /// nothing that looks like a cluster.
    fn make(&self) -> Result<(), Error> {
        let unfinished = self.folder.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        private_folder(&unfinished, &self.account)?;
        let made = self.initdb(&unfinished, "C.UTF-8").or_else(|error| match error {
            // Systems without that locale have none of its sort order either; bytes sort the same under C.
            Error::Failed { ref output, .. } if output.contains("locale") => {
                let _ = fs::remove_dir_all(&unfinished);
                private_folder(&unfinished, &self.account)?;
                self.initdb(&unfinished, "C")
            }
            other => Err(other),
        });
        made?;
        // The empty folder that showed whether the account reaches it.
        let _ = fs::remove_dir(&self.folder);
        doing(fs::rename(&unfinished, &self.folder), || format!("move the new database to {}", self.folder.display()))
    }

    fn initdb(&self, folder: &Path, locale: &str) -> Result<(), Error> {
        let mut command = Command::new(self.binaries.program("initdb"));
        command.args(["--username", ROLE, "--encoding", "UTF8", "--locale", locale, "--data-checksums"]);
        command.args(["--auth-local", "peer", "--auth-host", "reject", "--no-instructions", "--pgdata"]).arg(folder);
        clean(&mut command);
        self.account.runs(&mut command);
        let output = doing(command.stdin(Stdio::null()).output(), || {
            format!("run {} as user {}", self.binaries.program("initdb").display(), self.account.name)
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Err(Error::Failed { doing: "making a new PostgreSQL database (initdb)", output: said })
    }

    /// Who may connect: this process's user and the cluster's own, both as the one role. Written at every start, for the next
    /// start may be another user's.
    fn let_in(&self) -> Result<(), Error> {
        let own = Account::own()?;
        let users = format!("dormouse \"{}\" {ROLE}\ndormouse \"{}\" {ROLE}\n", own.name, self.account.name);
        for (name, text) in [("pg_hba.conf", "local all all peer map=dormouse\n"), ("pg_ident.conf", users.as_str())] {
            let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
            doing(fs::write(&new, text), || format!("write {}", new.display()))?;
            self.account.takes(&new)?;
            doing(fs::rename(&new, &path), || format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Makes the socket's folder anew. Only when no process of the cluster lives.
    pub(super) fn clear_socket_folder(&self) -> Result<(), Error> {
        let folder = &self.socket_folder;
        // The folder's name can be guessed: what another user has put there is neither used nor followed.
        match fs::symlink_metadata(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(metadata) if metadata.is_dir() && [self.account.uid, 0].contains(&metadata.uid()) => {
                doing(fs::remove_dir_all(folder), || format!("remove {}", folder.display()))?;
            }
            _ => {
                let whose = format!("{} is in the way and belongs to another user; remove it", folder.display());
                return Err(Error::Unusable(whose));
            }
        }
        private_folder(folder, &self.account)
    }

    /// Tidies up; the next start makes it anew in any case.
    pub(super) fn remove_socket_folder(&self) {
        if let Err(error) = fs::remove_dir_all(&self.socket_folder) {
            tracing::debug!(%error, folder = %self.socket_folder.display(), "the folder of the socket stays");
        }
    }
}

/// Where the cluster is or shall be, whose it is, and what to tell about that.
fn place(data_dir: &Path) -> Result<(PathBuf, Account, Option<String>), Error> {
    let folder = data_dir.join("postgres");
    let account = Account::for_cluster(&folder)?;
    if !folder.exists() {
        private_folder(&folder, &account)?;
    }
    if account.reaches(&folder) {
        return Ok((folder, account, None));
    }
    if rustix::process::geteuid().as_raw() != 0 {
        return Err(Error::Unusable(format!("{} cannot be written to by user {}", folder.display(), account.name)));
    }
    // Nothing is lost if it is empty; a cluster that cannot be reached any more is not left behind in silence.
    if folder.join("PG_VERSION").exists() {
        return Err(Error::Unusable(format!(
            "user {} cannot reach the database in {}: one of the folders above it is closed to that user",
            account.name,
            folder.display()
        )));
    }
    let _ = fs::remove_dir(&folder);
    let shared = Path::new("/var/lib/dormouse");
    doing(fs::create_dir_all(shared), || format!("make {}", shared.display()))?;
    let elsewhere = shared.join(&digest(data_dir)[..16]);
    let account = Account::for_cluster(&elsewhere)?;
    if !elsewhere.exists() {
        private_folder(&elsewhere, &account)?;
    }
    let notice = format!(
        "PostgreSQL runs as user {}, who cannot reach {}: the database is in {}",
        account.name,
        data_dir.display(),
        elsewhere.display()
    );
    Ok((elsewhere, account, Some(notice)))
}

fn socket_folder(tag: &str, account: &Account) -> PathBuf {
    let own = account.uid == rustix::process::geteuid().as_raw();
    // Another user's process may not reach our temporary folders.
    let bases = own.then(|| [std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), Some(std::env::temp_dir())]);
    let fits = |base: &PathBuf| {
        base.is_absolute()
            && base.is_dir()
            && base.as_os_str().len() + 1 + tag.len() <= MAX_SOCKET_FOLDER
            && account.reaches(base)
    };
    let base = bases.into_iter().flatten().flatten().find(fits);
    base.unwrap_or_else(|| PathBuf::from("/tmp")).join(tag)
}

fn private_folder(folder: &Path, account: &Account) -> Result<(), Error> {
    doing(fs::DirBuilder::new().mode(0o700).create(folder), || format!("make {}", folder.display()))?;
    doing(fs::set_permissions(folder, fs::Permissions::from_mode(0o700)), || format!("close {}", folder.display()))?;
    account.takes(folder)
}

/// No variable of ours changes what PostgreSQL does, and its working folder is one that every user can enter.
pub(super) fn clean(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
}

fn digest(path: &Path) -> String {
    blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex().to_string()
}
