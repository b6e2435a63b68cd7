//! Reads a function operator by operator, beside the validator that knows the types of the operands.

use wasmparser::{BlockType, Catch, FuncType, FuncValidator, Operator, OperatorsReader, TryTable, ValType, ValidatorResources};

use super::super::context::Context;
use super::super::frame::{Kind, Signature};
use super::super::handlers::{Handlers, Tail, Try, taken};
use super::super::scan::{CallReader, Callee, Dropped};
use super::{Block, BlockId, BlockKind, Body, Op, Site, Variable};

/// Why a function cannot be read.
pub enum Fault {
    Invalid(wasmparser::Error),
    Refused(String),
}

impl From<wasmparser::Error> for Fault {
    fn from(error: wasmparser::Error) -> Fault {
        Fault::Invalid(error)
    }
}

/// A function that is being read.
pub struct Reader<'m, 'a> {
    context: &'m Context<'m, 'a>,
    pub validator: FuncValidator<ValidatorResources>,
    calls: CallReader,
    /// Open blocks, each with whether the code is dead just now. An own flag, since wasmparser takes a block that begins in dead code for
    /// reachable.
    open: Vec<(BlockId, bool)>,
    /// The open `try_table`s.
    tries: Vec<usize>,
    pub body: Body<'a>,
}

impl<'m, 'a> Reader<'m, 'a> {
    pub fn new(
        context: &'m Context<'m, 'a>,
        position: usize,
        validator: FuncValidator<ValidatorResources>,
    ) -> Result<Reader<'m, 'a>, String> {
        let module = context.module;
        let index = module.imported_functions + position as u32;
        let ty = module.function_type(index).ok_or("has no type")?;
        let function = Block {
            kind: BlockKind::Function,
            parent: 0,
            start: 0,
            else_at: None,
            end: 0,
            params: vec![],
            results: ty.results().to_vec(),
            base: 0,
            below: vec![],
            has_site: false,
            is_dead: false,
        };
        let body = Body {
            bytes: module.bytes(),
            params: ty.params().len(),
            results: ty.results().to_vec(),
            locals: ty.params().to_vec(),
            ops: vec![],
            offsets: vec![],
            reachable: vec![],
            targets: vec![],
            blocks: vec![function],
            sites: vec![],
            handlers: Handlers::default(),
        };
        let (calls, open) = (CallReader::default(), vec![(0, false)]);
        Ok(Reader { context, validator, calls, open, tries: vec![], body })
    }

    pub fn read(&mut self, position: usize) -> Result<(), Fault> {
        let body = &self.context.module.functions[position].body;
        for local in body.get_locals_reader()? {
            let (count, ty) = local?;
            self.context.budget.work(count as usize).map_err(Fault::Refused)?;
            // The number was checked against the limits when the module was parsed.
            self.body.locals.extend(std::iter::repeat_n(ty, count as usize));
        }
        let mut reader = body.get_binary_reader();
        self.validator.read_locals(&mut reader)?;
        let mut operators = OperatorsReader::new(reader);
        while !operators.eof() {
            let offset = operators.original_position();
            let operator = operators.read()?;
            let is_reachable = !self.is_dead();
            let op = self.operator(&operator)?;
            self.validator.op(offset, &operator)?;
            self.body.ops.push(op);
            self.body.offsets.push(offset);
            self.body.reachable.push(is_reachable);
        }
        operators.finish()?;
        self.body.offsets.push(operators.original_position());
        Ok(())
    }

    fn is_dead(&self) -> bool {
        self.open.last().is_none_or(|(_, is_dead)| *is_dead)
    }

    fn current(&self) -> BlockId {
        self.open.last().map_or(0, |(block, _)| *block)
    }

    /// The rest of the current block is never reached.
    fn stop(&mut self) {
        if let Some((_, is_dead)) = self.open.last_mut() {
            *is_dead = true;
        }
    }

    fn target(&self, depth: u32) -> Result<BlockId, Fault> {
        let invalid = || Fault::Refused("is not valid: a branch leaves the function".to_owned());
        let position = self.open.len().checked_sub(1 + depth as usize).ok_or_else(invalid)?;
        Ok(self.open[position].0)
    }

