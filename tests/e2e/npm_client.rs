//! The unmodified npm client of Trigger.dev against this server: what works, function by function, and the page that says so.
//!
//! The cases are JavaScript, in `tests/npm-client`; what a function is expected to do is said there, in `surface.mjs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;

use crate::support::{guests::guest, server::Server, suite::Suite};

/// Functions that are known not to work yet, with what is missing. One that works must not be here.
const NOT_YET: &[(&str, &str)] = &[];

/// The version of the client, as `tests/npm-client/package.json` pins it.
const VERSION: &str = "4.8.3";
const PAGE: &str = "docs/compatibility.md";

/// What one case came to.
#[derive(Debug, Deserialize)]
struct Case {
    function: String,
    name: String,
    ok: bool,
    ms: u64,
    error: Option<String>,
}

/// What is expected of a function.
#[derive(Debug, Deserialize)]
struct Expected {
    function: String,
    differs: Option<String>,
    not_applicable: Option<String>,
}

/// All that the suite printed.
#[derive(Debug, Default)]
struct Report {
    cases: Vec<Case>,
    surface: Vec<Expected>,
    unlisted: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_of_the_npm_client_does_what_the_page_on_compatibility_says() {
    let server = Server::start(&[]).await;
    // Two deployments, so that there is a list of them.
    server.deploy(guest("hello")).await;
    server.deploy(guest("rust-chain")).await;
    let dev: Value = serde_json::from_slice(&fs::read(server.data().join("dev.json")).unwrap()).unwrap();
    let environment = [
        ("TRIGGER_API_URL", server.url.clone()),
        ("TRIGGER_SECRET_KEY", server.key.clone()),
        ("PROJECT_REF", dev["projectRef"].as_str().unwrap().to_owned()),
        ("OTHER_SECRET_KEY", dev["keys"]["prod"].as_str().unwrap().to_owned()),
    ];
    let report = tokio::task::spawn_blocking(move || run_suite(&environment)).await.unwrap();
    println!("{}", table(&report.cases));
    let wrong = report.wrong();
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    check_page(&report.page());
}

/// Runs all cases.
fn run_suite(environment: &[(&str, String)]) -> Report {
    let suite = Suite::of("npm-client");
    let mut node = suite.node("run.mjs", environment);
    if let Ok(wanted) = std::env::var("NPM_CLIENT_CASES") {
        node.arg(wanted);
    }
    let output = node.output().expect("node can be started");
    assert!(output.status.success(), "the suite itself failed: {output:?}");
    read(&String::from_utf8(output.stdout).unwrap())
}

fn read(output: &str) -> Report {
    let mut report = Report::default();
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let mut value: Value = serde_json::from_str(line).unwrap();
        if let Some(surface) = value.get_mut("surface") {
            report.surface = serde_json::from_value(surface.take()).unwrap();
        } else if let Some(unlisted) = value.get_mut("unlisted") {
            report.unlisted = serde_json::from_value(unlisted.take()).unwrap();
        } else {
            report.cases.push(serde_json::from_value(value).unwrap());
        }
    }
    assert!(!report.cases.is_empty() && !report.surface.is_empty(), "the suite ended early: {output}");
    report
}

fn table(cases: &[Case]) -> String {
    let mut sorted: Vec<&Case> = cases.iter().collect();
    sorted.sort_by(|one, other| one.function.cmp(&other.function));
    let mut text = String::new();
    for Case { function, name, ok, ms, error } in sorted {
        let verdict = if *ok { "ok" } else { "FAILED" };
        writeln!(text, "{verdict:<6} {ms:>6} ms  {function:<40} {name}").unwrap();
        if let Some(error) = error {
            writeln!(text, "                  {error}").unwrap();
        }
    }
    let failed = cases.iter().filter(|case| !case.ok).count();
    writeln!(text, "{} cases, {failed} failed", cases.len()).unwrap();
    text
}

impl Report {
    fn failed(&self) -> BTreeSet<&str> {
        self.cases.iter().filter(|case| !case.ok).map(|case| case.function.as_str()).collect()
    }

    /// Everything that stands against the suite.
    fn wrong(&self) -> Vec<String> {
        let failed = self.failed();
        let not_yet: BTreeMap<&str, &str> = NOT_YET.iter().copied().collect();
        let mut wrong: Vec<String> = self.unlisted.iter().map(|name| format!("{name} is not in surface.mjs")).collect();
        for case in self.cases.iter().filter(|case| !case.ok && !not_yet.contains_key(case.function.as_str())) {
            wrong.push(format!("{}: {}: {}", case.function, case.name, case.error.as_deref().unwrap_or_default()));
        }
        // The rest is about a whole suite.
        if std::env::var_os("NPM_CLIENT_CASES").is_some() {
            return wrong;
        }
        let tried: BTreeSet<&str> = self.cases.iter().map(|case| case.function.as_str()).collect();
        let listed: BTreeSet<&str> = self.surface.iter().map(|expected| expected.function.as_str()).collect();
        for Expected { function, not_applicable, .. } in &self.surface {
            let function = function.as_str();
            if not_applicable.is_some() == tried.contains(function) {
                wrong.push(format!("{function} must have cases or be not applicable, one of both"));
            }
        }
        wrong.extend(tried.difference(&listed).map(|function| format!("{function} is not in surface.mjs")));
        let works = |function: &&str| !failed.contains(function);
        wrong.extend(not_yet.into_keys().filter(works).map(|function| format!("{function} works: take it from NOT_YET")));
        wrong
    }

    /// The page, as what was measured says.
    fn page(&self) -> String {
        let mut page = format!(
            "# Compatibility with `@trigger.dev/sdk` {VERSION}\n\n\
             A backend that uses the npm package as it is changes `TRIGGER_API_URL` and `TRIGGER_SECRET_KEY`, and nothing else. This \
             table is written by a test that calls every function of the package against a server \
             (`tests/e2e/npm_client.rs`, `tests/npm-client/`); it fails when the table is not true.\n\n\
             | function | | reason |\n|---|---|---|\n"
        );
        for Expected { function, differs, not_applicable } in &self.surface {
            let not_yet = NOT_YET.iter().find(|(name, _)| name == function).map(|(_, missing)| *missing);
            let (verdict, reason) = match (not_yet, differs, not_applicable) {
                (Some(missing), ..) => ("not yet", missing),
                (None, Some(reason), _) => ("differs", reason.as_str()),
                (None, None, Some(reason)) => ("not applicable", reason.as_str()),
                (None, None, None) => ("works", ""),
            };
            writeln!(page, "| `{function}` | {verdict} | {reason} |").unwrap();
        }
        page
    }
}

/// The page in the repository must be the one that was measured.
fn check_page(measured: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("NPM_CLIENT_CASES").is_some() {
        return;
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, measured).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == measured, "{PAGE} does not say what was measured; review what UPDATE_SNAPSHOTS=1 writes");
}
