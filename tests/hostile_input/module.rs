//! A core module for the middle of a task component, with room for whatever is to be too much.

use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Encode, EntityType, ExportKind, ExportSection,
    Function, FunctionSection, GlobalSection, ImportSection, InstructionSink, MemorySection, Module, NameMap, NameSection,
    TableSection, TagSection, TypeSection, ValType,
};
use wasmparser::{Parser, Payload};

/// `() -> ()`, the type of the functions added.
pub const NOTHING: u32 = 0;
/// The function that waits, `(i32) -> ()`.
pub const WAIT: u32 = 0;
/// The first function added, which the task's entry calls.
pub const FIRST: u32 = 4;
/// The first type added.
pub const FIRST_TYPE: u32 = 4;

/// Sections with what every module needs.
pub struct Main {
    pub types: TypeSection,
    pub imports: ImportSection,
    pub functions: FunctionSection,
    pub tables: TableSection,
    pub memories: MemorySection,
    pub tags: TagSection,
    pub globals: GlobalSection,
    pub exports: ExportSection,
    pub elements: ElementSection,
    pub code: CodeSection,
    pub data: DataSection,
    pub names: NameMap,
}

impl Main {
    pub fn new() -> Main {
        let i32 = ValType::I32;
        let mut main = Main {
            types: TypeSection::new(),
            imports: ImportSection::new(),
            functions: FunctionSection::new(),
            tables: TableSection::new(),
            memories: MemorySection::new(),
            tags: TagSection::new(),
            globals: GlobalSection::new(),
            exports: ExportSection::new(),
            elements: ElementSection::new(),
            code: CodeSection::new(),
            data: DataSection::new(),
            names: NameMap::new(),
        };
        main.types.ty().function([], []);
        main.types.ty().function([i32], []);
        main.types.ty().function([i32; 6], [i32]);
        main.types.ty().function([i32], [i32]);
        main.imports.import("h", "block", EntityType::Function(1));
        for (index, (name, ty)) in (1..).zip([("run", 2), ("after", 1), ("back", 3)]) {
            main.functions.function(ty);
            main.exports.export(name, ExportKind::Func, index);
        }
        main
    }

    /// Adds a function of type [`NOTHING`].
    pub fn function(&mut self, locals: &[(u32, ValType)], write: impl FnOnce(&mut InstructionSink<'_>)) {
        let mut body = Function::new(locals.iter().copied());
        let mut sink = body.instructions();
        write(&mut sink);
        sink.end();
        self.functions.function(NOTHING);
        self.code.function(&body);
    }

    /// The module.
    pub fn bytes(&self) -> Vec<u8> {
        let mut code = CodeSection::new();
        let has_functions = !self.code.is_empty();
        let mut run = Function::new([]);
        if has_functions {
            run.instructions().call(FIRST);
        }
        run.instructions().i32_const(32).end();
        code.function(&run);
        let mut after = Function::new([]);
        after.instructions().end();
        code.function(&after);
        let mut back = Function::new([]);
        back.instructions().i32_const(0).call(WAIT).local_get(0).end();
        code.function(&back);
        let mut section = vec![];
        code.encode(&mut section);
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions);
        module.section(&self.tables).section(&self.memories).section(&self.tags).section(&self.globals).section(&self.exports);
        module.section(&self.elements);
        if !self.data.is_empty() {
            module.section(&DataCountSection { count: self.data.len() });
        }
        module.section(&Joined(&code, &self.code));
        if !self.data.is_empty() {
            module.section(&self.data);
        }
        if !self.names.is_empty() {
            let mut names = NameSection::new();
            names.functions(&self.names);
            module.section(&names);
        }
        module.finish()
    }

    /// A task component around it.
    pub fn component(&self) -> Vec<u8> {
        around(&self.bytes())
    }
}

/// The bodies of two code sections in one.
struct Joined<'s>(&'s CodeSection, &'s CodeSection);

impl Encode for Joined<'_> {
    fn encode(&self, sink: &mut Vec<u8>) {
        let mut content = vec![];
        (self.0.len() + self.1.len()).encode(&mut content);
        for section in [self.0, self.1] {
            let mut encoded = vec![];
            section.encode(&mut encoded);
            content.extend_from_slice(without_count(without_count(&encoded)));
        }
        content.as_slice().encode(sink);
    }
}

impl wasm_encoder::Section for Joined<'_> {
    fn id(&self) -> u8 {
        wasm_encoder::SectionId::Code.into()
    }
}

/// Without the LEB128 number that it begins with.
fn without_count(bytes: &[u8]) -> &[u8] {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).expect("it begins with a number");
    &bytes[length + 1..]
}

const TASK: &str = include_str!("../../fuzz/src/task.wat");
const MAIN_PLACEHOLDER: &str = r#"(core module $main
    (func (export "run") (param i32 i32 i32 i32 i32 i32) (result i32) unreachable)
    (func (export "after") (param i32)) (func (export "back") (param i32) (result i32) unreachable))"#;
/// Place of `$main` among the core modules of the task.
const PLACE_OF_MAIN: usize = 3;

/// A task component around a core module.
pub fn around(main: &[u8]) -> Vec<u8> {
    in_task(TASK, main)
}

/// The same, with something added to its text before its exports.
pub fn around_with(main: &[u8], change: impl FnOnce(&str) -> String) -> Vec<u8> {
    in_task(&change(TASK), main)
}

fn in_task(text: &str, main: &[u8]) -> Vec<u8> {
    let text = text.replace("(core module $main)", MAIN_PLACEHOLDER);
    let component = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut modules = Parser::new(0).parse_all(&component).filter_map(|payload| match payload.expect("it is well-formed") {
        Payload::ModuleSection { unchecked_range, .. } => Some(unchecked_range),
        _ => None,
    });
    let module = modules.nth(PLACE_OF_MAIN).expect("it has four modules");
    let mut length = vec![];
    module.len().encode(&mut length);
    let mut bytes = component[..module.start - length.len()].to_vec();
    main.encode(&mut bytes);
    bytes.extend(&component[module.end..]);
    bytes
}

/// An offset of a segment.
pub fn at(offset: i32) -> ConstExpr {
    ConstExpr::i32_const(offset)
}