    /// Called before the validator sees the operator: the operand stack is still the one the operator finds.
    fn operator(&mut self, operator: &Operator<'_>) -> Result<Op, Fault> {
        let at = self.body.ops.len();
        if let Some(call) = self.calls.next(operator) {
            return self.call(call.callee, call.is_tail);
        }
        Ok(match operator {
            Operator::LocalGet { local_index } => Op::LocalGet(*local_index),
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => Op::LocalSet(*local_index),
            Operator::GlobalGet { global_index } => Op::GlobalGet(*global_index),
            Operator::GlobalSet { global_index } => Op::GlobalSet(*global_index),
            Operator::RefFunc { function_index } => Op::RefFunc(*function_index),
            Operator::DataDrop { data_index } => Op::Drop(Dropped::Data(*data_index)),
            Operator::ElemDrop { elem_index } => Op::Drop(Dropped::Elements(*elem_index)),
            Operator::Block { blockty } => self.open(BlockKind::Block, *blockty)?,
            Operator::Loop { blockty } => self.open(BlockKind::Loop, *blockty)?,
            Operator::If { blockty } => self.open(BlockKind::If, *blockty)?,
            Operator::Else => {
                let block = self.current();
                self.body.blocks[block].else_at = Some(at);
                let is_dead = self.body.blocks[block].is_dead;
                self.open.pop();
                self.open.push((block, is_dead));
                Op::Else(block)
            }
            Operator::End => {
                let block = self.current();
                self.body.blocks[block].end = at;
                self.open.pop();
                if matches!(self.body.blocks[block].kind, BlockKind::Try(_)) {
                    self.tries.pop();
                }
                Op::End(block)
            }
            Operator::Br { relative_depth } => {
                let target = self.target(*relative_depth)?;
                self.stop();
                Op::Br(target)
            }
            Operator::BrIf { relative_depth } => Op::BrIf(self.target(*relative_depth)?),
            Operator::BrTable { targets } => {
                let from = self.body.targets.len() as u32;
                for depth in targets.targets() {
                    let target = self.target(depth?)?;
                    self.body.targets.push(target);
                }
                let default = self.target(targets.default())?;
                self.body.targets.push(default);
                self.stop();
                Op::BrTable(from, self.body.targets.len() as u32)
            }
            Operator::Return => {
                self.stop();
                Op::Return
            }
            Operator::Throw { .. } | Operator::ThrowRef => {
                self.may_throw(at);
                self.stop();
                Op::Stop
            }
            Operator::Unreachable => {
                self.stop();
                Op::Stop
            }
            Operator::TryTable { try_table } => self.open_try(try_table)?,
            _ => Op::Plain,
        })
    }

    fn open(&mut self, kind: BlockKind, ty: BlockType) -> Result<Op, Fault> {
        let (params, results) = match ty {
            BlockType::Empty => (vec![], vec![]),
            BlockType::Type(ty) => (vec![], vec![ty]),
            BlockType::FuncType(ty) => {
                let ty = self.context.module.types.get(ty as usize);
                let ty = ty.ok_or_else(|| Fault::Refused("is not valid: a block has an unknown type".to_owned()))?;
                (ty.params().to_vec(), ty.results().to_vec())
            }
        };
        if self.body.blocks.len() >= self.context.limits.max_blocks_per_function {
            let limit = self.context.limits.max_blocks_per_function;
            return Err(Fault::Refused(format!("has more blocks than the limit of {limit} and may suspend")));
        }
        self.context.budget.values(params.len() + results.len()).map_err(Fault::Refused)?;
        let is_dead = self.is_dead();
        let taken = params.len() + usize::from(kind == BlockKind::If);
        let base = (self.validator.operand_stack_height() as usize).saturating_sub(taken);
        let id = self.body.blocks.len();
        self.body.blocks.push(Block {
            kind,
            parent: self.current(),
            start: self.body.ops.len(),
            else_at: None,
            end: 0,
            params,
            results,
            base,
            below: vec![],
            has_site: false,
            is_dead,
        });
        self.open.push((id, is_dead));
        Ok(Op::Open(id))
    }

    fn open_try(&mut self, try_table: &TryTable) -> Result<Op, Fault> {
        let mut catches = vec![];
        for clause in &try_table.catches {
            let (Catch::One { label, .. } | Catch::OneRef { label, .. } | Catch::All { label } | Catch::AllRef { label }) =
                *clause;
            self.context.budget.values(taken(self.context.module, *clause).count()).map_err(Fault::Refused)?;
            catches.push((*clause, self.target(label)?));
        }
        let around = self.tries.last().map(|number| &self.body.handlers.tries[*number]);
        let opened = Try::new(try_table.ty, catches, around);
        self.context.budget.values(opened.catches.len() + opened.targets.len()).map_err(Fault::Refused)?;
        let number = self.body.handlers.tries.len();
        self.tries.push(number);
        self.body.handlers.tries.push(opened);
        self.open(BlockKind::Try(number), try_table.ty)
    }

    /// Notes that the operator `at` can end in one of the handlers around it.
    fn may_throw(&mut self, at: usize) {
        if let Some(innermost) = self.tries.last()
            && !self.is_dead()
        {
            self.body.handlers.throwing.push((at, *innermost));
        }
    }

