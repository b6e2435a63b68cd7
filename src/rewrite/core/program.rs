//! The core modules of one component with their wiring, and what the rewriter makes of them.

use wasmparser::ValType;

use super::CoreModule;

/// Where an import of a core module comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportSource {
    /// An export of an earlier module of the program.
    Export {
        /// Position in [`Program::modules`].
        module: usize,
        /// Name of the export.
        name: String,
    },
    /// A host function at which the program may be suspended; reached through a trampoline.
    Suspending(Suspends),
    /// Any other host function: lowered imports and canonical built-ins.
    Opaque,
}

/// What a suspending import waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspends {
    /// Something durable, always: the program is prepared to be suspended wherever this is called.
    Always,
    /// Timers or streams, which only the host can tell apart. Only timers suspend; `graph` says where none are waited for.
    ForTimers,
}

/// A core module and where its imports come from.
#[derive(Debug)]
pub struct LinkedModule<'a> {
    /// The module.
    pub module: CoreModule<'a>,
    /// One source for each import, in order, all kinds.
    pub imports: Vec<ImportSource>,
}

/// All core modules of a component, each instantiated once.
#[derive(Debug, Default)]
pub struct Program<'a> {
    /// In instantiation order.
    pub modules: Vec<LinkedModule<'a>>,
    /// The suspending imports.
    pub trampolines: Vec<Trampoline>,
}

/// The core signature a suspending import was lowered to in the original component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trampoline {
    /// Flat parameters, the return pointer included.
    pub params: Vec<ValType>,
    /// Flat results: none or one.
    pub results: Vec<ValType>,
    /// The last parameter says where the result is to be written.
    pub has_return_pointer: bool,
    /// What it waits for.
    pub suspends: Suspends,
}

/// The core function behind the component's entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in [`Program::modules`].
    pub module: usize,
    /// Name of the export.
    pub export: String,
}

/// The memory `export` of module `module`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryRef {
    /// Position in [`Program::modules`].
    pub module: usize,
    /// Name of the export, `ckpt:m<index>`.
    pub export: String,
}

/// What [`super::instrument`] makes of a program.
#[derive(Debug, Clone)]
pub struct Instrumented {
    /// Instantiated first; imports nothing. Later modules import its exports under the module name `ckpt`.
    pub ckpt: Vec<u8>,
    /// The rewritten modules, in the order of [`Program::modules`].
    pub modules: Vec<Vec<u8>>,
    /// For each module: whether it imports from `ckpt` and exports `ckpt:resume` and, if it drops segments, `ckpt:replay`.
    pub needs_ckpt: Vec<bool>,
    /// For each of [`Program::trampolines`] a module that imports `ckpt`.*, `host`.`start`, `host`.`finish` and, if it waits for timers,
    /// `host`.`plain`, the import as it was. It exports the original function as `call` and its resume table as `ckpt:resume`.
    pub trampolines: Vec<Vec<u8>>,
    /// Instantiated last. Imports `ckpt`.*, `m<i>`.`ckpt:resume` of the modules that need ckpt, `m<i>`.`ckpt:m<k>` and `m<i>`.`ckpt:g<k>`,
    /// `m<i>`.`ckpt:replay`, `t<i>`.`ckpt:resume`, `entry`.`run`, `host`.`pages` and `host`.`visit<k>` for k = 0 (aux) to `memories.len()`.
    /// Exports `run` and `take` (both only with an entry), `resume`, `save` and `load`.
    pub glue: Vec<u8>,
    /// Memory k + 1 as shown to the host; memory 0 is `ckpt`.`aux`.
    pub memories: Vec<MemoryRef>,
    /// Figures for the report.
    pub stats: Stats,
}

/// Figures of one rewrite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Functions defined in all modules.
    pub functions: usize,
    /// Functions that can be on the stack at a suspension.
    pub instrumented: usize,
    /// Calls at which they can be suspended.
    pub sites: usize,
    /// Bytes of all core modules.
    pub bytes_before: usize,
    /// Bytes of all rewritten modules, with ckpt, trampolines and glue.
    pub bytes_after: usize,
    /// Whether the entry point can reach a suspending import; without an entry: whether any function can.
    pub suspends: bool,
}
