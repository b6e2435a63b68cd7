//! The core-module half of the rewriter: the functions that can be on the stack at a wait learn to leave it and to come back.
//!
//! `module` reads each module, `wiring` and `graph` find out which functions may suspend, `body`, `handlers` and `liveness` what they have
//! to save,
//! `fast` and `resume` write the two versions of each, `assemble` the modules (with what `exceptions` adds); `ckpt`, `trampoline` and `glue` are the modules added.
//! What they agree on is in `frame`.

mod assemble;
mod body;
mod budget;
mod ckpt;
mod code;
mod context;
mod copy;
mod exceptions;
mod fast;
mod frame;
mod functions;
mod glue;
mod graph;
mod handlers;
mod liveness;
mod module;
mod program;
mod resume;
mod scan;
mod trampoline;
mod wiring;
mod writer;

pub use frame::{MAX_AUX_BYTES, RESUME_TABLE};
pub use module::{CoreModule, Entity, Export, GlobalFact, Import, features};
pub use program::{Entry, ImportSource, Instrumented, LinkedModule, MemoryRef, Program, Stats, Suspends, Trampoline};

use std::collections::BTreeSet;

use wasmparser::ExternalKind;

use super::{Limits, Refusal};
use budget::Budget;
use context::Context;
use exceptions::Exceptions;
use frame::{Helper, Kind, MAX_PAGES};
use functions::Written;
use glue::Glue;
use graph::MaySuspend;
use wiring::Wiring;

/// More mutable globals than this in one program are refused: the glue imports each.
const MAX_GLOBALS: usize = 20_000;
/// Memories of one module, and tables, as WebAssembly implementations have agreed. The glue imports all memories, and the resume table of
/// each module and trampoline; a module that may suspend gets a table more.
const MAX_MEMORIES_AND_TABLES: usize = 100;
/// More reasons than anybody reads; the bound keeps a hostile program from growing the list.
const MAX_REFUSALS: usize = 200;

/// Rewrites all core modules of a program together.
///
/// # Errors
/// Every reason for which the program cannot be made suspendable.
pub fn instrument(program: &Program<'_>, entry: Option<&Entry>, limits: &Limits) -> Result<Instrumented, Vec<Refusal>> {
    check(program, entry, limits)?;
    let wiring = Wiring::resolve(program)?;
    let may = graph::may_suspend(program, &wiring);
    let budget = Budget::new(limits, program.modules.iter().map(|linked| linked.module.bytes().len()).sum());
    let throws = throws(program);
    let exceptions = Exceptions::of_modules(program, &wiring);
    let contexts = contexts(program, &may, limits, &budget, throws, &exceptions)?;
    let written = write_functions(&contexts)?;
    let modules = assemble_modules(&contexts, &written, limits)?;

    let mut owners = vec![];
    for (position, context) in contexts.iter().enumerate().filter(|(_, context)| context.needs_ckpt()) {
        owners.push((glue::module_name(position), context.page_range.end));
    }
    let first_page = contexts.last().map_or(0, |context| context.page_range.end);
    let mut trampolines = vec![];
    for (page, (position, trampoline)) in (first_page..).zip(program.trampolines.iter().enumerate()) {
        owners.push((glue::trampoline_name(position), page + 1));
        trampolines.push(trampoline::module(trampoline, page));
    }

    if owners.len() > MAX_MEMORIES_AND_TABLES {
        let reason = "core modules and lowered functions that may suspend are more than the limit of";
        return Err(vec![Refusal::of_component(format!("{} {reason} {MAX_MEMORIES_AND_TABLES}", owners.len()))]);
    }

    let memories = memories(program);
    let globals = globals(program);
    let entry_type = entry.and_then(|entry| program.modules[entry.module].module.func_type_of_export(&entry.export));
    let max_results = max_results(&contexts, program, entry_type);
    let dropping = dropping(program);
    let glue = Glue {
        entry: entry_type,
        memories: &memories,
        globals: &globals,
        owners: &owners,
        dropping: &dropping,
        throws,
        max_results,
    };
    let ckpt = ckpt::module(&all_helpers(&contexts, &written, program, &glue), glue.head());
    let glue = glue.module();
    let stats = Stats {
        functions: program.modules.iter().map(|linked| linked.module.functions.len()).sum(),
        instrumented: count(&written, |function| usize::from(matches!(function, Written::Instrumented { .. }))),
        sites: count(&written, |function| if let Written::Instrumented { sites, .. } = function { *sites } else { 0 }),
        bytes_before: program.modules.iter().map(|linked| linked.module.bytes().len()).sum(),
        bytes_after: modules.iter().chain(&trampolines).map(Vec::len).sum::<usize>() + ckpt.len() + glue.len(),
        suspends: suspends(program, entry, &may),
    };
    let needs_ckpt = contexts.iter().map(Context::needs_ckpt).collect();
    Ok(Instrumented { ckpt, modules, needs_ckpt, trampolines, glue, memories, stats })
}

