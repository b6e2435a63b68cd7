//! Puts a rewritten module together.
//!
//! Index spaces of an instrumented module: the helpers follow the imported functions, `ckpt:replay`, `keep` and `remake` of exceptions and the resume versions follow the
//! defined ones; the imported `state` follows the imported globals, the flags of dropped segments follow the defined ones; the resume table
//! and the added types come last.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, BranchHint, BranchHints, CodeSection, ConstExpr, CustomSection, DataCountSection, DataSection, ElementSection,
    Elements, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, ImportSection,
    MemorySection, Module, NameMap, NameSection, RawSection, RefType, StartSection, TableSection, TableType, TagSection,
    TypeSection, ValType,
};
use wasmparser::{CustomSectionReader, KnownCustom, Name, Parser, Payload};

use super::ckpt::STATE;
use super::code::{Code, Symbol, encoded};
use super::context::Context;
use super::exceptions::Exceptions;
use super::frame::{CKPT, Helper, RESUME_TABLE};
use super::functions::Written;
use super::module::CoreModule;
use super::scan::Dropped;

/// The helpers that the functions call, in the order in which they are first called.
pub fn helpers(context: &Context<'_, '_>, functions: &[Written]) -> Vec<Helper> {
    let mut order = HashMap::new();
    let mut helpers = vec![];
    for function in functions {
        let (code, resume) = match function {
            Written::Unchanged => continue,
            Written::Copied(code) => (code, None),
            Written::Instrumented { fast, resume, .. } => (fast, resume.as_ref()),
        };
        for helper in code.helpers().chain(resume.into_iter().flat_map(Code::helpers)) {
            order.entry(helper).or_insert_with(|| helpers.push(helper));
        }
    }
    for helper in kept_exceptions(context, functions).into_iter().flat_map(Exceptions::helpers) {
        order.entry(helper).or_insert_with(|| helpers.push(helper));
    }
    helpers
}

/// How caught exceptions are saved, if any function saves some.
fn kept_exceptions<'m>(context: &Context<'m, '_>, functions: &[Written]) -> Option<&'m Exceptions> {
    let keeps = |function: &Written| matches!(function, Written::Instrumented { fast, .. } if fast.keeps_exceptions());
    context.exceptions.filter(|_| functions.iter().any(keeps))
}

/// A module that never suspends: only its memories and mutable globals are exported.
///
/// # Errors
/// If the module cannot be read, which parsing it has excluded.
pub fn with_exports(module: &CoreModule<'_>) -> Result<Vec<u8>, String> {
    let mut added = ExportSection::new();
    add_exports(module, 0, &mut added);
    if added.is_empty() {
        return Ok(module.bytes().to_vec());
    }
    let mut output = Module::new();
    let mut is_written = false;
    for payload in Parser::new(0).parse_all(module.bytes()) {
        let payload = payload.map_err(|error| error.to_string())?;
        if let Payload::ExportSection(section) = payload {
            let mut exports = ExportSection::new();
            reencode::RoundtripReencoder.parse_export_section(&mut exports, section).map_err(|error| error.to_string())?;
            add_exports(module, 0, &mut exports);
            output.section(&exports);
            is_written = true;
        } else if let Some((id, range)) = payload.as_section() {
            let is_custom = id == wasm_encoder::SectionId::Custom as u8;
            if !is_written && !is_custom && follows_exports(id) {
                output.section(&added);
                is_written = true;
            }
            output.section(&RawSection { id, data: &module.bytes()[range] });
        }
    }
    if !is_written {
        output.section(&added);
    }
    Ok(output.finish())
}

fn follows_exports(id: u8) -> bool {
    use wasm_encoder::SectionId;
    [SectionId::Start, SectionId::Element, SectionId::DataCount, SectionId::Code, SectionId::Data]
        .iter()
        .any(|section| *section as u8 == id)
}

/// `global_shift`: how many globals are imported in addition.
fn add_exports(module: &CoreModule<'_>, global_shift: u32, exports: &mut ExportSection) {
    for memory in (module.imported_memories..).take(module.defined_memories() as usize) {
        exports.export(&memory_export(memory), ExportKind::Memory, memory);
    }
    for global in module.defined_mutable_globals() {
        exports.export(&global_export(global.index), ExportKind::Global, global.index + global_shift);
    }
}

