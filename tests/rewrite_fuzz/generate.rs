//! Random programs: a wasm-smith module with calls of suspending imports inserted where it is reachable, in every third case behind a shim
//! whose table is filled at the end, as wit-component links.

use std::ops::Range;

use arbitrary::Unstructured;
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{CodeSection, Instruction};
use wasmparser::{
    FuncToValidate, FuncValidator, FuncValidatorAllocations, FunctionBody, Operator, OperatorsReader, Parser, Payload, TypeRef,
    ValType, ValidPayload, Validator, ValidatorResources,
};

use super::program::Sources;
use super::throws;

const IMPORTS: &str = r#"(module
  (import "h" "s0" (func)) (import "h" "s1" (func (param i32) (result i32))) (import "h" "s2" (func (param i64 f64) (result f64)))
  (import "h" "s3" (func (result i64))) (import "h" "s4" (func (param f32 i32 i64))) (import "h" "s5" (func (param v128) (result v128)))
  (import "h" "s6" (func (param i32 i32) (result f32))) (import "h" "p0" (func (param i32 i32)))
  (import "h" "n0" (func (param i32) (result i32))) (import "h" "n1" (func)))"#;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// The program of a seed; `None` if wasm-smith had not enough to go on.
pub fn program(seed: u64) -> Option<Sources> {
    let mut random = Random::new(seed);
    let data: Vec<u8> = (0..2_000 + random.below(8_000)).map(|_| random.next() as u8).collect();
    let config = config(&mut random);
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(&data)).ok()?;
    module.ensure_termination(150).ok()?;
    let bytes = module.to_bytes();
    let mut bytes = insert_calls(&bytes, &mut random).unwrap_or(bytes);
    if random.below(3) == 0 {
        name_stream_functions(&mut bytes, &mut random);
    }
    if seed.is_multiple_of(3) { Some(behind_shim(&bytes)) } else { Some(Sources { modules: vec![("main".to_owned(), bytes)] }) }
}

/// Calls some functions by the name of a function that is kept warm.
fn name_stream_functions(bytes: &mut Vec<u8>, random: &mut Random) {
    let validated = Validator::new().validate_all(bytes).expect("wasm-smith's modules are valid");
    let mut functions = wasm_encoder::NameMap::new();
    for index in 0..validated.as_ref().function_count() {
        if random.below(4) == 0 {
            functions.append(index, "write");
        }
    }
    let mut names = wasm_encoder::NameSection::new();
    names.functions(&functions);
    bytes.push(wasm_encoder::SectionId::Custom as u8);
    wasm_encoder::Encode::encode(&names, bytes);
}

fn config(random: &mut Random) -> wasm_smith::Config {
    let imports = wat::parse_str(IMPORTS).expect("the imports are well-formed");
    let with_references = random.below(12) == 0;
    let with_exceptions = random.below(2) == 0;
    wasm_smith::Config {
        available_imports: Some(imports),
        min_imports: 3,
        max_imports: 10,
        min_funcs: 2,
        max_funcs: 8,
        min_types: 3,
        max_types: 12,
        export_everything: true,
        min_memories: random.below(2) as u32,
        max_memories: 2,
        max_memory32_bytes: 1 << 18,
        max_tables: 2,
        max_table_elements: 50,
        max_instructions: 40 + random.below(300) as usize,
        simd_enabled: random.below(2) == 0,
        bulk_memory_enabled: with_references || random.below(2) == 0,
        reference_types_enabled: with_references,
        tail_call_enabled: random.below(2) == 0,
        disallow_traps: random.below(2) == 0,
        multi_value_enabled: true,
        canonicalize_nans: true,
        allow_start_export: false,
        memory64_enabled: false,
        gc_enabled: false,
        exceptions_enabled: with_exceptions,
        min_tags: usize::from(with_exceptions),
        max_tags: 3,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        shared_everything_threads_enabled: false,
        extended_const_enabled: random.below(2) == 0,
        ..wasm_smith::Config::default()
    }
}

