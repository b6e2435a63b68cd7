//! The glue module: instantiated last, enters the program, drives the resumption and shows memories and globals to the host.
//!
//! ```text
//! run(params) -> 1 suspended | 0 returned        resume() -> 1 | 0        take() -> results, after a 0
//! save()   after a 1: globals and sp into the head of aux, then every memory to `visit`
//! load()   in a fresh instance: every memory grown to `pages` and shown to `visit`, then globals and sp out of the head of aux, and what
//!          was dropped is dropped again
//! ```

use wasm_encoder::{
    BlockType, Catch, CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalType, ImportSection,
    InstructionSink, MemoryType, Module, RefType, TableType, TypeSection, ValType,
};
use wasmparser::FuncType;

use super::assemble::{REPLAY, global_export};
use super::ckpt::{AUX, BEGIN, SETTLE, STACK_POINTER, STATE, TOP};
use super::code::encoded;
use super::frame::{CKPT, Helper, Kind, RESULT_STRIDE, RESUME_TABLE};
use super::program::MemoryRef;

/// What the glue ties together.
#[derive(Debug)]
pub struct Glue<'p> {
    /// Type of the entry point.
    pub entry: Option<&'p FuncType>,
    /// The guest's memories.
    pub memories: &'p [MemoryRef],
    /// The guest's mutable globals: module, index in the original module, kind.
    pub globals: &'p [(usize, u32, Kind)],
    /// Who has a resume table: module name of the import and the page after its last, in ascending order.
    pub owners: &'p [(String, u32)],
    /// The modules that export [`REPLAY`].
    pub dropping: &'p [usize],
    /// Whether any function throws exceptions.
    pub throws: bool,
    /// Most results that any function returns into the aux memory.
    pub max_results: usize,
}

