//! The resume version of a function, `() -> ()`: pops the function's frame and goes on just after the call at which it was left.
//!
//! WebAssembly cannot jump into a block, so the blocks that contain sites are opened early. A *region* is the function, or the body of a
//! loop that contains sites. At its head all labels in it that lie on the way to a site are opened as empty blocks, in the reverse order of
//! their ends; a `br_table` there reaches every one of them:
//!
//! ```text
//! block (exit)
//!   block (end of the function) … block (site 1) block (site 0)
//!     pop the frame; by its site: restore the variables, br to (site n)
//!     … code before site 0: never reached in the function's own region, reached again in loops …
//!     the call of site 0, the check
//!   end (site 0): normal flow and restored flow meet
//!     … code after site 0 …
//! ```
//! No operands can be on the stack where such blocks end, so at those places they live in slots and registers. A loop inside a region is
//! a label too, just before its head; there the dispatch is repeated, with `pc`, the site to jump to, or -1 in normal flow. So is a
//! `try_table`: see `handlers`.

mod handlers;

use std::collections::HashMap;

use wasm_encoder::BlockType;
use wasmparser::ValType;

use super::body::{Block, BlockId, BlockKind, Body, Op, Site};
use super::code::{Code, Symbol};
use super::context::Context;
use super::frame::{Helper, Kind};
use super::writer::Writer;

/// Writes the resume version; `page` is the first page of the function's descriptors.
///
/// # Errors
/// If the code would grow beyond the limits.
pub fn write(context: &Context<'_, '_>, body: &Body<'_>, page: u32) -> Result<Code, String> {
    let mut resume = Resume::new(context, body, page);
    resume.open(Label::Function);
    resume.code().block(BlockType::Empty);
    resume.open(Label::Exit);
    let dispatch = resume.open_region(0)?;
    resume.restore(&dispatch)?;
    resume.operators()?;
    Ok(resume.writer.finish(0))
}

/// A place that branches lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Label {
    /// The function as a whole: nothing branches there.
    Function,
    /// The end of the function without storing results.
    Exit,
    /// A block that is copied, or the head of a loop.
    Block(BlockId),
    /// The end of a block that contains sites.
    Join(BlockId),
    /// The `else` of an `if` that contains sites, or its end if it has none.
    Else(BlockId),
    /// Just before the head of a loop or `try_table` that contains sites.
    Before(BlockId),
    /// Just after a site.
    After(usize),
    /// Where a clause of a `try_table` leads.
    Pad(usize, usize),
    /// After the last of them.
    AfterPads(usize),
    /// At the end of the function, where a tail call is made that is in a `try_table`.
    Tail(usize),
}

/// For each site of a region the label that leads to it.
type Dispatch = Vec<(usize, Label)>;

struct Resume<'w, 'a> {
    writer: Writer<'w, 'a>,
    body: &'w Body<'a>,
    /// Open labels, outermost first, and where in that list each is.
    open: Vec<Label>,
    position: HashMap<Label, usize>,
    /// The site to jump to, or -1.
    pc: u32,
    /// Holds a condition or table index while operands are moved.
    condition: u32,
    /// Entries written into dispatch tables so far.
    dispatched: usize,
}

impl<'w, 'a> Resume<'w, 'a> {
    fn new(context: &'w Context<'w, 'a>, body: &'w Body<'a>, page: u32) -> Resume<'w, 'a> {
        let mut writer = Writer::new(context, body, page);
        let pc = writer.add_local(ValType::I32);
        let condition = writer.add_local(ValType::I32);
        Resume { writer, body, open: vec![], position: HashMap::new(), pc, condition, dispatched: 0 }
    }

