//! The description of the API against a real server: schemathesis makes up requests from it, good ones and bad ones, and looks whether
//! each answer is one that it describes, with a body of the shape that it describes, and never a 5xx.
//!
//! The same requests each time, for the seed is fixed: a few for each route about things that are not there, and more about things that
//! are. `DESCRIBED_EXAMPLES` asks for another number, `DESCRIBED_SEED` for others.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{guests::guest, server::Server};

/// How long all requests to one server may take.
const WITHIN: Duration = Duration::from_secs(240);
/// What holds for every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";
/// Makes the key void that all other requests need; it comes last.
const ROTATION: &str = "/api/v1/api-keys/rotate";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_one_that_the_description_of_the_api_has() {
    let server = Server::start(&[]).await;
    server.deploy(guest("report")).await;
    let folder = tempfile::tempdir().unwrap();
    let schemathesis = Schemathesis::of(&server, &folder);
    schemathesis.run("", 4, &["--exclude-path", ROTATION]).await;
    schemathesis.run(&what_is_there(&server).await, 8, &["--exclude-path", ROTATION]).await;
    assert_eq!(server.get("/api/v1/whoami").await["environment"]["slug"], "dev", "the key was good to the end");
    schemathesis.run("", 4, &["--include-path", ROTATION]).await;
}

/// Settings with which paths are those of things that are there. The run is soon over, or its streams would keep their readers.
async fn what_is_there(server: &Server) -> String {
    let dev: Value = serde_json::from_slice(&fs::read(server.data().join("dev.json")).unwrap()).unwrap();
    let project = dev["projectRef"].as_str().unwrap();
    server.post(&format!("/api/v1/projects/{project}/envvars/dev"), &json!({"name": "ONE", "value": "1"})).await;
    let made = async |path: &str, body: Value| server.post(path, &body).await["id"].as_str().unwrap().to_owned();
    let run = server.trigger_with("reminder", json!({}), json!({"delay": "1h"})).await;
    let schedule = json!({"task": "reminder", "cron": "0 9 * * *", "deduplicationKey": "one"});
    let parameters = [
        ("batchId", made("/api/v3/batches", json!({"runCount": 2})).await),
        ("tokenId", made("/api/v1/waitpoints/tokens", json!({})).await),
        ("bulkActionId", made("/api/v1/bulk-actions", json!({"action": "cancel", "runIds": [run]})).await),
        ("scheduleId", made("/api/v1/schedules", schedule).await),
        ("runId", run),
        ("taskId", "reminder".into()),
        ("queue", "reminder".into()),
        ("projectRef", project.into()),
        ("slug", "dev".into()),
        ("target", "self".into()),
        ("streamKey", "log".into()),
    ];
    let lines = parameters.map(|(name, value)| format!("\"path.{name}\" = [{}]\n", json!(value)));
    format!("[parameters]\n{}", lines.concat())
}

/// The program, with a server to ask.
struct Schemathesis<'a> {
    program: PathBuf,
    server: &'a Server,
    folder: &'a TempDir,
}

impl<'a> Schemathesis<'a> {
    /// Installs it, once for a list of packages.
    fn of(server: &'a Server, folder: &'a TempDir) -> Schemathesis<'a> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut install = std::process::Command::new(root.join("guest-sdk/toolchain/languages.sh"));
        let output = install.arg("python").arg(root.join("tests/schemathesis")).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "schemathesis could not be installed");
        let program = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join("bin/schemathesis");
        Schemathesis { program, server, folder }
    }

    /// So many requests for each route at most, and those at the edges of what is described.
    async fn run(&self, settings: &str, examples: u32, which: &[&str]) {
        let asked = |name: &str, otherwise: String| std::env::var(name).unwrap_or(otherwise);
        fs::write(self.folder.path().join("settings.toml"), settings).unwrap();
        let mut command = tokio::process::Command::new(&self.program);
        command.current_dir(self.folder.path()).kill_on_drop(true).stdin(Stdio::null());
        command.env("SCHEMATHESIS_HOOKS", "bodies");
        command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["--config-file", "settings.toml", "run"]).arg(format!("{}/api/v1/openapi.json", self.server.url));
        command.arg("--header").arg(format!("Authorization: Bearer {}", self.server.key));
        command.args(["--phases", "coverage,fuzzing", "--checks", CHECKS, "--continue-on-failure", "--no-shrink"]);
        command.arg("--max-examples").arg(asked("DESCRIBED_EXAMPLES", examples.to_string()));
        command.arg("--seed").arg(asked("DESCRIBED_SEED", "1".into()));
        command.args(["--request-timeout", "30", "--workers", "2", "--warnings", "off", "--no-color"]).args(which);
        let output = tokio::time::timeout(WITHIN, command.output()).await.expect("it ends in time").unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        println!("{}", text.lines().filter(|line| line.contains("generated")).collect::<String>());
    }
}
