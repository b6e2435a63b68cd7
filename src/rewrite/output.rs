//! A component being written: each item gets the next index of its space.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, Component, ComponentAliasSection, ComponentExportKind,
    ComponentExportSection, ComponentExternName, ComponentImportSection, ComponentInstanceSection, ComponentOuterAliasKind,
    ComponentSectionId, ComponentTypeEncoder, ComponentTypeRef, ComponentTypeSection, CoreTypeSection, ExportKind,
    InstanceSection, ModuleArg, NestedComponentSection, RawSection,
};

/// The component so far and how many items each index space has. One section per item: a few bytes more, and no order to keep in mind.
#[derive(Debug, Default)]
pub struct Output {
    component: Component,
    types: u32,
    core_types: u32,
    modules: u32,
    components: u32,
    instances: u32,
    funcs: u32,
    values: u32,
    core_instances: u32,
    core_funcs: u32,
    core_tables: u32,
    core_memories: u32,
    core_globals: u32,
    core_tags: u32,
}

fn next(count: &mut u32) -> u32 {
    *count += 1;
    *count - 1
}

impl Output {
    /// Adds a type.
    pub fn ty<E>(&mut self, write: impl FnOnce(ComponentTypeEncoder<'_>) -> Result<(), E>) -> Result<u32, E> {
        let mut section = ComponentTypeSection::new();
        write(section.ty())?;
        self.component.section(&section);
        Ok(next(&mut self.types))
    }

    /// Adds core types; nothing is added to their index space but those of the original.
    pub fn core_types(&mut self, section: &CoreTypeSection) {
        self.component.section(section);
        self.core_types += section.len();
    }

    /// Imports an instance.
    pub fn import_instance(&mut self, name: &str, ty: u32) -> u32 {
        let mut section = ComponentImportSection::new();
        section.import(name, ComponentTypeRef::Instance(ty));
        self.component.section(&section);
        next(&mut self.instances)
    }

    /// Adds an alias.
    pub fn alias(&mut self, alias: Alias<'_>) -> u32 {
        let count = match alias {
            Alias::InstanceExport { kind, .. } => self.count_of(kind),
            Alias::CoreInstanceExport { kind: ExportKind::Func, .. } => &mut self.core_funcs,
            Alias::CoreInstanceExport { kind: ExportKind::Table, .. } => &mut self.core_tables,
            Alias::CoreInstanceExport { kind: ExportKind::Memory, .. } => &mut self.core_memories,
            Alias::CoreInstanceExport { kind: ExportKind::Global, .. } => &mut self.core_globals,
            Alias::CoreInstanceExport { kind: ExportKind::Tag, .. } => &mut self.core_tags,
            Alias::Outer { kind: ComponentOuterAliasKind::Type, .. } => &mut self.types,
            Alias::Outer { kind: ComponentOuterAliasKind::CoreType, .. } => &mut self.core_types,
            Alias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => &mut self.modules,
            Alias::Outer { kind: ComponentOuterAliasKind::Component, .. } => &mut self.components,
        };
        let index = next(count);
        let mut section = ComponentAliasSection::new();
        section.alias(alias);
        self.component.section(&section);
        index
    }

    /// Adds a core module.
    pub fn core_module(&mut self, bytes: &[u8]) -> u32 {
        self.component.section(&RawSection { id: ComponentSectionId::CoreModule as u8, data: bytes });
        next(&mut self.modules)
    }

    /// Adds a nested component.
    pub fn component(&mut self, component: &Component) -> u32 {
        self.component.section(&NestedComponentSection(component));
        next(&mut self.components)
    }

    /// Instantiates a core module with other core instances as its arguments.
    pub fn core_instance<'n>(&mut self, module: u32, args: impl IntoIterator<Item = (&'n str, u32)>) -> u32 {
        let args: Vec<_> = args.into_iter().map(|(name, instance)| (name, ModuleArg::Instance(instance))).collect();
        let mut section = InstanceSection::new();
        section.instantiate(module, args);
        self.component.section(&section);
        next(&mut self.core_instances)
    }

    /// Makes a core instance out of single items.
    pub fn core_bundle<'n>(&mut self, items: impl IntoIterator<Item = (&'n str, ExportKind, u32)>) -> u32 {
        let items: Vec<_> = items.into_iter().collect();
        let mut section = InstanceSection::new();
        section.export_items(items);
        self.component.section(&section);
        next(&mut self.core_instances)
    }

    /// Adds the one component instance of a section.
    pub fn instance(&mut self, section: &ComponentInstanceSection) -> u32 {
        self.component.section(section);
        next(&mut self.instances)
    }

    /// Lowers a component function.
    pub fn lower(&mut self, func: u32, options: &[CanonicalOption]) -> u32 {
        let mut section = CanonicalFunctionSection::new();
        section.lower(func, options.iter().copied());
        self.component.section(&section);
        next(&mut self.core_funcs)
    }

    /// Lifts a core function.
    pub fn lift(&mut self, core_func: u32, ty: u32, options: &[CanonicalOption]) -> u32 {
        let mut section = CanonicalFunctionSection::new();
        section.lift(core_func, ty, options.iter().copied());
        self.component.section(&section);
        next(&mut self.funcs)
    }

    /// Exports an item, which gets another index by it.
    pub fn export(
        &mut self,
        name: ComponentExternName<'_>,
        kind: ComponentExportKind,
        index: u32,
        ty: Option<ComponentTypeRef>,
    ) -> u32 {
        let mut section = ComponentExportSection::new();
        section.export(name, kind, index, ty);
        self.component.section(&section);
        next(self.count_of(kind))
    }

    /// The whole component.
    pub fn finish(self) -> Vec<u8> {
        self.component.finish()
    }

    fn count_of(&mut self, kind: ComponentExportKind) -> &mut u32 {
        match kind {
            ComponentExportKind::Func => &mut self.funcs,
            ComponentExportKind::Module => &mut self.modules,
            ComponentExportKind::Type => &mut self.types,
            ComponentExportKind::Component => &mut self.components,
            ComponentExportKind::Instance => &mut self.instances,
            ComponentExportKind::Value => &mut self.values,
        }
    }
}
