//! Components made to be too much for the rewriter: each is refused or rewritten in bounded time and memory, and what is refused is
//! refused with a reason that is the component's.
//!
//! Each is a process of its own, whose peak of memory the kernel knows: this binary again, with [`CASE`] set.

mod components;
mod cores;
mod exceptions;
mod module;

use std::{io::Read as _, process::Stdio, time::Duration};

use dormouse::rewrite::{self, Error, Limits};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// The environment variable that names the case of a process.
const CASE: &str = "HOSTILE_CASE";
/// The bars are two seconds and 1 GiB, for a release build. Memory is the same in both; a debug build takes up to ten times as long for
/// our own part (validating is optimised in both), and the machine has other tests to run.
const MOST_SECONDS: f64 = if cfg!(debug_assertions) { 20.0 } else { 2.0 };
const MOST_MEMORY: u64 = 1 << 30;
/// Beyond this an allocation fails: a case that is out of hand must not take the machine with it.
const ADDRESSES: u64 = 8 << 30;
/// Processor time after which the kernel ends a case.
const HANGS: u64 = 60;

/// What a case is called, and what makes its component.
type Case = (&'static str, fn() -> Vec<u8>);

/// What a process says of its case.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// Processor time of all threads together.
    seconds: f64,
    /// What the rewriter took, at most, beyond what the case took to be made.
    bytes: u64,
    outcome: String,
}

#[test]
fn whatever_is_uploaded_takes_bounded_time_and_memory() {
    let mut faults = vec![];
    for (name, _) in cases() {
        match report(name) {
            Ok(Report { seconds, bytes, outcome }) => {
                println!("{seconds:6.2} s {:5} MiB  {name}: {outcome}", bytes >> 20);
                if seconds > MOST_SECONDS || bytes > MOST_MEMORY || outcome.contains("fault of ours") {
                    faults.push(format!("{name}: {seconds:.2} s, {bytes} bytes: {outcome}"));
                }
            }
            Err(fault) => faults.push(format!("{name}: {fault}")),
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Not a test by itself: the process of a case.
#[test]
fn process_of_a_hostile_case() {
    let Ok(wanted) = std::env::var(CASE) else {
        println!("nothing to do: {CASE} is not set, as it is in the processes of the cases");
        return;
    };
    setrlimit(Resource::As, Rlimit { current: Some(ADDRESSES), maximum: Some(ADDRESSES) }).unwrap();
    setrlimit(Resource::Cpu, Rlimit { current: Some(HANGS), maximum: Some(HANGS) }).unwrap();
    let (_, make) = cases().find(|(name, _)| *name == wanted).expect("there is such a case");
    let component = make();
    let (memory, time) = (peak_memory(), processor_time());
    let outcome = match rewrite::rewrite(&component, &Limits::default()) {
        Ok(rewritten) => format!("rewritten, {} sites", rewritten.report.sites),
        Err(Error::Refused(refusals)) => format!("refused: {}", refusals[0]),
        Err(error @ Error::Malformed(_)) => error.to_string(),
    };
    let seconds = (processor_time() - time).as_secs_f64();
    let outcome = outcome.chars().take(200).collect();
    println!("report: {}", serde_json::json!(Report { seconds, bytes: peak_memory() - memory, outcome }));
}

fn cases() -> impl Iterator<Item = Case> {
    cores::ALL.iter().chain(exceptions::ALL).chain(components::ALL).copied()
}

fn report(name: &str) -> Result<Report, String> {
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    process.args(["hostile_input::process_of_a_hostile_case", "--exact", "--nocapture"]).env(CASE, name);
    let mut child = process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut said, mut complained) = (String::new(), String::new());
    child.stdout.take().expect("it is piped").read_to_string(&mut said).unwrap();
    child.stderr.take().expect("it is piped").read_to_string(&mut complained).unwrap();
    let status = child.wait().unwrap();
    let report = said.lines().find_map(|line| line.split_once("report: ")).map(|(_, report)| report);
    report.map(|report| serde_json::from_str(report).unwrap()).ok_or_else(|| format!("{status}: {said}{complained}"))
}

/// The most memory that this process had at a time.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
