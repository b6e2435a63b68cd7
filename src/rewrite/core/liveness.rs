//! Which locals are needed after each site: backward dataflow over basic blocks, one bit a local.

use super::super::Limits;
use super::body::{BlockKind, Body, Op, Variable};
use super::budget::Budget;
use super::context::Context;
use super::frame::Kind;

/// Adds the locals that are live just after each site to its variables.
///
/// # Errors
/// If a reference is live at a site, or the function is too large to be analysed within the limits.
pub fn add_live_locals(body: &mut Body<'_>, context: &Context<'_, '_>) -> Result<(), String> {
    let Context { limits, budget, .. } = *context;
    if body.sites.is_empty() || body.locals.is_empty() {
        return Ok(());
    }
    let to_handlers: usize = body.handlers.throwing.iter().map(|(_, number)| body.handlers.tries[*number].targets.len()).sum();
    if to_handlers > limits.max_liveness_words {
        return Err(format!("{to_handlers} ways from calls to handlers of exceptions are more than can be analysed"));
    }
    budget.work(to_handlers)?;
    let mut flow = Flow::new(body, limits)?;
    flow.solve(budget)?;
    budget.work(body.sites.len() * 2 * flow.words)?;
    let mut live = vec![];
    for (number, site) in body.sites.iter().enumerate() {
        let locals = flow.live_after(body, site.at);
        budget.values(locals.len())?;
        for local in locals {
            let ty = body.locals[local as usize];
            let checked = context.check_saved(ty);
            checked.map_err(|what| format!("keeps {what} in local {local} over a call that may suspend"))?;
            live.push((number, Variable::Local(local), Kind::of(ty)));
        }
    }
    for (number, variable, kind) in live {
        match kind {
            Some(kind) => body.sites[number].variables.push((variable, kind)),
            None => body.sites[number].exceptions.push(variable),
        }
    }
    Ok(())
}

struct Flow {
    /// Words of a set of locals.
    words: usize,
    /// First operator of each basic block, and the number of operators at the end.
    starts: Vec<usize>,
    /// Basic block of each operator.
    block_of: Vec<u32>,
    /// Successors of basic block b: `successors[first_successor[b]..first_successor[b + 1]]`.
    successors: Vec<u32>,
    first_successor: Vec<u32>,
    /// Sets for each basic block: read before written, written, live at its start.
    read: Vec<u64>,
    written: Vec<u64>,
    live: Vec<u64>,
}

impl Flow {
    fn new(body: &Body<'_>, limits: &Limits) -> Result<Flow, String> {
        let words = body.locals.len().div_ceil(64);
        let (starts, block_of) = basic_blocks(body);
        let blocks = starts.len() - 1;
        if blocks.saturating_mul(words) > limits.max_liveness_words {
            return Err(format!("{blocks} basic blocks with {} locals are more than can be analysed", body.locals.len()));
        }
        let empty = vec![0; blocks * words];
        let mut flow = Flow {
            words,
            starts,
            block_of,
            successors: vec![],
            first_successor: vec![0],
            read: empty.clone(),
            written: empty.clone(),
            live: empty,
        };
        for block in 0..blocks {
            flow.add_block(body, block);
        }
        Ok(flow)
    }

    fn add_block(&mut self, body: &Body<'_>, block: usize) {
        let sets = block * self.words;
        for op in &body.ops[self.starts[block]..self.starts[block + 1]] {
            match *op {
                Op::LocalGet(local) => {
                    let (word, bit) = place(local);
                    self.read[sets + word] |= bit & !self.written[sets + word];
                }
                Op::LocalSet(local) => {
                    let (word, bit) = place(local);
                    self.written[sets + word] |= bit;
                }
                _ => {}
            }
        }
        let from = self.successors.len();
        let last = self.starts[block + 1] - 1;
        for_each_successor(body, last, |to| {
            if to < body.ops.len() {
                self.successors.push(self.block_of[to]);
            }
        });
        self.successors[from..].sort_unstable();
        let mut kept = from;
        for at in from..self.successors.len() {
            if at == from || self.successors[at] != self.successors[kept - 1] {
                self.successors[kept] = self.successors[at];
                kept += 1;
            }
        }
        self.successors.truncate(kept);
        self.first_successor.push(kept as u32);
    }