    fn tail_in_try(&mut self, function: Option<u32>, ty: &FuncType) -> Result<(), Fault> {
        let arguments = arguments(function, ty);
        self.context.budget.values(arguments.len()).map_err(Fault::Refused)?;
        self.body.handlers.tails.push(Tail { at: self.body.ops.len(), function, arguments });
        Ok(())
    }

    fn call(&mut self, callee: Callee, is_tail: bool) -> Result<Op, Fault> {
        let (function, ty) = match callee {
            Callee::Function(index) => (Some(index), self.context.module.function_type(index)),
            Callee::Indirect { ty, .. } | Callee::Slot { ty, .. } => (None, self.context.module.types.get(ty as usize)),
        };
        if is_tail {
            if let Some(ty) = ty.filter(|_| !self.tries.is_empty()) {
                self.tail_in_try(function, ty)?;
            }
            // The caller is gone when the callee suspends: there is nothing to save.
            self.stop();
            return Ok(Op::TailCall(function));
        }
        self.may_throw(self.body.ops.len());
        match ty {
            Some(ty) if !self.is_dead() && self.context.may.callee(callee) => self.site(function, ty),
            _ => Ok(function.map_or(Op::Plain, Op::Call)),
        }
    }

    fn site(&mut self, function: Option<u32>, ty: &FuncType) -> Result<Op, Fault> {
        let number = self.body.sites.len();
        if number >= self.context.limits.max_sites_per_function {
            let limit = self.context.limits.max_sites_per_function;
            return Err(Fault::Refused(format!("has more calls that may suspend than the limit of {limit}")));
        }
        self.context.budget.values(ty.params().len() + ty.results().len()).map_err(Fault::Refused)?;
        let arguments = arguments(function, ty);
        let results = ty.results().iter().map(|ty| Kind::of(*ty)).collect::<Option<Vec<_>>>();
        let Some(results) = results else {
            return Err(Fault::Refused("calls a function that may suspend and returns a reference".to_owned()));
        };
        let height = (self.validator.operand_stack_height() as usize).saturating_sub(arguments.len());
        let operands = self.operands(height)?;
        let (mut variables, mut exceptions) = (vec![], vec![]);
        for (variable, ty) in (0..).map(Variable::Operand).zip(&operands) {
            match Kind::of(*ty) {
                Some(kind) => variables.push((variable, kind)),
                None => exceptions.push(variable),
            }
        }
        let block = self.current();
        self.mark_blocks(block, &operands);
        let below = operands.get(self.body.blocks[block].base..).unwrap_or_default().to_vec();
        let at = self.body.ops.len();
        let signature = Signature::default();
        self.body.sites.push(Site { at, function, block, arguments, results, below, variables, exceptions, signature });
        Ok(Op::Site(number))
    }

    /// The lowest `height` operands.
    fn operands(&mut self, height: usize) -> Result<Vec<ValType>, Fault> {
        if height > self.context.limits.max_values_per_site {
            let limit = self.context.limits.max_values_per_site;
            return Err(Fault::Refused(format!(
                "{height} operands below a call that may suspend are more than the limit of {limit}"
            )));
        }
        self.context.budget.values(height).map_err(Fault::Refused)?;
        let whole = self.validator.operand_stack_height() as usize;
        let mut operands = Vec::with_capacity(height);
        for position in 0..height {
            let ty = self.validator.get_operand_type(whole - 1 - position).flatten();
            let ty = ty.ok_or_else(|| Fault::Refused("is not valid: an operand is missing".to_owned()))?;
            let checked = self.context.check_saved(ty);
            checked.map_err(|what| Fault::Refused(format!("keeps {what} as an operand over a call that may suspend")))?;
            operands.push(ty);
        }
        Ok(operands)
    }

    /// The blocks around a site, and what lies below each: those operands are still there, however far into the block the site is.
    fn mark_blocks(&mut self, innermost: BlockId, operands: &[ValType]) {
        let mut block = innermost;
        while !self.body.blocks[block].has_site {
            let parent = self.body.blocks[block].parent;
            let from = self.body.blocks[parent].base;
            let to = self.body.blocks[block].base;
            self.body.blocks[block].has_site = true;
            self.body.blocks[block].below = operands.get(from..to).unwrap_or_default().to_vec();
            block = parent;
        }
    }
}

/// Types of the operands that a call takes.
fn arguments(function: Option<u32>, ty: &FuncType) -> Vec<ValType> {
    let table_index = function.is_none().then_some(ValType::I32);
    ty.params().iter().copied().chain(table_index).collect()
}
