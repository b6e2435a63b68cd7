//! The figures of `docs/benchmarks.md`: what being suspendable costs a component, and what a suspension costs.
//!
//! `cargo bench --bench figures [-- NAME … GUEST …]`; without a name, all of them; without a guest, all that each of them
//! measures. The guests are those that `make guests` built.

mod binaryen;
mod crowd;
mod cycle;
mod durable;
mod guests;
mod large;
mod load;
mod programs;
mod realtime;
mod report;
mod size;
mod slowdown;
mod start;
#[allow(dead_code, reason = "benchmarks need only some of what tests do")]
#[path = "../../tests/support/mod.rs"]
mod support;
mod tables;

use report::Report;

/// The benchmarks by name, in the order they run; the last one only if it is asked for, since it takes long.
const NAMES: [&str; 12] =
    ["rewrite", "size", "slowdown", "binaryen", "start", "snapshot", "cycle", "large", "durable", "realtime", "load", CROWD];
const CROWD: &str = "crowd";

fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let (guests, asked): (Vec<_>, Vec<_>) = asked.into_iter().partition(|name| guests::ALL.contains(&name.as_str()));
    if let Some(unknown) = asked.iter().find(|name| !NAMES.contains(&name.as_str())) {
        let (names, guests) = (NAMES.join(", "), guests::ALL.join(", "));
        anyhow::bail!("there is neither a benchmark nor a guest {unknown:?}; there are {names} for {guests}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::begin(guests)?;
    for name in NAMES.into_iter().filter(|name| asked.is_empty() && *name != CROWD || asked.iter().any(|asked| asked == name)) {
        report.section(name);
        match name {
            "rewrite" => size::rewrite(&mut report)?,
            "size" => size::size(&mut report)?,
            "slowdown" => runtime.block_on(slowdown::slowdown(&mut report))?,
            "binaryen" => runtime.block_on(binaryen::binaryen(&mut report))?,
            "start" => runtime.block_on(start::start(&mut report))?,
            "snapshot" => runtime.block_on(cycle::snapshot(&mut report))?,
            "cycle" => runtime.block_on(cycle::cycle(&mut report))?,
            "large" => runtime.block_on(large::large(&mut report))?,
            "durable" => runtime.block_on(durable::durable(&mut report))?,
            "realtime" => runtime.block_on(realtime::realtime(&mut report))?,
            CROWD => runtime.block_on(crowd::crowd(&mut report))?,
            _ => runtime.block_on(load::load(&mut report))?,
        }
    }
    report.end()
}
