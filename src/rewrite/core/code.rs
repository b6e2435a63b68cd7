//! Machine-made function bodies whose callees are still symbols.
//!
//! How many helpers a module imports is known only when its last function has been written, and every import shifts the indices of all
//! defined functions. So bodies are written with gaps where function indices belong, and linked at the end, with indices as short as they get.

use wasm_encoder::{BlockType, Catch, Encode, InstructionSink};
use wasmparser::ValType;

use super::frame::Helper;

/// A function that generated code refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// By its index in the original module.
    Function(u32),
    /// Imported from ckpt.
    Helper(Helper),
    /// Added to the module: see `exceptions`.
    KeepException,
    RemakeException,
}

const CALL: u8 = 0x10;
const RETURN_CALL: u8 = 0x12;
const REF_FUNC: u8 = 0xd2;

/// One function body: local declarations and instructions.
#[derive(Debug, Default)]
pub struct Code {
    locals: Vec<u8>,
    bytes: Vec<u8>,
    /// Positions in `bytes` where the index of a function belongs.
    gaps: Vec<(u32, Symbol)>,
    /// Positions in `bytes` of branches that are hardly ever taken.
    unlikely: Vec<u32>,
}

impl Code {
    pub fn declare_locals(&mut self, types: impl IntoIterator<Item = ValType>) {
        let mut runs: Vec<(u32, ValType)> = vec![];
        for ty in types {
            match runs.last_mut() {
                Some((count, last)) if *last == ty => *count += 1,
                _ => runs.push((1, ty)),
            }
        }
        runs.len().encode(&mut self.locals);
        for (count, ty) in runs {
            count.encode(&mut self.locals);
            encoded(ty).encode(&mut self.locals);
        }
    }

    /// Declares locals with a declaration that is encoded already.
    pub fn raw_locals(&mut self, declarations: &[u8]) {
        self.locals.extend_from_slice(declarations);
    }

    pub fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.bytes)
    }

    /// Appends encoded instructions as they are.
    pub fn raw(&mut self, instructions: &[u8]) {
        self.bytes.extend_from_slice(instructions);
    }

    pub fn call(&mut self, symbol: Symbol) {
        self.refer(CALL, symbol);
    }

    pub fn call_helper(&mut self, helper: Helper) {
        self.call(Symbol::Helper(helper));
    }

    pub fn return_call(&mut self, symbol: Symbol) {
        self.refer(RETURN_CALL, symbol);
    }

    pub fn ref_func(&mut self, symbol: Symbol) {
        self.refer(REF_FUNC, symbol);
    }

    fn refer(&mut self, opcode: u8, symbol: Symbol) {
        self.bytes.push(opcode);
        self.gaps.push((self.len(), symbol));
    }

    /// Sets a flag.
    pub fn set_flag(&mut self, global: u32) {
        self.sink().i32_const(1).global_set(global);
    }

    /// Marks the next instruction, an `if`, as hardly ever taken.
    pub fn mark_unlikely(&mut self) {
        self.unlikely.push(self.len());
    }

    /// Bytes of the instructions so far.
    pub fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("a function's growth is limited far below 4 GiB")
    }

    pub fn helpers(&self) -> impl Iterator<Item = Helper> {
        self.gaps.iter().filter_map(|(_, symbol)| match symbol {
            Symbol::Helper(helper) => Some(*helper),
            Symbol::Function(_) | Symbol::KeepException | Symbol::RemakeException => None,
        })
    }

    /// Whether it saves caught exceptions.
    pub fn keeps_exceptions(&self) -> bool {
        self.gaps.iter().any(|(_, symbol)| *symbol == Symbol::KeepException)
    }

    /// Fills the gaps. Returns the body and the offsets in it of the unlikely branches.
    pub fn link(&self, index_of: impl Fn(Symbol) -> u32) -> (Vec<u8>, Vec<u32>) {
        let mut body = Vec::with_capacity(self.locals.len() + self.bytes.len() + 3 * self.gaps.len());
        body.extend_from_slice(&self.locals);
        let mut hints = Vec::with_capacity(self.unlikely.len());
        let mut unlikely = self.unlikely.iter().peekable();
        let mut from = 0;
        let mut copy = |body: &mut Vec<u8>, to: usize, last: bool| {
            while let Some(at) = unlikely.next_if(|at| (**at as usize) < to || last) {
                hints.push((body.len() + *at as usize - from) as u32);
            }
            body.extend_from_slice(&self.bytes[from..to]);
            from = to;
        };
        for (at, symbol) in &self.gaps {
            copy(&mut body, *at as usize, false);
            index_of(*symbol).encode(&mut body);
        }
        copy(&mut body, self.bytes.len(), true);
        (body, hints)
    }
}

/// The same type in the encoder's words. Only types that the pinned features allow occur.
pub fn encoded(ty: ValType) -> wasm_encoder::ValType {
    wasm_encoder::ValType::try_from(ty).expect("typed references are refused when the module is parsed")
}

/// The same block type in the encoder's words.
pub fn block_type(ty: wasmparser::BlockType) -> BlockType {
    match ty {
        wasmparser::BlockType::Empty => BlockType::Empty,
        wasmparser::BlockType::Type(ty) => BlockType::Result(encoded(ty)),
        wasmparser::BlockType::FuncType(ty) => BlockType::FunctionType(ty),
    }
}

/// The same clause, leading `depth` blocks out.
pub fn catch(clause: wasmparser::Catch, depth: u32) -> Catch {
    match clause {
        wasmparser::Catch::One { tag, .. } => Catch::One { tag, label: depth },
        wasmparser::Catch::OneRef { tag, .. } => Catch::OneRef { tag, label: depth },
        wasmparser::Catch::All { .. } => Catch::All { label: depth },
        wasmparser::Catch::AllRef { .. } => Catch::AllRef { label: depth },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linking_moves_the_hints_behind_longer_indices() {
        let mut code = Code::default();
        code.declare_locals([ValType::I32, ValType::I32, ValType::F64]);
        code.call(Symbol::Function(0));
        code.call_helper(Helper::Pop);
        code.mark_unlikely();
        code.sink().if_(wasm_encoder::BlockType::Empty).end().end();
        let (body, hints) = code.link(|symbol| if symbol == Symbol::Function(0) { 300 } else { 5 });
        assert_eq!(body, [2, 2, 0x7f, 1, 0x7c, 0x10, 0xac, 0x02, 0x10, 5, 0x04, 0x40, 0x0b, 0x0b]);
        assert_eq!(hints, [10]);
    }
}
