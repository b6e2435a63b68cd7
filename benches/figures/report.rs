//! Where figures go: a line for people, a line of JSON for `target/bench/figures.jsonl`, and at the end tables for
//! `target/bench/tables.md`.

use std::{fs, io::Write, path::PathBuf, time::Duration};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::tables::{Figure, markdown};

/// Writes figures as they come. Each names the machine's load, without which a time means little.
pub struct Report {
    guests: Vec<String>,
    bench: &'static str,
    file: fs::File,
    path: PathBuf,
    all: Vec<Figure>,
}

/// Where the files of a run of the benchmarks go.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench")
}

impl Report {
    /// Begins with an empty file. Of these guests alone, or of all.
    pub fn begin(guests: Vec<String>) -> anyhow::Result<Report> {
        fs::create_dir_all(folder())?;
        let path = folder().join("figures.jsonl");
        Ok(Report { guests, bench: "", file: fs::File::create(&path)?, path, all: vec![] })
    }

    /// The benchmark that the next figures belong to.
    pub fn section(&mut self, bench: &'static str) {
        self.bench = bench;
        println!("\n{bench} (load {:.1})", load());
    }

    /// Those of `all` whose guest was asked for.
    pub fn asked<T>(&self, all: &'static [T], guest: impl Fn(&T) -> &'static str) -> Vec<&'static T> {
        all.iter().filter(|one| self.guests.is_empty() || self.is_asked(guest(one))).collect()
    }

    /// Whether this guest was asked for by its name.
    pub fn is_asked(&self, guest: &str) -> bool {
        self.guests.iter().any(|asked| asked == guest)
    }

    /// A figure that has no target.
    pub fn figure(&mut self, metric: &str, value: f64, unit: &str) {
        self.write(metric, value, unit, None);
    }

    /// A figure that should be `target` at most.
    pub fn at_most(&mut self, metric: &str, value: f64, unit: &str, target: f64) {
        self.write(metric, value, unit, Some(target));
    }

    /// The median and the 99th percentile of some durations, in milliseconds; the target is for the median.
    pub fn percentiles(&mut self, metric: &str, durations: &mut [Duration], target: Option<f64>) {
        durations.sort_unstable();
        let at = |part: f64| milliseconds(durations[((durations.len() - 1) as f64 * part) as usize]);
        self.write(&format!("{metric} p50"), at(0.5), "ms", target);
        self.write(&format!("{metric} p99"), at(0.99), "ms", None);
    }

    fn write(&mut self, metric: &str, value: f64, unit: &str, target: Option<f64>) {
        let (met, load) = (target.map(|target| value <= target), load());
        let verdict = match (target, met) {
            (Some(target), Some(true)) => format!("  met, at most {target}"),
            (Some(target), _) => format!("  MISSED, at most {target}"),
            (None, _) => String::new(),
        };
        println!("  {metric:<48} {:>12} {unit:<6}{verdict}", shown(value));
        let line = json!({
            "bench": self.bench, "metric": metric, "value": value, "unit": unit, "target": target, "met": met, "load": load,
        });
        writeln!(self.file, "{line}").expect("the figures can be written");
        self.all.push(Figure { bench: self.bench, metric: metric.into(), value, unit: unit.into(), target, load });
    }

    /// Writes the tables, and says where all is.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.file.flush()?;
        let tables = folder().join("tables.md");
        fs::write(&tables, markdown(&self.all))?;
        let missed = self.all.iter().filter(|figure| figure.target.is_some_and(|target| figure.value > target)).count();
        println!("\n{missed} targets missed; all figures in {}, as tables in {}", self.path.display(), tables.display());
        Ok(())
    }
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") }
}

/// Processes that were runnable during the last minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this thread: what else the machine does hardly shows in it.
pub fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process.
pub fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

/// Whose CPU time.
#[derive(Clone, Copy)]
pub enum Whose {
    /// The process's own.
    Own,
    /// That of its children that have ended.
    Children,
}

/// CPU time that a process or its children used so far, in hundredths of a second.
pub fn cpu_of(pid: u32, whose: Whose) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // User and system time: the 14th and 15th field, or the two after them. The second is a name in parentheses.
    let skipped = match whose {
        Whose::Own => 11,
        Whose::Children => 13,
    };
    let fields = stat.rsplit_once(')').context("a process has a name")?.1.split_whitespace().skip(skipped).take(2);
    Ok(Duration::from_millis(fields.map(|field| field.parse::<u64>().unwrap_or(0) * 10).sum()))
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
