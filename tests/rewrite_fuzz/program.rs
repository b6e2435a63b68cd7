//! Programs of several core modules: run as they are, and rewritten, suspended and resumed.

use std::{collections::HashMap, sync::Mutex};

use dormouse::rewrite::core::{
    CoreModule, Entity, Entry, ImportSource, Instrumented, LinkedModule, Program, Trampoline, instrument,
};
use dormouse::rewrite::{Limits, Refusal};
use wasmtime::{Config, Engine, Extern, ExternType, Func, Instance, Module, OptLevel, Result, Store, Trap, Val};

use super::host::{self, Bits, Host};

/// Core modules in instantiation order. A module imports from `h`, or from an earlier module by its name; the last has the entry points.
pub struct Sources {
    pub modules: Vec<(String, Vec<u8>)>,
}

pub enum Checked {
    Compared {
        runs: u64,
        suspensions: u64,
    },
    Refused(Vec<Refusal>),
    /// No entry point that ends in time calls a suspending import.
    NeverWaits,
}

/// All that can be observed of a run.
#[derive(Debug, PartialEq)]
struct Outcome {
    results: Result<Vec<Bits>, String>,
    memories: Vec<(String, u64, u64)>,
    globals: Vec<(String, Bits)>,
    log: Vec<String>,
}

/// A run with more suspensions than this is not tried.
const MAX_SUSPENSIONS: u64 = 20;

/// An original that runs longer than this many instructions is not compared: inserted calls disturb wasm-smith's protection against
/// endless loops.
const MAX_FUEL: u64 = 2_000_000;
/// Modules up to this size are kept once they are compiled: trampolines and shims come back again and again.
const MAX_KEPT_BYTES: usize = 1024;
const MAX_KEPT: usize = 2_000;

/// Compiles modules, fast rather than well.
pub struct Compiler {
    engine: Engine,
    kept: Mutex<HashMap<Vec<u8>, Module>>,
}

impl Compiler {
    pub fn new() -> Compiler {
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::None).cranelift_nan_canonicalization(true).max_wasm_stack(1 << 20);
        config.memory_reservation(1 << 24).memory_guard_size(1 << 16).parallel_compilation(false).consume_fuel(true);
        let engine = Engine::new(&config).expect("the configuration is supported");
        Compiler { engine, kept: Mutex::default() }
    }

    fn compile(&self, bytes: &[u8]) -> Result<Module, String> {
        if let Some(module) = self.kept.lock().expect("nobody panics with it").get(bytes) {
            return Ok(module.clone());
        }
        let module = Module::from_binary(&self.engine, bytes).map_err(|error| format!("does not compile: {error:?}"))?;
        let mut kept = self.kept.lock().expect("nobody panics with it");
        if bytes.len() <= MAX_KEPT_BYTES && kept.len() < MAX_KEPT {
            kept.insert(bytes.to_vec(), module.clone());
        }
        Ok(module)
    }

    fn compile_all<'b>(&self, modules: impl IntoIterator<Item = &'b Vec<u8>>) -> Result<Vec<Module>, String> {
        modules.into_iter().map(|bytes| self.compile(bytes)).collect()
    }
}

/// Compares all runs of so many entry points, those that wait most often.
pub fn check(compiler: &Compiler, sources: &Sources, seed: u64, most_entries: usize) -> Result<Checked, String> {
    let engine = &compiler.engine;
    let original = compiler.compile_all(sources.modules.iter().map(|(_, bytes)| bytes))?;
    let functions = original.last().into_iter().flat_map(Module::exports).filter(|export| host::is_function(&export.ty()));
    let entries: Vec<String> = functions.map(|export| export.name().to_owned()).collect();
    let mut runs: Vec<(u64, String, Outcome)> = vec![];
    for entry in entries {
        let Some(expected) = straight(engine, sources, &original, &entry, seed) else { continue };
        let calls = expected.log.iter().filter(|call| host::is_suspending("h", call)).count() as u64;
        runs.extend((calls > 0).then_some((calls, entry, expected)));
    }
    if runs.is_empty() {
        return Ok(Checked::NeverWaits);
    }
    runs.sort_by_key(|(calls, ..)| std::cmp::Reverse(*calls));
    let (mut count, mut suspensions) = (0, 0);
    let mut compiled = None;
    for (calls, entry, expected) in runs.into_iter().take(most_entries) {
        let rewritten = match sources.instrument_entry(&entry) {
            Ok(parts) => Rewritten::compile(compiler, parts, compiled.take())?,
            Err(reasons) => return Ok(Checked::Refused(reasons)),
        };
        let rewritten = compiled.insert(rewritten);
        for every in [0, 1, 2, 3, 7] {
            if every > calls || every > 0 && calls / every > MAX_SUSPENSIONS {
                continue;
            }
            for moves in [false, true] {
                let run = Run { engine, sources, original: &original, rewritten, every, moves };
                let Some(actual) = run.execute(&entry, seed, &mut suspensions)? else { continue };
                count += 1;
                if expected != actual {
                    return Err(format!(
                        "{entry} suspended at every {every}th call, moved: {moves}: {}",
                        difference(&expected, &actual)
                    ));
                }
            }
        }
    }
    Ok(Checked::Compared { runs: count, suspensions })
}