/// The module's imports come from a shim that forwards through a table, which a third module fills with the real ones.
fn behind_shim(bytes: &[u8]) -> Sources {
    let types = [
        ("s0", "", ""),
        ("s1", "i32", "i32"),
        ("s2", "i64 f64", "f64"),
        ("s3", "", "i64"),
        ("s4", "f32 i32 i64", ""),
        ("s5", "v128", "v128"),
        ("s6", "i32 i32", "f32"),
        ("p0", "i32 i32", ""),
        ("n0", "i32", "i32"),
        ("n1", "", ""),
    ];
    let (mut shim, mut fixups) = (String::new(), String::new());
    for (slot, (name, params, results)) in types.iter().enumerate() {
        let ty = format!("(param {params}) (result {results})");
        let arguments: String = (0..params.split_whitespace().count()).map(|index| format!("(local.get {index})")).collect();
        shim += &format!(r#"(func (export "{name}") {ty} (call_indirect {ty} {arguments} (i32.const {slot})))"#);
        fixups += &format!(r#"(import "h" "{name}" (func {ty}))"#);
    }
    let shim = format!(r#"(module (table (export "$imports") 10 10 funcref) {shim})"#);
    let mut exports = String::new();
    let mut main = FromShim::default();
    let mut module = wasm_encoder::Module::new();
    main.parse_core_module(&mut module, Parser::new(0), bytes).expect("wasm-smith's modules are well-formed");
    for (name, params, results) in &main.exports {
        exports += &format!(r#"(func (export "{name}") (import "main" "{name}") (param {params}) (result {results}))"#);
    }
    let elements: String = (0..types.len()).map(|index| format!("{index} ")).collect();
    let fixups = format!(
        r#"(module {fixups} (import "shim" "$imports" (table 10 10 funcref)) {exports} (elem (i32.const 0) func {elements}))"#
    );
    let parse = |text: &str| wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    let modules = [("shim", parse(&shim)), ("main", module.finish()), ("fixups", parse(&fixups))];
    Sources { modules: modules.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect() }
}

/// Renames the module imports come from.
#[derive(Default)]
struct FromShim {
    types: Vec<wasmparser::FuncType>,
    functions: Vec<u32>,
    /// Name, parameters and results of the exported functions.
    exports: Vec<(String, String, String)>,
}

impl Reencode for FromShim {
    type Error = std::convert::Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut wasm_encoder::TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        self.types = section.clone().into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
        wasm_encoder::reencode::utils::parse_type_section(self, types, section)
    }

    fn parse_import_section(
        &mut self,
        imports: &mut wasm_encoder::ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        for import in section.into_imports() {
            let import = import?;
            if let TypeRef::Func(ty) = import.ty {
                self.functions.push(ty);
            }
            let ty = self.entity_type(import.ty)?;
            imports.import("shim", import.name, ty);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut wasm_encoder::FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        for ty in section.clone() {
            self.functions.push(ty?);
        }
        wasm_encoder::reencode::utils::parse_function_section(self, functions, section)
    }

    fn parse_export(
        &mut self,
        exports: &mut wasm_encoder::ExportSection,
        export: wasmparser::Export<'_>,
    ) -> Result<(), Error<Self::Error>> {
        if export.kind == wasmparser::ExternalKind::Func {
            let ty = &self.types[self.functions[export.index as usize] as usize];
            let list = |types: &[ValType]| types.iter().map(|ty| format!("{ty} ")).collect::<String>();
            self.exports.push((in_wat(export.name), list(ty.params()), list(ty.results())));
        }
        wasm_encoder::reencode::utils::parse_export(self, exports, export)
    }
}

/// Names hold any character: every byte is escaped.
fn in_wat(name: &str) -> String {
    name.bytes().map(|byte| format!("\\{byte:02x}")).collect()
}

/// Bytes to put into one body instead of a range, which may be empty, of the module.
pub struct Change {
    pub at: Range<usize>,
    pub bytes: Vec<u8>,
}

type Changes = Vec<Change>;

/// What the inserted instructions may refer to.
#[derive(Default)]
pub struct Surroundings {
    /// Names of the imported functions.
    pub imports: Vec<String>,
    pub types: Vec<wasmparser::FuncType>,
    /// Type of each exception tag.
    pub tags: Vec<u32>,
}

fn insert_calls(module: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut surroundings = Surroundings::default();
    let mut bodies = vec![];
    let mut validator = Validator::new();
    let mut allocations = FuncValidatorAllocations::default();
    let every = 3 + random.below(12);
    let keeps_refused = random.below(20) == 0;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.ok()?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload).ok()? {
            let handler = throws::handler(&function, &body, &surroundings, random);
            let (mut changes, reused) = insertions(function, &body, allocations, &surroundings, every, random)?;
            allocations = reused;
            if !keeps_refused {
                changes.extend(replacements(&body)?);
            }
            if let Some((before, after)) = handler {
                changes.insert(0, before);
                changes.push(after);
            }
            changes.sort_by_key(|change| change.at.start);
            bodies.push(changes);
        } else {
            surroundings.read(payload)?;
        }
    }
    let mut output = wasm_encoder::Module::new();
    let mut inserting = Inserting { bodies: bodies.into_iter() };
    inserting.parse_core_module(&mut output, Parser::new(0), module).ok()?;
    Some(output.finish())
}

impl Surroundings {
    fn read(&mut self, payload: Payload<'_>) -> Option<()> {
        match payload {
            Payload::TypeSection(section) => {
                self.types = section.into_iter_err_on_gc_types().collect::<Result<_, _>>().ok()?;
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.ok()?;
                    if matches!(import.ty, TypeRef::Func(_)) {
                        self.imports.push(import.name.to_owned());
                    }
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    self.tags.push(tag.ok()?.func_type_idx);
                }
            }
            _ => {}
        }
        Some(())
    }
}

fn insertions(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    allocations: FuncValidatorAllocations,
    surroundings: &Surroundings,
    every: u64,
    random: &mut Random,
) -> Option<(Changes, FuncValidatorAllocations)> {
    let mut validator = function.into_validator(allocations);
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader).ok()?;
    let mut operators = OperatorsReader::new(reader);
    let mut insertions = vec![];
    let imports = &surroundings.imports;
    while !operators.eof() {
        let offset = operators.original_position();
        let operator = operators.read().ok()?;
        let is_chosen = random.below(every) == 0 && !imports.is_empty();
        if is_chosen && !matches!(operator, Operator::Else) && validator.control_stack_height() > 0 {
            let import = random.below(imports.len() as u64) as usize;
            let mut bytes = call(&imports[import], import as u32, top(&validator));
            if random.below(3) == 0 {
                bytes.extend(throws::throw(surroundings, random));
            }
            insertions.extend((!bytes.is_empty()).then_some(Change { at: offset..offset, bytes }));
        }
        validator.op(offset, &operator).ok()?;
    }
    Some((insertions, validator.into_allocations()))
}

