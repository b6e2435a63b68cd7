//! The product as a user has it: `dormouse dev` as a child process with a data folder of its own, spoken to by HTTP only.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    client::Client,
    eventually,
    small_disk::{self, Whose},
};

/// How long a server may take until it is ready: it makes a database cluster on its first start.
const READY: Duration = Duration::from_secs(60);

/// A server, ended with the test by its pid.
pub struct Server {
    child: Child,
    data: PathBuf,
    /// The words before its command.
    launcher: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    client: Client,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// A server with a new data folder and these further arguments of `dormouse dev`.
    pub async fn start(arguments: &[&str]) -> Server {
        Server::start_with(arguments, &[]).await
    }

    /// The same with further environment variables.
    pub async fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        Server::start_in(new_folder(), Vec::new(), arguments, environment).await
    }

    /// A server whose blobs are on a file system of four megabytes.
    ///
    /// # Errors
    /// Why there can be none on this machine.
    pub async fn start_on_small_disk(arguments: &[&str]) -> Result<Server, String> {
        let folder = new_folder();
        let blobs = folder.path().join("data/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        let launcher = small_disk::launcher(&blobs, Whose::Blobs)?;
        Ok(Server::start_in(folder, launcher, arguments, &[]).await)
    }

    /// A server whose database is on a file system of 256 megabytes. Started again, it has another one.
    ///
    /// # Errors
    /// Why there can be none on this machine.
    pub async fn start_on_small_database(arguments: &[&str]) -> Result<Server, String> {
        let mut server = Server::start(arguments).await;
        server.kill();
        server.launcher = small_disk::launcher(&server.data.join("postgres"), Whose::Postgres)?;
        server.start_again().await;
        Ok(server)
    }

    async fn start_in(
        folder: tempfile::TempDir,
        launcher: Vec<String>,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Server {
        let data = folder.path().join("data");
        let arguments = arguments.iter().map(ToString::to_string).collect::<Vec<_>>();
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>();
        let child = spawn(&data, &launcher, &arguments, &environment);
        let mut server =
            Server { child, data, launcher, arguments, environment, client: Client::default(), _folder: Some(folder) };
        server.await_ready().await;
        server
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the server keeps everything.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// SIGKILL, and nothing else: what a crash of the machine's memory does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and returns once the server has ended.
    pub async fn stop(&mut self, within: Duration) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let child = &mut self.child;
        eventually("the server has ended", within, async || child.try_wait().unwrap()).await;
    }

    /// Starts the server again on the same data.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.data, &self.launcher, &self.arguments, &self.environment);
        self.await_ready().await;
    }

    /// Starts the server again on the same data with other arguments.
    pub async fn start_again_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self.start_again().await;
    }

    /// Tries to start another server on the same data, which must end by itself, and tells what it said.
    pub fn refuses_to_start(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
        command.args(["dev", "--port", "0", "--data-dir"]).arg(&self.data).args(arguments).env_remove("DATABASE_URL");
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs a command as its user would, in the folder where `dormouse dev` runs; what it is to read from standard input.
    pub async fn command(&self, arguments: &[&str], input: &str) -> Answered {
        let folder = self.data.parent().expect("the data folder is in a temporary one");
        let link = folder.join(".dormouse");
        if !link.exists() {
            std::os::unix::fs::symlink(&self.data, &link).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
        command.args(arguments).current_dir(folder);
        for name in ["DORMOUSE_API_URL", "DORMOUSE_SECRET_KEY", "TRIGGER_API_URL", "TRIGGER_SECRET_KEY", "TRIGGER_PREVIEW_BRANCH"]
        {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            // A command that reads nothing may be gone already.
            let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Answered { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    async fn await_ready(&mut self) {
        let pid = self.child.id();
        let file = self.data.join("dev.json");
        let (url, key) = eventually("the server writes dev.json", READY, async || {
            let dev: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
            (dev["pid"] == json!(pid))
                .then(|| (dev["apiUrl"].as_str().unwrap().to_owned(), dev["secretKey"].as_str().unwrap().to_owned()))
        })
        .await;
        (self.client.url, self.client.key) = (url, key);
        eventually("GET /healthcheck answers 200", READY, async || self.client.is_healthy().await.then_some(())).await;
    }
}

/// What a command came to.
#[derive(Debug)]
pub struct Answered {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Answered {
    /// What it printed; panics unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

fn new_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("dormouse-test-").tempdir().unwrap()
}

fn spawn(data: &Path, launcher: &[String], arguments: &[String], environment: &[(String, String)]) -> Child {
    std::fs::create_dir_all(data).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(data.join("server.log")).unwrap();
    let mut words = launcher.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_dormouse")]);
    let mut command = Command::new(words.next().expect("there is a command"));
    command.args(words).args(["dev", "--port", "0", "--data-dir"]).arg(data).args(arguments);
    // The database of the tests is not the one of this server, unless a test says so.
    command.env_remove("DATABASE_URL").envs(environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

impl std::ops::Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.data.join("server.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- end of the server's log ---\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        // Gently, so that it stops its database too; then for certain.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
