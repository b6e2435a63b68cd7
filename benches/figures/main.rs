//! The figures of `docs/benchmarks.md`: what being suspendable costs a component, and what a suspension costs.
//!
//! `cargo bench --bench figures [-- NAME …]`; without a name, all of them. The guests are those that `make guests` built.

mod cycle;
mod durable;
mod guests;
mod report;
mod size;
mod slowdown;

use report::Report;

/// The benchmarks by name, in the order they run.
const NAMES: [&str; 6] = ["rewrite", "size", "slowdown", "snapshot", "cycle", "durable"];

fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|name| !NAMES.contains(&name.as_str())) {
        anyhow::bail!("there is no benchmark {unknown:?}; there are {}", NAMES.join(", "));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::begin()?;
    for name in NAMES.into_iter().filter(|name| asked.is_empty() || asked.iter().any(|asked| asked == name)) {
        report.section(name);
        match name {
            "rewrite" => size::rewrite(&mut report)?,
            "size" => size::size(&mut report)?,
            "slowdown" => runtime.block_on(slowdown::slowdown(&mut report))?,
            "snapshot" => runtime.block_on(cycle::snapshot(&mut report))?,
            "cycle" => runtime.block_on(cycle::cycle(&mut report))?,
            _ => runtime.block_on(durable::durable(&mut report))?,
        }
    }
    report.end()
}
