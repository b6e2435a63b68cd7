//! `try_table`s in the resume version of a function.
//!
//! Where a clause leads may be a label that takes its values from registers, so each clause leads to a landing pad first:
//!
//! ```text
//! block (after)
//!   block (pad 1) (result …)
//!     block (pad 0) (result …)
//!       try_table (catch … pad 0) (catch … pad 1) … end
//!       br (after)
//!     end: values into registers, if they travel there; br (target of clause 0)
//!   end: …; br (target of clause 1)
//! end (after)
//! ```
//! A `try_table` with sites is entered like a loop: control comes to it from the outside and dispatches inside. So what is thrown at the
//! site, by the callee when it goes on or by the frame of the callee that was resumed before, finds the handlers in place.

use wasm_encoder::BlockType;

use super::super::body::{BlockId, BlockKind};
use super::super::code::{self, Symbol};
use super::super::frame::Helper;
use super::super::handlers::taken;
use super::{Label, Resume};

impl Resume<'_, '_> {
    /// Opens a `try_table` with sites, whose parameters are in registers.
    pub fn open_split_try(&mut self, id: BlockId, number: usize) -> Result<(), String> {
        self.close(Label::Before(id));
        self.open_pads(number);
        self.open_try(BlockType::Empty, number);
        self.open(Label::Join(id));
        let dispatch = self.open_region(id)?;
        self.dispatch(&dispatch);
        Ok(())
    }

    /// Opens a `try_table` without sites.
    pub fn open_copied_try(&mut self, at: usize, id: BlockId, number: usize) {
        let body = self.body;
        self.writer.replace(at);
        self.writer.set_registers(&body.blocks[id].params);
        self.open_pads(number);
        self.writer.get_registers(&body.blocks[id].params);
        self.open_try(code::block_type(body.handlers.tries[number].ty), number);
        self.open(Label::Block(id));
    }

    /// After the `end` of a `try_table` without sites.
    pub fn end_copied_try(&mut self, id: BlockId) {
        let block = &self.body.blocks[id];
        let BlockKind::Try(number) = block.kind else { return };
        self.writer.set_registers(&block.results);
        self.close_pads(number);
        self.writer.get_registers(&block.results);
    }

    fn open_pads(&mut self, number: usize) {
        let body = self.body;
        self.code().block(BlockType::Empty);
        self.open(Label::AfterPads(number));
        for (clause, (catch, _)) in body.handlers.tries[number].catches.iter().enumerate().rev() {
            let ty = self.writer.context.block_type(&taken(self.writer.context.module, *catch).collect::<Vec<_>>());
            self.code().block(ty);
            self.open(Label::Pad(number, clause));
        }
    }

    fn open_try(&mut self, ty: BlockType, number: usize) {
        let clauses = self.body.handlers.tries[number].catches.iter().enumerate();
        let catches: Vec<_> =
            clauses.map(|(clause, (catch, _))| code::catch(*catch, self.depth(Label::Pad(number, clause)))).collect();
        self.code().try_table(ty, catches);
    }

    /// After the `end` of a `try_table`, with nothing left on the stack that it found.
    pub fn close_pads(&mut self, number: usize) {
        let body = self.body;
        let depth = self.depth(Label::AfterPads(number));
        self.code().br(depth);
        for (clause, (_, target)) in body.handlers.tries[number].catches.iter().enumerate() {
            self.close(Label::Pad(number, clause));
            self.branch(*target);
        }
        self.close(Label::AfterPads(number));
    }

    /// Where normal flow and restored flow meet in a `try_table`: in restored flow, throws what the callee has thrown.
    pub fn rethrow_if_restored(&mut self) {
        let pc = self.pc;
        self.code().local_get(pc).i32_const(-1).local_set(pc).i32_const(-1).i32_ne().if_(BlockType::Empty);
        self.writer.code.call_helper(Helper::Rethrow);
        self.code().end();
    }

    /// A tail call in a `try_table` goes on outside of it, at the end of the function.
    pub fn leave_for_tail(&mut self, number: usize) {
        let body = self.body;
        self.writer.set_registers(&body.handlers.tails[number].arguments);
        let depth = self.depth(Label::Tail(number));
        self.code().br(depth);
    }

    /// The tail calls that were left for the end of the function.
    pub fn tails(&mut self) {
        let body = self.body;
        if body.handlers.tails.is_empty() {
            return;
        }
        let depth = self.depth_of_block(0);
        self.code().br(depth);
        for (number, tail) in body.handlers.tails.iter().enumerate() {
            self.close(Label::Tail(number));
            self.writer.get_registers(&tail.arguments);
            self.call_for_tail(tail.at, tail.function);
            self.branch(0);
        }
    }

    /// Calls what the original calls with a tail call.
    pub fn call_for_tail(&mut self, at: usize, function: Option<u32>) {
        match function {
            Some(function) => self.writer.code.call(Symbol::Function(function)),
            None => {
                let bytes = self.body.operators(at, at + 1);
                self.writer.code.raw(&[CALL_INDIRECT]);
                self.writer.code.raw(&bytes[1..]);
            }
        }
    }
}

/// The opcode of `call_indirect`, whose immediates are those of `return_call_indirect`.
const CALL_INDIRECT: u8 = 0x11;
