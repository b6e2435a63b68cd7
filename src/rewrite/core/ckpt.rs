//! The ckpt module: owns the state of the saved stack and all code that reads or writes the aux memory.

use wasm_encoder::{
    AbstractHeapType, BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection,
    GlobalType, HeapType, InstructionSink, MemorySection, MemoryType, Module, TypeSection, ValType,
};

use super::frame::{Helper, Kind, MAX_AUX_BYTES, RESULT_STRIDE, SITE_BITS, unaligned};

/// Where the glue finds things in ckpt.
pub const STATE: &str = "state";
pub const STACK_POINTER: &str = "sp";
pub const AUX: &str = "aux";
/// How many calls are on the stack in which polls do not suspend.
pub const WARM: &str = "warm";
/// `()`: empties the stack before the entry point is called.
pub const BEGIN: &str = "begin";
/// `() -> page`: whom the top frame belongs to, or -1.
pub const TOP: &str = "top";
/// `()`: after the stack was left.
pub const SETTLE: &str = "settle";

/// 1 while the stack is being left, else 0.
const STATE_GLOBAL: u32 = 0;
/// End of the newest frame.
const SP_GLOBAL: u32 = 1;
/// Where the frames pushed since the stack was last settled or popped begin.
const BASE_GLOBAL: u32 = 2;
/// 0 whenever the stack is left, so it is no part of a snapshot.
const WARM_GLOBAL: u32 = 3;
/// What the frame taken off last has thrown; null whenever the stack is left. Only there if the program throws.
const THROWN_GLOBAL: u32 = 4;
const EXCEPTION: HeapType = HeapType::Abstract { shared: false, ty: AbstractHeapType::Exn };
const MEMORY: u32 = 0;
const PAGE_SHIFT: i32 = 16;
/// Descriptor and size, after the values of a frame.
const TRAILER: u32 = 8;

/// Writes the module with these helpers; frames begin at `head` in aux.
pub fn module(helpers: &[Helper], head: u32) -> Vec<u8> {
    let mut functions = Functions::default();
    let reserve = functions.add(None, &[ValType::I32], &[], reserve());
    functions.add(Some(BEGIN.to_owned()), &[], &[], begin(head));
    functions.add(Some(TOP.to_owned()), &[], &[ValType::I32], top(head));
    functions.add(Some(SETTLE.to_owned()), &[], &[], settle(reserve));
    for helper in helpers {
        let body = match *helper {
            Helper::Pop => pop(),
            Helper::Put(kind) => put(kind),
            Helper::Take(kind) => take(kind),
            Helper::Save(signature) => save(&signature.kinds().collect::<Vec<_>>(), reserve),
            Helper::Restore(signature) => restore(&signature.kinds().collect::<Vec<_>>()),
            Helper::BeginWarm => add_to_warm(1),
            Helper::EndWarm => add_to_warm(-1),
            Helper::Catch => catch(),
            Helper::Rethrow => rethrow(),
        };
        functions.add(Some(helper.name()), &helper.params(), &helper.results(), body);
    }

    let pages = |bytes: u32| u64::from(bytes.div_ceil(1 << PAGE_SHIFT));
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: pages(head) + 1,
        maximum: Some(pages(head) + pages(MAX_AUX_BYTES)),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    for initial in [0, head.cast_signed(), head.cast_signed(), 0] {
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(initial));
    }
    if helpers.contains(&Helper::Catch) {
        let ty = GlobalType { val_type: ValType::EXNREF, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::ref_null(EXCEPTION));
    }
    functions.exports.export(STATE, ExportKind::Global, STATE_GLOBAL);
    functions.exports.export(STACK_POINTER, ExportKind::Global, SP_GLOBAL);
    functions.exports.export(AUX, ExportKind::Memory, MEMORY);
    functions.exports.export(WARM, ExportKind::Global, WARM_GLOBAL);
    let mut module = Module::new();
    module.section(&functions.types).section(&functions.functions).section(&memories).section(&globals);
    module.section(&functions.exports).section(&functions.code);
    module.finish()
}

#[derive(Default)]
struct Functions {
    types: TypeSection,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
}

impl Functions {
    fn add(&mut self, name: Option<String>, params: &[ValType], results: &[ValType], body: Function) -> u32 {
        let index = self.functions.len();
        self.types.ty().function(params.iter().copied(), results.iter().copied());
        self.functions.function(index);
        self.code.function(&body);
        if let Some(name) = name {
            self.exports.export(&name, ExportKind::Func, index);
        }
        index
    }
}

