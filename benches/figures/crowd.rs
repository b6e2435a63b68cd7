//! Many runs whose time is still to come: what they cost a server while they wait, and how late those wake that wait among them.
//!
//! `CROWD` is how many wait (a million), `DUE` how many are due while it is measured (ten thousand, over ten seconds).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    report::{Report, milliseconds},
    support::{guests, server::Server},
};

/// Items of one batch, and batches that are sent at a time.
const BATCH: u64 = 1000;
const AT_ONCE: usize = 2;
/// Requests at a time.
const CLIENTS: usize = 16;
/// Due runs a second.
const DUE_PER_SECOND: f64 = 1000.0;
/// What is due is triggered before; so long each thousand may take.
const LEAD_PER_THOUSAND: Duration = Duration::from_millis(2500);

/// Lateness alone, then the crowd, then lateness in it.
pub async fn crowd(report: &mut Report) -> anyhow::Result<()> {
    let (crowd, due) = (number("CROWD", 1_000_000)?, number("DUE", 10_000)?);
    let server = Server::start(&[]).await;
    server.deploy(guests::guest("bench")).await;
    wake(&server, 500).await?;
    let mut alone = wake(&server, due).await?;
    report.percentiles(&format!("{due} timers over {:.0} s, alone: late", due as f64 / DUE_PER_SECOND), &mut alone, None);

    let before = resident(server.pid())?;
    let begun = std::time::Instant::now();
    let batches = stream::iter((0..crowd.div_ceil(BATCH)).map(|_| fill(&server)));
    batches.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    report.figure(&format!("{crowd} runs delayed by a day: triggered in"), begun.elapsed().as_secs_f64(), "s");
    // What was held while they were made is given back meanwhile.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let grown = resident(server.pid())?.saturating_sub(before) as f64;
    report.figure("memory of the server for each of them", grown / crowd as f64, "B");

    let mut among = wake(&server, due).await?;
    report.percentiles(&format!("{due} timers over {:.0} s, among {crowd}: late", due as f64 / DUE_PER_SECOND), &mut among, None);
    Ok(())
}

fn number(name: &str, default: u64) -> anyhow::Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is no number: {text:?}")))
}

/// A batch of runs that begin in a day.
async fn fill(server: &Server) -> anyhow::Result<()> {
    let made = server.post("/api/v3/batches", &json!({ "runCount": BATCH })).await;
    let batch = made["id"].as_str().context("a batch has an id")?;
    let item =
        |index| json!({"index": index, "task": "bench-noop", "payload": "{\"k\":1}", "options": {"delay": "1d"}}).to_string();
    let items: String = (0..BATCH).map(item).flat_map(|line| [line, "\n".to_owned()]).collect();
    let request = server.request(reqwest::Method::POST, &format!("/api/v3/batches/{batch}/items"));
    let answer = request.header("content-type", "application/x-ndjson").body(items).send().await?;
    let answer: Value = answer.error_for_status()?.json().await?;
    anyhow::ensure!(answer["sealed"] == json!(true), "{answer}");
    Ok(())
}

/// How late each of `count` runs woke that wait for moments one after the other.
async fn wake(server: &Server, count: u64) -> anyhow::Result<Vec<Duration>> {
    let lead = LEAD_PER_THOUSAND * count.div_ceil(1000) as u32 + Duration::from_secs(2);
    let start = milliseconds(SystemTime::now().duration_since(UNIX_EPOCH)?) + milliseconds(lead);
    let until = |k: u64| start + k as f64 * 1000.0 / DUE_PER_SECOND;
    let begin = |k| async move { (k, server.trigger("bench-sleep", json!({"k": k, "until": until(k)})).await) };
    let runs: Vec<(u64, String)> = stream::iter(0..count).map(begin).buffer_unordered(CLIENTS).collect().await;
    let now = milliseconds(SystemTime::now().duration_since(UNIX_EPOCH)?);
    anyhow::ensure!(now < start, "triggering {count} runs took longer than {lead:?}");
    // Nobody asks while they wake.
    tokio::time::sleep(Duration::from_secs_f64((until(count) - now) / 1000.0)).await;
    let late = stream::iter(runs).map(|(k, run)| async move {
        let ended = server.run_with_status(&run, "COMPLETED", lead + Duration::from_secs(300)).await;
        let woke = ended["output"]["woke"].as_f64().context("the task says when it woke")?;
        anyhow::Ok(Duration::from_secs_f64(((woke - until(k)) / 1000.0).max(0.0)))
    });
    late.buffer_unordered(CLIENTS).try_collect().await
}

/// Bytes of memory that the process has.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has a size")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}
