//! Copies component-level definitions under new indices, with resource handles turned into plain numbers.
//!
//! In every type `own<T>` and `borrow<T>` become `u32`: the same flat type, size and alignment, so core code does not notice. The host then
//! owns all handle numbers and can give them back after a restore. Functions of resources get plain names, everywhere alike.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    convert::Infallible,
};

use wasm_encoder::{
    Alias, ComponentAliasSection, ComponentDefinedTypeEncoder, ComponentExportKind, ComponentExportSection, ComponentExternName,
    ComponentImportSection, ComponentInstanceSection, ComponentTypeRef, InstanceType, PrimitiveValType,
    reencode::{self, Reencode, ReencodeComponent, component_utils},
};
use wasmparser::{ComponentFuncType, ComponentType, InstanceTypeDeclaration};

use super::imports;

/// Errors of re-encoding are those of reading, which a validated component does not have.
pub type Result<T> = std::result::Result<T, reencode::Error<Infallible>>;

/// For each index space of the original component the new index of each item.
#[derive(Debug, Default)]
pub struct Indices {
    pub types: Vec<u32>,
    pub modules: Vec<u32>,
    pub components: Vec<u32>,
    pub instances: Vec<u32>,
    pub funcs: Vec<u32>,
    pub core_instances: Vec<u32>,
    pub core_funcs: Vec<u32>,
    pub core_tables: Vec<u32>,
    pub core_memories: Vec<u32>,
    pub core_globals: Vec<u32>,
    pub core_tags: Vec<u32>,
}

/// Copies definitions; at depth 0, the top level of the component, indices go through [`Indices`].
#[derive(Debug, Default)]
pub struct Eraser {
    pub indices: Indices,
    depth: u32,
}

/// The item at an index of a validated component has been copied before. Were it not so, the index would be out of range in the result
/// too, which is validated.
fn lookup(map: &[u32], index: u32) -> u32 {
    map.get(index as usize).copied().unwrap_or(u32::MAX)
}

impl Eraser {
    fn at(&self, depth: u32, map: &[u32], index: u32) -> u32 {
        if depth == self.depth { lookup(map, index) } else { index }
    }

    /// The type of an imported instance with two more functions for each function that suspends. They come last, so no index changes.
    ///
    /// # Errors
    /// The name of a suspending function that cannot be split.
    pub fn split_instance_type(
        &mut self,
        declarations: &[InstanceTypeDeclaration<'_>],
        suspends: impl Fn(&str) -> bool,
    ) -> Result<std::result::Result<InstanceType, String>> {
        self.push_depth();
        let mut ty = InstanceType::new();
        let mut funcs: HashMap<u32, &ComponentFuncType<'_>> = HashMap::new();
        let mut split = vec![];
        let mut names = HashSet::new();
        for declaration in declarations {
            match declaration {
                InstanceTypeDeclaration::Type(ComponentType::Func(func)) => {
                    funcs.insert(ty.type_count(), func);
                }
                InstanceTypeDeclaration::Export { name, ty: wasmparser::ComponentTypeRef::Func(index) } => {
                    names.insert(plain(name.name));
                    if suspends(name.name) {
                        split.push((plain(name.name), funcs.get(index).copied()));
                    }
                }
                _ => {}
            }
            self.parse_component_instance_type_declaration(&mut ty, declaration.clone())?;
        }
        let mut result = Ok(());
        for (name, func) in &split {
            let (start, finish) = (imports::start_of(name), imports::finish_of(name));
            match func {
                Some(func) if !names.contains(start.as_str()) && !names.contains(finish.as_str()) => {
                    self.append_split(&mut ty, func, &start, &finish);
                }
                _ => result = Err(name.to_string()),
            }
        }
        self.pop_depth();
        Ok(result.map(|()| ty))
    }

    fn append_split(&mut self, ty: &mut InstanceType, func: &ComponentFuncType<'_>, start: &str, finish: &str) {
        let params: Vec<_> = func.params.iter().map(|(name, ty)| (*name, self.component_val_type(*ty))).collect();
        let result = func.result.map(|ty| self.component_val_type(ty));
        let index = ty.type_count();
        ty.ty().function().params(params).result(Some(PrimitiveValType::U32.into()));
        ty.export(start, ComponentTypeRef::Func(index));
        let no_params: [(&str, wasm_encoder::ComponentValType); 0] = [];
        ty.ty().function().params(no_params).result(result);
        ty.export(finish, ComponentTypeRef::Func(index + 1));
    }
}

/// The name of an item in the result.
pub fn plain(name: &str) -> Cow<'_, str> {
    imports::plain_name(name).map_or(Cow::Borrowed(name), Cow::Owned)
}

