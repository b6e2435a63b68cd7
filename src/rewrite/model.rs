//! The top level of a component as the rewriter sees it: what stands at each index of each index space.
//!
//! Only references into the component's bytes are kept, so a model is small whatever the component says of itself. The component has been
//! validated when a [`Model`] exists: indices are in range and refer backwards, which is what makes every look-up here end.

use std::collections::HashMap;

use wasmparser::{
    CanonicalOption, ComponentAliasSectionReader, ComponentCanonicalSectionReader, ComponentExportSectionReader,
    ComponentExternalKind, ComponentImportSectionReader, ComponentInstanceSectionReader, ComponentTypeSectionReader,
    CoreTypeSectionReader, ExternalKind, InstanceSectionReader, types::Types,
};

/// Instances a function is followed through, which is two in the components of today's tools.
const MOST_HOPS: usize = 64;

/// A component that can be rewritten, unless its core modules cannot.
pub struct Model<'a> {
    /// In the order of the component; read again when it is assembled.
    pub sections: Vec<Section<'a>>,
    /// Where each type of a type section begins in the component; `None` for aliases, imports and exports of types.
    pub types: Vec<Option<usize>>,
    /// Core modules.
    pub modules: Vec<Module<'a>>,
    /// Core instances.
    pub core_instances: Vec<CoreInstance<'a>>,
    /// Core functions.
    pub core_funcs: Vec<CoreFunc<'a>>,
    /// Core tables, all of them aliases.
    pub core_tables: Vec<CoreExport<'a>>,
    /// Core memories, all of them aliases.
    pub core_memories: Vec<CoreExport<'a>>,
    /// Core globals, all of them aliases.
    pub core_globals: Vec<CoreExport<'a>>,
    /// Core tags, all of them aliases.
    pub core_tags: Vec<CoreExport<'a>>,
    /// Nested components; `None` for aliases of them.
    pub components: Vec<Option<Nested<'a>>>,
    /// Component instances.
    pub instances: Vec<Instance<'a>>,
    /// Component functions.
    pub funcs: Vec<Func<'a>>,
    /// What the component exports.
    pub exports: Vec<Export<'a>>,
    /// The validator's view of the same.
    pub validated: Types,
}

