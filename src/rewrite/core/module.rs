//! The facts of one core module, read once, before anything is rewritten.

use std::collections::{BTreeSet, HashMap};

use wasmparser::{
    ConstExpr, Element, ElementItems, ElementKind, ExternalKind, FuncType, FunctionBody, GlobalType, KnownCustom, MemoryType,
    Name, NameSectionReader, Operator, Parser, Payload, TableType, TypeRef, ValType, ValidPayload, Validator, ValidatorResources,
    WasmFeatures,
};

use super::super::{Limits, Refusal};
use super::MAX_REFUSALS;
use super::frame::CKPT;
use super::scan::{self, BodyFacts, Dropped};

/// What wasmtime 48 accepts with our build features, less what a snapshot cannot hold: shared and 64-bit memories, garbage-collected
/// and typed references, stack switching.
pub fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::GC_TYPES
}

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
    /// An exception tag and the values it carries.
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

/// A function that a module defines.
#[derive(Debug)]
pub(super) struct Function<'a> {
    pub body: FunctionBody<'a>,
    pub facts: BodyFacts,
}

/// An element segment that fills a table when the module is instantiated.
#[derive(Debug)]
pub(super) struct Segment {
    pub table: u32,
    /// `None` if it depends on an import.
    pub offset: Option<u32>,
    /// Functions of the module's index space; `None`: null.
    pub functions: Vec<Option<u32>>,
    /// Some item is not a function of the module but the value of an imported global.
    pub has_unknown_items: bool,
}

/// Parsed facts of one core module.
#[derive(Debug)]
pub struct CoreModule<'a> {
    name: String,
    bytes: &'a [u8],
    imports: Vec<Import<'a>>,
    exports: Vec<Export<'a>>,
    mutable_globals: Vec<GlobalFact>,
    /// The segments that functions drop, in ascending order. Each has a flag: a mutable global that the rewritten module has in addition.
    pub(super) dropped: Vec<Dropped>,
    pub(super) types: Vec<FuncType>,
    /// Type index of each function, imported ones first.
    pub(super) function_types: Vec<u32>,
    pub(super) imported_functions: u32,
    pub(super) imported_globals: u32,
    pub(super) imported_memories: u32,
    pub(super) imported_tables: u32,
    defined_globals: u32,
    defined_memories: u32,
    pub(super) defined_tables: u32,
    pub(super) functions: Vec<Function<'a>>,
    pub(super) segments: Vec<Segment>,
    /// In all segments that fill tables.
    pub(super) elements: usize,
    /// Type index of each exception tag, imported ones first.
    pub(super) tag_types: Vec<u32>,
    pub(super) function_names: HashMap<u32, &'a str>,
    /// For validating the bodies; `None` if there are none.
    pub(super) resources: Option<ValidatorResources>,
}

