//! What the generated modules agree on: the frames in the aux memory and the helpers that write and read them.
//!
//! ```text
//! aux:   | results, one per 16 bytes | sp | globals of all modules | frame | frame | … | <- sp
//! frame: | values, packed, ordered by type | descriptor: u32 | bytes of the values: u32 |
//! descriptor: page << 12 | site
//! ```
//! A function owns one page of descriptors for every 4,096 calls at which it can be suspended. Pages are numbered over the whole program
//! and lead, through the `ckpt:resume` tables of the modules, to the function's resume version.

use wasm_encoder::{InstructionSink, MemArg};
use wasmparser::ValType;

/// Module name under which the helpers are imported, and prefix of every reserved export name.
pub const CKPT: &str = "ckpt";
/// The table of resume versions that an instrumented module exports.
pub const RESUME_TABLE: &str = "ckpt:resume";
/// Sites are numbered within a page of this many bits.
pub const SITE_BITS: u32 = 12;
/// Descriptors have 32 bits.
pub const MAX_PAGES: u32 = 1 << (32 - SITE_BITS);
/// A result is kept in this many bytes, whatever its type.
pub const RESULT_STRIDE: u32 = 16;
/// A stack that does not fit into this many bytes of aux memory traps with `unreachable`.
pub const MAX_AUX_BYTES: u32 = 64 << 20;

/// The types whose values can be saved: all but references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    I32,
    I64,
    F32,
    F64,
    V128,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::I32, Kind::I64, Kind::F32, Kind::F64, Kind::V128];

    /// `None` for a reference.
    pub fn of(ty: ValType) -> Option<Kind> {
        match ty {
            ValType::I32 => Some(Kind::I32),
            ValType::I64 => Some(Kind::I64),
            ValType::F32 => Some(Kind::F32),
            ValType::F64 => Some(Kind::F64),
            ValType::V128 => Some(Kind::V128),
            ValType::Ref(_) => None,
        }
    }

    pub fn bytes(self) -> u32 {
        match self {
            Kind::I32 | Kind::F32 => 4,
            Kind::I64 | Kind::F64 => 8,
            Kind::V128 => 16,
        }
    }

    pub fn val_type(self) -> ValType {
        match self {
            Kind::I32 => ValType::I32,
            Kind::I64 => ValType::I64,
            Kind::F32 => ValType::F32,
            Kind::F64 => ValType::F64,
            Kind::V128 => ValType::V128,
        }
    }

    pub fn encoded(self) -> wasm_encoder::ValType {
        match self {
            Kind::I32 => wasm_encoder::ValType::I32,
            Kind::I64 => wasm_encoder::ValType::I64,
            Kind::F32 => wasm_encoder::ValType::F32,
            Kind::F64 => wasm_encoder::ValType::F64,
            Kind::V128 => wasm_encoder::ValType::V128,
        }
    }

    fn letter(self) -> char {
        match self {
            Kind::I32 => 'i',
            Kind::I64 => 'l',
            Kind::F32 => 'f',
            Kind::F64 => 'd',
            Kind::V128 => 'v',
        }
    }

    /// Loads from `memory` at the address on the stack plus `offset`.
    pub fn load(self, sink: &mut InstructionSink<'_>, offset: u32, memory: u32) {
        let arg = unaligned(offset, memory);
        match self {
            Kind::I32 => sink.i32_load(arg),
            Kind::I64 => sink.i64_load(arg),
            Kind::F32 => sink.f32_load(arg),
            Kind::F64 => sink.f64_load(arg),
            Kind::V128 => sink.v128_load(arg),
        };
    }

    /// Stores the value on the stack at the address below it plus `offset`.
    pub fn store(self, sink: &mut InstructionSink<'_>, offset: u32, memory: u32) {
        let arg = unaligned(offset, memory);
        match self {
            Kind::I32 => sink.i32_store(arg),
            Kind::I64 => sink.i64_store(arg),
            Kind::F32 => sink.f32_store(arg),
            Kind::F64 => sink.f64_store(arg),
            Kind::V128 => sink.v128_store(arg),
        };
    }

    pub fn zero(self, sink: &mut InstructionSink<'_>) {
        match self {
            Kind::I32 => sink.i32_const(0),
            Kind::I64 => sink.i64_const(0),
            Kind::F32 => sink.f32_const(0.0.into()),
            Kind::F64 => sink.f64_const(0.0.into()),
            Kind::V128 => sink.v128_const(0),
        };
    }
}