impl Glue<'_> {
    /// Address of the saved `sp`.
    fn stack_pointer_at(&self) -> u32 {
        self.max_results as u32 * RESULT_STRIDE
    }

    /// Address of the saved globals, one per 16 bytes.
    fn globals_at(&self) -> u32 {
        self.stack_pointer_at() + 16
    }

    /// Bytes of the fixed head of aux.
    pub fn head(&self) -> u32 {
        self.globals_at() + self.globals.len() as u32 * 16
    }

    /// The helpers the glue imports from ckpt.
    pub fn helpers(&self) -> Vec<Helper> {
        let results = self.entry_results().into_iter().flat_map(|kind| [Helper::Put(kind), Helper::Take(kind)]);
        results.chain(self.throws.then_some([Helper::Catch, Helper::Rethrow]).into_iter().flatten()).collect()
    }

    fn entry_results(&self) -> Vec<Kind> {
        self.entry.map_or(&[][..], |ty| ty.results()).iter().filter_map(|ty| Kind::of(*ty)).collect()
    }

    /// Writes the module.
    pub fn module(&self) -> Vec<u8> {
        let mut builder = Builder::default();
        let indices = Indices::import(self, &mut builder);
        if let Some(entry) = self.entry {
            let params: Vec<ValType> = entry.params().iter().map(|ty| encoded(*ty)).collect();
            let results: Vec<ValType> = entry.results().iter().map(|ty| encoded(*ty)).collect();
            let run = self.run(&indices, params.len() as u32, &results);
            builder.function("run", &params, &[ValType::I32], run);
            builder.function("take", &[], &results, self.take(&indices));
        }
        let resume_type = builder.ty(&[], &[]);
        builder.function("resume", &[], &[ValType::I32], self.resume(&indices, resume_type));
        builder.function("save", &[], &[], self.save(&indices));
        builder.function("load", &[], &[], self.load(&indices));
        builder.finish()
    }

    fn run(&self, indices: &Indices, params: u32, results: &[ValType]) -> Function {
        let mut function = Function::new(results.iter().map(|ty| (1, *ty)));
        let mut sink = function.instructions();
        sink.call(indices.begin);
        for parameter in 0..params {
            sink.local_get(parameter);
        }
        sink.call(indices.entry);
        let kinds = self.entry_results();
        for result in (0..kinds.len() as u32).rev() {
            sink.local_set(params + result);
        }
        sink.global_get(indices.state).if_(BlockType::Empty).call(indices.settle).i32_const(1).return_().end();
        for (result, _) in (0..).zip(&kinds) {
            sink.i32_const(result).local_get(params + result.cast_unsigned()).call(indices.results[result as usize].0);
        }
        sink.i32_const(0).end();
        function
    }

    fn take(&self, indices: &Indices) -> Function {
        let mut function = Function::new([]);
        let mut sink = function.instructions();
        for (result, (_, take)) in (0..).zip(&indices.results) {
            sink.i32_const(result).call(*take);
        }
        sink.end();
        function
    }

    /// Resumes one frame after the other, innermost first, until the last has returned or one was suspended again. Frames further out are
    /// not touched. An exception that leaves a frame is thrown again in the next one, at the call at which that was left; what no frame
    /// catches leaves `resume`.
    fn resume(&self, indices: &Indices, resume_type: u32) -> Function {
        let mut function = Function::new([(1, ValType::I32)]);
        let mut sink = function.instructions();
        sink.loop_(BlockType::Empty);
        sink.call(indices.top).local_tee(0).i32_const(-1).i32_eq().if_(BlockType::Empty);
        if let Some((_, rethrow)) = indices.exceptions {
            sink.call(rethrow);
        }
        sink.i32_const(0).return_().end();
        if self.throws {
            sink.block(BlockType::Empty).block(BlockType::Result(ValType::EXNREF));
            sink.try_table(BlockType::Empty, [Catch::AllRef { label: 0 }]);
        }
        sink.block(BlockType::Empty);
        let mut first = 0;
        for (table, (_, end)) in (0..).zip(self.owners) {
            sink.local_get(0).i32_const(end.cast_signed()).i32_lt_u().if_(BlockType::Empty);
            sink.local_get(0).i32_const(first).i32_sub().call_indirect(table, resume_type).br(1).end();
            first = end.cast_signed();
        }
        sink.unreachable().end();
        if let Some((catch, _)) = indices.exceptions {
            sink.end().br(1).end().call(catch).end();
        }
        sink.global_get(indices.state).if_(BlockType::Empty).call(indices.settle).i32_const(1).return_().end();
        sink.br(0).end().unreachable().end();
        function
    }

    fn save(&self, indices: &Indices) -> Function {
        let mut function = Function::new([]);
        let mut sink = function.instructions();
        sink.i32_const(self.stack_pointer_at() as i32).global_get(indices.stack_pointer);
        Kind::I32.store(&mut sink, 0, 0);
        for (global, address, kind) in self.placed_globals(indices) {
            sink.i32_const(address).global_get(global);
            kind.store(&mut sink, 0, 0);
        }
        sink.i32_const(0).i32_const(0).global_get(indices.stack_pointer).call(indices.visit(0));
        for memory in 1..=self.memories.len() as u32 {
            visit(&mut sink, indices, memory);
        }
        sink.end();
        function
    }

    fn load(&self, indices: &Indices) -> Function {
        let mut function = Function::new([(1, ValType::I32)]);
        let mut sink = function.instructions();
        for memory in 0..=self.memories.len() as u32 {
            grow(&mut sink, indices, memory);
            visit(&mut sink, indices, memory);
        }
        for (global, address, kind) in self.placed_globals(indices) {
            sink.i32_const(address);
            kind.load(&mut sink, 0, 0);
            sink.global_set(global);
        }
        for replay in (indices.replay..).take(self.dropping.len()) {
            sink.call(replay);
        }
        sink.i32_const(self.stack_pointer_at() as i32);
        Kind::I32.load(&mut sink, 0, 0);
        sink.global_set(indices.stack_pointer).i32_const(0).global_set(indices.state).end();
        function
    }

    /// Index in the glue, address in aux and kind of every saved global.
    fn placed_globals(&self, indices: &Indices) -> impl Iterator<Item = (u32, i32, Kind)> {
        let addresses = (self.globals_at().cast_signed()..).step_by(16);
        (indices.globals..).zip(addresses).zip(self.globals).map(|((index, address), (_, _, kind))| (index, address, *kind))
    }
}

/// Shows the whole of a memory to the host. Lengths have 32 bits: a memory of exactly 4 GiB cannot be shown.
fn visit(sink: &mut InstructionSink<'_>, indices: &Indices, memory: u32) {
    sink.memory_size(memory).i32_const(1 << 16).i32_ge_u().if_(BlockType::Empty).unreachable().end();
    sink.i32_const(memory.cast_signed()).i32_const(0).memory_size(memory).i32_const(16).i32_shl();
    sink.call(indices.visit(memory));
}

/// Grows a memory to the size the host says. Local 0: that size, in pages.
fn grow(sink: &mut InstructionSink<'_>, indices: &Indices, memory: u32) {
    sink.i32_const(memory.cast_signed()).call(indices.pages).local_tee(0).memory_size(memory).i32_gt_u();
    sink.if_(BlockType::Empty).local_get(0).memory_size(memory).i32_sub().memory_grow(memory).i32_const(-1).i32_eq();
    sink.if_(BlockType::Empty).unreachable().end().end();
}

