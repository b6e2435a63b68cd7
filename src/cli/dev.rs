//! `dormouse dev`: everything on one machine, without setting anything up.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::{
    access::DevFile,
    output::{BOLD, DIM, PLAIN},
};
use crate::{
    app::{self, Ready},
    auth,
    config::{
        Auth, Blobs, Config, Database, Egress, Encryption, Export, Http, Limits, Prices, Retention, Rewriter, Role, Telemetry,
        Worker,
    },
    model::{
        egress::Allowed,
        environment::{Environment, EnvironmentKind},
    },
    store::seal,
    telemetry,
};

/// The one project of a development server.
const PROJECT: &str = "proj_dev";

/// Arguments of `dormouse dev`.
#[derive(Debug, Args)]
pub(super) struct Dev {
    /// Port of the API on localhost; 0 takes a free one
    #[arg(long, default_value_t = 3030)]
    port: u16,
    /// Folder for the database, blobs, compiled components and dev.json
    #[arg(long, value_name = "FOLDER", default_value = ".dormouse")]
    data_dir: PathBuf,
    /// A PostgreSQL server to use instead of a private one
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<SecretString>,
    #[command(flatten)]
    encryption: Encryption,
    #[command(flatten)]
    worker: Worker,
    #[command(flatten)]
    egress: Egress,
    #[command(flatten)]
    rewriter: Rewriter,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    retention: Retention,
    #[command(flatten)]
    prices: Prices,
    #[command(flatten)]
    telemetry: Telemetry,
    #[command(flatten)]
    export: Export,
}

impl Dev {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        telemetry::init(&self.telemetry)?;
        fs::create_dir_all(&self.data_dir).with_context(|| format!("could not make {}", self.data_dir.display()))?;
        let data_dir = self.data_dir.canonicalize().with_context(|| format!("could not find {}", self.data_dir.display()))?;
        ignore_in_git(&data_dir);
        let secret_keys = secret_keys(DevFile::read(&DevFile::path(&data_dir))?.as_ref());
        let mut encryption = self.encryption;
        if encryption.key.is_none() {
            encryption.key = Some(kept_key(&data_dir)?);
        }
        let config = Config {
            role: Role::All,
            data_dir: data_dir.clone(),
            http: Http { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), public_url: None },
            database: Database { url: self.database_url, max_connections: 20 },
            blobs: Blobs { url: None },
            worker: self.worker,
            egress: with_loopback(self.egress),
            rewriter: self.rewriter,
            limits: self.limits,
            retention: self.retention,
            prices: self.prices,
            auth: Auth { secret_keys, project_ref: PROJECT.into() },
            encryption,
            telemetry: self.telemetry,
            export: self.export,
        };
        app::run(config, move |ready| announce(&data_dir, ready)).await
    }
}

/// A key of each environment. Kept over restarts, so that whoever has one in a .env file need not change it.
fn secret_keys(earlier: Option<&DevFile>) -> Vec<SecretString> {
    let key_of = |kind| match earlier.and_then(|file| file.key_of(kind)) {
        Some(key) if auth::environment_kind(key) == Some(kind) => key.into(),
        _ => auth::new_secret_key(kind),
    };
    EnvironmentKind::ALL.map(key_of).into()
}

/// Unless told otherwise, tasks may reach this machine: what they talk to while they are developed runs here, started by the
/// same person. The rest of what is not public stays closed, for a laptop's network has neighbours, and a virtual machine has
/// a metadata service with credentials.
fn with_loopback(mut egress: Egress) -> Egress {
    if egress.allow.is_empty() {
        egress.allow.push(Allowed::Loopback);
    }
    egress
}

/// Tells people and programs where the server is. Called once it answers.
fn announce(data_dir: &Path, ready: &Ready) -> anyhow::Result<()> {
    let key = |environment: &Environment| environment.root_key.expose_secret().to_owned();
    let of = |kind| ready.environments.iter().find(|environment| environment.kind == kind);
    let file = DevFile {
        api_url: ready.api_url.clone(),
        secret_key: of(EnvironmentKind::Development).map(key).context("there is no environment for development")?,
        project_ref: ready.project_ref.clone(),
        pid: std::process::id(),
        keys: ready.environments.iter().map(|environment| (environment.kind.slug().to_owned(), key(environment))).collect(),
    };
    write_private(&DevFile::path(data_dir), &serde_json::to_vec(&file).expect("plain strings"))?;
    for notice in &ready.notices {
        anstream::println!("{DIM}{notice}{PLAIN}");
    }
    anstream::println!("API         {BOLD}{}{PLAIN}", file.api_url);
    anstream::println!("Dashboard   {DIM}not in this version{PLAIN}");
    anstream::println!("Secret key  {}", file.secret_key);
    // A pipe holds lines back otherwise.
    std::io::stdout().flush().context("could not write to standard output")
}

/// Replaces the file in one step, readable by its owner only: others never see a part of it, and nobody else the key.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("json.new");
    let write = || {
        // Left over from a server that was killed at the wrong moment; its mode may be another.
        let _ = fs::remove_file(&new);
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

/// The encryption key of this data folder, made on its first start. Whoever makes it at the same time, only one is kept, and
/// never replaced: it is durable before anything is encrypted with it.
fn kept_key(data_dir: &Path) -> anyhow::Result<SecretString> {
    let path = data_dir.join("encryption.key");
    let keep = || {
        // For its owner only, like every file of this kind.
        let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
        file.write_all(seal::new_key().expose_secret().as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Err(refused) if refused.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(refused.error),
            _ => {}
        }
        fs::File::open(data_dir)?.sync_all()
    };
    if !path.exists() {
        keep().with_context(|| format!("could not write {}", path.display()))?;
    }
    let key = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    Ok(key.into())
}

/// The folder holds a key and a database: it must not end up in a repository.
fn ignore_in_git(data_dir: &Path) {
    let path = data_dir.join(".gitignore");
    // A convenience; whoever cannot write here finds out when the database is made.
    let _ = fs::File::options().write(true).create_new(true).open(path).and_then(|mut file| file.write_all(b"*\n"));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_with_the_key_is_replaced_whole_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.json");
        for text in ["one", "two"] {
            fs::write(path.with_extension("json.new"), "left over").unwrap();
            write_private(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn the_encryption_key_of_a_data_folder_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| kept_key(folder.path()).unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap().expose_secret().to_owned()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "everybody who starts at the same time has the same key");
        assert!(seal::Keyring::new(&keys[0].as_str().into(), []).is_ok());
        let path = folder.path().join("encryption.key");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