/// Frames are packed to multiples of four bytes.
pub fn unaligned(offset: u32, memory: u32) -> MemArg {
    MemArg { offset: offset.into(), align: 2, memory_index: memory }
}

/// How many values of each kind a frame holds, in the order of [`Kind::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u16; 5]);

impl Signature {
    pub fn of(kinds: impl IntoIterator<Item = Kind>) -> Signature {
        let mut signature = Signature::default();
        for kind in kinds {
            signature.0[kind as usize] += 1;
        }
        signature
    }

    /// The kinds of the values in the order in which the frame holds them.
    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().zip(self.0).flat_map(|(kind, count)| std::iter::repeat_n(kind, count.into()))
    }

    fn name(self) -> String {
        let counts: Vec<_> = Kind::ALL.iter().zip(self.0).filter(|(_, count)| *count > 0).collect();
        counts.into_iter().map(|(kind, count)| format!("{}{count}", kind.letter())).collect()
    }
}

/// A function of the ckpt module that instrumented code calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Helper {
    /// `() -> descriptor`: takes the top frame off; its values are read by a `Restore` before anything is pushed.
    Pop,
    /// `(index, value)`: keeps a result of the function that has returned for the frame below it.
    Put(Kind),
    /// `(index) -> value`: such a result.
    Take(Kind),
    /// `(descriptor, values…)`: pushes a frame.
    Save(Signature),
    /// `() -> values…`: the values of the frame taken off last.
    Restore(Signature),
    /// `()`: until the matching `EndWarm`, polls do not suspend.
    BeginWarm,
    /// `()`
    EndWarm,
    /// `(exception)`: keeps what a resumed function has thrown for the frame below it.
    Catch,
    /// `()`: throws such an exception, if there is one.
    Rethrow,
}

impl Helper {
    /// The export name in the ckpt module.
    pub fn name(self) -> String {
        match self {
            Helper::Pop => "pop".to_owned(),
            Helper::Put(kind) => format!("put-{}", kind.letter()),
            Helper::Take(kind) => format!("take-{}", kind.letter()),
            Helper::Save(signature) => format!("save-{}", signature.name()),
            Helper::Restore(signature) => format!("restore-{}", signature.name()),
            Helper::BeginWarm => "begin-warm".to_owned(),
            Helper::EndWarm => "end-warm".to_owned(),
            Helper::Catch => "catch".to_owned(),
            Helper::Rethrow => "rethrow".to_owned(),
        }
    }

    pub fn params(self) -> Vec<wasm_encoder::ValType> {
        let i32 = wasm_encoder::ValType::I32;
        match self {
            Helper::Pop | Helper::Restore(_) | Helper::BeginWarm | Helper::EndWarm | Helper::Rethrow => vec![],
            Helper::Catch => vec![wasm_encoder::ValType::EXNREF],
            Helper::Put(kind) => vec![i32, kind.encoded()],
            Helper::Take(_) => vec![i32],
            Helper::Save(signature) => std::iter::once(i32).chain(signature.kinds().map(Kind::encoded)).collect(),
        }
    }

    pub fn results(self) -> Vec<wasm_encoder::ValType> {
        match self {
            Helper::Pop => vec![wasm_encoder::ValType::I32],
            Helper::Put(_) | Helper::Save(_) | Helper::BeginWarm | Helper::EndWarm => vec![],
            Helper::Catch | Helper::Rethrow => vec![],
            Helper::Take(kind) => vec![kind.encoded()],
            Helper::Restore(signature) => signature.kinds().map(Kind::encoded).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_names_its_values_in_the_order_of_the_frame() {
        let signature = Signature::of([Kind::V128, Kind::I64, Kind::I32, Kind::I64]);
        assert_eq!(Helper::Save(signature).name(), "save-i1l2v1");
        assert_eq!(signature.kinds().collect::<Vec<_>>(), [Kind::I32, Kind::I64, Kind::I64, Kind::V128]);
    }
}