/// What concerns the program as a whole.
fn check(program: &Program<'_>, entry: Option<&Entry>, limits: &Limits) -> Result<(), Vec<Refusal>> {
    let mut refusals = vec![];
    let mut refuse = |reason: String| refusals.push(Refusal::of_component(reason));
    let functions: usize = program.modules.iter().map(|linked| linked.module.functions.len()).sum();
    if functions > limits.max_functions {
        refuse(format!("{functions} functions in all modules are more than the limit of {}", limits.max_functions));
    }
    let globals: usize = program.modules.iter().map(|linked| linked.module.defined_mutable_globals().len()).sum();
    if globals > MAX_GLOBALS {
        refuse(format!("{globals} mutable globals in all modules are more than the limit of {MAX_GLOBALS}"));
    }
    let memories: usize = program.modules.iter().map(|linked| linked.module.defined_memories() as usize).sum();
    if memories >= MAX_MEMORIES_AND_TABLES {
        refuse(format!("{memories} memories in all modules are more than the limit of {}", MAX_MEMORIES_AND_TABLES - 1));
    }
    let elements: usize = program.modules.iter().map(|linked| linked.module.elements).sum();
    if elements > limits.max_elements {
        refuse(format!("{elements} elements of tables in all modules are more than the limit of {}", limits.max_elements));
    }
    for reason in program.trampolines.iter().filter_map(|trampoline| trampoline::check(trampoline).err()) {
        refuse(reason.to_owned());
    }
    if let Some(entry) = entry {
        let module = program.modules.get(entry.module).map(|linked| &linked.module);
        match module.and_then(|module| module.func_type_of_export(&entry.export)) {
            None => refuse(format!("there is no function {:?} to enter", entry.export)),
            Some(ty) if ty.results().iter().any(|ty| ty.is_reference_type()) => {
                refuse(format!("the function {:?} to enter returns a reference", entry.export));
            }
            Some(_) => {}
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

/// Numbers the pages of all modules.
fn contexts<'p, 'a>(
    program: &'p Program<'a>,
    may: &'p [MaySuspend],
    limits: &'p Limits,
    budget: &'p Budget,
    throws: bool,
    exceptions: &'p [Option<Exceptions>],
) -> Result<Vec<Context<'p, 'a>>, Vec<Refusal>> {
    let mut next_page = 0;
    let mut contexts = vec![];
    for ((linked, may), exceptions) in program.modules.iter().zip(may).zip(exceptions) {
        let tables = linked.module.imported_tables + linked.module.defined_tables;
        if may.any() && tables as usize >= MAX_MEMORIES_AND_TABLES {
            let reason =
                format!("may suspend, and its {tables} tables are more than the limit of {}", MAX_MEMORIES_AND_TABLES - 1);
            return Err(vec![Refusal::of_module(linked.module.name(), reason)]);
        }
        let context = Context::new(&linked.module, may, limits, budget, throws, exceptions.as_ref(), next_page);
        next_page = context.page_range.end;
        contexts.push(context);
    }
    if next_page as usize + program.trampolines.len() > MAX_PAGES as usize {
        return Err(vec![Refusal::of_component(format!("more than {MAX_PAGES} functions may suspend"))]);
    }
    Ok(contexts)
}

fn write_functions(contexts: &[Context<'_, '_>]) -> Result<Vec<Vec<Written>>, Vec<Refusal>> {
    let (mut written, mut refusals) = (vec![], vec![]);
    for context in contexts {
        match functions::write(context) {
            Ok(functions) => written.push(functions),
            Err(reasons) => refusals.extend(reasons),
        }
        if refusals.len() >= MAX_REFUSALS {
            break;
        }
    }
    refusals.truncate(MAX_REFUSALS);
    if refusals.is_empty() { Ok(written) } else { Err(refusals) }
}

fn assemble_modules(
    contexts: &[Context<'_, '_>],
    written: &[Vec<Written>],
    limits: &Limits,
) -> Result<Vec<Vec<u8>>, Vec<Refusal>> {
    let (mut modules, mut refusals) = (vec![], vec![]);
    for (context, functions) in contexts.iter().zip(written) {
        let module = context.module;
        let assembled =
            if context.needs_ckpt() { assemble::instrumented(context, functions) } else { assemble::with_exports(module) };
        let most = module.bytes().len().saturating_mul(limits.max_growth).saturating_add(limits.free_growth);
        match assembled {
            Ok(bytes) if bytes.len() > most => {
                let reason = format!("{} bytes after instrumenting are more than the limit of {most}", bytes.len());
                refusals.push(Refusal::of_module(module.name(), reason));
            }
            Ok(bytes) => modules.push(bytes),
            Err(reason) => refusals.push(Refusal::of_module(module.name(), format!("cannot be read: {reason}"))),
        }
    }
    if refusals.is_empty() { Ok(modules) } else { Err(refusals) }
}

fn memories(program: &Program<'_>) -> Vec<MemoryRef> {
    let mut memories = vec![];
    for (position, linked) in program.modules.iter().enumerate() {
        let defined = (linked.module.imported_memories..).take(linked.module.defined_memories() as usize);
        memories.extend(defined.map(|index| MemoryRef { module: position, export: assemble::memory_export(index) }));
    }
    memories
}

/// Imported globals are left to the module that defines them.
fn globals(program: &Program<'_>) -> Vec<(usize, u32, Kind)> {
    let mut globals = vec![];
    for (position, linked) in program.modules.iter().enumerate() {
        for global in linked.module.defined_mutable_globals() {
            let kind = Kind::of(global.ty).expect("mutable references are refused when the module is parsed");
            globals.push((position, global.index, kind));
        }
    }
    globals
}

/// Without a `throw` there are no exceptions, whatever handlers there are.
fn throws(program: &Program<'_>) -> bool {
    program.modules.iter().any(|linked| linked.module.functions.iter().any(|function| function.facts.throws))
}

fn dropping(program: &Program<'_>) -> Vec<usize> {
    let modules = program.modules.iter().enumerate();
    modules.filter(|(_, linked)| !linked.module.dropped.is_empty()).map(|(position, _)| position).collect()
}

fn max_results(contexts: &[Context<'_, '_>], program: &Program<'_>, entry: Option<&wasmparser::FuncType>) -> usize {
    let types = program.modules.iter().zip(contexts).filter(|(_, context)| context.needs_ckpt());
    let types = types.flat_map(|(linked, _)| &linked.module.types).chain(entry);
    types.map(|ty| ty.results().len()).max().unwrap_or(0).max(1)
}

fn all_helpers(contexts: &[Context<'_, '_>], written: &[Vec<Written>], program: &Program<'_>, glue: &Glue<'_>) -> Vec<Helper> {
    let modules = contexts.iter().zip(written).flat_map(|(context, functions)| assemble::helpers(context, functions));
    let trampolines = program.trampolines.iter().flat_map(trampoline::helpers);
    let all: BTreeSet<Helper> = modules.chain(trampolines).chain(glue.helpers()).collect();
    all.into_iter().collect()
}

fn count(written: &[Vec<Written>], of: impl Fn(&Written) -> usize) -> usize {
    written.iter().flatten().map(of).sum()
}

fn suspends(program: &Program<'_>, entry: Option<&Entry>, may: &[MaySuspend]) -> bool {
    let Some(entry) = entry else {
        return may.iter().any(MaySuspend::any);
    };
    let exports = program.modules[entry.module].module.exports();
    let export = exports.iter().find(|export| export.kind == ExternalKind::Func && export.name == entry.export);
    export.is_some_and(|export| may[entry.module].function(export.index))
}