/// A section of the top level.
#[derive(Clone)]
pub enum Section<'a> {
    Types(ComponentTypeSectionReader<'a>),
    CoreTypes(CoreTypeSectionReader<'a>),
    Imports(ComponentImportSectionReader<'a>),
    Aliases(ComponentAliasSectionReader<'a>),
    Canonicals(ComponentCanonicalSectionReader<'a>),
    CoreInstances(InstanceSectionReader<'a>),
    Instances(ComponentInstanceSectionReader<'a>),
    Exports(ComponentExportSectionReader<'a>),
    /// Position in [`Model::modules`].
    Module(usize),
    /// Bytes of a nested component.
    Component(&'a [u8]),
}

/// A core module.
pub struct Module<'a> {
    pub bytes: &'a [u8],
    /// From the name section of the component, else of the module, else its position.
    pub name: String,
}

/// Items by the name they are exported or passed under.
pub type Named<'a, Kind> = HashMap<&'a str, (Kind, u32)>;

/// A core instance.
pub enum CoreInstance<'a> {
    /// Of a module, with the instances given to it.
    Module { module: u32, args: HashMap<&'a str, u32> },
    /// A bundle of items.
    Bundle(Named<'a, ExternalKind>),
}

/// An export of the instance of a core module; bundles on the way have been followed.
#[derive(Clone, Copy)]
pub struct CoreExport<'a> {
    pub instance: u32,
    pub name: &'a str,
}

/// A core function.
#[derive(Clone, Copy)]
pub enum CoreFunc<'a> {
    /// Of the instance of a core module.
    Export(CoreExport<'a>),
    /// A core function the component itself makes, out of a bundle.
    Same(u32),
    /// `canon lower` of a component function.
    Lowered(u32),
    /// `canon resource.drop`.
    Drop,
    /// A built-in that is refused.
    Other,
}

/// What is known of a nested component: which function it imports lies behind which it exports.
#[derive(Default)]
pub struct Nested<'a> {
    /// For each function the name it is imported under, if it is imported.
    pub funcs: Vec<Option<&'a str>>,
    /// Exported functions.
    pub exports: HashMap<&'a str, u32>,
}

/// A component instance.
pub enum Instance<'a> {
    Imported(&'a str),
    /// Of a nested component.
    Nested {
        component: u32,
        args: Named<'a, ComponentExternalKind>,
    },
    /// A bundle of items.
    Bundle(Named<'a, ComponentExternalKind>),
    /// Exporting an instance gives it a second index; this is the first.
    Same(u32),
    /// An instance out of another one.
    Inner,
}

/// A component function.
pub enum Func<'a> {
    Lifted {
        core_func: u32,
        options: Box<[CanonicalOption]>,
    },
    Export {
        instance: u32,
        name: &'a str,
    },
    /// Exporting a function gives it a second index; this is the first.
    Same(u32),
    /// An imported function, which is refused.
    Imported,
}

/// An export of the component.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    pub name: &'a str,
    pub kind: ComponentExternalKind,
    /// The exported item.
    pub index: u32,
    /// The index the item has got by being exported.
    pub exported: u32,
}

/// Where a core item comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreSource<'a> {
    /// An export of the instance of a core module.
    Module { instance: u32, name: &'a str },
    /// A core function that the component itself makes, by its index.
    Canon(u32),
}

/// Where a component function comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FuncSource<'a> {
    /// A function of an imported instance.
    Imported { interface: &'a str, name: &'a str },
    /// A lifted core function, by its index in the space of component functions.
    Lifted(u32),
    /// Something whose origin the rewriter does not follow.
    Unknown,
}

impl<'a> Model<'a> {
    /// Follows an export of a core instance to its origin; `None`: there is no such export.
    pub fn core_export(&self, instance: u32, name: &'a str) -> Option<CoreSource<'a>> {
        let (kind, index) = match &self.core_instances[instance as usize] {
            CoreInstance::Module { .. } => return Some(CoreSource::Module { instance, name }),
            CoreInstance::Bundle(items) => *items.get(name)?,
        };
        let export = match kind {
            ExternalKind::Func | ExternalKind::FuncExact => return Some(self.core_func(index)),
            ExternalKind::Table => self.core_tables[index as usize],
            ExternalKind::Memory => self.core_memories[index as usize],
            ExternalKind::Global => self.core_globals[index as usize],
            ExternalKind::Tag => self.core_tags[index as usize],
        };
        Some(CoreSource::Module { instance: export.instance, name: export.name })
    }

    /// Follows a core function to its origin.
    pub fn core_func(&self, index: u32) -> CoreSource<'a> {
        match self.core_funcs[index as usize] {
            CoreFunc::Export(CoreExport { instance, name }) => CoreSource::Module { instance, name },
            CoreFunc::Same(origin) => CoreSource::Canon(origin),
            CoreFunc::Lowered(_) | CoreFunc::Drop | CoreFunc::Other => CoreSource::Canon(index),
        }
    }

    /// Follows a component function to its origin, through a bounded number of instances.
    pub fn func(&self, mut index: u32) -> FuncSource<'a> {
        for _ in 0..MOST_HOPS {
            match &self.funcs[index as usize] {
                Func::Lifted { .. } => return FuncSource::Lifted(index),
                Func::Imported => return FuncSource::Unknown,
                Func::Same(other) => index = *other,
                Func::Export { instance, name } => match self.instance_func(*instance, name) {
                    Ok(origin) => return origin,
                    Err(other) => index = other,
                },
            }
        }
        FuncSource::Unknown
    }

    /// Where a function of an instance comes from, or which function of this component it is.
    fn instance_func(&self, mut instance: u32, name: &'a str) -> Result<FuncSource<'a>, u32> {
        loop {
            match &self.instances[instance as usize] {
                Instance::Imported(interface) => return Ok(FuncSource::Imported { interface, name }),
                Instance::Same(other) => instance = *other,
                Instance::Inner => return Ok(FuncSource::Unknown),
                Instance::Bundle(items) => {
                    return match items.get(name) {
                        Some((ComponentExternalKind::Func, index)) => Err(*index),
                        _ => Ok(FuncSource::Unknown),
                    };
                }
                Instance::Nested { component, args } => {
                    let index = self.behind_nested(*component, args, name);
                    return index.map_or(Ok(FuncSource::Unknown), Err);
                }
            }
        }
    }

    /// The function that was given to a nested component and is exported by it again.
    fn behind_nested(&self, component: u32, args: &Named<'a, ComponentExternalKind>, name: &str) -> Option<u32> {
        let nested = self.components[component as usize].as_ref()?;
        let func = nested.exports.get(name)?;
        let import = nested.funcs.get(*func as usize)?.as_ref()?;
        match args.get(import)? {
            (ComponentExternalKind::Func, index) => Some(*index),
            _ => None,
        }
    }

    /// Follows a function of an exported instance to its origin.
    pub fn exported_func(&self, instance: u32, name: &'static str) -> FuncSource<'a> {
        match self.instance_func(instance, name) {
            Ok(origin) => origin,
            Err(index) => self.func(index),
        }
    }
}
