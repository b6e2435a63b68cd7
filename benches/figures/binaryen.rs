//! The rewriter beside Binaryen's asyncify: the same components, machine and run.
//!
//! Asyncify gets the largest core module of a component, with the same list of imports that may suspend as the rewriter has, and
//! what it makes takes the module's place: it only adds exports, so that the component's wiring stays. That is less than the
//! rewriter does, which also rewrites the other modules, handles and waits.

use std::{fs, ops::Range, path::PathBuf, process::Command, time::Duration};

use anyhow::Context as _;
use dormouse::{
    rewrite::{Limits, rewrite},
    runtime::engine,
};
use wasm_encoder::{Component, ComponentSectionId, RawSection};
use wasmparser::{Chunk, Parser, Payload};

use crate::{
    guests::{self, Folder},
    programs::{PROGRAMS, Programs, Runnable},
    report::{Report, Whose, cpu_of, process_cpu},
    size::{Compiled, wrong},
    slowdown::compare,
};

/// Languages whose programs are small. Those with an engine of many megabytes are measured only if they are asked for.
const SMALL: [&str; 2] = ["Rust", "C"];

/// The rewriter's version; asyncify's; and, since asyncify needs Binaryen's optimiser, what that does without it.
const VERSIONS: [&str; 3] = ["", " with asyncify", " with Binaryen's -O3 alone"];

/// Both, on every guest that was asked for.
pub async fn binaryen(report: &mut Report) -> anyhow::Result<()> {
    let installed = Command::new(script()).arg("install").output().context("running bash")?;
    if !installed.status.success() {
        println!("  skipped: Binaryen is not here and cannot be installed");
        print!("{}", String::from_utf8_lossy(&installed.stderr));
        return Ok(());
    }
    for programs in report.asked(&PROGRAMS, |programs| programs.guest) {
        if SMALL.contains(&programs.language) || report.is_asked(programs.guest) {
            side_by_side(report, programs).await?;
        } else {
            let name = programs.language;
            println!(
                "  {name}: skipped, since asyncify takes many minutes for it: make bench NAME='binaryen {}'",
                programs.guest
            );
        }
    }
    Ok(())
}

async fn side_by_side(report: &mut Report, programs: &Programs) -> anyhow::Result<()> {
    let name = programs.language;
    let original = guests::guest(programs.guest)?;
    let before = process_cpu();
    let rewritten = rewrite(&original, &Limits::default())?.bytes;
    report.figure(&format!("{name}: rewriting (CPU)"), (process_cpu() - before).as_secs_f64(), "s");
    let module = main_module(&original)?;
    let imports = suspending_imports(&original[module.clone()])?.join(",");
    let optimized = through_binaryen(&original, &module, None)?;
    let asyncified = through_binaryen(&original, &module, Some(&imports))?;
    let (Some((optimized, _)), Some((asyncified, cpu))) = (optimized, asyncified) else {
        println!("  {name}: skipped, since asyncify did not end within 15 minutes of CPU time, or failed");
        return Ok(());
    };
    report.figure(&format!("{name}: rewriting (CPU){}", VERSIONS[1]), cpu.as_secs_f64(), "s");
    let versions = [rewritten, asyncified, optimized];
    sizes(report, name, &original, &versions)?;
    times(report, programs, &original, &versions).await
}

fn sizes(report: &mut Report, name: &str, original: &[u8], versions: &[Vec<u8>; 3]) -> anyhow::Result<()> {
    let plain = Compiled::of(None, original)?;
    for (version, bytes) in VERSIONS.into_iter().zip(versions) {
        let compiled = Compiled::of(None, bytes)?;
        report.figure(&format!("{name}: component growth{version}"), bytes.len() as f64 / original.len() as f64, "x");
        report.figure(&format!("{name}: machine code growth{version}"), compiled.code / plain.code, "x");
        report.figure(&format!("{name}: compiling takes{version}"), compiled.cpu_ms / plain.cpu_ms, "x");
    }
    Ok(())
}