    /// Sweeps backwards until nothing changes: about as many sweeps as loops are nested.
    fn solve(&mut self, budget: &Budget) -> Result<(), String> {
        let blocks = self.starts.len() - 1;
        let mut out = vec![0; self.words];
        loop {
            budget.work(self.live.len() + self.successors.len() * self.words)?;
            let mut has_changed = false;
            for block in (0..blocks).rev() {
                self.union_of_successors(block, &mut out);
                let sets = block * self.words;
                for (word, out) in out.iter().enumerate() {
                    let live = self.read[sets + word] | (out & !self.written[sets + word]);
                    has_changed |= live != self.live[sets + word];
                    self.live[sets + word] = live;
                }
            }
            if !has_changed {
                return Ok(());
            }
        }
    }

    fn union_of_successors(&self, block: usize, out: &mut [u64]) {
        out.fill(0);
        for successor in &self.successors[self.first_successor[block] as usize..self.first_successor[block + 1] as usize] {
            let sets = *successor as usize * self.words;
            for (out, live) in out.iter_mut().zip(&self.live[sets..]) {
                *out |= live;
            }
        }
    }

    /// The locals live after the operator `at`, in ascending order.
    fn live_after(&self, body: &Body<'_>, at: usize) -> Vec<u32> {
        let block = self.block_of[at] as usize;
        let mut live = vec![0; self.words];
        self.union_of_successors(block, &mut live);
        for op in body.ops[at + 1..self.starts[block + 1]].iter().rev() {
            match *op {
                Op::LocalGet(local) => live[place(local).0] |= place(local).1,
                Op::LocalSet(local) => live[place(local).0] &= !place(local).1,
                _ => {}
            }
        }
        let bits = |word: u64| (0..64).filter(move |bit| word >> bit & 1 == 1);
        live.iter().enumerate().flat_map(|(word, set)| bits(*set).map(move |bit| word as u32 * 64 + bit)).collect()
    }
}

fn place(local: u32) -> (usize, u64) {
    (local as usize / 64, 1 << (local % 64))
}

/// A basic block also ends at every site, so that the locals live after a site are found without walking far; and wherever an exception
/// may lead to a handler.
fn basic_blocks(body: &Body<'_>) -> (Vec<usize>, Vec<u32>) {
    let count = body.ops.len();
    let mut starts_block = vec![false; count + 1];
    starts_block[0] = true;
    for (at, op) in body.ops.iter().enumerate() {
        match *op {
            Op::Open(block) if body.blocks[block].kind == BlockKind::Loop => starts_block[at] = true,
            Op::Open(block) if body.blocks[block].kind == BlockKind::If => starts_block[at + 1] = true,
            Op::End(_) => starts_block[at] = true,
            Op::Else(_) | Op::Br(_) | Op::BrIf(_) | Op::BrTable(..) | Op::Return | Op::Stop | Op::TailCall(_) | Op::Site(_) => {
                starts_block[at + 1] = true;
            }
            _ => {}
        }
    }
    body.handlers.throwing.iter().for_each(|(at, _)| starts_block[at + 1] = true);
    let mut starts: Vec<usize> = (0..count).filter(|at| starts_block[*at]).collect();
    starts.push(count);
    let mut block = 0;
    let block_of = (0..count)
        .map(|at| {
            block += u32::from(at > 0 && starts_block[at]);
            block
        })
        .collect();
    (starts, block_of)
}

/// Where control goes after an operator.
fn for_each_successor(body: &Body<'_>, at: usize, mut visit: impl FnMut(usize)) {
    let label = |block: usize| {
        let block = &body.blocks[block];
        if block.kind == BlockKind::Loop { block.start } else { block.end }
    };
    match body.ops[at] {
        Op::Br(target) => visit(label(target)),
        Op::BrIf(target) => {
            visit(label(target));
            visit(at + 1);
        }
        Op::BrTable(from, to) => body.targets[from as usize..to as usize].iter().for_each(|target| visit(label(*target))),
        Op::Return | Op::Stop | Op::TailCall(_) => {}
        Op::Open(block) if body.blocks[block].kind == BlockKind::If => {
            visit(at + 1);
            visit(body.blocks[block].else_at.map_or(body.blocks[block].end, |at| at + 1));
        }
        Op::Else(block) => visit(body.blocks[block].end),
        _ => visit(at + 1),
    }
    body.caught_by(at).iter().for_each(|target| visit(label(*target)));
}