impl<'a> CoreModule<'a> {
    /// Parses a core module and validates all of it but the function bodies, which [`super::instrument`] validates when it has to read
    /// them anyway.
    ///
    /// # Errors
    /// Every construct that is not supported in a suspendable program, or the one reason why the bytes are not a module.
    pub fn parse(bytes: &'a [u8], name: String, limits: &Limits) -> Result<CoreModule<'a>, Vec<Refusal>> {
        if bytes.len() > limits.max_component_bytes {
            let reason = format!("{} bytes are more than the limit of {}", bytes.len(), limits.max_component_bytes);
            return Err(vec![Refusal::of_module(&name, reason)]);
        }
        let mut module = CoreModule::empty(bytes, name);
        if let Err(error) = module.read(limits) {
            return Err(vec![Refusal::of_module(&module.name, format!("cannot be read: {error}"))]);
        }
        module.add_flags();
        let refusals = module.refusals(limits);
        if refusals.is_empty() { Ok(module) } else { Err(refusals) }
    }

    fn empty(bytes: &'a [u8], name: String) -> CoreModule<'a> {
        CoreModule {
            name,
            bytes,
            imports: vec![],
            exports: vec![],
            mutable_globals: vec![],
            dropped: vec![],
            types: vec![],
            function_types: vec![],
            imported_functions: 0,
            imported_globals: 0,
            imported_memories: 0,
            imported_tables: 0,
            defined_globals: 0,
            defined_memories: 0,
            defined_tables: 0,
            functions: vec![],
            segments: vec![],
            elements: 0,
            tag_types: vec![],
            function_names: HashMap::new(),
            resources: None,
        }
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

    /// The mutable globals the module defines, and the flags that say what it has dropped.
    pub fn defined_mutable_globals(&self) -> &[GlobalFact] {
        &self.mutable_globals
    }

    /// The type of the function exported as `name`, or `None` if there is no such function.
    pub fn func_type_of_export(&self, name: &str) -> Option<&FuncType> {
        let export = self.exports.iter().find(|export| export.name == name && export.kind == ExternalKind::Func)?;
        self.function_type(export.index)
    }

    pub(super) fn function_type(&self, index: u32) -> Option<&FuncType> {
        self.types.get(*self.function_types.get(index as usize)? as usize)
    }

    /// What exceptions of a tag carry.
    pub(super) fn carried(&self, tag: u32) -> &[ValType] {
        let ty = self.tag_types.get(tag as usize).and_then(|ty| self.types.get(*ty as usize));
        ty.map_or(&[], FuncType::params)
    }

    /// Index of the global that is 1 once a segment is dropped; after all globals of the original.
    pub(super) fn flag(&self, segment: Dropped) -> Option<u32> {
        let position = self.dropped.binary_search(&segment).ok()?;
        Some(self.imported_globals + self.defined_globals + position as u32)
    }

    /// What to call a function in a refusal.
    pub(super) fn function_name(&self, index: u32) -> String {
        self.function_names.get(&index).map_or_else(|| index.to_string(), |name| (*name).to_owned())
    }

    fn read(&mut self, limits: &Limits) -> wasmparser::Result<()> {
        let mut validator = Validator::new_with_features(features());
        let mut parser = Parser::new(0);
        // What is legacy is read, to be refused by its name.
        parser.set_features(features() | WasmFeatures::LEGACY_EXCEPTIONS);
        for payload in parser.parse_all(self.bytes) {
            let payload = payload?;
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                self.resources.get_or_insert_with(|| function.resources.clone());
                let facts = scan::scan(&body)?;
                self.functions.push(Function { body, facts });
            } else {
                self.read_section(payload, limits)?;
            }
        }
        Ok(())
    }

    fn add_flags(&mut self) {
        let dropped: BTreeSet<Dropped> = self.functions.iter().flat_map(|function| &function.facts.dropped).copied().collect();
        self.dropped = dropped.into_iter().collect();
        for segment in &self.dropped {
            let index = self.flag(*segment).expect("it was just added");
            self.mutable_globals.push(GlobalFact { index, ty: ValType::I32 });
        }
    }

    fn read_section(&mut self, payload: Payload<'a>, limits: &Limits) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    self.types.push(ty?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.read_import(import?)?;
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.function_types.push(ty?);
                }
            }
            Payload::TableSection(section) => self.defined_tables = section.count(),
            Payload::MemorySection(section) => self.defined_memories = section.count(),
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global?.ty;
                    if ty.mutable {
                        let index = self.imported_globals + self.defined_globals;
                        self.mutable_globals.push(GlobalFact { index, ty: ty.content_type });
                    }
                    self.defined_globals += 1;
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    self.tag_types.push(tag?.func_type_idx);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.exports.push(Export { name: export.name, kind: export.kind, index: export.index });
                }
            }
            Payload::ElementSection(section) => {
                for element in section {
                    self.read_element(element?, limits)?;
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.read_names(names, limits);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_import(&mut self, import: wasmparser::Import<'a>) -> wasmparser::Result<()> {
        let type_at = |index: u32| self.types[index as usize].clone();
        let entity = match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                let function = type_at(ty);
                self.function_types.push(ty);
                self.imported_functions += 1;
                Entity::Function(function)
            }
            TypeRef::Table(ty) => {
                self.imported_tables += 1;
                Entity::Table(ty)
            }
            TypeRef::Memory(ty) => {
                self.imported_memories += 1;
                Entity::Memory(ty)
            }
            TypeRef::Global(ty) => {
                self.imported_globals += 1;
                Entity::Global(ty)
            }
            TypeRef::Tag(ty) => {
                self.tag_types.push(ty.func_type_idx);
                Entity::Tag(type_at(ty.func_type_idx))
            }
        };
        self.imports.push(Import { module: import.module, field: import.name, entity });
        Ok(())
    }

    fn read_element(&mut self, element: Element<'a>, limits: &Limits) -> wasmparser::Result<()> {
        let ElementKind::Active { table_index, offset_expr } = element.kind else {
            return Ok(()); // a passive segment does nothing without table.init, which is refused
        };
        self.elements += match &element.items {
            ElementItems::Functions(functions) => functions.count() as usize,
            ElementItems::Expressions(_, expressions) => expressions.count() as usize,
        };
        if self.elements > limits.max_elements {
            return Ok(()); // the module is going to be refused for their number
        }
        let offset = constant(&offset_expr)?;
        let mut segment = Segment { table: table_index.unwrap_or(0), offset, functions: vec![], has_unknown_items: false };
        match element.items {
            ElementItems::Functions(functions) => {
                for function in functions {
                    segment.functions.push(Some(function?));
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    let item = expression?.get_operators_reader().read()?;
                    segment.functions.push(match item {
                        Operator::RefFunc { function_index } => Some(function_index),
                        _ => None,
                    });
                    segment.has_unknown_items |= !matches!(item, Operator::RefFunc { .. } | Operator::RefNull { .. });
                }
            }
        }
        self.segments.push(segment);
        Ok(())
    }

    /// Names are a convenience: a damaged name section is ignored from where it is damaged, as engines do.
    fn read_names(&mut self, names: NameSectionReader<'a>, limits: &Limits) {
        for subsection in names {
            let Ok(subsection) = subsection else { return };
            if let Name::Function(functions) = subsection {
                let named =
                    functions.into_iter().map_while(Result::ok).filter(|naming| (naming.index as usize) < limits.max_functions);
                self.function_names.extend(named.map(|naming| (naming.index, naming.name)));
            }
        }
    }

    fn refusals(&self, limits: &Limits) -> Vec<Refusal> {
        let mut refusals = vec![];
        let mut refuse = |reason: String| refusals.push(Refusal::of_module(&self.name, reason));
        if self.functions.len() > limits.max_functions {
            refuse(format!("{} functions are more than the limit of {}", self.functions.len(), limits.max_functions));
        }
        for import in &self.imports {
            if import.module == CKPT {
                refuse(format!("imports {:?} from the reserved module name {CKPT:?}", import.field));
            }
            if let Entity::Global(ty) = &import.entity
                && ty.mutable
                && ty.content_type.is_reference_type()
            {
                refuse(format!("imports a mutable global of a reference type: {}.{}", import.module, import.field));
            }
        }
        for export in self.exports.iter().filter(|export| is_reserved(export.name)).take(MAX_REFUSALS) {
            refuse(format!("exports the reserved name {:?}", export.name));
        }
        for global in self.mutable_globals.iter().filter(|global| global.ty.is_reference_type()).take(MAX_REFUSALS) {
            refuse(format!("global {} is mutable and of a reference type, which a snapshot cannot hold", global.index));
        }
        if self.elements > limits.max_elements {
            refuse(format!("{} elements of tables are more than the limit of {}", self.elements, limits.max_elements));
        }
        for (index, function) in (self.imported_functions..).zip(&self.functions) {
            if refusals.len() >= MAX_REFUSALS {
                break;
            }
            let mut refuse = |reason: String| refusals.push(Refusal::of_function(&self.name, self.function_name(index), reason));
            for reason in &function.facts.refused {
                refuse((*reason).to_owned());
            }
            let params = self.function_type(index).map_or(0, |ty| ty.params().len());
            let locals = params.saturating_add(function.facts.locals);
            if locals > limits.max_locals_per_function {
                refuse(format!("{locals} locals are more than the limit of {}", limits.max_locals_per_function));
            }
        }
        refusals
    }
}

fn is_reserved(export: &str) -> bool {
    export.strip_prefix(CKPT).is_some_and(|rest| rest.starts_with(':'))
}

fn constant(expression: &ConstExpr<'_>) -> wasmparser::Result<Option<u32>> {
    let mut operators = expression.get_operators_reader();
    let value = match operators.read()? {
        Operator::I32Const { value } => Some(value.cast_unsigned()),
        _ => None,
    };
    let is_whole = matches!(operators.read()?, Operator::End);
    Ok(value.filter(|_| is_whole))
}
