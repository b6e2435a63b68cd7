//! A group of modules, run by its script: as they are, and rewritten, suspended and moved to fresh instances.

use dormouse::rewrite::core::{
    CoreModule, Entity, ImportSource, Instrumented, LinkedModule, Program, Suspends, Trampoline, instrument,
};
use dormouse::rewrite::{Limits, Refusal};
use wasmtime::{AsContextMut, Engine, Extern, ExternType, Func, Global, Instance, Module, Result, Store, Trap, Val};

use super::host::{self, Bits, Host, OUTSIDE, SPECTEST};
use super::script::{Action, Argument, Group, Source, Step};

/// What a step comes to: values, or the words of a trap.
pub type Outcome = Result<Vec<Bits>, String>;

/// Modules with imports that are looked up the same way in both worlds.
pub struct Compiled {
    modules: Vec<Module>,
    /// `None`: the group as it is.
    rewritten: Option<Rewritten>,
}

struct Rewritten {
    parts: Instrumented,
    ckpt: Module,
    trampolines: Vec<Module>,
    glue: Module,
    /// Names and types of the suspending imports, one for each trampoline.
    suspending: Vec<(String, wasmtime::FuncType)>,
    /// For each module the first of its trampolines.
    first_trampolines: Vec<usize>,
}

impl Compiled {
    /// Spectest is the first module of every group.
    pub fn original(engine: &Engine, spectest: &[u8], group: &Group) -> Result<Compiled> {
        let bytes = std::iter::once(spectest).chain(group.modules.iter().map(|source| &source.bytes[..]));
        let modules = bytes.map(|bytes| Module::new(engine, bytes)).collect::<Result<_>>()?;
        Ok(Compiled { modules, rewritten: None })
    }

    pub fn rewritten(engine: &Engine, spectest: &[u8], group: &Group, bytes: &[Vec<u8>]) -> Result<Compiled, Vec<Refusal>> {
        let (parts, suspending) = rewrite(spectest, group, bytes)?;
        let compile = |bytes: &Vec<u8>| Module::new(engine, bytes).unwrap_or_else(|error| panic!("does not compile: {error:?}"));
        let suspending = suspending.into_iter().map(|(name, trampoline)| {
            let params = trampoline.params.iter().map(|ty| match ty {
                wasmparser::ValType::I32 => wasmtime::ValType::I32,
                wasmparser::ValType::I64 => wasmtime::ValType::I64,
                wasmparser::ValType::F32 => wasmtime::ValType::F32,
                _ => wasmtime::ValType::F64,
            });
            (name, wasmtime::FuncType::new(engine, params, []))
        });
        let modules: Vec<Module> = parts.modules.iter().map(compile).collect();
        let (mut next, mut first_trampolines) = (0, vec![]);
        for module in &modules {
            first_trampolines.push(next);
            next += module.imports().filter(|import| import.module() == OUTSIDE).count();
        }
        Ok(Compiled {
            modules,
            rewritten: Some(Rewritten {
                ckpt: compile(&parts.ckpt),
                trampolines: parts.trampolines.iter().map(compile).collect(),
                glue: compile(&parts.glue),
                suspending: suspending.collect(),
                first_trampolines,
                parts,
            }),
        })
    }
}

type Suspending = Vec<(String, Trampoline)>;