async fn times(report: &mut Report, programs: &Programs, original: &[u8], versions: &[Vec<u8>; 3]) -> anyhow::Result<()> {
    let engine = engine::new().map_err(wrong)?;
    let _ticker = engine::Ticker::start(engine.clone())?;
    let [rewritten, asyncified, optimized] = versions;
    let plain = Runnable::plain(&engine, original).map_err(wrong)?;
    let suspendable = Runnable::suspendable(&engine, rewritten).map_err(wrong)?;
    let asyncified = Runnable::plain(&engine, asyncified).map_err(wrong)?;
    let optimized = Runnable::plain(&engine, optimized).map_err(wrong)?;
    let runnables: Vec<_> = VERSIONS.into_iter().zip([&suspendable, &asyncified, &optimized]).collect();
    let slower = compare(report, programs, &plain, &runnables).await?;
    let name = programs.language;
    for (version, slower) in VERSIONS.into_iter().zip(&slower) {
        report.figure(&format!("{name}: slow-down{version}, geometric mean"), *slower, "%");
    }
    let alone = (1.0 + slower[1] / 100.0) / (1.0 + slower[2] / 100.0);
    report.figure(&format!("{name}: slow-down with asyncify against -O3 alone, geometric mean"), (alone - 1.0) * 100.0, "%");
    Ok(())
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/binaryen/asyncify.sh")
}

/// The component with its main module optimised, after asyncify if there are `imports` that suspend, and the CPU time that it took;
/// nothing if it came to no end.
fn through_binaryen(
    component: &[u8],
    module: &Range<usize>,
    imports: Option<&str>,
) -> anyhow::Result<Option<(Vec<u8>, Duration)>> {
    let folder = Folder::new()?;
    let [before, after] = ["before.wasm", "after.wasm"].map(|name| folder.path().join(name));
    fs::write(&before, &component[module.clone()])?;
    let cpu_before = cpu_of(std::process::id(), Whose::Children)?;
    let ran = Command::new(script()).args([&before, &after]).args(imports).output()?;
    let cpu = cpu_of(std::process::id(), Whose::Children)? - cpu_before;
    if !ran.status.success() {
        print!("{}", String::from_utf8_lossy(&ran.stderr));
        return Ok(None);
    }
    Ok(Some((with_module(component, module, &fs::read(&after)?)?, cpu)))
}

/// Where the largest core module is, which the program and its language's runtime are in.
fn main_module(component: &[u8]) -> anyhow::Result<Range<usize>> {
    let modules = Parser::new(0).parse_all(component).filter_map(|payload| match payload {
        Ok(Payload::ModuleSection { unchecked_range, .. }) => Some(unchecked_range),
        _ => None,
    });
    modules.max_by_key(ExactSizeIterator::len).context("a component has a core module")
}

/// The imports of a module that the rewriter too takes for suspending, through the adapter for preview 1 as well.
fn suspending_imports(module: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut found = vec![];
    for payload in Parser::new(0).parse_all(module) {
        let Payload::ImportSection(imports) = payload? else { continue };
        for import in imports.into_imports() {
            let import = import?;
            let suspends = import.module.starts_with("dormouse:task/wait@")
                || import.module.starts_with("wasi:io/poll@") && ["poll", "[method]pollable.block"].contains(&import.name)
                || (import.module, import.name) == ("wasi_snapshot_preview1", "poll_oneoff");
            if suspends {
                found.push(format!("{}.{}", import.module, import.name));
            }
        }
    }
    Ok(found)
}

/// The component with another module in the place of one.
fn with_module(component: &[u8], place: &Range<usize>, module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut output = Component::new();
    let mut parser = Parser::new(0);
    let mut rest = component;
    loop {
        let Chunk::Parsed { payload, consumed } = parser.parse(rest, true)? else { unreachable!("nothing follows") };
        rest = &rest[consumed..];
        match payload {
            Payload::End(_) => return Ok(output.finish()),
            Payload::ModuleSection { unchecked_range, .. } => {
                rest = &rest[unchecked_range.len()..];
                let data = if unchecked_range == *place { module } else { &component[unchecked_range] };
                output.section(&RawSection { id: ComponentSectionId::CoreModule as u8, data });
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                rest = &rest[unchecked_range.len()..];
                output.section(&RawSection { id: ComponentSectionId::Component as u8, data: &component[unchecked_range] });
            }
            other => {
                if let Some((id, range)) = other.as_section() {
                    output.section(&RawSection { id, data: &component[range] });
                }
            }
        }
    }
}
