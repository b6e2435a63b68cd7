//! Writes the rewritten component: the original in its own order, with what the host and the glue need before, between and after.
//!
//! ```text
//! import ckpt:host/handles, ckpt:host/memory
//! ckpt                                 first core instance: the state, and the stack while the run is suspended
//! imports, types, aliases              as they were, with handles erased; suspending interfaces have -start and -finish functions too
//! core modules and instances           instrumented, given ckpt
//!   suspending canon lower             becomes: lower start, lower finish, an instance of a trampoline, its "call"
//!   canon resource.drop                becomes: lower drop
//! exports                              as they were
//! glue                                 last core instance, lifted and exported as ckpt-run, ckpt-resume, ckpt-take, ckpt-save, ckpt-load
//! ```
//!
//! `glue` writes the last part.

use std::collections::HashMap;

use wasm_encoder::{
    Alias, CanonicalOption, Component, ComponentExportKind, ComponentInstanceSection, ComponentTypeRef, CoreTypeSection,
    ExportKind, InstanceType, PrimitiveValType,
    reencode::{self, Reencode, ReencodeComponent},
};
use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentType, ExternalKind,
    Parser,
};

use super::{
    Error, Refusal,
    core::{Instrumented, Suspends},
    entry::TaskEntry,
    erase::{self, Eraser},
    imports,
    model::{CoreInstance, Model, Section},
    our_fault,
    output::Output,
    wiring::{SuspendingLower, Wiring},
};

/// Writing down what has been read before cannot fail but by a fault of the rewriter; reasons of the component's own are refusals.
impl From<reencode::Error<std::convert::Infallible>> for Error {
    fn from(error: reencode::Error<std::convert::Infallible>) -> Error {
        our_fault(&error)
    }
}

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Error {
        our_fault(&error)
    }
}

/// The component as far as it is written.
pub struct Assembler<'a, 'm> {
    pub model: &'m Model<'a>,
    pub wiring: &'m Wiring<'a>,
    pub core: &'m Instrumented,
    pub out: Output,
    pub eraser: Eraser,
    /// The core instance of ckpt.
    pub ckpt: u32,
    /// Functions the component imports from the host for its own keeping.
    pub host: Host,
    /// Core instances of the trampolines.
    pub trampolines: Vec<u32>,
    /// The original component.
    bytes: &'a [u8],
    /// Imported instances by their names.
    imported: HashMap<&'a str, u32>,
    /// For each core module its place in the program, if it is instantiated.
    places: Vec<Option<usize>>,
}

/// Component functions of `ckpt:host/handles` and `ckpt:host/memory`.
pub struct Host {
    /// `drop: func(handle: u32)`
    pub drop: u32,
    /// `pages: func(index: u32) -> u32`
    pub pages: u32,
    /// `visit: func(index: u32, bytes: list<u8>)`
    pub visit: u32,
}

/// Writes the rewritten component.
///
/// # Errors
/// Refusals that only show when a suspending import is split.
pub fn assemble(
    bytes: &[u8],
    model: &Model<'_>,
    wiring: &Wiring<'_>,
    entry: &TaskEntry,
    core: &Instrumented,
) -> Result<Vec<u8>, Error> {
    let mut out = Output::default();
    let host = import_host(&mut out);
    let ckpt = out.core_module(&core.ckpt);
    let ckpt = out.core_instance(ckpt, []);
    let mut places = vec![None; model.modules.len()];
    for (instance, place) in model.core_instances.iter().zip(&wiring.places) {
        if let CoreInstance::Module { module, .. } = instance {
            places[*module as usize] = *place;
        }
    }
    let mut assembler = Assembler {
        model,
        wiring,
        core,
        out,
        eraser: Eraser::default(),
        ckpt,
        host,
        trampolines: vec![],
        bytes,
        imported: HashMap::new(),
        places,
    };
    for section in &model.sections {
        assembler.section(section.clone())?;
    }
    assembler.add_glue(entry)?;
    Ok(assembler.out.finish())
}

fn import_host(out: &mut Output) -> Host {
    const NUMBER: PrimitiveValType = PrimitiveValType::U32;
    let mut handles = InstanceType::new();
    handles.ty().function().params([("handle", NUMBER)]).result(None);
    handles.export("drop", ComponentTypeRef::Func(0));
    let mut memory = InstanceType::new();
    memory.ty().function().params([("index", NUMBER)]).result(Some(NUMBER.into()));
    memory.ty().defined_type().list(PrimitiveValType::U8);
    memory.ty().function().params([("index", NUMBER.into()), ("bytes", wasm_encoder::ComponentValType::Type(1))]).result(None);
    memory.export("pages", ComponentTypeRef::Func(0));
    memory.export("visit", ComponentTypeRef::Func(2));

    let handles = import(out, "ckpt:host/handles", &handles);
    let memory = import(out, "ckpt:host/memory", &memory);
    let mut func = |instance, name| out.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Func, name });
    Host { drop: func(handles, "drop"), pages: func(memory, "pages"), visit: func(memory, "visit") }
}

