//! Runs that are ended, or not, by what is around them: memory, the share of a core, somebody who cancels them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{eventually, guests::guest, server::Server};

const SOON: Duration = Duration::from_secs(60);

async fn with_guest(arguments: &[&str]) -> Server {
    let server = Server::start(arguments).await;
    server.deploy(guest("rust-chain")).await;
    server
}

/// The run once its task has begun.
async fn begun(server: &Server, run: &str) {
    let is_begun = async || (server.run(run).await["metadata"]["begun"] == json!(true)).then_some(());
    eventually("the task has begun", SOON, is_begun).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_outgrows_its_machine_goes_on_on_the_one_that_its_task_names() {
    let server = with_guest(&["--cents-per-vcpu-second", "1000000", "--cents-per-run", "0.5"]).await;
    let takes = server.trigger("outgrow", json!({"mib": 400})).await;
    let says = server.trigger("outgrow", json!({"mib": 400, "says_so": true})).await;
    for run in [&takes, &says] {
        let ended = server.run_with_status(run, "COMPLETED", SOON).await;
        let output = json!({"attempt": 2, "machine": "small-2x", "memory": 1_u64 << 30});
        assert_eq!((&ended["output"], &ended["attemptCount"]), (&output, &json!(2)), "{ended:#}");
        assert_eq!((&ended["machine"], &ended["baseCostInCents"]), (&json!("small-2x"), &json!(0.5)), "{ended:#}");
        // A quarter of a vCPU, then a whole one: between the two for the time of both.
        let (cost, ms) = (ended["costInCents"].as_f64().unwrap(), ended["durationMs"].as_f64().unwrap());
        assert!(cost >= ms * 250.0 && cost <= ms * 1000.0 && ms > 0.0, "{cost} cents for {ms} ms");
    }
    // As much again, and no machine that is another one.
    let nowhere = server.trigger("small-outgrow", json!({"mib": 400})).await;
    let too_much = server.trigger("outgrow", json!({"mib": 1100})).await;
    for (run, attempts) in [(&nowhere, 1), (&too_much, 2)] {
        let ended = server.run_with_status(run, "CRASHED", SOON).await;
        assert_eq!(ended["attemptCount"], json!(attempts), "{ended:#}");
        let error = ended["error"].to_string();
        assert!(error.contains("TASK_PROCESS_OOM_KILLED") && error.contains("MiB of its machine"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_has_the_memory_and_the_share_of_a_core_that_its_machine_has() {
    let server = with_guest(&[]).await;
    for (machine, mib) in [("micro", 256), ("small-1x", 512), ("small-2x", 1024)] {
        let alloc = |mib: u32| server.trigger_with("alloc", json!({"mib": mib}), json!({"machine": machine}));
        let (fits, does_not) = (alloc(mib - 32).await, alloc(mib).await);
        let ended = server.run_with_status(&fits, "COMPLETED", SOON).await;
        assert_eq!(ended["output"], json!(mib - 32), "{machine}: {ended:#}");
        server.run_with_status(&does_not, "CRASHED", SOON).await;
    }
    let mut got = Vec::new();
    for machine in ["micro", "small-2x"] {
        let run = server.trigger_with("burn", json!({"ms": 2000}), json!({"machine": machine})).await;
        let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
        got.push(ended["output"].as_u64().unwrap());
    }
    // However busy this machine is, a quarter of a core is never much more than one.
    assert!((100..=700).contains(&got[0]), "a quarter of 2000 ms, or thereabouts: {got:?}");
    assert!(got[1] > got[0], "a whole core is more: {got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_listens_for_its_cancellation_has_half_a_minute_to_tidy_up() {
    // Waits that may end any moment stay in memory, and workers hear of a cancellation within three seconds.
    let server = with_guest(&["--grace", "90s", "--lease", "9s"]).await;
    let of = async |task: &str, how: Value| {
        let run = server.trigger_with(task, how, json!({"machine": "micro"})).await;
        begun(&server, &run).await;
        run
    };
    let listening =
        [of("tidy", json!("token")).await, of("tidy", json!("ask")).await, of("tidy", json!({"sleep": 12_000})).await];
    let (heedless, deaf) = (of("tidy", json!("never")).await, of("untidy", json!("ask")).await);
    let asleep = of("tidy", json!("wait")).await;
    server.run_with_status(&asleep, "WAITING", SOON).await;
    let asked = Instant::now();
    for run in listening.iter().chain([&heedless, &deaf, &asleep]) {
        server.post(&format!("/api/v2/runs/{run}/cancel"), &json!({})).await;
    }
    let ended = server.run(&asleep).await;
    assert_eq!(ended["status"], json!("CANCELED"), "a suspended run is not asked: {ended:#}");
    let ended = server.run_with_status(&deaf, "CANCELED", SOON).await;
    assert!(ended["metadata"].get("learned").is_none() && asked.elapsed() < Duration::from_secs(20), "{ended:#}");
    for run in &listening {
        let ended = server.run_with_status(run, "CANCELED", SOON).await;
        let told = json!({"begun": true, "learned": true, "given": 30, "again": true});
        assert_eq!((&ended["metadata"], &ended["attemptCount"]), (&told, &json!(1)), "{ended:#}");
    }
    assert!(asked.elapsed() < Duration::from_secs(25), "nobody waited for the end of the time");
    assert_eq!(server.run(&heedless).await["status"], json!("EXECUTING"));
    let ended = server.run_with_status(&heedless, "CANCELED", SOON).await;
    assert!(asked.elapsed() >= Duration::from_secs(29), "it had all of its time: {:?}", asked.elapsed());
    assert!(ended["durationMs"].as_u64() > Some(1000), "what it used until it was stopped counts: {ended:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_does_not_wait_again_for_what_an_earlier_one_waited_for_with_the_same_key() {
    let server = with_guest(&[]).await;
    let suspended = server.trigger("wait-once", json!({"ms": 2500})).await;
    let in_memory = server.trigger("wait-once", json!({"ms": 2500, "stays": true})).await;
    for run in [&suspended, &in_memory] {
        let ended = server.run_with_status(run, "COMPLETED", SOON).await;
        assert_eq!(ended["attemptCount"], json!(2), "{ended:#}");
        assert!(ended["output"].as_u64() < Some(2000), "the second attempt waited {} ms", ended["output"]);
    }
    let lines = server.logs(&in_memory).await;
    assert!(lines.iter().any(|(source, line)| source == "host" && line.contains("Kept in memory")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cpu_time_has_a_limit_that_waits_do_not_count_to_and_that_is_not_tried_again() {
    let server = with_guest(&["--grace", "0ms"]).await;
    let spins = server.trigger_with("spin", json!(null), json!({"maxDuration": 5, "maxAttempts": 3})).await;
    let waits = json!({"n": 2, "mode": "mixed", "ms": 3500});
    let waits = server.trigger_with("chain", waits, json!({"maxDuration": 5})).await;
    let ended = server.run_with_status(&spins, "TIMED_OUT", SOON).await;
    assert_eq!(ended["attemptCount"], json!(1), "{ended:#}");
    assert!(ended["error"]["message"].as_str().unwrap().contains("MAX_DURATION_EXCEEDED"), "{ended:#}");
    assert!((5000..7000).contains(&ended["durationMs"].as_u64().unwrap()), "what it was given, and little more: {ended:#}");
    let ended = server.run_with_status(&waits, "COMPLETED", SOON).await;
    assert!(ended["durationMs"].as_u64() < Some(2000), "seven seconds of waiting are not in it: {ended:#}");
}
