//! What rewriting takes, and how much larger a component gets: its bytes, its machine code, and the time to compile it.

use std::time::Instant;

use dormouse::{
    rewrite::{Limits, beginning, rewrite as rewritten},
    runtime::engine,
};

use crate::{
    guests,
    report::{Report, median, milliseconds, process_cpu},
};

const REWRITES: usize = 15;
/// A component above [`LARGE`] is compiled once.
const COMPILATIONS: usize = 3;
const LARGE: usize = 2_000_000;

/// Time of the rewriter, which should be a second for 12 MB.
pub fn rewrite(report: &mut Report) -> anyhow::Result<()> {
    let (mut bytes, mut total) = (0, 0.0);
    for name in report.asked(&guests::ALL, |name| name) {
        let component = guests::guest(name)?;
        let (mut cpu, mut wall) = (vec![], vec![]);
        for _ in 0..REWRITES {
            let (started, cpu_before) = (Instant::now(), process_cpu());
            rewritten(&component, &Limits::default()).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            wall.push(milliseconds(started.elapsed()));
            cpu.push(milliseconds(process_cpu() - cpu_before));
        }
        let cpu = median(&mut cpu);
        report.figure(&format!("{name}: wall time"), median(&mut wall), "ms");
        report.figure(&format!("{name}: CPU time"), cpu, "ms");
        bytes += component.len();
        total += cpu;
    }
    let megabytes = bytes as f64 / 1e6;
    report.figure("all: speed", megabytes / (total / 1e3), "MB/s");
    report.at_most("all: CPU time for 12 MB", total / 1e3 / megabytes * 12.0, "s", 1.0);
    Ok(())
}

/// Growth of the component and of its machine code.
pub fn size(report: &mut Report) -> anyhow::Result<()> {
    for name in report.asked(&guests::ALL, |name| name) {
        let original = guests::guest(name)?;
        let rewritten = rewritten(&original, &Limits::default()).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        let figures = rewritten.report;
        report.figure(&format!("{name}: functions"), figures.functions as f64, "");
        report.figure(&format!("{name}: functions that may suspend"), figures.instrumented as f64, "");
        report.figure(&format!("{name}: sites"), figures.sites as f64, "");
        report.figure(&format!("{name}: component"), original.len() as f64 / 1e3, "kB");
        report.figure(&format!("{name}: component, rewritten"), rewritten.bytes.len() as f64 / 1e3, "kB");
        report.figure(&format!("{name}: component growth"), rewritten.bytes.len() as f64 / original.len() as f64, "x");

        let before = Compiled::of(None, &original)?;
        report.figure(&format!("{name}: artifact"), before.artifact / 1e3, "kB");
        report.figure(&format!("{name}: compiling (CPU)"), before.cpu_ms, "ms");
        // A run begins in the one and, if it is ever suspended, goes on in the other, which is compiled second.
        let first = beginning(&rewritten.bytes)?;
        let begins = Compiled::of(None, &first)?;
        let goes_on = Compiled::of(Some(&first), &rewritten.bytes)?;
        report.at_most(&format!("{name}: machine code growth, beginning"), begins.code / before.code, "x", 1.8);
        report.at_most(&format!("{name}: machine code growth, whole"), goes_on.code / before.code, "x", 1.8);
        for (part, after) in [("beginning", begins), ("whole", goes_on)] {
            report.figure(&format!("{name}: artifact, {part}"), after.artifact / 1e3, "kB");
            report.figure(&format!("{name}: compiling {part} (CPU)"), after.cpu_ms, "ms");
            report.figure(&format!("{name}: compiling {part} takes"), after.cpu_ms / before.cpu_ms, "x");
        }
    }
    Ok(())
}

/// What compiling a component came to.
pub struct Compiled {
    /// Bytes of the whole file.
    artifact: f64,
    /// Bytes of machine code in it.
    pub code: f64,
    /// CPU time that it took, in milliseconds.
    pub cpu_ms: f64,
}

impl Compiled {
    /// By an engine that has compiled nothing but `before`.
    pub fn of(before: Option<&[u8]>, component: &[u8]) -> anyhow::Result<Compiled> {
        let mut times = vec![];
        let mut artifact = vec![];
        let times_compiled = if component.len() > LARGE { 1 } else { COMPILATIONS };
        for _ in 0..times_compiled {
            let engine = engine::new().map_err(wrong)?;
            if let Some(before) = before {
                engine.precompile_component(before).map_err(wrong)?;
            }
            let cpu_before = process_cpu();
            artifact = engine.precompile_component(component).map_err(wrong)?;
            times.push(milliseconds(process_cpu() - cpu_before));
        }
        Ok(Compiled { artifact: artifact.len() as f64, code: code_bytes(&artifact) as f64, cpu_ms: median(&mut times) })
    }
}

/// Length of the section `.text` of an artifact, which is a 64-bit ELF file.
fn code_bytes(elf: &[u8]) -> usize {
    let number = |at: usize, bytes: usize| elf[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (headers, size, count, names) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2), number(0x3e, 2));
    let names = number(headers + names * size + 0x18, 8);
    let mut sections = (0..count).map(|at| headers + at * size);
    let text = sections.find(|header| elf[names + number(*header, 4)..].starts_with(b".text\0"));
    text.map_or(0, |header| number(header + 0x20, 8))
}

/// wasmtime has an error type of its own, which is not a standard one.
pub fn wrong(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into())
}
