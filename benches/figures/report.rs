//! Where figures go: a line for people, and a line of JSON for `target/bench/figures.jsonl`.

use std::{fs, io::Write, path::PathBuf, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Writes figures as they come. Each names the machine's load, without which a time means little.
pub struct Report {
    bench: &'static str,
    file: fs::File,
    path: PathBuf,
    missed: usize,
}

/// Where the files of a run of the benchmarks go.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench")
}

impl Report {
    /// Begins with an empty file.
    pub fn begin() -> anyhow::Result<Report> {
        fs::create_dir_all(folder())?;
        let path = folder().join("figures.jsonl");
        Ok(Report { bench: "", file: fs::File::create(&path)?, path, missed: 0 })
    }

    /// The benchmark that the next figures belong to.
    pub fn section(&mut self, bench: &'static str) {
        self.bench = bench;
        println!("\n{bench} (load {:.1})", load());
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
        let met = target.map(|target| value <= target);
        self.missed += usize::from(met == Some(false));
        let verdict = match (target, met) {
            (Some(target), Some(true)) => format!("  met, at most {target}"),
            (Some(target), _) => format!("  MISSED, at most {target}"),
            (None, _) => String::new(),
        };
        println!("  {metric:<48} {:>12} {unit:<6}{verdict}", shown(value));
        let line = json!({
            "bench": self.bench, "metric": metric, "value": value, "unit": unit, "target": target, "met": met, "load": load(),
        });
        writeln!(self.file, "{line}").expect("the figures can be written");
    }

    /// Says where the figures are.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.file.flush()?;
        println!("\n{} targets missed; all figures in {}", self.missed, self.path.display());
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

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
