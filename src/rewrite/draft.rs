//! The index spaces of a component while it is read, and the reasons found on the way.

use std::collections::HashMap;

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    ExternalKind, KnownCustom, Parser, Payload, types::Types,
};

use super::{
    Refusal, imports,
    model::{CoreExport, CoreFunc, CoreInstance, Export, Func, Instance, Model, Module, Named, Nested, Section},
    unsupported,
};

/// More reasons than anybody reads; the bound keeps a hostile component from growing the list.
const MOST_REASONS: usize = 200;

/// What is found while reading, before it is known that the component is valid to its end. The fields are those of [`Model`]; each method
/// takes one definition, which the validator has passed, and gives its items the next indices of their spaces.
#[derive(Default)]
pub struct Draft<'a> {
    pub sections: Vec<Section<'a>>,
    pub types: Vec<Option<usize>>,
    pub modules: Vec<&'a [u8]>,
    pub module_names: HashMap<u32, &'a str>,
    pub core_instances: Vec<CoreInstance<'a>>,
    pub core_funcs: Vec<CoreFunc<'a>>,
    pub core_tables: Vec<CoreExport<'a>>,
    pub core_memories: Vec<CoreExport<'a>>,
    pub core_globals: Vec<CoreExport<'a>>,
    pub core_tags: Vec<CoreExport<'a>>,
    pub components: Vec<Option<Nested<'a>>>,
    pub instances: Vec<Instance<'a>>,
    pub funcs: Vec<Func<'a>>,
    pub exports: Vec<Export<'a>>,
    pub refusals: Refusals,
}

/// The reasons found so far.
#[derive(Default)]
pub struct Refusals(pub Vec<Refusal>);

impl Refusals {
    /// Adds a reason that concerns the component as a whole, unless it is there already.
    pub fn component(&mut self, reason: impl Into<String>) {
        let refusal = Refusal::of_component(reason);
        if self.0.len() < MOST_REASONS && !self.0.contains(&refusal) {
            self.0.push(refusal);
        }
    }
}

impl<'a> Draft<'a> {
    /// An import: an instance of an interface that the host offers.
    pub fn import(&mut self, name: &'a str, ty: ComponentTypeRef) {
        if name.starts_with(imports::RESERVED) {
            self.refusals.component(format!("imports `{name}`: names that begin with `{}` are reserved", imports::RESERVED));
        } else if let Some(reason) = imports::refusal(name) {
            self.refusals.component(reason);
        } else if !matches!(ty, ComponentTypeRef::Instance(_)) {
            self.refusals.component(format!("imports `{name}`, but not as an instance"));
        }
        match ty {
            ComponentTypeRef::Instance(_) => self.instances.push(Instance::Imported(name)),
            ComponentTypeRef::Func(_) => self.funcs.push(Func::Imported),
            ComponentTypeRef::Type(_) => self.types.push(None),
            ComponentTypeRef::Component(_) => {
                self.refusals.component(format!("imports `{name}`, a component"));
                self.components.push(None);
            }
            ComponentTypeRef::Module(_) => {
                self.refusals.component(format!("imports `{name}`, a core module"));
                self.modules.push(&[]);
            }
            ComponentTypeRef::Value(_) => {}
        }
    }

    /// An alias at the top level.
    pub fn alias(&mut self, alias: ComponentAlias<'a>) {
        match alias {
            ComponentAlias::InstanceExport { kind, instance_index: instance, name } => match kind {
                ComponentExternalKind::Func => self.funcs.push(Func::Export { instance, name }),
                ComponentExternalKind::Type => self.types.push(None),
                ComponentExternalKind::Instance => self.instances.push(Instance::Inner),
                ComponentExternalKind::Component => self.components.push(None),
                ComponentExternalKind::Module => self.foreign_module(),
                ComponentExternalKind::Value => {}
            },
            ComponentAlias::CoreInstanceExport { kind, instance_index: instance, name } => {
                self.core_alias(kind, CoreExport { instance, name });
            }
            ComponentAlias::Outer { kind, .. } => match kind {
                ComponentOuterAliasKind::Type => self.types.push(None),
                ComponentOuterAliasKind::Component => self.components.push(None),
                ComponentOuterAliasKind::CoreModule => self.foreign_module(),
                ComponentOuterAliasKind::CoreType => {}
            },
        }
    }