    fn code(&mut self) -> wasm_encoder::InstructionSink<'_> {
        self.writer.code.sink()
    }

    fn open(&mut self, label: Label) {
        self.position.insert(label, self.open.len());
        self.open.push(label);
    }

    fn close(&mut self, label: Label) {
        let closed = self.open.pop();
        assert_eq!(closed, Some(label), "labels are opened in the reverse order of their ends");
        self.code().end();
    }

    fn depth(&self, label: Label) -> u32 {
        (self.open.len() - 1 - self.position[&label]) as u32
    }

    /// How far out the target of a branch to `block` is.
    fn depth_of_block(&self, block: BlockId) -> u32 {
        let is_loop = self.body.blocks[block].kind == BlockKind::Loop;
        self.depth(if self.is_split(block) && !is_loop { Label::Join(block) } else { Label::Block(block) })
    }

    /// Whether a block contains sites, so that values pass through registers at its ends.
    fn is_split(&self, block: BlockId) -> bool {
        self.body.blocks[block].has_site
    }

    // Regions

    /// Opens all labels of the region that `block` heads.
    fn open_region(&mut self, block: BlockId) -> Result<Dispatch, String> {
        let (labels, dispatch) = self.region(block);
        self.dispatched += dispatch.len();
        if self.dispatched > self.writer.context.limits.max_liveness_words {
            return Err("has too many nested loops around calls that may suspend".to_owned());
        }
        for label in labels.into_iter().rev() {
            self.code().block(BlockType::Empty);
            self.open(label);
        }
        Ok(dispatch)
    }

    /// The labels of a region in the order of their ends.
    fn region(&self, head: BlockId) -> (Vec<Label>, Dispatch) {
        let body = self.body;
        let (mut labels, mut dispatch) = (vec![], vec![]);
        let mut at = if head == 0 { 0 } else { body.blocks[head].start + 1 };
        loop {
            match body.ops[at] {
                Op::Open(id) if !body.blocks[id].has_site => at = body.blocks[id].end,
                Op::Open(id) if body.blocks[id].is_entered() => {
                    let block = &body.blocks[id];
                    labels.push(Label::Before(id));
                    let first = body.sites.partition_point(|site| site.at < block.start);
                    let end = body.sites.partition_point(|site| site.at < block.end);
                    dispatch.extend((first..end).map(|site| (site, Label::Before(id))));
                    at = block.end;
                }
                Op::Site(number) => {
                    labels.push(Label::After(number));
                    dispatch.push((number, Label::After(number)));
                }
                Op::Else(id) => labels.push(Label::Else(id)),
                Op::End(id) if id == head => {
                    if head == 0 {
                        labels.extend((0..body.handlers.tails.len()).map(Label::Tail));
                        labels.push(Label::Join(0));
                    }
                    return (labels, dispatch);
                }
                Op::End(id) => {
                    if body.blocks[id].kind == BlockKind::If && body.blocks[id].else_at.is_none() {
                        labels.push(Label::Else(id));
                    }
                    labels.push(Label::Join(id));
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// At the head of a loop: jumps on towards site `pc`, or falls through if it is -1.
    fn dispatch(&mut self, dispatch: &Dispatch) {
        let mut runs: Vec<(usize, Label)> = vec![];
        for (site, label) in dispatch {
            match runs.last_mut() {
                Some((end, last)) if last == label => *end = site + 1,
                _ => runs.push((site + 1, *label)),
            }
        }
        let pc = self.pc;
        if runs.len() <= 2 {
            for (end, label) in runs {
                let depth = self.depth(label);
                self.code().local_get(pc).i32_const(end as i32).i32_lt_u().br_if(depth);
            }
            return;
        }
        let depths: Vec<u32> = dispatch.iter().map(|(_, label)| self.depth(*label) + 1).collect();
        let first = dispatch[0].0 as i32;
        self.code().block(BlockType::Empty).local_get(pc).i32_const(first).i32_sub().br_table(depths, 0).end();
    }

    /// At the head of the function: pops the frame and by its site restores the variables and the callee's results, then jumps.
    fn restore(&mut self, dispatch: &Dispatch) -> Result<(), String> {
        let pc = self.pc;
        let descriptor = self.writer.descriptor(0);
        self.writer.code.call_helper(Helper::Pop);
        self.code().i32_const(descriptor).i32_sub().local_set(pc);
        let count = dispatch.len() as u32;
        for _ in 0..count {
            self.code().block(BlockType::Empty);
        }
        self.code().local_get(pc).br_table(0..count - 1, count - 1);
        for (left, (number, label)) in (0..count).rev().zip(dispatch) {
            self.code().end();
            let site = &self.body.sites[*number];
            self.writer.code.call_helper(Helper::Restore(site.signature));
            for (variable, kind) in site.variables.iter().rev() {
                let local = self.writer.variable(*variable, kind.val_type());
                self.writer.set(local);
            }
            for variable in &site.exceptions {
                self.writer.code.call(Symbol::RemakeException);
                let local = self.writer.variable(*variable, ValType::EXNREF);
                self.writer.set(local);
            }
            if self.writer.context.throws && self.body.caught_by(site.at).is_empty() {
                self.writer.code.call_helper(Helper::Rethrow);
            }
            for (index, kind) in (0..).zip(&site.results) {
                self.code().i32_const(index);
                self.writer.code.call_helper(Helper::Take(*kind));
            }
            self.set_result_registers(site);
            let depth = self.depth(*label) + left;
            self.code().br(depth);
            self.writer.check_size()?;
        }
        Ok(())
    }

    fn set_result_registers(&mut self, site: &Site) {
        let types: Vec<ValType> = site.results.iter().map(|kind| kind.val_type()).collect();
        self.writer.set_registers(&types);
    }

    fn get_result_registers(&mut self, site: &Site) {
        let types: Vec<ValType> = site.results.iter().map(|kind| kind.val_type()).collect();
        self.writer.get_registers(&types);
    }

    // Operators

    fn operators(&mut self) -> Result<(), String> {
        let body = self.body;
        let mut at = 0;
        while at < body.ops.len() {
            let is_reachable = body.reachable[at];
            if !is_reachable && !matches!(body.ops[at], Op::Else(_) | Op::End(_)) {
                at = self.leave_out(at);
                continue;
            }
            match body.ops[at] {
                Op::Open(id) if self.is_split(id) => self.open_split(at, id)?,
                Op::Open(id) => match body.blocks[id].kind {
                    BlockKind::Try(number) => self.open_copied_try(at, id, number),
                    _ => self.open(Label::Block(id)),
                },
                Op::Else(id) if self.is_split(id) => self.split_else(at, id),
                Op::End(id) if self.is_split(id) => self.end_split(at, id),
                Op::Else(_) | Op::End(_) => self.end_copied(at),
                Op::Br(target) => {
                    self.writer.replace(at);
                    self.branch(target);
                }
                Op::BrIf(target) => self.branch_if(at, target),
                Op::BrTable(from, to) => self.branch_table(at, &body.targets[from as usize..to as usize]),
                Op::Return => {
                    self.writer.replace(at);
                    self.branch(0);
                }
                Op::TailCall(function) => self.tail_call(at, function),
                Op::Site(number) => self.site(at, number),
                _ => self.writer.relocate(at),
            }
            self.writer.check_size()?;
            at += 1;
        }
        self.writer.check_size()
    }

    /// Dead code up to the end of its block is left out: what it refers to may not exist here.
    fn leave_out(&mut self, at: usize) -> usize {
        self.writer.copy_until(at);
        let next = match self.body.ops[at] {
            Op::Open(id) => self.body.blocks[id].end + 1,
            _ => at + 1,
        };
        self.writer.skip_until(next);
        next
    }

    fn open_split(&mut self, at: usize, id: BlockId) -> Result<(), String> {
        let body = self.body;
        let block = &body.blocks[id];
        let condition = self.condition;
        self.writer.replace(at);
        if block.kind == BlockKind::If {
            self.writer.set(condition);
        }
        self.writer.set_registers(&block.params);
        self.writer.set_slots(body.blocks[block.parent].base, &block.below);
        if block.kind == BlockKind::If {
            let depth = self.depth(Label::Else(id));
            self.code().local_get(condition).i32_eqz().br_if(depth);
        }
        match block.kind {
            BlockKind::Loop => {
                self.close(Label::Before(id));
                self.code().loop_(BlockType::Empty);
                self.open(Label::Block(id));
                let dispatch = self.open_region(id)?;
                self.dispatch(&dispatch);
            }
            BlockKind::Try(number) => self.open_split_try(id, number)?,
            _ => {}
        }
        self.writer.get_registers(&block.params);
        Ok(())
    }

    fn split_else(&mut self, at: usize, id: BlockId) {
        let block = &self.body.blocks[id];
        self.writer.replace(at);
        if self.body.reachable[at] {
            self.branch(id);
        }
        self.close(Label::Else(id));
        self.writer.get_registers(&block.params);
    }

    fn end_split(&mut self, at: usize, id: BlockId) {
        let block = &self.body.blocks[id];
        self.writer.replace(at);
        if self.body.reachable[at] {
            self.writer.set_registers(&block.results);
        }
        match block.kind {
            BlockKind::Function => return self.end_function(block),
            BlockKind::Loop => self.close(Label::Block(id)),
            BlockKind::Block => self.close(Label::Join(id)),
            BlockKind::Try(number) => {
                self.close(Label::Join(id));
                self.close_pads(number);
            }
            BlockKind::If => {
                if block.else_at.is_none() {
                    // Without an else the parameters are the results, and in the same registers.
                    self.close(Label::Else(id));
                }
                self.close(Label::Join(id));
            }
        }
        self.writer.get_slots(self.body.blocks[block.parent].base, &block.below);
        self.writer.get_registers(&block.results);
    }

    /// Keeps the results for the frame below and returns.
    fn end_function(&mut self, block: &Block) {
        self.tails();
        self.close(Label::Join(0));
        for (index, ty) in (0_u32..).zip(&block.results) {
            let kind = Kind::of(*ty).expect("functions with sites return no references");
            self.code().i32_const(index.cast_signed());
            self.writer.get_register(index, *ty);
            self.writer.code.call_helper(Helper::Put(kind));
        }
        self.close(Label::Exit);
        self.close(Label::Function);
    }

    /// The `else` or `end` of a block without sites.
    fn end_copied(&mut self, at: usize) {
        if let Op::End(id) = self.body.ops[at] {
            let closed = self.open.pop();
            assert_eq!(closed, Some(Label::Block(id)), "copied blocks end where they ended");
            self.writer.copy_until(at + 1);
            return self.end_copied_try(id);
        }
        self.writer.copy_until(at + 1);
    }

    fn branch(&mut self, target: BlockId) {
        if self.is_split(target) {
            self.writer.set_registers(self.body.blocks[target].label_types());
        }
        let depth = self.depth_of_block(target);
        self.code().br(depth);
    }

    fn branch_if(&mut self, at: usize, target: BlockId) {
        self.writer.replace(at);
        let types = self.body.blocks[target].label_types();
        let depth = self.depth_of_block(target);
        if !self.is_split(target) || types.is_empty() {
            self.code().br_if(depth);
            return;
        }
        let condition = self.condition;
        self.writer.set(condition);
        self.writer.set_registers(types);
        self.code().local_get(condition).br_if(depth);
        self.writer.get_registers(types);
    }

    /// If some targets take values from registers and others from the stack, each gets a landing pad.
    fn branch_table(&mut self, at: usize, targets: &[BlockId]) {
        self.writer.replace(at);
        let Some((default, _)) = targets.split_last() else { return };
        let types = self.body.blocks[*default].label_types();
        if types.is_empty() || !targets.iter().any(|target| self.is_split(*target)) {
            let depths: Vec<u32> = targets.iter().map(|target| self.depth_of_block(*target)).collect();
            if let Some((default, others)) = depths.split_last() {
                self.code().br_table(others.iter().copied(), *default);
            }
            return;
        }
        let condition = self.condition;
        self.writer.set(condition);
        self.writer.set_registers(types);
        let mut pads = targets.to_vec();
        pads.sort_unstable();
        pads.dedup();
        for _ in &pads {
            self.code().block(BlockType::Empty);
        }
        let pad_of = |target: &BlockId| pads.binary_search(target).expect("every target has a pad") as u32;
        let default = pad_of(default);
        self.code().local_get(condition).br_table(targets[..targets.len() - 1].iter().map(pad_of), default);
        for (left, pad) in (0..pads.len() as u32).rev().zip(&pads) {
            self.code().end();
            if !self.is_split(*pad) {
                self.writer.get_registers(types);
            }
            let depth = self.depth_of_block(*pad) + left;
            self.code().br(depth);
        }
    }

    /// An ordinary call, since the results have to be kept. If the callee is left, so is this function, and it has nothing to save:
    /// the results it keeps then are never taken.
    fn tail_call(&mut self, at: usize, function: Option<u32>) {
        self.writer.replace(at);
        if let Some(number) = self.body.tail_in_try(at) {
            return self.leave_for_tail(number);
        }
        self.call_for_tail(at, function);
        self.branch(0);
    }

    fn site(&mut self, at: usize, number: usize) {
        let site = &self.body.sites[number];
        let base = self.body.blocks[site.block].base;
        let pc = self.pc;
        self.writer.replace(at);
        if !site.below.is_empty() {
            self.writer.set_registers(&site.arguments);
            self.writer.set_slots(base, &site.below);
            self.writer.get_registers(&site.arguments);
        }
        self.writer.call(site);
        let exit = self.depth(Label::Exit);
        self.writer.check(number, exit);
        self.set_result_registers(site);
        self.close(Label::After(number));
        if self.writer.context.throws && !self.body.caught_by(site.at).is_empty() {
            self.rethrow_if_restored();
        } else {
            self.code().i32_const(-1).local_set(pc);
        }
        self.writer.get_slots(base, &site.below);
        self.get_result_registers(site);
    }
}