/// The type on top of the operand stack, if it belongs to the current block.
fn top(validator: &FuncValidator<ValidatorResources>) -> Option<ValType> {
    let block = validator.get_control_frame(0)?;
    if validator.operand_stack_height() as usize > block.height { validator.get_operand_type(0).flatten() } else { None }
}

/// A call that leaves the operand stack as it was, or replaces its top; empty if there is none.
fn call(name: &str, function: u32, top: Option<ValType>) -> Vec<u8> {
    use Instruction::{Call, Drop, F32Const, F64Const, I32Const, I64Const, I64TruncSatF64S};
    let instructions = match (name, top) {
        ("s0" | "n1", _) => vec![Call(function)],
        ("s1" | "n0", Some(ValType::I32)) | ("s5", Some(ValType::V128)) => vec![Call(function)],
        ("s2", Some(ValType::I64)) => vec![F64Const(1.5.into()), Call(function), I64TruncSatF64S],
        ("s3", _) => vec![Call(function), Drop],
        ("s4", _) => vec![F32Const(0.5.into()), I32Const(7), I64Const(-2), Call(function)],
        ("s6", _) => vec![I32Const(3), I32Const(4), Call(function), Drop],
        ("p0", _) => vec![I32Const(3), I32Const(400), Call(function)],
        _ => vec![],
    };
    encode(&instructions)
}

/// What no suspendable program may do, exchanged for what does nothing and has the same type: otherwise a third of the programs
/// would be refused.
fn replacements(body: &FunctionBody<'_>) -> Option<Changes> {
    use Instruction::{Drop, I32Const};
    let mut operators = body.get_operators_reader().ok()?;
    let mut changes = vec![];
    while !operators.eof() {
        let start = operators.original_position();
        let instead: &[Instruction<'_>] = match operators.read().ok()? {
            Operator::TableSet { .. } => &[Drop, Drop],
            Operator::TableGrow { .. } => &[Drop, Drop, I32Const(-1)],
            Operator::TableFill { .. } | Operator::TableCopy { .. } | Operator::TableInit { .. } => &[Drop, Drop, Drop],
            _ => continue,
        };
        changes.push(Change { at: start..operators.original_position(), bytes: encode(instead) });
    }
    Some(changes)
}

pub fn encode(instructions: &[Instruction<'_>]) -> Vec<u8> {
    let mut bytes = vec![];
    for instruction in instructions {
        wasm_encoder::Encode::encode(instruction, &mut bytes);
    }
    bytes
}

struct Inserting {
    bodies: std::vec::IntoIter<Changes>,
}

impl Reencode for Inserting {
    type Error = std::convert::Infallible;

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Result<(), Error<Self::Error>> {
        let mut bytes = body.as_bytes().to_vec();
        let start = body.range().start;
        for change in self.bodies.next().unwrap_or_default().into_iter().rev() {
            bytes.splice(change.at.start - start..change.at.end - start, change.bytes);
        }
        code.raw(&bytes);
        Ok(())
    }
}