fn import(out: &mut Output, name: &str, ty: &InstanceType) -> u32 {
    let Ok(ty) = out.ty(|encoder| {
        encoder.instance(ty);
        Ok::<_, std::convert::Infallible>(())
    });
    out.import_instance(name, ty)
}

impl<'a> Assembler<'a, '_> {
    fn section(&mut self, section: Section<'a>) -> Result<(), Error> {
        match section {
            Section::Types(types) => types.into_iter().try_for_each(|ty| self.ty(ty?)),
            Section::CoreTypes(types) => {
                let mut section = CoreTypeSection::new();
                self.eraser.parse_core_type_section(&mut section, types)?;
                self.out.core_types(&section);
                Ok(())
            }
            Section::Imports(imports) => imports.into_iter().try_for_each(|import| self.import(import?)),
            Section::Aliases(aliases) => aliases.into_iter().try_for_each(|alias| self.alias(alias?)),
            Section::Canonicals(canonicals) => canonicals.into_iter().try_for_each(|canonical| self.canonical(canonical?)),
            Section::CoreInstances(instances) => instances.into_iter().try_for_each(|instance| self.core_instance(instance?)),
            Section::Instances(instances) => instances.into_iter().try_for_each(|instance| {
                let mut section = ComponentInstanceSection::new();
                self.eraser.parse_component_instance(&mut section, instance?)?;
                let index = self.out.instance(&section);
                self.eraser.indices.instances.push(index);
                Ok(())
            }),
            Section::Exports(exports) => exports.into_iter().try_for_each(|export| self.export(export?)),
            Section::Module(index) => {
                // One without an instance would only be compiled: it was neither looked at nor held against any limit.
                let instrumented = self.places[index].map(|place| &self.core.modules[place][..]);
                let index = self.out.core_module(instrumented.unwrap_or(&wasm_encoder::Module::HEADER));
                self.eraser.indices.modules.push(index);
                Ok(())
            }
            Section::Component(bytes) => {
                let mut nested = Component::new();
                self.eraser.push_depth();
                self.eraser.parse_component(&mut nested, Parser::new(0), bytes)?;
                self.eraser.pop_depth();
                let index = self.out.component(&nested);
                self.eraser.indices.components.push(index);
                Ok(())
            }
        }
    }

    fn ty(&mut self, ty: ComponentType<'_>) -> Result<(), Error> {
        let index = self.out.ty(|encoder| self.eraser.parse_component_type(encoder, ty))?;
        self.eraser.indices.types.push(index);
        Ok(())
    }

    fn import(&mut self, import: wasmparser::ComponentImport<'a>) -> Result<(), Error> {
        let name = import.name.name;
        let wasmparser::ComponentTypeRef::Instance(ty) = import.ty else {
            return Err(our_fault(&format!("`{name}` is not imported as an instance")));
        };
        let ty = if imports::has_suspending_functions(name) {
            self.split_type(name, ty)?
        } else {
            self.eraser.component_type_index(ty)
        };
        let index = self.out.import_instance(name, ty);
        self.eraser.indices.instances.push(index);
        self.imported.insert(name, index);
        Ok(())
    }

    /// Writes the type of a suspending interface a second time, with its functions split; the first may have other uses.
    fn split_type(&mut self, interface: &str, ty: u32) -> Result<u32, Error> {
        let refused = |reason: String| Error::Refused(vec![Refusal::of_component(format!("imports `{interface}`, {reason}"))]);
        let offset = self.model.types[ty as usize].ok_or_else(|| refused("but its type is defined elsewhere".to_owned()))?;
        let definition: ComponentType<'_> = BinaryReader::new(&self.bytes[offset..], offset).read()?;
        let ComponentType::Instance(declarations) = definition else {
            return Err(our_fault(&format!("`{interface}` has no instance type")));
        };
        let split = self.eraser.split_instance_type(&declarations, |name| imports::suspends(interface, name))?;
        let split =
            split.map_err(|name| refused(format!("whose function `{name}` cannot be split into a start and a finish")))?;
        self.out.ty(|encoder| {
            encoder.instance(&split);
            Ok(())
        })
    }

    fn alias(&mut self, alias: ComponentAlias<'_>) -> Result<(), Error> {
        let index = self.eraser.copy_alias(alias.clone(), |alias| self.out.alias(alias))?;
        let indices = &mut self.eraser.indices;
        match alias {
            ComponentAlias::InstanceExport { kind, .. } => self.exported(kind, index),
            ComponentAlias::CoreInstanceExport { kind, .. } => match kind {
                ExternalKind::Func | ExternalKind::FuncExact => indices.core_funcs.push(index),
                ExternalKind::Table => indices.core_tables.push(index),
                ExternalKind::Memory => indices.core_memories.push(index),
                ExternalKind::Global => indices.core_globals.push(index),
                ExternalKind::Tag => indices.core_tags.push(index),
            },
            ComponentAlias::Outer { kind, .. } => match kind {
                ComponentOuterAliasKind::Type => indices.types.push(index),
                ComponentOuterAliasKind::Component => indices.components.push(index),
                ComponentOuterAliasKind::CoreModule => indices.modules.push(index),
                ComponentOuterAliasKind::CoreType => {}
            },
        }
        Ok(())
    }

    /// Notes the index of an item that is aliased out of an instance, or exported.
    fn exported(&mut self, kind: ComponentExternalKind, index: u32) {
        let indices = &mut self.eraser.indices;
        match kind {
            ComponentExternalKind::Func => indices.funcs.push(index),
            ComponentExternalKind::Type => indices.types.push(index),
            ComponentExternalKind::Instance => indices.instances.push(index),
            ComponentExternalKind::Component => indices.components.push(index),
            ComponentExternalKind::Module => indices.modules.push(index),
            ComponentExternalKind::Value => {}
        }
    }

    fn canonical(&mut self, canonical: CanonicalFunction) -> Result<(), Error> {
        match canonical {
            CanonicalFunction::Lift { core_func_index, type_index, options } => {
                let options = self.options(&options)?;
                let ty = self.eraser.component_type_index(type_index);
                let index = self.out.lift(self.eraser.function_index(core_func_index)?, ty, &options);
                self.eraser.indices.funcs.push(index);
                return Ok(());
            }
            CanonicalFunction::Lower { func_index, options } => {
                let options = self.options(&options)?;
                let original = self.eraser.indices.core_funcs.len() as u32;
                let index = match self.wiring.suspending.get(&original) {
                    Some(lower) => self.trampoline(*lower, &options),
                    None => self.out.lower(self.eraser.component_func_index(func_index), &options),
                };
                self.eraser.indices.core_funcs.push(index);
            }
            CanonicalFunction::ResourceDrop { .. } => {
                let index = self.out.lower(self.host.drop, &[]);
                self.eraser.indices.core_funcs.push(index);
            }
            other => return Err(our_fault(&format!("{other:?} was not refused"))),
        }
        Ok(())
    }

    /// Options of a lift or lower of the original.
    pub fn options(&mut self, options: &[wasmparser::CanonicalOption]) -> Result<Vec<CanonicalOption>, Error> {
        options.iter().map(|option| Ok(self.eraser.canonical_option(*option)?)).collect()
    }

    /// A core function that stands for a suspending import: it calls start and, unless the run is to be suspended, finish.
    fn trampoline(&mut self, lower: SuspendingLower<'_>, options: &[CanonicalOption]) -> u32 {
        let instance = self.imported[lower.interface];
        let plain = erase::plain(lower.name);
        let mut lowered = |name: &str| {
            let func = self.out.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Func, name });
            self.out.lower(func, options)
        };
        let start = lowered(&imports::start_of(&plain));
        let finish = lowered(&imports::finish_of(&plain));
        let mut host = vec![("start", ExportKind::Func, start), ("finish", ExportKind::Func, finish)];
        if lower.suspends == Suspends::ForTimers {
            host.push(("plain", ExportKind::Func, lowered(&plain)));
        }
        let host = self.out.core_bundle(host);
        let module = self.out.core_module(&self.core.trampolines[lower.trampoline]);
        let instance = self.out.core_instance(module, [("ckpt", self.ckpt), ("host", host)]);
        self.trampolines.push(instance);
        self.out.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: "call" })
    }

    fn core_instance(&mut self, instance: wasmparser::Instance<'_>) -> Result<(), Error> {
        let index = match instance {
            wasmparser::Instance::Instantiate { module_index, args } => {
                let args = args.iter().map(|arg| (arg.name, self.eraser.instance_index(arg.index))).collect::<Vec<_>>();
                let needs_ckpt = self.places[module_index as usize].is_some_and(|place| self.core.needs_ckpt[place]);
                let module = self.eraser.module_index(module_index);
                self.out.core_instance(module, args.into_iter().chain(needs_ckpt.then_some(("ckpt", self.ckpt))))
            }
            wasmparser::Instance::FromExports(items) => {
                let items = items
                    .iter()
                    .map(|item| {
                        let kind = self.eraser.export_kind(item.kind)?;
                        Ok((item.name, kind, self.eraser.external_index(item.kind, item.index)?))
                    })
                    .collect::<Result<Vec<_>, Error>>()?;
                self.out.core_bundle(items)
            }
        };
        self.eraser.indices.core_instances.push(index);
        Ok(())
    }

    fn export(&mut self, export: wasmparser::ComponentExport<'_>) -> Result<(), Error> {
        let ty = export.ty.map(|ty| self.eraser.component_type_ref(ty)).transpose()?;
        let index = self.eraser.component_external_index(export.kind, export.index);
        let index = self.out.export(erase::plain_extern(export.name), export.kind.into(), index, ty);
        self.exported(export.kind, index);
        Ok(())
    }
}