/// A body with some i32 locals.
fn body(locals: u32, write: impl FnOnce(&mut InstructionSink<'_>)) -> Function {
    let mut function = Function::new([(locals, ValType::I32)]);
    let mut sink = function.instructions();
    write(&mut sink);
    sink.end();
    function
}

/// Makes room up to the address in parameter 0, in steps of at least one page.
fn reserve() -> Function {
    body(0, |sink| {
        sink.local_get(0).memory_size(MEMORY).i32_const(PAGE_SHIFT).i32_shl().i32_gt_u().if_(BlockType::Empty);
        sink.local_get(0).i32_const(PAGE_SHIFT).i32_shr_u().i32_const(1).i32_add();
        sink.memory_size(MEMORY).i32_sub().memory_grow(MEMORY).i32_const(-1).i32_eq();
        sink.if_(BlockType::Empty).unreachable().end().end();
    })
}

fn begin(head: u32) -> Function {
    body(0, |sink| {
        sink.i32_const(head.cast_signed()).global_set(SP_GLOBAL);
        sink.i32_const(head.cast_signed()).global_set(BASE_GLOBAL);
        sink.i32_const(0).global_set(STATE_GLOBAL);
        sink.i32_const(0).global_set(WARM_GLOBAL);
    })
}

fn add_to_warm(change: i32) -> Function {
    body(0, |sink| {
        sink.global_get(WARM_GLOBAL).i32_const(change).i32_add().global_set(WARM_GLOBAL);
    })
}

fn catch() -> Function {
    body(0, |sink| {
        sink.local_get(0).global_set(THROWN_GLOBAL);
    })
}

fn rethrow() -> Function {
    let mut function = Function::new([(1, ValType::EXNREF)]);
    let mut sink = function.instructions();
    sink.global_get(THROWN_GLOBAL).local_tee(0).ref_is_null().if_(BlockType::Empty).return_().end();
    sink.ref_null(EXCEPTION).global_set(THROWN_GLOBAL).local_get(0).throw_ref().end();
    function
}

fn top(head: u32) -> Function {
    body(0, |sink| {
        sink.global_get(SP_GLOBAL).i32_const(head.cast_signed()).i32_le_u().if_(BlockType::Empty);
        sink.i32_const(-1).return_().end();
        sink.global_get(SP_GLOBAL).i32_const(TRAILER as i32).i32_sub().i32_load(unaligned(0, MEMORY));
        sink.i32_const(SITE_BITS as i32).i32_shr_u();
    })
}

/// Local 0: the trailer. What is pushed from here on is newer than every frame that is left.
fn pop() -> Function {
    body(1, |sink| {
        sink.global_get(SP_GLOBAL).i32_const(TRAILER as i32).i32_sub().local_tee(0);
        sink.local_get(0).i32_load(unaligned(4, MEMORY)).i32_sub().global_set(SP_GLOBAL);
        sink.global_get(SP_GLOBAL).global_set(BASE_GLOBAL);
        sink.local_get(0).i32_load(unaligned(0, MEMORY));
    })
}

/// Leaving the stack pushes the innermost frame first: reverses the newest frames, so that the innermost is on top.
///
/// Locals: 0 end of the frames still to be moved, in a copy above the stack; 1 where the next one goes; 2 a length.
fn settle(reserve: u32) -> Function {
    body(3, |sink| {
        sink.i32_const(0).global_set(STATE_GLOBAL);
        sink.global_get(BASE_GLOBAL).local_set(1);
        sink.global_get(SP_GLOBAL).local_get(1).i32_sub().local_tee(2).i32_eqz().if_(BlockType::Empty).return_().end();
        sink.global_get(SP_GLOBAL).local_get(2).i32_add().local_tee(0).call(reserve);
        sink.global_get(SP_GLOBAL).local_get(1).local_get(2).memory_copy(MEMORY, MEMORY);
        sink.loop_(BlockType::Empty);
        sink.local_get(0).i32_const(4).i32_sub().i32_load(unaligned(0, MEMORY)).i32_const(TRAILER as i32).i32_add().local_set(2);
        sink.local_get(0).local_get(2).i32_sub().local_set(0);
        sink.local_get(1).local_get(0).local_get(2).memory_copy(MEMORY, MEMORY);
        sink.local_get(1).local_get(2).i32_add().local_set(1);
        sink.local_get(0).global_get(SP_GLOBAL).i32_gt_u().br_if(0).end();
        sink.global_get(SP_GLOBAL).global_set(BASE_GLOBAL);
    })
}

fn put(kind: Kind) -> Function {
    body(0, |sink| {
        sink.local_get(0).i32_const(RESULT_STRIDE as i32).i32_mul().local_get(1);
        kind.store(sink, 0, MEMORY);
    })
}

fn take(kind: Kind) -> Function {
    body(0, |sink| {
        sink.local_get(0).i32_const(RESULT_STRIDE as i32).i32_mul();
        kind.load(sink, 0, MEMORY);
    })
}

/// Parameter 0 is the descriptor, then the values; one local: where the frame begins.
fn save(kinds: &[Kind], reserve: u32) -> Function {
    let size: u32 = kinds.iter().map(|kind| kind.bytes()).sum();
    let start = kinds.len() as u32 + 1;
    body(1, |sink| {
        sink.global_get(SP_GLOBAL).local_tee(start).i32_const((size + TRAILER) as i32).i32_add().call(reserve);
        let mut offset = 0;
        for (parameter, kind) in (1..).zip(kinds) {
            sink.local_get(start).local_get(parameter);
            kind.store(sink, offset, MEMORY);
            offset += kind.bytes();
        }
        sink.local_get(start).local_get(0).i32_store(unaligned(size, MEMORY));
        sink.local_get(start).i32_const(size as i32).i32_store(unaligned(size + 4, MEMORY));
        sink.local_get(start).i32_const((size + TRAILER) as i32).i32_add().global_set(SP_GLOBAL);
    })
}

fn restore(kinds: &[Kind]) -> Function {
    body(1, |sink| {
        sink.global_get(SP_GLOBAL).local_set(0);
        let mut offset = 0;
        for kind in kinds {
            sink.local_get(0);
            kind.load(sink, offset, MEMORY);
            offset += kind.bytes();
        }
    })
}
