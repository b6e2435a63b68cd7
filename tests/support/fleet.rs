//! Several processes of `dormouse serve` on one private Postgres and one blob folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use dormouse::postgres::PrivatePostgres;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{Connection as _, PgConnection};

use super::{client::Client, eventually};

/// How long a process may take until it is ready.
const READY: Duration = Duration::from_secs(60);
/// Of the environment for production, in which all tests of fleets are: in that for development runs expire by themselves.
const KEY: &str = "tr_prod_0123456789abcdefghijklmnopqrstuvwxyzABCD";

/// What the processes share.
pub struct Fleet {
    pub postgres: PrivatePostgres,
    folder: tempfile::TempDir,
}

impl Fleet {
    /// A new database and an empty blob folder.
    pub async fn new() -> Fleet {
        let folder = tempfile::Builder::new().prefix("dormouse-test-").tempdir().unwrap();
        let postgres = PrivatePostgres::start(&folder.path().canonicalize().unwrap()).await.unwrap();
        Fleet { postgres, folder }
    }

    /// Starts a process of this role, with further arguments, and waits until it is ready. Its name is that of its data folder.
    pub async fn start(&self, name: &str, role: &str, arguments: &[&str]) -> Member {
        self.start_through(self.postgres.database_url(), name, role, arguments).await
    }

    /// The same with another way to the database.
    pub async fn start_through(&self, database_url: &str, name: &str, role: &str, arguments: &[&str]) -> Member {
        let mut member = self.spawn_with(database_url, name, role, arguments, &[]);
        member.await_ready().await;
        member
    }

    /// Starts a process with these environment variables and does not wait for it.
    pub fn spawn_with(
        &self,
        database_url: &str,
        name: &str,
        role: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Member {
        let data = self.folder.path().join(name);
        let blobs = format!("file://{}", self.folder.path().join("blobs").display());
        let own = ["--database-url", database_url, "--blobs", &blobs, "--role", role];
        let arguments = own.iter().chain(arguments).map(ToString::to_string).collect();
        let mut client = Client::default();
        client.key = KEY.into();
        Member::spawn(data, arguments, environment, client)
    }

    /// A connection of the test's own.
    pub async fn database(&self) -> PgConnection {
        PgConnection::connect(self.postgres.database_url()).await.unwrap()
    }

    /// Stops the postmaster, with SIGINT in order and with SIGQUIT as in a crash, and waits until it is gone. Its keeper starts it again.
    pub async fn stop_postgres(&self, signal: Signal) {
        let file = self.folder.path().join("postgres/postmaster.pid");
        let postmaster = eventually("Postgres runs", READY, async || {
            let pid = fs::read_to_string(&file).ok()?;
            Pid::from_raw(pid.lines().next()?.trim().parse().ok()?)
        })
        .await;
        kill_process(postmaster, signal).unwrap();
        eventually("Postgres stops", READY, async || test_kill_process(postmaster).is_err().then_some(())).await;
    }

    /// Stops the database, after all that used it.
    pub async fn end(self, members: Vec<Member>) {
        drop(members);
        self.postgres.stop().await;
    }
}

/// One process, ended with the test by its pid.
pub struct Member {
    child: Child,
    log: PathBuf,
    /// Where this process's part of the log begins.
    log_start: u64,
    data: PathBuf,
    /// The second is where it listens.
    arguments: Vec<String>,
    client: Client,
}

impl Member {
    fn spawn(data: PathBuf, arguments: Vec<String>, environment: &[(&str, &str)], client: Client) -> Member {
        fs::create_dir_all(&data).unwrap();
        // Two processes may share a data folder, but not a log.
        let log = data.join(format!("server-{}.log", rand::random::<u32>()));
        let listen = ["--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
        let arguments: Vec<String> = listen.iter().map(ToString::to_string).chain(arguments).collect();
        let child = launch(&arguments, environment, &log);
        Member { child, log, log_start: 0, data, arguments, client }
    }

    /// Waits until the process says that it is ready, and answers if that is its role.
    pub async fn await_ready(&mut self) {
        eventually("the process is ready", READY, async || {
            assert!(!self.has_ended(), "it ended: {}", fs::read_to_string(&self.log).unwrap());
            self.is_ready().await.then_some(())
        })
        .await;
    }

    /// Whether the process has said that it is ready and, if that is its role, answers.
    pub async fn is_ready(&mut self) -> bool {
        let Some(ready) = self.said("ready").pop() else { return false };
        if self.arguments.iter().any(|argument| argument == "worker") {
            return true;
        }
        self.client.url = ready["url"].as_str().unwrap().to_owned();
        self.client.is_healthy().await
    }

    /// Whether the process is gone.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What the process logged since it was started, with this message.
    pub fn said(&self, message: &str) -> Vec<serde_json::Value> {
        let log = fs::read(&self.log).unwrap_or_default();
        let lines = log.get(self.log_start as usize..).unwrap_or_default().split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .filter(|line: &serde_json::Value| line["message"] == message)
            .collect()
    }

    /// Whoever wants to speak to it while it is being killed.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Its folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        eventually("the process ends", within, async || self.child.try_wait().unwrap()).await
    }

    /// Starts it again after its end, at the same address and with what it was given but for environment variables, without waiting
    /// for it.
    pub fn respawn(&mut self) {
        self.child.wait().unwrap();
        self.log_start = fs::metadata(&self.log).unwrap().len();
        if let Some(address) = self.client.url.strip_prefix("http://") {
            self.arguments[1] = address.to_owned();
        }
        self.child = launch(&self.arguments, &[], &self.log);
    }

    /// Starts it again after its end, at the same address.
    pub async fn start_again(&mut self) {
        self.respawn();
        self.await_ready().await;
    }
}

fn launch(arguments: &[String], environment: &[(&str, &str)], log: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
    command.args(["serve", "--log-format", "json", "--secret-key", KEY]).args(arguments);
    command.env_remove("DATABASE_URL").env("DORMOUSE_LOG", "info,sqlx=warn,dormouse::worker=debug");
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

impl std::ops::Deref for Member {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().filter(|line| !line.contains("\"DEBUG\"")).collect();
            let tail = &tail[tail.len().saturating_sub(30)..];
            eprintln!("--- end of the log of {} ---\n{}", self.data.display(), tail.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