/// The same for the names of imports and exports.
pub fn plain_extern(name: wasmparser::ComponentExternName<'_>) -> ComponentExternName<'_> {
    ComponentExternName { name: plain(name.name), ..ComponentExternName::from(name) }
}

impl Reencode for Eraser {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32> {
        Ok(self.at(0, &self.indices.core_funcs, index))
    }

    fn table_index(&mut self, index: u32) -> Result<u32> {
        Ok(self.at(0, &self.indices.core_tables, index))
    }

    fn memory_index(&mut self, index: u32) -> Result<u32> {
        Ok(self.at(0, &self.indices.core_memories, index))
    }

    fn global_index(&mut self, index: u32) -> Result<u32> {
        Ok(self.at(0, &self.indices.core_globals, index))
    }

    fn tag_index(&mut self, index: u32) -> Result<u32> {
        Ok(self.at(0, &self.indices.core_tags, index))
    }
}

impl ReencodeComponent for Eraser {
    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth -= 1;
    }

    fn component_type_index(&mut self, index: u32) -> u32 {
        self.at(0, &self.indices.types, index)
    }

    fn component_instance_index(&mut self, index: u32) -> u32 {
        self.at(0, &self.indices.instances, index)
    }

    fn component_func_index(&mut self, index: u32) -> u32 {
        self.at(0, &self.indices.funcs, index)
    }

    fn component_index(&mut self, index: u32) -> u32 {
        self.at(0, &self.indices.components, index)
    }

    fn module_index(&mut self, index: u32) -> u32 {
        self.at(0, &self.indices.modules, index)
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        self.at(0, &self.indices.core_instances, index)
    }

    /// Core types are copied one by one and keep their indices.
    fn outer_type_index(&mut self, _count: u32, index: u32) -> Result<u32> {
        Ok(index)
    }

    fn outer_component_type_index(&mut self, count: u32, index: u32) -> u32 {
        self.at(count, &self.indices.types, index)
    }

    fn outer_component_index(&mut self, count: u32, index: u32) -> u32 {
        self.at(count, &self.indices.components, index)
    }

    fn outer_module_index(&mut self, count: u32, index: u32) -> u32 {
        self.at(count, &self.indices.modules, index)
    }

    fn parse_component_defined_type(
        &mut self,
        defined: ComponentDefinedTypeEncoder<'_>,
        ty: wasmparser::ComponentDefinedType<'_>,
    ) -> Result<()> {
        match ty {
            wasmparser::ComponentDefinedType::Own(_) | wasmparser::ComponentDefinedType::Borrow(_) => {
                defined.primitive(PrimitiveValType::U32);
                Ok(())
            }
            ty => component_utils::parse_component_defined_type(self, defined, ty),
        }
    }

    fn parse_component_instance_type_declaration(
        &mut self,
        instance: &mut InstanceType,
        declaration: InstanceTypeDeclaration<'_>,
    ) -> Result<()> {
        match declaration {
            InstanceTypeDeclaration::Export { name, ty } => {
                let ty = self.component_type_ref(ty)?;
                instance.export(plain_extern(name), ty);
            }
            InstanceTypeDeclaration::Alias(alias) => {
                self.copy_alias(alias, |alias| {
                    instance.alias(alias);
                })?;
            }
            other => component_utils::parse_component_instance_type_declaration(self, instance, other)?,
        }
        Ok(())
    }

    fn parse_component_type_declaration(
        &mut self,
        component: &mut wasm_encoder::ComponentType,
        declaration: wasmparser::ComponentTypeDeclaration<'_>,
    ) -> Result<()> {
        match declaration {
            wasmparser::ComponentTypeDeclaration::Export { name, ty } => {
                let ty = self.component_type_ref(ty)?;
                component.export(plain_extern(name), ty);
            }
            wasmparser::ComponentTypeDeclaration::Import(import) => {
                let ty = self.component_type_ref(import.ty)?;
                component.import(plain_extern(import.name), ty);
            }
            wasmparser::ComponentTypeDeclaration::Alias(alias) => {
                self.copy_alias(alias, |alias| {
                    component.alias(alias);
                })?;
            }
            other => component_utils::parse_component_type_declaration(self, component, other)?,
        }
        Ok(())
    }

    fn parse_component_import_section(
        &mut self,
        imports: &mut ComponentImportSection,
        section: wasmparser::ComponentImportSectionReader<'_>,
    ) -> Result<()> {
        for import in section {
            let import = import?;
            let ty = self.component_type_ref(import.ty)?;
            imports.import(plain_extern(import.name), ty);
        }
        Ok(())
    }

    fn parse_component_alias_section(
        &mut self,
        aliases: &mut ComponentAliasSection,
        section: wasmparser::ComponentAliasSectionReader<'_>,
    ) -> Result<()> {
        for alias in section {
            self.copy_alias(alias?, |alias| {
                aliases.alias(alias);
            })?;
        }
        Ok(())
    }

    fn parse_component_instance(
        &mut self,
        instances: &mut ComponentInstanceSection,
        instance: wasmparser::ComponentInstance<'_>,
    ) -> Result<()> {
        match instance {
            wasmparser::ComponentInstance::Instantiate { component_index, args } => {
                let args: Vec<_> = args.iter().map(|arg| self.item(arg.name, arg.kind, arg.index)).collect();
                instances.instantiate(self.component_index(component_index), args);
            }
            wasmparser::ComponentInstance::FromExports(items) => {
                let items: Vec<_> = items.iter().map(|item| self.item(item.name.name, item.kind, item.index)).collect();
                instances.export_items(items.iter().map(|(name, kind, index)| (name.as_ref(), *kind, *index)));
            }
        }
        Ok(())
    }

    fn parse_component_export(
        &mut self,
        exports: &mut ComponentExportSection,
        export: wasmparser::ComponentExport<'_>,
    ) -> Result<()> {
        let ty = export.ty.map(|ty| self.component_type_ref(ty)).transpose()?;
        let index = self.component_external_index(export.kind, export.index);
        exports.export(plain_extern(export.name), export.kind.into(), index, ty);
        Ok(())
    }

    /// Names of items in custom sections would be those of the old indices.
    fn parse_component_custom_section(
        &mut self,
        _component: &mut wasm_encoder::Component,
        _section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<()> {
        Ok(())
    }
}

impl Eraser {
    /// Copies an alias; the name of an aliased export is the plain one.
    pub fn copy_alias<R>(&mut self, alias: wasmparser::ComponentAlias<'_>, write: impl FnOnce(Alias<'_>) -> R) -> Result<R> {
        Ok(match alias {
            wasmparser::ComponentAlias::InstanceExport { kind, instance_index, name } => write(Alias::InstanceExport {
                instance: self.component_instance_index(instance_index),
                kind: kind.into(),
                name: &plain(name),
            }),
            other => write(component_utils::component_alias(self, other)?),
        })
    }

    /// An item passed to an instance or put into one.
    pub fn item<'n>(
        &mut self,
        name: &'n str,
        kind: wasmparser::ComponentExternalKind,
        index: u32,
    ) -> (Cow<'n, str>, ComponentExportKind, u32) {
        (plain(name), kind.into(), self.component_external_index(kind, index))
    }
}