fn rewrite(spectest: &[u8], group: &Group, bytes: &[Vec<u8>]) -> Result<(Instrumented, Suspending), Vec<Refusal>> {
    let limits = Limits::default();
    let (mut program, mut suspending) = (Program::default(), vec![]);
    for (position, bytes) in std::iter::once(spectest).chain(bytes.iter().map(Vec::as_slice)).enumerate() {
        let module = CoreModule::parse(bytes, position.to_string(), &limits)?;
        let mut imports = vec![];
        for import in module.imports() {
            imports.push(match (&import.entity, import.module) {
                (Entity::Function(ty), OUTSIDE) => {
                    let (params, results) = (ty.params().to_vec(), ty.results().to_vec());
                    let suspends = Suspends::Always;
                    let trampoline = Trampoline { params, results, has_return_pointer: false, suspends };
                    suspending.push((import.field.to_owned(), trampoline.clone()));
                    program.trampolines.push(trampoline);
                    ImportSource::Suspending(suspends)
                }
                (_, from) => {
                    let module = provider(&group.modules[position - 1], from).expect("every import of a group has a provider");
                    ImportSource::Export { module, name: import.field.to_owned() }
                }
            });
        }
        program.modules.push(LinkedModule { module, imports });
    }
    Ok((instrument(&program, None, &limits)?, suspending))
}

/// Position in the program, in which spectest comes first.
fn provider(source: &Source, from: &str) -> Option<usize> {
    if from == SPECTEST { Some(0) } else { Some(source.providers.get(from)? + 1) }
}

/// A group at some point of its script.
pub struct World<'c> {
    group: &'c Group,
    compiled: &'c Compiled,
    store: Store<Host>,
    /// Spectest first; `None`: could not be instantiated.
    instances: Vec<Option<Instance>>,
    ckpt: Option<Instance>,
    trampolines: Vec<Instance>,
    /// There once every module is there; until then nothing can be suspended.
    glue: Option<Instance>,
    pub suspensions: u64,
}

