//! The facts of one core module.

use wasmparser::{ExternalKind, FuncType, GlobalType, MemoryType, TableType, ValType};

use super::super::{Limits, Refusal};

/// What an import is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// A function.
    Function(FuncType),
    /// A table.
    Table(TableType),
    /// A memory.
    Memory(MemoryType),
    /// A global.
    Global(GlobalType),
    /// An exception tag.
    Tag(FuncType),
}

/// An import of a core module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import<'a> {
    /// First name.
    pub module: &'a str,
    /// Second name.
    pub field: &'a str,
    /// Kind and type.
    pub entity: Entity,
}

/// An export of a core module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its kind.
    pub kind: ExternalKind,
    /// Index in the index space of its kind.
    pub index: u32,
}

/// A mutable global that a module defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalFact {
    /// Index in the module's global index space.
    pub index: u32,
    /// Its type; never a reference.
    pub ty: ValType,
}

/// Parsed facts of one core module.
#[derive(Debug)]
pub struct CoreModule<'a> {
    name: String,
    bytes: &'a [u8],
    imports: Vec<Import<'a>>,
    exports: Vec<Export<'a>>,
    mutable_globals: Vec<GlobalFact>,
    defined_memories: u32,
    functions: Vec<FuncType>,
}

impl<'a> CoreModule<'a> {
    /// Parses a core module; function bodies are validated by [`super::instrument`].
    ///
    /// # Errors
    /// Every construct that is not supported in a suspendable program, or the one reason why the bytes are no module.
    pub fn parse(bytes: &'a [u8], name: String, limits: &Limits) -> Result<CoreModule<'a>, Vec<Refusal>> {
        let _ = limits;
        Ok(CoreModule {
            name,
            bytes,
            imports: vec![],
            exports: vec![],
            mutable_globals: vec![],
            defined_memories: 0,
            functions: vec![],
        })
    }

    /// The name given to [`CoreModule::parse`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes given to [`CoreModule::parse`].
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All imports, in order.
    pub fn imports(&self) -> &[Import<'a>] {
        &self.imports
    }

    /// All exports, in order.
    pub fn exports(&self) -> &[Export<'a>] {
        &self.exports
    }

    /// How many memories the module defines (imported ones are not counted).
    pub fn defined_memories(&self) -> u32 {
        self.defined_memories
    }

    /// The mutable globals the module defines.
    pub fn defined_mutable_globals(&self) -> &[GlobalFact] {
        &self.mutable_globals
    }

    /// The type of the function exported as `name`, or `None` if there is no such function.
    pub fn func_type_of_export(&self, name: &str) -> Option<&FuncType> {
        let export = self.exports.iter().find(|export| export.name == name && export.kind == ExternalKind::Func)?;
        self.functions.get(export.index as usize)
    }
}