    /// Gives a core item an index, which leads straight to the item however many bundles it came through.
    fn core_alias(&mut self, kind: ExternalKind, export: CoreExport<'a>) {
        let item = match &self.core_instances[export.instance as usize] {
            CoreInstance::Module { .. } => None,
            CoreInstance::Bundle(items) => items.get(export.name).map(|(_, index)| *index),
        };
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                let func = match item.map(|item| (item, self.core_funcs[item as usize])) {
                    None => CoreFunc::Export(export),
                    Some((_, known @ (CoreFunc::Export(_) | CoreFunc::Same(_)))) => known,
                    Some((item, _)) => CoreFunc::Same(item),
                };
                self.core_funcs.push(func);
            }
            ExternalKind::Table => alias(&mut self.core_tables, item, export),
            ExternalKind::Memory => alias(&mut self.core_memories, item, export),
            ExternalKind::Global => alias(&mut self.core_globals, item, export),
            ExternalKind::Tag => alias(&mut self.core_tags, item, export),
        }
    }

    /// Each core module has one index, or instances of it could not be counted.
    fn foreign_module(&mut self) {
        self.refusals.component("has a core module under a second index");
        self.modules.push(&[]);
    }

    /// A lifted, lowered or built-in function.
    pub fn canonical(&mut self, canonical: CanonicalFunction) {
        self.unsupported(unsupported::in_canonical(&canonical));
        match canonical {
            CanonicalFunction::Lift { core_func_index: core_func, options, .. } => {
                self.funcs.push(Func::Lifted { core_func, options });
            }
            CanonicalFunction::Lower { func_index, .. } => self.core_funcs.push(CoreFunc::Lowered(func_index)),
            CanonicalFunction::ResourceDrop { .. } => self.core_funcs.push(CoreFunc::Drop),
            _ => self.core_funcs.push(CoreFunc::Other),
        }
    }

    /// A core instance.
    pub fn core_instance(&mut self, instance: wasmparser::Instance<'a>) {
        self.core_instances.push(match instance {
            wasmparser::Instance::Instantiate { module_index: module, args } => {
                CoreInstance::Module { module, args: args.iter().map(|arg| (arg.name, arg.index)).collect() }
            }
            wasmparser::Instance::FromExports(items) => {
                CoreInstance::Bundle(items.iter().map(|item| (item.name, (item.kind, item.index))).collect())
            }
        });
    }

    /// A component instance.
    pub fn instance(&mut self, instance: ComponentInstance<'a>) {
        self.instances.push(match instance {
            ComponentInstance::Instantiate { component_index: component, args } => {
                let args: Named<'a, _> = args.iter().map(|arg| (arg.name, (arg.kind, arg.index))).collect();
                Instance::Nested { component, args }
            }
            ComponentInstance::FromExports(items) => {
                Instance::Bundle(items.iter().map(|item| (item.name.name, (item.kind, item.index))).collect())
            }
        });
    }

    /// An export, which gives the exported item a second index.
    pub fn export(&mut self, export: wasmparser::ComponentExport<'a>) {
        let (name, kind, index) = (export.name.name, export.kind, export.index);
        if name.starts_with(imports::RESERVED) {
            self.refusals.component(format!("exports `{name}`: names that begin with `{}` are reserved", imports::RESERVED));
        }
        let exported = match kind {
            ComponentExternalKind::Func => {
                let first = if let Func::Same(first) = self.funcs[index as usize] { first } else { index };
                push(&mut self.funcs, Func::Same(first))
            }
            ComponentExternalKind::Instance => {
                let first = if let Instance::Same(first) = self.instances[index as usize] { first } else { index };
                push(&mut self.instances, Instance::Same(first))
            }
            ComponentExternalKind::Type => push(&mut self.types, None),
            ComponentExternalKind::Component => push(&mut self.components, None),
            ComponentExternalKind::Module => {
                self.foreign_module();
                index
            }
            ComponentExternalKind::Value => index,
        };
        self.exports.push(Export { name, kind, index, exported });
    }

    /// Notes what `unsupported` found.
    pub fn unsupported(&mut self, reason: Option<&'static str>) {
        if let Some(reason) = reason {
            self.refusals.component(reason);
        }
    }

    /// The model of a component that is valid and was not refused.
    pub fn finish(self, validated: Types) -> Model<'a> {
        let name = |(index, bytes): (usize, &'a [u8])| {
            let given = self.module_names.get(&(index as u32)).map(|name| (*name).to_owned());
            Module { bytes, name: given.or_else(|| own_name(bytes)).unwrap_or_else(|| format!("#{index}")) }
        };
        Model {
            sections: self.sections,
            types: self.types,
            modules: self.modules.iter().copied().enumerate().map(name).collect(),
            core_instances: self.core_instances,
            core_funcs: self.core_funcs,
            core_tables: self.core_tables,
            core_memories: self.core_memories,
            core_globals: self.core_globals,
            core_tags: self.core_tags,
            components: self.components,
            instances: self.instances,
            funcs: self.funcs,
            exports: self.exports,
            validated,
        }
    }
}

/// The name a core module has for itself.
fn own_name(bytes: &[u8]) -> Option<String> {
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        if let Payload::CustomSection(section) = payload
            && let KnownCustom::Name(names) = section.as_known()
        {
            return names.into_iter().map_while(Result::ok).find_map(|name| match name {
                wasmparser::Name::Module { name, .. } => Some(name.to_owned()),
                _ => None,
            });
        }
    }
    None
}

/// Adds the item that is already known, or else the export itself.
fn alias<'a>(list: &mut Vec<CoreExport<'a>>, item: Option<u32>, export: CoreExport<'a>) {
    list.push(item.map_or(export, |item| list[item as usize]));
}

fn push<T>(list: &mut Vec<T>, item: T) -> u32 {
    list.push(item);
    list.len() as u32 - 1
}