impl<'c> World<'c> {
    pub fn new(engine: &Engine, group: &'c Group, compiled: &'c Compiled) -> Result<World<'c>> {
        let store = Host::default().store(engine);
        let mut world =
            World { group, compiled, store, instances: vec![], ckpt: None, trampolines: vec![], glue: None, suspensions: 0 };
        if let Some(rewritten) = &compiled.rewritten {
            let ckpt = Instance::new(&mut world.store, &rewritten.ckpt, &[])?;
            world.ckpt = Some(ckpt);
            for ((name, _), module) in rewritten.suspending.iter().zip(&rewritten.trampolines) {
                let trampoline = world.link(module, |world, from, field, ty| match (from, field, ty) {
                    ("ckpt", ..) => ckpt.get_export(&mut world.store, field),
                    (_, "start", ExternType::Func(ty)) => Some(host::start(&mut world.store, name, ty.clone()).into()),
                    (_, "finish", ExternType::Func(ty)) => Some(host::finish(&mut world.store, ty.clone()).into()),
                    _ => None,
                })?;
                world.trampolines.push(trampoline);
            }
        }
        world.instantiate()?;
        Ok(world)
    }

    /// The outcome of a step. In a rewritten world that is complete it is suspended, if `may_suspend`.
    pub fn step(&mut self, step: &Step, may_suspend: bool) -> Outcome {
        match &step.action {
            Action::Instantiate => self.instantiate().map(|()| vec![]).map_err(|error| cause(&error)),
            Action::Invoke(name, arguments) => self.invoke(step.module, name, arguments.as_deref(), may_suspend),
            Action::Get(name) => {
                let global = self.export(step.module, name).and_then(Extern::into_global).ok_or("no such global")?;
                Ok(vec![self.global(global)])
            }
        }
    }

    /// Instructions of the last step.
    pub fn instructions(&self) -> u64 {
        host::FUEL - self.store.get_fuel().expect("the engine counts fuel")
    }

    /// The next module of the group.
    fn instantiate(&mut self) -> Result<()> {
        let position = self.instances.len();
        self.store.set_fuel(host::FUEL)?;
        self.store.data_mut().begin(false);
        // Trampolines are in the order of the imports.
        let mut trampoline = self.compiled.rewritten.as_ref().map_or(0, |rewritten| rewritten.first_trampolines[position]);
        let module = &self.compiled.modules[position];
        let instance = self.link(module, |world, from, field, ty| match (from, ty) {
            ("ckpt", _) => world.ckpt?.get_export(&mut world.store, field),
            (OUTSIDE, ExternType::Func(ty)) if world.ckpt.is_none() => {
                Some(host::whole(&mut world.store, field, ty.clone()).into())
            }
            (OUTSIDE, _) => {
                trampoline += 1;
                world.trampolines[trampoline - 1].get_export(&mut world.store, "call")
            }
            _ => {
                let provider = provider(&world.group.modules[position - 1], from)?;
                world.instances[provider]?.get_export(&mut world.store, field)
            }
        });
        self.instances.push(instance.as_ref().ok().copied());
        instance?;
        let is_complete = self.instances.len() == self.compiled.modules.len() && self.instances.iter().all(Option::is_some);
        if is_complete && self.compiled.rewritten.is_some() { self.add_glue() } else { Ok(()) }
    }

    fn add_glue(&mut self) -> Result<()> {
        let rewritten = self.compiled.rewritten.as_ref().expect("only rewritten modules have glue");
        let ckpt = self.ckpt.expect("it was instantiated first");
        let glue = self.link(&rewritten.glue, |world, from, field, _| match (from, field) {
            ("ckpt", _) => ckpt.get_export(&mut world.store, field),
            ("host", "pages") => Some(host::pages(&mut world.store).into()),
            ("host", _) => Some(host::visit(&mut world.store, field.strip_prefix("visit")?.parse().ok()?).into()),
            _ => {
                let position: usize = from[1..].parse().ok()?;
                let owner = if from.starts_with('m') { world.instances[position]? } else { world.trampolines[position] };
                owner.get_export(&mut world.store, field)
            }
        })?;
        self.glue = Some(glue);
        let mut shown = vec![ckpt.get_memory(&mut self.store, "aux").expect("ckpt exports aux")];
        for memory in &rewritten.parts.memories {
            let instance = self.instances[memory.module].expect("the group is complete");
            shown.push(instance.get_memory(&mut self.store, &memory.export).expect("memories are exported"));
        }
        self.store.data_mut().shown = shown;
        Ok(())
    }

    fn link(
        &mut self,
        module: &Module,
        mut provide: impl FnMut(&mut Self, &str, &str, &ExternType) -> Option<Extern>,
    ) -> Result<Instance> {
        let mut imports = vec![];
        for import in module.imports() {
            let provided = provide(self, import.module(), import.name(), &import.ty());
            imports
                .push(provided.ok_or_else(|| {
                    wasmtime::Error::msg(format!("nothing provides {:?} {:?}", import.module(), import.name()))
                })?);
        }
        Instance::new(&mut self.store, module, &imports)
    }

    fn export(&mut self, module: usize, name: &str) -> Option<Extern> {
        (*self.instances.get(module + 1)?)?.get_export(&mut self.store, name)
    }

    fn invoke(&mut self, module: usize, name: &str, arguments: Option<&[Argument]>, may_suspend: bool) -> Outcome {
        let function = self.export(module, name).and_then(Extern::into_func).ok_or("no such function")?;
        let ty = function.ty(&self.store);
        let given = arguments.ok_or("an argument that cannot be given")?;
        let mut arguments = vec![];
        for (argument, ty) in given.iter().zip(ty.params()) {
            arguments.push(host::value(&mut self.store, argument, &ty).ok_or("an argument of another type")?);
        }
        self.store.set_fuel(host::FUEL).expect("the engine counts fuel");
        self.call_ckpt("begin");
        self.store.data_mut().begin(may_suspend && self.glue.is_some());
        let results = self.call(function, &arguments).map_err(|error| cause(&error))?;
        if !self.is_leaving() {
            let store = self.store.as_context_mut();
            return Ok(results.iter().map(|value| host::bits(&store, value)).collect());
        }
        self.call_ckpt("settle");
        self.resume().map_err(|error| cause(&error))?;
        let aux = self.store.data().shown[0];
        let mut results = vec![];
        for (at, ty) in (0..).step_by(16).zip(ty.results()) {
            let mut bytes = [0; 16];
            aux.read(&self.store, at, &mut bytes).expect("the results are at the head of aux");
            results.push(host::from_area(&ty, bytes));
        }
        Ok(results)
    }

    /// From suspension to suspension, until the run has returned; now and then in fresh instances, the more of them the less often.
    fn resume(&mut self) -> Result<()> {
        let modules = self.instances.len() as u64;
        let every = modules * modules;
        let can_move = self.group.is_instantiated_first();
        loop {
            self.suspensions += 1;
            if self.suspensions % every == 1 && can_move {
                self.move_to_fresh_instances()?;
            }
            let glue = self.glue.expect("only what has glue is suspended");
            let resume = glue.get_typed_func::<(), i32>(&mut self.store, "resume")?;
            if resume.call(&mut self.store, ())? == 0 {
                return Ok(());
            }
        }
    }

    fn move_to_fresh_instances(&mut self) -> Result<()> {
        let save = self.glue.expect("it is suspended").get_typed_func::<(), ()>(&mut self.store, "save")?;
        save.call(&mut self.store, ())?;
        let fuel = self.store.get_fuel()?;
        let mut fresh = World::new(self.store.engine(), self.group, self.compiled)?;
        for _ in 1..self.instances.len() {
            fresh.instantiate()?;
        }
        let mut host = std::mem::take(self.store.data_mut());
        std::mem::swap(&mut host.shown, &mut fresh.store.data_mut().shown);
        host.is_loading = true;
        *fresh.store.data_mut() = host;
        fresh.store.set_fuel(fuel)?;
        let load = fresh.glue.expect("it is complete").get_typed_func::<(), ()>(&mut fresh.store, "load")?;
        load.call(&mut fresh.store, ())?;
        fresh.store.data_mut().is_loading = false;
        fresh.suspensions = self.suspensions;
        *self = fresh;
        Ok(())
    }

    fn call(&mut self, function: Func, arguments: &[Val]) -> Result<Vec<Val>> {
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        function.call(&mut self.store, arguments, &mut results)?;
        Ok(results)
    }

    fn call_ckpt(&mut self, name: &str) {
        if let Some(ckpt) = self.ckpt {
            let function = ckpt.get_typed_func::<(), ()>(&mut self.store, name).expect("ckpt exports it");
            function.call(&mut self.store, ()).expect("it does not trap");
        }
    }

    fn is_leaving(&mut self) -> bool {
        let Some(ckpt) = self.ckpt else { return false };
        let state = ckpt.get_global(&mut self.store, "state").expect("ckpt exports it");
        state.get(&mut self.store).unwrap_i32() != 0
    }

    fn global(&mut self, global: Global) -> Bits {
        let value = global.get(&mut self.store);
        host::bits(&self.store.as_context_mut(), &value)
    }

    /// What is left at the end: what was printed, and all that modules export.
    pub fn state(&mut self) -> String {
        let mut text = format!("{:?}", self.store.data().log);
        for instance in self.instances.clone().into_iter().flatten() {
            let exports = instance.exports(&mut self.store).map(|export| (export.name().to_owned(), export.into_extern()));
            let exports: Vec<(String, Extern)> = exports.collect();
            for (name, export) in exports.into_iter().filter(|(name, _)| !name.starts_with("ckpt:")) {
                match export {
                    Extern::Memory(memory) => {
                        text += &format!("\n{name}: {} {}", memory.size(&self.store), blake3::hash(memory.data(&self.store)));
                    }
                    Extern::Global(global) => text += &format!("\n{name}: {:?}", self.global(global)),
                    _ => {}
                }
            }
        }
        text
    }
}

fn cause(error: &wasmtime::Error) -> String {
    error.downcast_ref::<Trap>().map_or_else(|| format!("{:#}", error.root_cause()), |trap| format!("{trap:?}"))
}