/// Name under which the memory with this index in the original module is exported.
pub fn memory_export(index: u32) -> String {
    format!("{CKPT}:m{index}")
}

/// Name under which the mutable global with this index in the original module is exported.
pub fn global_export(index: u32) -> String {
    format!("{CKPT}:g{index}")
}

/// Name of the function `() -> ()` that drops again what is marked as dropped, in a fresh instance.
pub const REPLAY: &str = "ckpt:replay";

/// A module with functions that may suspend, or that drop segments.
///
/// # Errors
/// If the module cannot be read, which parsing it has excluded.
pub fn instrumented(context: &Context<'_, '_>, functions: &[Written]) -> Result<Vec<u8>, String> {
    let helpers = helpers(context, functions);
    let layout = Layout::new(context, functions, &helpers);
    let mut sections = Sections::default();
    for payload in Parser::new(0).parse_all(context.module.bytes()) {
        let payload = payload.map_err(|error| error.to_string())?;
        sections.read(&layout, payload).map_err(|error| error.to_string())?;
    }
    sections.add_helpers(&layout, &helpers);
    sections.add_functions(&layout, functions);
    sections.add_flags(&layout);
    sections.add_resume_table(&layout);
    add_exports(context.module, 1, &mut sections.exports);
    sections.add_names(&layout);
    Ok(sections.finish())
}

/// Where everything goes.
struct Layout<'c, 'a> {
    context: &'c Context<'c, 'a>,
    helpers: HashMap<Helper, u32>,
    /// How functions save caught exceptions, if any does.
    exceptions: Option<&'c Exceptions>,
    /// For each page of the module the index of a resume version.
    pages: Vec<u32>,
    /// The function behind each resume version, by its index in the original module; `None`: the one that is never called.
    resumed: Vec<Option<u32>>,
}

impl<'c, 'a> Layout<'c, 'a> {
    fn new(context: &'c Context<'c, 'a>, functions: &[Written], helpers: &[Helper]) -> Layout<'c, 'a> {
        let module = context.module;
        let helpers: HashMap<_, _> = helpers.iter().copied().zip(module.imported_functions..).collect();
        let exceptions = kept_exceptions(context, functions);
        let mut layout = Layout { context, helpers, exceptions, pages: vec![], resumed: vec![] };
        let first_resume = layout.first_resume();
        let mut never = None;
        for (position, function) in functions.iter().enumerate() {
            let Written::Instrumented { resume, .. } = function else { continue };
            let next = first_resume + layout.resumed.len() as u32;
            let index = if resume.is_some() { next } else { *never.get_or_insert(next) };
            if index == next {
                layout.resumed.push(resume.is_some().then_some(module.imported_functions + position as u32));
            }
            layout.pages.extend(std::iter::repeat_n(index, context.page_count(position)));
        }
        layout
    }

    /// Index of the function that drops segments again, if there is one.
    fn replay(&self) -> u32 {
        (self.context.module.function_types.len() + self.helpers.len()) as u32
    }

    /// Index of `keep`, which `remake` follows, if any function saves caught exceptions.
    fn keep_exception(&self) -> u32 {
        self.replay() + u32::from(!self.context.module.dropped.is_empty())
    }

    fn first_resume(&self) -> u32 {
        self.keep_exception() + if self.exceptions.is_some() { 2 } else { 0 }
    }

    fn function(&self, original: u32) -> u32 {
        if original < self.context.module.imported_functions { original } else { original + self.helpers.len() as u32 }
    }

    fn symbol(&self, symbol: Symbol) -> u32 {
        match symbol {
            Symbol::Function(original) => self.function(original),
            Symbol::Helper(helper) => self.helpers[&helper],
            Symbol::KeepException => self.keep_exception(),
            Symbol::RemakeException => self.keep_exception() + 1,
        }
    }
}

impl Reencode for &Layout<'_, '_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Infallible>> {
        Ok(self.function(function))
    }

    fn global_index(&mut self, global: u32) -> Result<u32, reencode::Error<Infallible>> {
        Ok(self.context.global(global))
    }
}