impl Sources {
    pub fn instrument(&self) -> Result<Instrumented, Vec<Refusal>> {
        self.linked(None)
    }

    fn instrument_entry(&self, export: &str) -> Result<Instrumented, Vec<Refusal>> {
        self.linked(Some(Entry { module: self.modules.len() - 1, export: export.to_owned() }))
    }

    fn linked(&self, entry: Option<Entry>) -> Result<Instrumented, Vec<Refusal>> {
        let limits = Limits::default();
        let mut program = Program::default();
        for (name, bytes) in &self.modules {
            let module = CoreModule::parse(bytes, name.clone(), &limits)?;
            let sources = module.imports().iter().map(|import| match self.position(import.module) {
                Some(module) => ImportSource::Export { module, name: import.field.to_owned() },
                None if host::is_suspending(import.module, import.field) => {
                    ImportSource::Suspending(host::suspends(import.field))
                }
                None => ImportSource::Opaque,
            });
            let imports: Vec<ImportSource> = sources.collect();
            for (import, source) in module.imports().iter().zip(&imports) {
                if let (Entity::Function(ty), ImportSource::Suspending(suspends)) = (&import.entity, source) {
                    program.trampolines.push(Trampoline {
                        params: ty.params().to_vec(),
                        results: ty.results().to_vec(),
                        has_return_pointer: host::has_return_pointer(import.field),
                        suspends: *suspends,
                    });
                }
            }
            program.modules.push(LinkedModule { module, imports });
        }
        instrument(&program, entry.as_ref(), &limits)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.modules.iter().position(|(module, _)| module == name)
    }
}

/// The outcome of the original; `None` if it cannot even be instantiated or runs out of stack.
fn straight(engine: &Engine, sources: &Sources, modules: &[Module], entry: &str, seed: u64) -> Option<Outcome> {
    let mut store = Host::new(0).store(engine);
    store.set_fuel(MAX_FUEL).ok()?;
    let mut instances: Vec<Instance> = vec![];
    for module in modules {
        let instance = instantiate(&mut store, module, |store, from, name, ty| match (sources.position(from), ty) {
            (Some(position), _) => instances[position].get_export(store, name),
            (None, ExternType::Func(ty)) => Some(host::whole(store, name, ty.clone()).into()),
            _ => None,
        });
        let instance = instance.ok()?;
        note_memory(&mut store, instance);
        instances.push(instance);
    }
    let function = instances.last()?.get_func(&mut store, entry)?;
    let results = call(&mut store, function, seed);
    outcome(&mut store, &instances, results)
}

fn instantiate(
    store: &mut Store<Host>,
    module: &Module,
    mut provide: impl FnMut(&mut Store<Host>, &str, &str, &ExternType) -> Option<Extern>,
) -> Result<Instance> {
    let mut imports = vec![];
    for import in module.imports() {
        let missing = || wasmtime::Error::msg(format!("nothing provides {} {}", import.module(), import.name()));
        imports.push(provide(store, import.module(), import.name(), &import.ty()).ok_or_else(missing)?);
    }
    Instance::new(store, module, &imports)
}

/// The first memory that any module exports is the one that return pointers lead to.
fn note_memory(store: &mut Store<Host>, instance: Instance) {
    let memory = instance.exports(&mut *store).find_map(|export| export.into_memory());
    let host = store.data_mut();
    host.memory = host.memory.or(memory);
}

