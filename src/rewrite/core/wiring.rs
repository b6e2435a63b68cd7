//! Which definition each function, table and tag index of each module stands for, once imports are followed through all modules.

use std::collections::HashMap;

use wasmparser::ExternalKind;

use super::super::Refusal;
use super::module::Entity;
use super::program::{ImportSource, LinkedModule, Program, Suspends};

/// What a function index stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The function `index` that `module` defines.
    Defined { module: usize, index: u32 },
    /// A suspending host function.
    Suspending(Suspends),
    /// A host function that never suspends.
    Opaque,
}

/// The table `index` that `module` defines: the identity of a table that several modules share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    pub module: usize,
    pub index: u32,
}

/// The exception tag that a module defines, likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagId {
    pub module: usize,
    pub index: u32,
}

/// The resolved index spaces of all modules.
#[derive(Debug, Default)]
pub struct Wiring {
    pub functions: Vec<Vec<Target>>,
    pub tables: Vec<Vec<TableId>>,
    pub tags: Vec<Vec<TagId>>,
}

/// The exports of each module by their names, which no two have in common.
type Exports<'p> = Vec<HashMap<&'p str, (ExternalKind, u32)>>;

impl Wiring {
    /// # Errors
    /// Imports that the program's wiring does not explain, and everything but functions that comes from outside of the program: the host
    /// could neither save nor restore it.
    pub fn resolve(program: &Program<'_>) -> Result<Wiring, Vec<Refusal>> {
        let mut wiring = Wiring::default();
        let mut refusals = vec![];
        let mut exports: Exports<'_> = vec![];
        for (position, linked) in program.modules.iter().enumerate() {
            let result = wiring.add_module(position, linked, &exports);
            exports.push(linked.module.exports().iter().map(|export| (export.name, (export.kind, export.index))).collect());
            if let Err(reason) = result {
                refusals.push(Refusal::of_module(linked.module.name(), reason));
                // Later modules may refer to this one: they get an empty index space and refusals of their own.
                wiring.functions.resize_with(position + 1, Vec::new);
                wiring.tables.resize_with(position + 1, Vec::new);
                wiring.tags.resize_with(position + 1, Vec::new);
            }
        }
        if refusals.is_empty() { Ok(wiring) } else { Err(refusals) }
    }

    fn add_module(&mut self, position: usize, linked: &LinkedModule<'_>, exports: &Exports<'_>) -> Result<(), String> {
        let module = &linked.module;
        if linked.imports.len() != module.imports().len() {
            return Err(format!("{} imports, but {} sources for them", module.imports().len(), linked.imports.len()));
        }
        let (mut functions, mut tables, mut tags) = (vec![], vec![], vec![]);
        for (import, source) in module.imports().iter().zip(&linked.imports) {
            let missing = || format!("nothing in the program provides the import {:?} {:?}", import.module, import.field);
            let export = |kind| match source {
                ImportSource::Export { module, name } if *module < position => {
                    let found = exports[*module].get(name.as_str()).filter(|(found, _)| *found == kind);
                    found.map(|(_, index)| (*module, *index as usize)).ok_or_else(missing)
                }
                _ => Err(missing()),
            };
            match (&import.entity, source) {
                (Entity::Function(_), ImportSource::Suspending(suspends)) => functions.push(Target::Suspending(*suspends)),
                (Entity::Function(_), ImportSource::Opaque) => functions.push(Target::Opaque),
                (Entity::Function(_), _) => {
                    let (module, index) = export(ExternalKind::Func)?;
                    functions.push(*self.functions[module].get(index).ok_or_else(missing)?);
                }
                (Entity::Table(_), _) => {
                    let (module, index) = export(ExternalKind::Table)?;
                    tables.push(*self.tables[module].get(index).ok_or_else(missing)?);
                }
                (Entity::Memory(_), _) => {
                    export(ExternalKind::Memory)?;
                }
                (Entity::Global(_), _) => {
                    export(ExternalKind::Global)?;
                }
                (Entity::Tag(_), _) => {
                    let (module, index) = export(ExternalKind::Tag)?;
                    tags.push(*self.tags[module].get(index).ok_or_else(missing)?);
                }
            }
        }
        let defined = (module.imported_functions..).take(module.functions.len());
        functions.extend(defined.map(|index| Target::Defined { module: position, index }));
        let defined = (module.imported_tables..).take(module.defined_tables as usize);
        tables.extend(defined.map(|index| TableId { module: position, index }));
        let defined = tags.len()..module.tag_types.len();
        tags.extend(defined.map(|index| TagId { module: position, index: index as u32 }));
        self.functions.push(functions);
        self.tables.push(tables);
        self.tags.push(tags);
        Ok(())
    }
}