/// Where the imports are.
struct Indices {
    begin: u32,
    top: u32,
    settle: u32,
    pages: u32,
    first_visit: u32,
    entry: u32,
    /// `put` and `take` for each result of the entry.
    results: Vec<(u32, u32)>,
    /// `catch` and `rethrow`, if the program throws.
    exceptions: Option<(u32, u32)>,
    /// The first of the functions that drop segments again.
    replay: u32,
    state: u32,
    stack_pointer: u32,
    /// The first of the guest's.
    globals: u32,
}

impl Indices {
    /// Memories and tables get the numbers that [`Glue`] gives them: aux is memory 0, the nth owner's table is table n.
    fn import(glue: &Glue<'_>, builder: &mut Builder) -> Indices {
        let i32 = ValType::I32;
        let begin = builder.import(CKPT, BEGIN, &[], &[]);
        let top = builder.import(CKPT, TOP, &[], &[i32]);
        let settle = builder.import(CKPT, SETTLE, &[], &[]);
        let pages = builder.import("host", "pages", &[i32], &[i32]);
        let first_visit = builder.import("host", "visit0", &[i32, i32, i32], &[]);
        for memory in 1..=glue.memories.len() {
            builder.import("host", &format!("visit{memory}"), &[i32, i32, i32], &[]);
        }
        let entry = glue.entry.map_or(0, |ty| {
            let params: Vec<_> = ty.params().iter().map(|ty| encoded(*ty)).collect();
            let results: Vec<_> = ty.results().iter().map(|ty| encoded(*ty)).collect();
            builder.import("entry", "run", &params, &results)
        });
        let mut helper = |helper: Helper| builder.import(CKPT, &helper.name(), &helper.params(), &helper.results());
        let results =
            glue.entry_results().into_iter().map(|kind| (helper(Helper::Put(kind)), helper(Helper::Take(kind)))).collect();

        let exceptions = glue.throws.then(|| (helper(Helper::Catch), helper(Helper::Rethrow)));
        let replay = builder.imported;
        for module in glue.dropping {
            builder.import(&module_name(*module), REPLAY, &[], &[]);
        }

        let memory = MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
        builder.imports.import(CKPT, AUX, memory);
        for memory_ref in glue.memories {
            builder.imports.import(&module_name(memory_ref.module), &memory_ref.export, memory);
        }
        for (owner, _) in glue.owners {
            let ty = TableType { element_type: RefType::FUNCREF, minimum: 0, maximum: None, table64: false, shared: false };
            builder.imports.import(owner, RESUME_TABLE, ty);
        }
        let mutable = |kind: Kind| GlobalType { val_type: kind.encoded(), mutable: true, shared: false };
        builder.imports.import(CKPT, STATE, mutable(Kind::I32));
        builder.imports.import(CKPT, STACK_POINTER, mutable(Kind::I32));
        for (module, index, kind) in glue.globals {
            builder.imports.import(&module_name(*module), &global_export(*index), mutable(*kind));
        }
        Indices {
            begin,
            top,
            settle,
            pages,
            first_visit,
            entry,
            results,
            exceptions,
            replay,
            state: 0,
            stack_pointer: 1,
            globals: 2,
        }
    }

    fn visit(&self, memory: u32) -> u32 {
        self.first_visit + memory
    }
}

/// Module name under which the glue imports from the program's module at `position`.
pub fn module_name(position: usize) -> String {
    format!("m{position}")
}

/// Module name under which the glue imports from the trampoline at `position`.
pub fn trampoline_name(position: usize) -> String {
    format!("t{position}")
}

#[derive(Default)]
struct Builder {
    types: TypeSection,
    imports: ImportSection,
    imported: u32,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
}

impl Builder {
    fn ty(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        self.types.ty().function(params.iter().copied(), results.iter().copied());
        self.types.len() - 1
    }

    /// Imports a function and returns its index; all imports come before all definitions.
    fn import(&mut self, module: &str, name: &str, params: &[ValType], results: &[ValType]) -> u32 {
        let ty = self.ty(params, results);
        self.imports.import(module, name, EntityType::Function(ty));
        self.imported += 1;
        self.imported - 1
    }

    fn function(&mut self, name: &str, params: &[ValType], results: &[ValType], body: Function) {
        let index = self.imported + self.functions.len();
        let ty = self.ty(params, results);
        self.functions.function(ty);
        self.code.function(&body);
        self.exports.export(name, ExportKind::Func, index);
    }

    fn finish(self) -> Vec<u8> {
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions).section(&self.exports).section(&self.code);
        module.finish()
    }
}