fn call(store: &mut Store<Host>, function: Func, seed: u64) -> Result<Vec<Bits>, String> {
    let ty = function.ty(&*store);
    let arguments: Vec<Val> = (0..).zip(ty.params()).map(|(index, ty)| host::value(&ty, seed ^ index << 9)).collect();
    let mut results: Vec<Val> = ty.results().map(|_| Val::I32(0)).collect();
    function.call(store, &arguments, &mut results).map_err(|error| cause(&error))?;
    Ok(results.iter().map(host::bits).collect())
}

fn cause(error: &wasmtime::Error) -> String {
    error.downcast_ref::<Trap>().map_or_else(|| format!("{:#}", error.root_cause()), |trap| format!("{trap:?}"))
}

/// `None` if the stack was too small (rewritten functions need somewhat more of it), or the run too long.
fn outcome(store: &mut Store<Host>, instances: &[Instance], results: Result<Vec<Bits>, String>) -> Option<Outcome> {
    let ends_early = [Trap::StackOverflow, Trap::OutOfFuel].map(|trap| Err(format!("{trap:?}")));
    if ends_early.contains(&results) {
        return None;
    }
    let (mut memories, mut globals) = (vec![], vec![]);
    for instance in instances {
        let exports: Vec<(String, Extern)> =
            instance.exports(&mut *store).map(|export| (export.name().to_owned(), export.into_extern())).collect();
        for (name, export) in exports.into_iter().filter(|(name, _)| !name.starts_with("ckpt:")) {
            match export {
                Extern::Memory(memory) => memories.push((name, memory.size(&*store), host::hash(memory.data(&*store)))),
                Extern::Global(global) => globals.push((name, host::bits(&global.get(&mut *store)))),
                _ => {}
            }
        }
    }
    let log = std::mem::take(&mut store.data_mut().log);
    Some(Outcome { results, memories, globals, log })
}

/// An instrumented program, compiled.
struct Rewritten {
    parts: Instrumented,
    ckpt: Module,
    modules: Vec<Module>,
    trampolines: Vec<Module>,
    glue: Module,
}

impl Rewritten {
    /// Only ckpt and glue depend on the entry point: the rest is taken over from what was compiled for another.
    fn compile(compiler: &Compiler, parts: Instrumented, other: Option<Rewritten>) -> Result<Rewritten, String> {
        let glue = compiler.compile(&parts.glue)?;
        let Some(other) = other else {
            let (modules, trampolines) = (compiler.compile_all(&parts.modules)?, compiler.compile_all(&parts.trampolines)?);
            return Ok(Rewritten { ckpt: compiler.compile(&parts.ckpt)?, modules, trampolines, glue, parts });
        };
        assert!(other.parts.modules == parts.modules && other.parts.trampolines == parts.trampolines);
        let ckpt = if other.parts.ckpt == parts.ckpt { other.ckpt } else { compiler.compile(&parts.ckpt)? };
        Ok(Rewritten { ckpt, modules: other.modules, trampolines: other.trampolines, glue, parts })
    }
}

struct Run<'r> {
    engine: &'r Engine,
    sources: &'r Sources,
    original: &'r [Module],
    rewritten: &'r Rewritten,
    every: u64,
    /// Whether each suspension is followed by saving and loading into fresh instances.
    moves: bool,
}

/// The instances of a rewritten program.
struct Live {
    store: Store<Host>,
    instances: Vec<Instance>,
    glue: Instance,
}

