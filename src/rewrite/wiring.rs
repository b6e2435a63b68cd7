//! How the core modules of a component are joined: for each import of each module the export, or the host function, behind it.

use std::collections::{BTreeSet, HashMap};

use wasmparser::{FuncType, ValType, component_types::ComponentFuncTypeId, types::CoreTypeId};

use super::{
    Limits, Refusal,
    core::{CoreModule, Import, ImportSource, LinkedModule, Program, Suspends, Trampoline},
    imports,
    model::{CoreFunc, CoreInstance, CoreSource, FuncSource, Model},
};

/// Each suspending import becomes two core instances, and the component model allows a thousand in all. Tools lower a function once for
/// each core module that calls it.
const MOST_TRAMPOLINES: usize = 256;

/// The core modules of a component as one program.
pub struct Wiring<'a> {
    /// The modules in the order of their instances, and the trampolines.
    pub program: Program<'a>,
    /// For each core instance its place in the program, if it is one of a module.
    pub places: Vec<Option<usize>>,
    /// For each core function the suspending import it lowers, as a place in the program's trampolines.
    pub suspending: HashMap<u32, SuspendingLower<'a>>,
}

/// A `canon lower` of a suspending function.
#[derive(Debug, Clone, Copy)]
pub struct SuspendingLower<'a> {
    /// Place in [`Program::trampolines`].
    pub trampoline: usize,
    /// Name of the imported instance.
    pub interface: &'a str,
    /// Name of the function in it.
    pub name: &'a str,
    /// What it waits for.
    pub suspends: Suspends,
}

/// Resolves the wiring of a component.
///
/// # Errors
/// Every reason found in a core module or in how it is instantiated.
pub fn resolve<'a>(model: &Model<'a>, limits: &Limits) -> Result<Wiring<'a>, Vec<Refusal>> {
    let mut refusals = vec![];
    let (suspending, trampolines) = suspending_lowers(model, &mut refusals);
    let places = places(model, &mut refusals);
    let mut modules = vec![];
    for instance in &model.core_instances {
        let CoreInstance::Module { module, args } = instance else { continue };
        let module = &model.modules[*module as usize];
        match CoreModule::parse(module.bytes, module.name.clone(), limits) {
            Err(reasons) => refusals.extend(reasons),
            Ok(parsed) => match sources(model, &parsed, args, &places, &suspending) {
                Ok(imports) => modules.push(LinkedModule { module: parsed, imports }),
                Err(reason) => refusals.push(reason),
            },
        }
    }
    if refusals.is_empty() { Ok(Wiring { program: Program { modules, trampolines }, places, suspending }) } else { Err(refusals) }
}

/// Numbers the instances of core modules in the order in which they come to be.
fn places(model: &Model<'_>, refusals: &mut Vec<Refusal>) -> Vec<Option<usize>> {
    let mut seen = vec![false; model.modules.len()];
    let mut next = 0;
    let mut place = |instance: &CoreInstance<'_>| match instance {
        CoreInstance::Bundle(_) => None,
        CoreInstance::Module { module, .. } => {
            if std::mem::replace(&mut seen[*module as usize], true) {
                refusals.push(Refusal::of_module(&model.modules[*module as usize].name, "is instantiated more than once"));
            }
            next += 1;
            Some(next - 1)
        }
    };
    model.core_instances.iter().map(&mut place).collect()
}

fn suspending_lowers<'a>(model: &Model<'a>, refusals: &mut Vec<Refusal>) -> (HashMap<u32, SuspendingLower<'a>>, Vec<Trampoline>) {
    let mut lowers = HashMap::new();
    let mut trampolines = vec![];
    let mut reasons = BTreeSet::new();
    let has_timers = has_timers(model);
    for (index, core_func) in (0..).zip(&model.core_funcs) {
        let CoreFunc::Lowered(func) = core_func else { continue };
        match model.func(*func) {
            FuncSource::Imported { interface, .. } if imports::waits_for_timers(interface) && !has_timers => {}
            FuncSource::Imported { interface, name } if imports::suspends(interface, name) => {
                if trampolines.len() == MOST_TRAMPOLINES {
                    reasons.insert("lowers functions that suspend more than 256 times");
                    break;
                }
                let suspends = if imports::waits_for_timers(interface) { Suspends::ForTimers } else { Suspends::Always };
                lowers.insert(index, SuspendingLower { trampoline: trampolines.len(), interface, name, suspends });
                trampolines.push(trampoline(model, index, *func, suspends));
            }
            FuncSource::Imported { .. } => {}
            FuncSource::Lifted(_) => {
                reasons.insert("calls its own lifted functions");
            }
            FuncSource::Unknown => {
                reasons.insert("calls a function whose origin cannot be followed through its nested components");
            }
        }
    }
    refusals.extend(reasons.into_iter().map(Refusal::of_component));
    (lowers, trampolines)
}

/// Whether any core module can make a timer. If none can, a poll is always for a stream and stays in memory, and all that writes to
/// standard output, formatting included, is spared from being suspendable.
fn has_timers(model: &Model<'_>) -> bool {
    model.core_funcs.iter().any(|core_func| match core_func {
        CoreFunc::Lowered(func) => match model.func(*func) {
            FuncSource::Imported { interface, name } => imports::makes_timers(interface, name),
            FuncSource::Lifted(_) | FuncSource::Unknown => true,
        },
        _ => false,
    })
}

/// The signature of a lowered function. A result of a component function has at least one flat value: if there is none among the core
/// results, it goes to where the last parameter points.
fn trampoline(model: &Model<'_>, core_func: u32, func: u32, suspends: Suspends) -> Trampoline {
    let types = model.validated.as_ref();
    let ty: CoreTypeId = types.core_function_at(core_func);
    let ty: &FuncType = types[ty].unwrap_func();
    let component_ty: ComponentFuncTypeId = types.component_function_at(func);
    let has_return_pointer = types[component_ty].result.is_some() && ty.results().is_empty();
    let copy = |types: &[ValType]| types.to_vec();
    Trampoline { params: copy(ty.params()), results: copy(ty.results()), has_return_pointer, suspends }
}

fn sources<'a>(
    model: &Model<'a>,
    module: &CoreModule<'a>,
    args: &HashMap<&'a str, u32>,
    places: &[Option<usize>],
    suspending: &HashMap<u32, SuspendingLower<'a>>,
) -> Result<Vec<ImportSource>, Refusal> {
    let source = |import: &Import<'a>| {
        if import.module == imports::RESERVED {
            let reason = format!("imports from a module named `{}`, which is reserved", imports::RESERVED);
            return Err(Refusal::of_module(module.name(), reason));
        }
        let origin = args.get(import.module).and_then(|instance| model.core_export(*instance, import.field));
        match origin {
            Some(CoreSource::Canon(func)) => {
                Ok(suspending.get(&func).map_or(ImportSource::Opaque, |lower| ImportSource::Suspending(lower.suspends)))
            }
            Some(CoreSource::Module { instance, name }) => {
                let module = places[instance as usize].expect("the origin of an export is an instance of a module");
                Ok(ImportSource::Export { module, name: name.to_owned() })
            }
            None => {
                let reason = format!("its import `{}` `{}` is not given to it", import.module, import.field);
                Err(Refusal::of_module(module.name(), reason))
            }
        }
    };
    module.imports().iter().map(source).collect()
}
