//! The product under load: a server with a Postgres of its own, spoken to by HTTP, on the machine that also drives it.
//!
//! A client triggers a task and asks for the run until it has ended, at first every millisecond, then less often; so asking is part
//! of what is measured, as it is for users who poll.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::{
    report::{Report, Whose, cpu_of, milliseconds},
    support::{guests, server::Server},
};

/// Runs one after the other before anything is measured, and those that latency is measured with.
const WARM_UP: usize = 50;
const ONE_BY_ONE: usize = 200;
/// Clients, each of which begins a run when its last one has ended.
const CLIENTS: [usize; 3] = [1, 16, 64];
const FOR: Duration = Duration::from_secs(4);
/// Pauses between two questions: the first and the longest.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Latency of single runs, then as many as a number of clients can get through.
pub async fn load(report: &mut Report) -> anyhow::Result<()> {
    let server = Server::start(&[]).await;
    server.deploy(guests::guest("bench")).await;
    for _ in 0..WARM_UP {
        run(&server).await?;
    }
    let (mut started, mut ended) = (vec![], vec![]);
    for _ in 0..ONE_BY_ONE {
        let (to_start, to_end) = run(&server).await?;
        started.push(to_start);
        ended.push(to_end);
    }
    report.percentiles("one by one: trigger to first instruction", &mut started, Some(2.0));
    report.percentiles("one by one: trigger to result", &mut ended, Some(4.0));
    for clients in CLIENTS {
        let (begun, before) = (Instant::now(), Cpu::of(&server)?);
        let client = async || {
            let mut times = vec![];
            while begun.elapsed() < FOR {
                times.push(run(&server).await?.1);
            }
            anyhow::Ok(times)
        };
        let mut times: Vec<Duration> = try_join_all((0..clients).map(|_| client())).await?.into_iter().flatten().collect();
        let (took, after, runs) = (milliseconds(begun.elapsed()), Cpu::of(&server)?, times.len() as f64);
        let of = |which: &str| format!("{clients} clients: {which}");
        report.figure(&of("runs a second"), runs * 1000.0 / took, "/s");
        report.figure(&of("CPU of a run, server"), (after.server - before.server) / runs, "ms");
        report.figure(&of("CPU of a run, Postgres"), (after.postgres - before.postgres) / runs, "ms");
        report.percentiles(&of("trigger to result"), &mut times, None);
    }
    Ok(())
}

/// One run: how long until its first instruction, and until the client has its result.
async fn run(server: &Server) -> anyhow::Result<(Duration, Duration)> {
    let (at, begun) = (SystemTime::now().duration_since(UNIX_EPOCH)?, Instant::now());
    let id = server.trigger("bench-noop", json!({ "k": 1 })).await;
    let mut pause = ASK_AGAIN.0;
    loop {
        let run: Value = server.run(&id).await;
        match run["status"].as_str() {
            Some("COMPLETED") => {
                let started = run["output"]["started"].as_f64().context("the task says when it started")?;
                let to_start = Duration::try_from_secs_f64(started / 1000.0)?.saturating_sub(at);
                return Ok((to_start, begun.elapsed()));
            }
            Some("QUEUED" | "DEQUEUED" | "EXECUTING") => tokio::time::sleep(pause).await,
            _ => anyhow::bail!("a run did not complete: {run}"),
        }
        pause = pause.mul_f64(1.2).min(ASK_AGAIN.1);
    }
}

/// CPU time used so far, in milliseconds.
struct Cpu {
    server: f64,
    postgres: f64,
}

impl Cpu {
    fn of(server: &Server) -> anyhow::Result<Cpu> {
        let used = |pid, whose| cpu_of(pid, whose).map(milliseconds);
        let file = std::fs::read_to_string(server.data().join("postgres/postmaster.pid"))?;
        let postmaster: u32 = file.lines().next().context("the file begins with a number")?.trim().parse()?;
        // One that has ended since it was listed is among the postmaster's ended children.
        let backends: f64 = children(postmaster)?.into_iter().filter_map(|pid| used(pid, Whose::Own).ok()).sum();
        let postgres = backends + used(postmaster, Whose::Own)? + used(postmaster, Whose::Children)?;
        Ok(Cpu { server: used(server.pid(), Whose::Own)?, postgres })
    }
}

fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let text = std::fs::read_to_string(Path::new("/proc").join(format!("{pid}/task/{pid}/children")))?;
    Ok(text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}