impl Run<'_> {
    fn execute(&self, entry: &str, seed: u64, suspensions: &mut u64) -> Result<Option<Outcome>, String> {
        let mut live = self.instantiate(Host::new(self.every), entry).map_err(|error| format!("{error:?}"))?;
        let run = live.function("run");
        let mut step = call(&mut live.store, run, seed);
        loop {
            match step {
                Err(trap) => return Ok(outcome(&mut live.store, &live.instances, Err(trap))),
                Ok(answer) if answer == [(0, 0)] => break,
                Ok(_) => *suspensions += 1,
            }
            if self.moves {
                live = self.move_to_fresh_instances(live, entry).map_err(|error| format!("moving: {error:?}"))?;
            }
            let resume = live.function("resume");
            step = call(&mut live.store, resume, seed);
        }
        let take = live.function("take");
        let results = call(&mut live.store, take, seed);
        Ok(outcome(&mut live.store, &live.instances, results))
    }

    fn move_to_fresh_instances(&self, mut live: Live, entry: &str) -> Result<Live> {
        let save = live.function("save");
        save.call(&mut live.store, &[], &mut [])?;
        let mut host = Host::new(self.every);
        std::mem::swap(&mut host, live.store.data_mut());
        let image = std::mem::take(&mut host.image);
        (host.memory, host.shown, host.is_loading) = (None, vec![], true);
        let mut fresh = self.instantiate(host, entry)?;
        fresh.store.data_mut().image = image;
        let load = fresh.function("load");
        load.call(&mut fresh.store, &[], &mut [])?;
        fresh.store.data_mut().is_loading = false;
        Ok(fresh)
    }

    fn instantiate(&self, host: Host, entry: &str) -> Result<Live> {
        let mut store = host.store(self.engine);
        let ckpt = instantiate(&mut store, &self.rewritten.ckpt, |_, _, _, _| None)?;
        let trampolines = self.trampolines(&mut store, ckpt)?;
        let mut instances: Vec<Instance> = vec![];
        let mut suspending = trampolines.iter();
        for module in &self.rewritten.modules {
            let instance = instantiate(&mut store, module, |store, from, name, ty| match (self.sources.position(from), ty) {
                (Some(position), _) => instances[position].get_export(store, name),
                (None, _) if from == "ckpt" => ckpt.get_export(store, name),
                (None, _) if host::is_suspending(from, name) => suspending.next()?.get_export(store, "call"),
                (None, ExternType::Func(ty)) => Some(host::whole(store, name, ty.clone()).into()),
                _ => None,
            })?;
            note_memory(&mut store, instance);
            instances.push(instance);
        }
        let glue = instantiate(&mut store, &self.rewritten.glue, |store, from, name, _| match (from, name) {
            ("ckpt", _) => ckpt.get_export(store, name),
            ("host", "pages") => Some(host::pages(store).into()),
            ("host", _) => Some(host::visit(store, name.strip_prefix("visit")?.parse().ok()?).into()),
            ("entry", "run") => instances.last()?.get_export(store, entry),
            _ => {
                let position: usize = from[1..].parse().ok()?;
                let owners = if from.starts_with('m') { &instances } else { &trampolines };
                owners.get(position)?.get_export(store, name)
            }
        })?;
        let aux = ckpt.get_memory(&mut store, "aux").expect("ckpt exports aux");
        let mut shown = vec![aux];
        for memory in &self.rewritten.parts.memories {
            shown.push(instances[memory.module].get_memory(&mut store, &memory.export).expect("memories are exported"));
        }
        store.data_mut().shown = shown;
        Ok(Live { store, instances, glue })
    }

    /// One trampoline for each suspending import of each module, in order.
    fn trampolines(&self, store: &mut Store<Host>, ckpt: Instance) -> Result<Vec<Instance>> {
        let mut originals = vec![];
        for module in self.original {
            for import in module.imports().filter(|import| host::is_suspending(import.module(), import.name())) {
                originals.push((import.name().to_owned(), import.ty().unwrap_func().clone()));
            }
        }
        let mut instances = vec![];
        for ((name, original), module) in originals.into_iter().zip(&self.rewritten.trampolines) {
            instances.push(instantiate(store, module, |store, from, field, ty| match (from, field, ty) {
                ("ckpt", _, _) => ckpt.get_export(store, field),
                (_, "start", ExternType::Func(ty)) => Some(host::start(store, &name, &original, ty.clone()).into()),
                (_, "plain", ExternType::Func(ty)) => Some(host::whole(store, &name, ty.clone()).into()),
                (_, "finish", ExternType::Func(ty)) => Some(host::finish(store, ty.clone()).into()),
                _ => None,
            })?);
        }
        Ok(instances)
    }
}

impl Live {
    fn function(&mut self, name: &str) -> Func {
        self.glue.get_func(&mut self.store, name).expect("the glue exports it")
    }
}

fn difference(expected: &Outcome, actual: &Outcome) -> String {
    let mut text = String::new();
    if expected.results != actual.results {
        text += &format!("{:?} became {:?}; ", expected.results, actual.results);
    }
    if expected.log != actual.log {
        let same = expected.log.iter().zip(&actual.log).take_while(|(expected, actual)| expected == actual).count();
        text += &format!("call {same}: {:?} became {:?}; ", expected.log.get(same), actual.log.get(same));
    }
    if expected.memories != actual.memories {
        text += "memories differ; ";
    }
    if expected.globals != actual.globals {
        text += &format!("{:?} became {:?}; ", expected.globals, actual.globals);
    }
    text
}
