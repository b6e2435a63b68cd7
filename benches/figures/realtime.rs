//! Subscribers and readers: how soon they hear of what happens, and what those cost that hear nothing.
//!
//! Runs that are delayed for an hour change because their metadata is written by HTTP, so nothing is measured but the way from a
//! change to its subscriber. FEEDS, CHANGES and CHUNKS (each second) and SECONDS in the environment change how much there is of it.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, future::try_join_all};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    report::Report,
    support::{client::Client, guests, server::Server},
};

/// Requests that are under way at a time to prepare something.
const AT_ONCE: usize = 16;
const READERS: usize = 10;

/// Both.
pub async fn realtime(report: &mut Report) -> anyhow::Result<()> {
    let of = |name: &str, default| std::env::var(name).map_or(Ok(default), |text| text.parse::<usize>()).context("a number");
    let (feeds, changes, chunks, seconds) = (of("FEEDS", 2000)?, of("CHANGES", 200)?, of("CHUNKS", 10_000)?, of("SECONDS", 10)?);
    let server = Server::start(&[]).await;
    server.deploy(guests::guest("bench")).await;
    follow(report, &server, feeds, changes, seconds).await?;
    read(report, &server, chunks, seconds).await
}

/// So many feeds of a run each, and so many changes of them a second.
async fn follow(report: &mut Report, server: &Server, feeds: usize, changes: usize, seconds: usize) -> anyhow::Result<()> {
    let trigger = async |_| server.trigger_with("bench-noop", json!({ "k": 1 }), json!({ "delay": "1h" })).await;
    let runs: Vec<String> = futures_util::stream::iter(0..feeds).map(trigger).buffer_unordered(AT_ONCE).collect().await;
    let before = resident_kib(server)?;
    let heard = Arc::new(Heard::default());
    let mut followers = JoinSet::new();
    for run in &runs {
        followers.spawn(follower((**server).clone(), run.clone(), heard.clone()));
    }
    while heard.begun.load(Ordering::Relaxed) < feeds as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = (resident_kib(server)? - before) / feeds as f64;
    report.figure(&format!("{feeds} feeds: memory of one that hears nothing"), idle, "KiB");

    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for change in 0..changes * seconds {
        let due = begun + Duration::from_secs_f64(change as f64 / changes as f64);
        tokio::time::sleep_until(due.into()).await;
        let (client, run) = ((**server).clone(), runs[change * 7919 % runs.len()].clone());
        writers.spawn(async move {
            let path = format!("/api/v1/runs/{run}/metadata");
            let body = json!({ "metadata": { "at": now_ms() } });
            client.request(reqwest::Method::PUT, &path).json(&body).send().await?.error_for_status()?;
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    followers.shutdown().await;
    let mut times = heard.times.lock().expect("no follower panics with it").clone();
    let name = format!("{feeds} feeds, {changes} changes a second: change to subscriber");
    report.figure(&format!("{name}, heard of"), 100.0 * times.len() as f64 / (changes * seconds) as f64, "%");
    report.percentiles(&name, &mut times, None);
    Ok(())
}

#[derive(Default)]
struct Heard {
    begun: AtomicU64,
    times: std::sync::Mutex<Vec<Duration>>,
}

async fn follower(client: Client, run: String, heard: Arc<Heard>) -> anyhow::Result<()> {
    let mut place = "offset=-1".to_owned();
    for request in 0.. {
        let ask = client.request(reqwest::Method::GET, &format!("/realtime/v1/runs/{run}?{place}"));
        let answer = ask.header("x-trigger-electric-version", "1").send().await?.error_for_status()?;
        let header = |name: &str| anyhow::Ok(answer.headers().get(name).context("a header")?.to_str()?.to_owned());
        place = format!("handle={}&offset={}&live=true", header("electric-handle")?, header("electric-offset")?);
        let messages: Vec<Value> = answer.json().await?;
        if request == 0 {
            heard.begun.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        for metadata in messages.iter().filter_map(|message| message["value"]["metadata"].as_str()) {
            let metadata: Value = serde_json::from_str(metadata)?;
            heard.times.lock().expect("no follower panics with it").push(since(&metadata["at"])?);
        }
    }
    Ok(())
}

/// One run that appends so many chunks a second, and readers.
async fn read(report: &mut Report, server: &Server, chunks: usize, seconds: usize) -> anyhow::Result<()> {
    let all = chunks * seconds;
    let payload = json!({ "k": 1, "n": all, "per": 100, "rate": chunks });
    let run = server.trigger("bench-stream", payload).await;
    let begun = Instant::now();
    let read: Vec<Vec<Duration>> = try_join_all((0..READERS).map(|_| reader(server, &run, all))).await?;
    let name = format!("{READERS} readers of {chunks} chunks a second");
    report.figure(&format!("{name}: chunks a second, each reader"), all as f64 / begun.elapsed().as_secs_f64(), "/s");
    let appended = server.finished(&run, Duration::from_secs(60)).await;
    let ms = appended["output"]["ms"].as_f64().context("the task says how long it took")?;
    report.figure(&format!("{name}: chunks a second, appended"), all as f64 * 1000.0 / ms, "/s");
    report.percentiles(&format!("{name}: from the task to a reader"), &mut read.concat(), None);
    Ok(())
}

async fn reader(server: &Server, run: &str, all: usize) -> anyhow::Result<Vec<Duration>> {
    let answer = server.request(reqwest::Method::GET, &format!("/realtime/v1/streams/{run}/bench")).send().await?;
    let (mut bytes, mut text, mut times) = (answer.bytes_stream(), String::new(), Vec::with_capacity(all));
    while let Some(part) = bytes.next().await {
        text.push_str(std::str::from_utf8(&part?)?);
        while let Some((event, rest)) = text.split_once("\n\n") {
            if let Some(data) = event.strip_prefix("event: batch\ndata: ") {
                let data: Value = serde_json::from_str(data)?;
                for record in data["records"].as_array().context("a list")? {
                    let body: Value = serde_json::from_str(record["body"].as_str().context("a text")?)?;
                    anyhow::ensure!(body["data"][0] == times.len(), "chunk {} is {body}", times.len());
                    times.push(since(&body["data"][1])?);
                }
            }
            text = rest.to_owned();
        }
    }
    anyhow::ensure!(times.len() == all, "{} of {all} chunks came", times.len());
    Ok(times)
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

fn since(at_ms: &Value) -> anyhow::Result<Duration> {
    Ok(Duration::try_from_secs_f64((now_ms() - at_ms.as_f64().context("a time")?).max(0.0) / 1000.0)?)
}

fn resident_kib(server: &Server) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("it says what is resident")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