#[derive(Default)]
struct Sections<'a> {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    tags: TagSection,
    globals: GlobalSection,
    exports: ExportSection,
    start: Option<u32>,
    elements: ElementSection,
    data_count: Option<u32>,
    hints: BranchHints,
    code: CodeSection,
    data: DataSection,
    module_name: Option<&'a str>,
    custom: Vec<CustomSectionReader<'a>>,
    names: Option<NameSection>,
}

impl<'a> Sections<'a> {
    fn read(&mut self, mut layout: &Layout<'_, 'a>, payload: Payload<'a>) -> Result<(), reencode::Error<Infallible>> {
        match payload {
            Payload::TypeSection(section) => layout.parse_type_section(&mut self.types, section),
            Payload::ImportSection(section) => layout.parse_import_section(&mut self.imports, section),
            Payload::FunctionSection(section) => layout.parse_function_section(&mut self.functions, section),
            Payload::TableSection(section) => layout.parse_table_section(&mut self.tables, section),
            Payload::MemorySection(section) => layout.parse_memory_section(&mut self.memories, section),
            Payload::TagSection(section) => layout.parse_tag_section(&mut self.tags, section),
            Payload::GlobalSection(section) => layout.parse_global_section(&mut self.globals, section),
            Payload::ExportSection(section) => layout.parse_export_section(&mut self.exports, section),
            Payload::ElementSection(section) => layout.parse_element_section(&mut self.elements, section),
            Payload::DataSection(section) => layout.parse_data_section(&mut self.data, section),
            Payload::StartSection { func, .. } => {
                self.start = Some(layout.function(func));
                Ok(())
            }
            Payload::DataCountSection { count, .. } => {
                self.data_count = Some(count);
                Ok(())
            }
            Payload::CustomSection(section) => {
                self.read_custom(section);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Debug information and hints tell of code that is no longer where it was.
    fn read_custom(&mut self, section: CustomSectionReader<'a>) {
        if let KnownCustom::Name(mut names) = section.as_known() {
            self.names = Some(NameSection::new());
            self.module_name = names.find_map(|name| match name {
                Ok(Name::Module { name, .. }) => Some(name),
                _ => None,
            });
            return;
        }
        let outdated = [".debug", "metadata.code.", "reloc.", "linking", "sourceMappingURL", "external_debug_info", "build_id"];
        if !outdated.iter().any(|prefix| section.name().starts_with(prefix)) {
            self.custom.push(section);
        }
    }

    fn add_helpers(&mut self, layout: &Layout<'_, '_>, helpers: &[Helper]) {
        let mut result_types: Vec<_> = layout.context.result_types.iter().collect();
        result_types.sort_unstable_by_key(|(_, index)| **index);
        for (results, _) in result_types {
            self.types.ty().function([], results.iter().map(|ty| encoded(*ty)));
        }
        for helper in helpers {
            self.imports.import(CKPT, &helper.name(), EntityType::Function(self.types.len()));
            self.types.ty().function(helper.params(), helper.results());
        }
        let state = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        self.imports.import(CKPT, STATE, state);
    }

    fn add_functions(&mut self, layout: &Layout<'_, '_>, functions: &[Written]) {
        let module = layout.context.module;
        for (index, function) in (module.imported_functions..).zip(functions) {
            match function {
                Written::Copied(code) | Written::Instrumented { fast: code, .. } => {
                    self.add_code(layout, layout.function(index), code)
                }
                Written::Unchanged => {}
            }
        }
        let resume_type = self.types.len();
        self.types.ty().function([], []);
        if !module.dropped.is_empty() {
            self.functions.function(resume_type);
            self.exports.export(REPLAY, ExportKind::Func, layout.replay());
            self.code.function(&replay(layout.context));
        }
        self.add_exceptions(layout);
        let mut never = Code::default();
        never.declare_locals([]);
        never.sink().unreachable().end();
        let mut resumes = functions.iter().filter_map(|function| match function {
            Written::Instrumented { resume, .. } => resume.as_ref(),
            _ => None,
        });
        for (index, resumed) in (layout.first_resume()..).zip(&layout.resumed) {
            self.functions.function(resume_type);
            let code = if resumed.is_some() { resumes.next() } else { None };
            self.add_code(layout, index, code.unwrap_or(&never));
        }
    }

    fn add_exceptions(&mut self, layout: &Layout<'_, '_>) {
        let Some(exceptions) = layout.exceptions else { return };
        let types = &mut self.types;
        let keep = exceptions.keep(|results| match results {
            [] => BlockType::Empty,
            [result] => BlockType::Result(encoded(*result)),
            several => {
                types.ty().function([], several.iter().map(|ty| encoded(*ty)));
                BlockType::FunctionType(types.len() - 1)
            }
        });
        self.functions.function(self.types.len()).function(self.types.len() + 1);
        self.types.ty().function([ValType::EXNREF], []);
        self.types.ty().function([], [ValType::EXNREF]);
        self.add_code(layout, layout.keep_exception(), &keep);
        self.add_code(layout, layout.keep_exception() + 1, &exceptions.remake());
    }

    fn add_code(&mut self, layout: &Layout<'_, '_>, index: u32, code: &Code) {
        let (body, hints) = code.link(|symbol| layout.symbol(symbol));
        self.code.raw(&body);
        if !hints.is_empty() {
            let hint = |offset| BranchHint { branch_func_offset: offset, branch_hint_value: 0 };
            self.hints.function_hints(index, hints.into_iter().map(hint));
        }
    }

    fn add_flags(&mut self, layout: &Layout<'_, '_>) {
        for _ in &layout.context.module.dropped {
            let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
            self.globals.global(ty, &ConstExpr::i32_const(0));
        }
    }

    fn add_resume_table(&mut self, layout: &Layout<'_, '_>) {
        let module = layout.context.module;
        let table = module.imported_tables + module.defined_tables;
        let size = layout.pages.len() as u64;
        self.tables.table(TableType {
            element_type: RefType::FUNCREF,
            minimum: size,
            maximum: Some(size),
            table64: false,
            shared: false,
        });
        self.elements.active(Some(table), &ConstExpr::i32_const(0), Elements::Functions((&layout.pages).into()));
        self.exports.export(RESUME_TABLE, ExportKind::Table, table);
    }

    /// Only what backtraces show: the names of functions.
    fn add_names(&mut self, layout: &Layout<'_, '_>) {
        let Some(names) = &mut self.names else { return };
        if let Some(name) = self.module_name {
            names.module(name);
        }
        let known = &layout.context.module.function_names;
        let mut sorted: Vec<_> = known.iter().map(|(index, name)| (layout.function(*index), *name)).collect();
        sorted.sort_unstable();
        let mut functions = NameMap::new();
        for (index, name) in sorted {
            functions.append(index, name);
        }
        for (index, resumed) in (layout.first_resume()..).zip(&layout.resumed) {
            if let Some(name) = resumed.and_then(|resumed| known.get(&resumed)) {
                functions.append(index, &format!("{name} (resumed)"));
            }
        }
        names.functions(&functions);
    }

    fn finish(self) -> Vec<u8> {
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions).section(&self.tables);
        if !self.memories.is_empty() {
            module.section(&self.memories);
        }
        if !self.tags.is_empty() {
            module.section(&self.tags);
        }
        if !self.globals.is_empty() {
            module.section(&self.globals);
        }
        module.section(&self.exports);
        if let Some(function_index) = self.start {
            module.section(&StartSection { function_index });
        }
        module.section(&self.elements);
        if let Some(count) = self.data_count {
            module.section(&DataCountSection { count });
        }
        if !self.hints.is_empty() {
            module.section(&self.hints);
        }
        module.section(&self.code);
        if !self.data.is_empty() {
            module.section(&self.data);
        }
        if let Some(names) = &self.names {
            module.section(names);
        }
        for section in self.custom {
            module.section(&CustomSection { name: section.name().into(), data: section.data().into() });
        }
        module.finish()
    }
}

/// Drops the segments whose flags are set.
fn replay(context: &Context<'_, '_>) -> Function {
    let mut function = Function::new([]);
    let mut sink = function.instructions();
    for segment in &context.module.dropped {
        sink.global_get(context.flag(*segment)).if_(BlockType::Empty);
        match *segment {
            Dropped::Data(index) => sink.data_drop(index),
            Dropped::Elements(index) => sink.elem_drop(index),
        };
        sink.end();
    }
    sink.end();
    function
}
