//! Stands in for a suspending import: asks the host to start, and either finishes at once or leaves the stack and finishes when it is back.
//!
//! ```text
//! call(params) -> results:  if warm { return plain(params) }       only if it waits for timers
//!                           if start(params without the return pointer) == 1 { push {return pointer}; state = 1; return zeros }
//!                           return finish(return pointer)
//! resume:                   pop {return pointer}; keep the results of finish(return pointer)
//! ```
//! So no result is ever lowered into guest memory while the stack is being left.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalType, ImportSection, Module, RefType, TableSection, TableType, TypeSection, ValType,
};

use super::ckpt::{STATE, WARM};
use super::code::encoded;
use super::frame::{CKPT, Helper, Kind, RESUME_TABLE, SITE_BITS, Signature};
use super::program::{Suspends, Trampoline};

/// The helpers a trampoline imports from ckpt.
pub fn helpers(trampoline: &Trampoline) -> Vec<Helper> {
    let frame = frame(trampoline);
    let mut helpers = vec![Helper::Pop, Helper::Save(frame), Helper::Restore(frame)];
    helpers.extend(trampoline.results.first().and_then(|ty| Kind::of(*ty)).map(Helper::Put));
    helpers
}

/// # Errors
/// Signatures that the canonical ABI never lowers to.
pub fn check(trampoline: &Trampoline) -> Result<(), &'static str> {
    let has_reference = trampoline.params.iter().chain(&trampoline.results).any(|ty| Kind::of(*ty).is_none());
    if has_reference || trampoline.results.len() > 1 {
        return Err("a suspending import passes references or returns several values");
    }
    if trampoline.has_return_pointer && trampoline.params.last() != Some(&wasmparser::ValType::I32) {
        return Err("a suspending import's return pointer is not a 32-bit number");
    }
    Ok(())
}

fn frame(trampoline: &Trampoline) -> Signature {
    Signature::of(trampoline.has_return_pointer.then_some(Kind::I32))
}

const START: u32 = 0;
const FINISH: u32 = 1;
/// Helpers follow `start` and `finish` in the order of [`helpers`].
const POP: u32 = 2;
const SAVE: u32 = 3;
const RESTORE: u32 = 4;
const PUT: u32 = 5;

const STATE_GLOBAL: u32 = 0;
const WARM_GLOBAL: u32 = 1;

/// Writes the module of a trampoline whose descriptors are on `page`.
pub fn module(trampoline: &Trampoline, page: u32) -> Vec<u8> {
    let params: Vec<ValType> = trampoline.params.iter().map(|ty| encoded(*ty)).collect();
    let results: Vec<ValType> = trampoline.results.iter().map(|ty| encoded(*ty)).collect();
    let pointer = trampoline.has_return_pointer.then_some(ValType::I32);
    let started = &params[..params.len() - pointer.iter().len()];

    let mut types = TypeSection::new();
    types.ty().function(started.iter().copied(), [ValType::I32]);
    types.ty().function(pointer, results.iter().copied());
    types.ty().function(params.iter().copied(), results.iter().copied());
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    imports.import("host", "start", EntityType::Function(0));
    imports.import("host", "finish", EntityType::Function(1));
    for helper in helpers(trampoline) {
        imports.import(CKPT, &helper.name(), EntityType::Function(types.len()));
        types.ty().function(helper.params(), helper.results());
    }
    let mut call = imports.len();
    let plain = (trampoline.suspends == Suspends::ForTimers).then_some(call);
    if plain.is_some() {
        imports.import("host", "plain", EntityType::Function(2));
        call += 1;
    }
    for global in [STATE, WARM] {
        imports.import(CKPT, global, GlobalType { val_type: ValType::I32, mutable: true, shared: false });
    }
    let mut functions = FunctionSection::new();
    functions.function(2).function(3);
    let mut tables = TableSection::new();
    tables.table(TableType { element_type: RefType::FUNCREF, minimum: 1, maximum: Some(1), table64: false, shared: false });
    let mut exports = ExportSection::new();
    exports.export("call", ExportKind::Func, call).export(RESUME_TABLE, ExportKind::Table, 0);
    let mut elements = ElementSection::new();
    elements.active(None, &ConstExpr::i32_const(0), Elements::Functions(vec![call + 1].into()));
    let mut code = CodeSection::new();
    code.function(&call_body(trampoline, plain, page)).function(&resume_body(trampoline));
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&tables);
    module.section(&exports).section(&elements).section(&code);
    module.finish()
}

fn call_body(trampoline: &Trampoline, plain: Option<u32>, page: u32) -> Function {
    let params = trampoline.params.len() as u32;
    let started = params - u32::from(trampoline.has_return_pointer);
    let mut function = Function::new([]);
    let mut sink = function.instructions();
    if let Some(plain) = plain {
        sink.global_get(WARM_GLOBAL).if_(BlockType::Empty);
        for parameter in 0..params {
            sink.local_get(parameter);
        }
        sink.call(plain).return_().end();
    }
    for parameter in 0..started {
        sink.local_get(parameter);
    }
    sink.call(START).i32_const(1).i32_eq().if_(BlockType::Empty);
    sink.i32_const((page << SITE_BITS).cast_signed());
    if trampoline.has_return_pointer {
        sink.local_get(started);
    }
    sink.call(SAVE).i32_const(1).global_set(STATE_GLOBAL);
    for kind in trampoline.results.iter().filter_map(|ty| Kind::of(*ty)) {
        kind.zero(&mut sink);
    }
    sink.return_().end();
    if trampoline.has_return_pointer {
        sink.local_get(started);
    }
    sink.call(FINISH).end();
    function
}

fn resume_body(trampoline: &Trampoline) -> Function {
    let has_result = !trampoline.results.is_empty();
    let mut function = Function::new([]);
    let mut sink = function.instructions();
    sink.call(POP).drop();
    if has_result {
        sink.i32_const(0);
    }
    sink.call(RESTORE).call(FINISH);
    if has_result {
        sink.call(PUT);
    }
    sink.end();
    function
}
