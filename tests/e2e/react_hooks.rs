//! The unmodified hooks of `@trigger.dev/react-hooks` on a page in a browser, against this server: what works, hook by hook.
//!
//! Page, browser and cases are JavaScript, in `tests/react-hooks`. The table in `docs/realtime.md` is what was measured.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
};

use serde::Deserialize;
use serde_json::Value;

use super::realtime::{Address, fixed_port, kill_and_start};
use crate::support::{guests::guest, server::Server, suite::Suite};

/// Hooks that nobody can want here, with the reason.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    ("useSessionStream", "sessions belong to the chat agents of the service it was written for"),
    ("useSessionStreamChannel", "sessions belong to the chat agents of the service it was written for"),
];
/// What is otherwise than one may expect, also with the service that the package was written for.
const NOTES: &[(&str, &str)] = &[
    ("useApiClient", "what the others are made of"),
    ("useRealtimeRun", "an expired token ends it: the package exchanges tokens (`refreshAccessToken`) for streams alone"),
];
/// What all cases use.
const USED_BY_ALL: &str = "useApiClient";

const PAGE: &str = "docs/realtime.md";
const PICTURE: &str = "docs/images/react-hooks.png";
const TABLE: (&str, &str) = ("<!-- hooks -->\n", "<!-- end -->\n");

/// What one case came to.
#[derive(Debug, Deserialize)]
struct Case {
    hook: String,
    name: String,
    ok: bool,
    ms: u64,
    error: Option<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hooks_for_react_do_in_a_browser_what_the_page_on_realtime_says() {
    let Some(browser) = browser() else { return };
    // Every wait suspends, so that a run which lost its host says nothing twice.
    let (mut server, address) = server(&["--lease", "2s", "--grace", "0ms"]).await;
    let mut suite = Running::start(&browser, &environment(&server, &address).await);
    let (mut cases, mut exported) = (Vec::new(), Vec::new());
    while let Some(line) = suite.next_line().await {
        if line.get("kill").is_some() {
            kill_and_start(&mut server, &address).await;
        } else if let Some(hooks) = line.get("exported") {
            exported = serde_json::from_value::<Vec<String>>(hooks.clone()).unwrap();
        } else {
            cases.push(serde_json::from_value::<Case>(line).unwrap());
        }
    }
    println!("{}", listed(&cases));
    assert!(!exported.is_empty(), "the suite ended early");
    let failed: Vec<&Case> = cases.iter().filter(|case| !case.ok).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    if std::env::var_os("REACT_HOOKS_CASES").is_none() {
        check_table(&table(&cases, &exported));
    }
}

/// Writes the picture of the page anew; nothing to compare, for no two are the same. `UPDATE_SCREENSHOTS=1` asks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_of_the_page_is_taken_when_it_is_asked_for() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE);
    if std::env::var_os("UPDATE_SCREENSHOTS").is_some()
        && let Some(browser) = browser()
    {
        // Short waits shall not show.
        let (server, address) = server(&["--grace", "2s"]).await;
        let mut environment = environment(&server, &address).await;
        environment.push(("SCREENSHOT", path.display().to_string()));
        let mut suite = Running::start(&browser, &environment);
        assert_eq!(suite.next_line().await, None);
    }
    let png = fs::read(&path).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() < 600_000, "{} is a picture that pages can show: {}", PICTURE, png.len());
}

/// The browser of this machine. Without one, what needs it is reported as skipped.
fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join("chromium")).find(|path| path.is_file());
    if found.is_none() {
        let why = "there is no chromium: scripts/install-tools.sh says how to get it";
        let _ = writeln!(std::io::stderr(), "\nskipped: hooks for React in a browser: {why}");
    }
    found
}

async fn server(arguments: &[&str]) -> (Server, Address) {
    let server = Server::start(arguments).await;
    server.deploy(guest("draft")).await;
    let address = Arc::new(Mutex::new((*server).clone()));
    (server, address)
}

/// Where the suite finds the server, also when it was killed and has come back.
async fn environment(server: &Server, address: &Address) -> Vec<(&'static str, String)> {
    let port = fixed_port(address.clone()).await;
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls");
    vec![
        ("TRIGGER_API_URL", format!("http://127.0.0.1:{port}")),
        ("TRIGGER_SECRET_KEY", server.key.clone()),
        ("TLS", tls.display().to_string()),
    ]
}

/// The suite, ended with the test.
struct Running {
    node: Child,
    lines: tokio::sync::mpsc::UnboundedReceiver<Value>,
    _suite: Suite,
}

impl Running {
    fn start(browser: &Path, environment: &[(&str, String)]) -> Running {
        let suite = Suite::of("react-hooks");
        let mut node = suite.node("run.mjs", environment);
        node.arg(browser).args(std::env::var_os("REACT_HOOKS_CASES")).stdout(Stdio::piped());
        let mut node = node.spawn().expect("node can be started");
        let output = BufReader::new(node.stdout.take().unwrap());
        let (sender, lines) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap_or_else(|_| panic!("the suite printed: {line}")));
            }
        });
        Running { node, lines, _suite: suite }
    }

    /// What the suite says next; none at its good end.
    async fn next_line(&mut self) -> Option<Value> {
        let line = self.lines.recv().await;
        if line.is_none() {
            let status = self.node.wait().unwrap();
            assert!(status.success(), "the suite itself failed: {status}");
        }
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

fn listed(cases: &[Case]) -> String {
    let mut text = String::new();
    for Case { hook, name, ok, ms, error } in cases {
        let verdict = if *ok { "ok" } else { "FAILED" };
        writeln!(text, "{verdict:<6} {ms:>6} ms  {hook:<34} {name}{}", error.as_deref().unwrap_or_default()).unwrap();
    }
    text
}

/// A row for each hook that the package has. One that was not tried must be known not to be applicable.
fn table(cases: &[Case], exported: &[String]) -> String {
    let tried: BTreeSet<&str> = cases.iter().map(|case| case.hook.as_str()).collect();
    let mut text = "| hook | | |\n|---|---|---|\n".to_owned();
    for hook in exported {
        let find = |list: &'static [(&str, &str)]| list.iter().find(|(name, _)| name == hook).map(|(_, text)| *text);
        let (verdict, more) = match find(NOT_APPLICABLE) {
            Some(reason) => ("not applicable", reason),
            None => ("works", find(NOTES).unwrap_or_default()),
        };
        let is_tried = tried.contains(hook.as_str()) || hook == USED_BY_ALL;
        assert_ne!(is_tried, verdict == "not applicable", "{hook} must have cases or be not applicable, one of both");
        writeln!(text, "| `{hook}` | {verdict} | {more} |").unwrap();
    }
    text
}

/// The table in the repository must be the one that was measured.
fn check_table(measured: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(TABLE.0).expect("the page has a place for the table");
    let (committed, after) = rest.split_once(TABLE.1).expect("the table has an end");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, [before, TABLE.0, measured, TABLE.1, after].concat()).unwrap();
    } else {
        assert!(committed == measured, "{PAGE} does not say what was measured; review what UPDATE_SNAPSHOTS=1 writes");
    }
}
