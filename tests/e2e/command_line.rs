//! Commands as users type them.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::support::{guests::guest, server::Server};

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_are_set_from_arguments_standard_input_and_files() {
    let server = Server::start(&[]).await;
    let run = async |arguments: &[&str], input: &str| server.command(arguments, input).await;
    run(&["env", "set", "A=1", "B=two words"], "").await.ok();
    run(&["env", "set", "--secret", "TOKEN"], "from a pipe\n").await.ok();
    assert_eq!(run(&["env", "get", "B"], "").await.ok(), "two words");
    let secret = run(&["env", "get", "TOKEN"], "").await;
    assert_eq!((secret.code, secret.out.as_str()), (Some(1), ""), "{}", secret.err);
    let all: Value = serde_json::from_str(&run(&["env", "list", "--json"], "").await.ok()).unwrap();
    let shown: Vec<(&str, &str)> =
        all.as_array().unwrap().iter().map(|each| (each["name"].as_str().unwrap(), each["value"].as_str().unwrap())).collect();
    assert_eq!(shown, [("A", "1"), ("B", "two words"), ("TOKEN", "<redacted>")]);
    assert!(run(&["env", "list"], "").await.ok().contains("TOKEN"));

    let file = server.data().join("production.env");
    fs::write(&file, "# comment\nB='three'\nexport C=\"line\\nbreak\"\n").unwrap();
    let file = file.to_str().unwrap();
    let taken = run(&["env", "import", file], "").await;
    assert!(taken.code == Some(1) && taken.err.contains("override"), "{taken:?}");
    run(&["env", "import", file, "--override"], "").await.ok();
    assert_eq!(run(&["env", "get", "C"], "").await.ok(), "line\nbreak");
    let wrong = run(&["env", "import", "-"], "A=1\nB").await;
    assert!(wrong.code == Some(2) && wrong.err.contains("line 2"), "{wrong:?}");
    run(&["env", "unset", "A", "B"], "").await.ok();
    assert_eq!(run(&["env", "unset", "A"], "").await.code, Some(1));

    // Every environment of a development server has a key, and a branch is made by its first variable.
    run(&["env", "set", "A=staging", "--env", "staging"], "").await.ok();
    run(&["env", "set", "A=preview", "--env", "preview"], "").await.ok();
    run(&["env", "set", "A=branch", "--env", "preview", "--branch", "fix/a"], "").await.ok();
    for (place, value) in [
        (&["--env", "staging"][..], "staging"),
        (&["--env", "preview"], "preview"),
        (&["--env", "preview", "--branch", "fix/a"], "branch"),
    ] {
        assert_eq!(run(&[&["env", "get", "A"], place].concat(), "").await.ok(), value);
    }
    let unknown = run(&["env", "get", "A", "--env", "preview", "--branch", "fix/b"], "").await;
    assert!(unknown.code == Some(1) && unknown.err.contains("no branch fix/b"), "{unknown:?}");
    assert!(run(&["whoami", "--env", "preview", "--branch", "fix/a"], "").await.ok().contains("branch fix/a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_goes_on_in_the_file_that_commands_find_and_over_a_restart() {
    let mut server = Server::start(&[]).await;
    let before = server.key.clone();
    let after = server.command(&["keys", "rotate", "--grace", "0s"], "").await.ok();
    assert!(after.starts_with("tr_dev_") && after != before, "{after}");
    server.command(&["whoami"], "").await.ok();
    let made = server.command(&["keys", "create", "ci", "--expires", "90d"], "").await.ok();
    assert!(made.starts_with("tr_dev_sk_"), "{made}");
    let listed: Value = serde_json::from_str(&server.command(&["keys", "list", "--json"], "").await.ok()).unwrap();
    let ci = listed["data"].as_array().unwrap().iter().find(|key| key["name"] == "ci").unwrap();
    assert!(!listed.to_string().contains(&made));
    server.command(&["keys", "revoke", ci["id"].as_str().unwrap()], "").await.ok();
    assert!(!server.command(&["keys", "list"], "").await.ok().contains("ci"));

    server.kill();
    server.start_again().await;
    assert_eq!(server.key, after, "the server found its environments by their new keys");
    server.command(&["whoami"], "").await.ok();
    server.key = before;
    let refused = server.request(reqwest::Method::GET, "/api/v1/whoami").send().await.unwrap();
    assert_eq!(refused.status(), 401, "what was rotated is not made good by a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_makes_new_runs_start_on_the_version_before() {
    let server = Server::start(&[]).await;
    let first = server.deploy(guest("rust-chain")).await["version"].as_str().unwrap().to_owned();
    let second = server.deploy(guest("hello")).await["version"].as_str().unwrap().to_owned();
    assert!(server.command(&["deployments", "list"], "").await.ok().contains(&second));
    assert_eq!(server.command(&["deployments", "rollback"], "").await.ok(), format!("{first} is current"));
    let run = server.trigger("echo", json!(1)).await;
    assert_eq!(server.run_with_status(&run, "COMPLETED", WITHIN).await["version"], json!(first));
    assert_eq!(server.command(&["deployments", "rollback"], "").await.code, Some(1));
    assert_eq!(server.command(&["deployments", "promote", &second], "").await.ok(), format!("{second} is current"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_repeated_and_moved_and_queues_held_up() {
    let server = Server::start(&[]).await;
    server.deploy(guest("rust-chain")).await;
    let command = async |arguments: &[&str]| server.command(arguments, "").await;
    assert_eq!(command(&["queues", "pause", "task/nothing"]).await.code, Some(1));
    let first = server.trigger("echo", json!({"n": 1})).await;
    server.run_with_status(&first, "COMPLETED", WITHIN).await;
    assert!(command(&["queues", "pause", "task/echo"]).await.ok().contains("paused"));
    let again = command(&["runs", "replay", &first]).await.ok();
    let held: Value = serde_json::from_str(&command(&["queues", "get", "task/echo", "--json"]).await.ok()).unwrap();
    assert_eq!((&held["queued"], &held["running"]), (&json!(1), &json!(0)));
    command(&["queues", "resume", "task/echo"]).await.ok();
    assert_eq!(server.run_with_status(&again, "COMPLETED", WITHIN).await["output"], json!({"n": 1}));
    assert!(command(&["runs", "replay", &first, "--payload", "\"said again\"", "--follow"]).await.ok().contains("said again"));
    assert!(command(&["queues", "limit", "task/echo", "3"]).await.ok().contains('3'));
    command(&["queues", "reset", "task/echo"]).await.ok();
    assert!(command(&["queues", "list"]).await.ok().contains("task/echo"));

    let debounced = ["trigger", "echo", "--debounce-key", "k", "--debounce-delay", "1h", "--payload", "3"];
    let delayed = command(&debounced).await.ok();
    let trailing = [&debounced[..6], &["--debounce-mode", "trailing", "--payload", "4"]].concat();
    assert_eq!(command(&trailing).await.ok(), delayed);
    assert!(command(&["runs", "reschedule", &delayed, "2h"]).await.ok().contains("delayed until"));
    command(&["runs", "reschedule", &delayed, "0s"]).await.ok();
    assert_eq!(server.run_with_status(&delayed, "COMPLETED", WITHIN).await["output"], json!(4));
    assert_eq!(command(&["runs", "reschedule", &delayed, "1h"]).await.code, Some(1));
}
