//! Caught exceptions (`exnref`) that are live where the stack is left. They cannot be stored, but have no identity either: what an exception
//! carries is saved, and another of the same tag made of it.
//!
//! Each gets a frame of its own, pushed after that of the function, so that it is popped after it:
//!
//! ```text
//! keep(exception):       push { what it carries, by type }, descriptor: which tag of Exceptions::tags, or their number for null
//! remake() -> exception: pop; throw what was carried, and catch it
//! ```

use std::collections::BTreeSet;

use wasm_encoder::{AbstractHeapType, BlockType, Catch, HeapType};
use wasmparser::ValType;

use super::code::Code;
use super::frame::{Helper, Kind, Signature};
use super::module::CoreModule;
use super::program::Program;
use super::wiring::{TagId, Wiring};

/// More tags, or values that they carry, than any toolchain has.
const MAX_TAGS: usize = 100;
const MAX_VALUES: usize = 1_000;

/// What exceptions that a module catches can be.
#[derive(Debug)]
pub struct Exceptions {
    /// The tags, by their indices in the module.
    tags: Vec<u32>,
    /// What they carry.
    values: Vec<Vec<Kind>>,
}

impl Exceptions {
    /// For each module of the program; `None`: it may catch exceptions of tags that it does not know, or that carry references,
    /// or there are too many.
    pub fn of_modules(program: &Program<'_>, wiring: &Wiring) -> Vec<Option<Exceptions>> {
        let mut thrown = BTreeSet::new();
        for (linked, tags) in program.modules.iter().zip(&wiring.tags) {
            let indices = linked.module.functions.iter().flat_map(|function| &function.facts.thrown);
            thrown.extend(indices.filter_map(|index| tags.get(*index as usize)));
        }
        let modules = program.modules.iter().zip(&wiring.tags);
        if thrown.len() > MAX_TAGS {
            return modules.map(|_| None).collect();
        }
        modules.map(|(linked, tags)| Exceptions::of_module(&linked.module, tags, &thrown)).collect()
    }

    fn of_module(module: &CoreModule<'_>, known: &[TagId], thrown: &BTreeSet<TagId>) -> Option<Exceptions> {
        let mut missing = thrown.clone();
        let tags: Vec<u32> = (0..).zip(known).filter(|(_, tag)| missing.remove(tag)).map(|(index, _)| index).collect();
        if !missing.is_empty() {
            return None;
        }
        let kinds = |tag: &u32| module.carried(*tag).iter().map(|ty| Kind::of(*ty)).collect::<Option<Vec<Kind>>>();
        let values = tags.iter().map(kinds).collect::<Option<Vec<_>>>()?;
        (values.iter().map(Vec::len).sum::<usize>() <= MAX_VALUES).then_some(Exceptions { tags, values })
    }

    /// What `keep` and `remake` import from ckpt.
    pub fn helpers(&self) -> Vec<Helper> {
        let signatures = self.values.iter().map(|values| Signature::of(values.iter().copied()));
        let frames = signatures.flat_map(|signature| [Helper::Save(signature), Helper::Restore(signature)]);
        [Helper::Pop, Helper::Save(Signature::default())].into_iter().chain(frames).collect()
    }

    /// `(exnref) -> ()`. `block_type` gives the type of a block with several results.
    pub fn keep(&self, mut block_type: impl FnMut(&[ValType]) -> BlockType) -> Code {
        let mut code = Code::default();
        code.declare_locals(self.values.iter().flatten().map(|kind| kind.val_type()));
        code.sink().local_get(0).ref_is_null().if_(BlockType::Empty).i32_const(self.tags.len() as i32);
        code.call_helper(Helper::Save(Signature::default()));
        code.sink().return_().end();
        for values in self.values.iter().rev() {
            let types: Vec<ValType> = values.iter().map(|kind| kind.val_type()).collect();
            code.sink().block(block_type(&types));
        }
        let catches: Vec<Catch> = self.tags.iter().zip(0..).map(|(tag, label)| Catch::One { tag: *tag, label }).collect();
        code.sink().try_table(BlockType::Empty, catches).local_get(0).throw_ref().end().unreachable();
        let mut first = 1;
        for (number, values) in (0..).zip(&self.values) {
            code.sink().end();
            for local in (first..).take(values.len()).collect::<Vec<_>>().into_iter().rev() {
                code.sink().local_set(local);
            }
            code.sink().i32_const(number);
            for position in by_kind(values) {
                code.sink().local_get(first + position);
            }
            code.call_helper(Helper::Save(Signature::of(values.iter().copied())));
            code.sink().return_();
            first += values.len() as u32;
        }
        code.sink().end();
        code
    }

    /// `() -> exnref`
    pub fn remake(&self) -> Code {
        let count = self.tags.len() as u32;
        let mut code = Code::default();
        code.declare_locals(self.values.iter().flatten().map(|kind| kind.val_type()));
        code.sink().block(BlockType::Result(wasm_encoder::ValType::EXNREF));
        code.sink().try_table(BlockType::Empty, [Catch::AllRef { label: 0 }]);
        for _ in 0..=count {
            code.sink().block(BlockType::Empty);
        }
        code.call_helper(Helper::Pop);
        code.sink().br_table(0..count, count);
        let mut first = 0;
        for (tag, values) in self.tags.iter().zip(&self.values) {
            code.sink().end();
            code.call_helper(Helper::Restore(Signature::of(values.iter().copied())));
            for position in by_kind(values).into_iter().rev() {
                code.sink().local_set(first + position);
            }
            for local in (first..).take(values.len()) {
                code.sink().local_get(local);
            }
            code.sink().throw(*tag);
            first += values.len() as u32;
        }
        code.sink().end().end().ref_null(HeapType::Abstract { shared: false, ty: AbstractHeapType::Exn }).end().end();
        code
    }
}

/// The positions of values in the order of a frame.
fn by_kind(values: &[Kind]) -> Vec<u32> {
    let mut positions: Vec<u32> = (0..values.len() as u32).collect();
    positions.sort_by_key(|position| values[*position as usize]);
    positions
}
