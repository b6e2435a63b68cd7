//! One function that may suspend, taken apart: its operators, its nested blocks, the calls at which it may be left, and what is live there.

use wasmparser::{
    BlockType, Catch, FuncToValidate, FuncType, FuncValidator, FuncValidatorAllocations, Operator, OperatorsReader, TryTable,
    ValType, ValidatorResources,
};

use super::super::Limits;
use super::budget::Budget;
use super::context::Context;
use super::frame::{Kind, Signature};
use super::graph::MaySuspend;
use super::handlers::{Handlers, Tail, Try, taken};
use super::liveness;
use super::module::{CoreModule, features};
use super::scan::{CallReader, Callee, Dropped};

/// Index of a [`Block`].
pub type BlockId = usize;

/// What rewriting has to know of an operator; its bytes are `Body::operator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Copied as it is.
    Plain,
    LocalGet(u32),
    /// `local.set` or `local.tee`.
    LocalSet(u32),
    GlobalGet(u32),
    GlobalSet(u32),
    RefFunc(u32),
    /// `data.drop` or `elem.drop`.
    Drop(Dropped),
    /// Opens a block.
    Open(BlockId),
    Else(BlockId),
    /// Ends a block.
    End(BlockId),
    Br(BlockId),
    BrIf(BlockId),
    /// A range of `Body::targets`, the default target last.
    BrTable(u32, u32),
    Return,
    /// `unreachable`, `throw` and `throw_ref`.
    Stop,
    /// A direct call that never suspends.
    Call(u32),
    /// A tail call; `None`: through a table.
    TailCall(Option<u32>),
    /// A call that may suspend: index into `Body::sites`.
    Site(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// The function itself.
    Function,
    Block,
    Loop,
    If,
    /// A `try_table`: index into `Handlers::tries`.
    Try(usize),
}

/// A structured block; the function itself is block 0.
#[derive(Debug)]
pub struct Block {
    pub kind: BlockKind,
    pub parent: BlockId,
    /// Positions of its operators; for the function `start` is not used.
    pub start: usize,
    pub else_at: Option<usize>,
    pub end: usize,
    pub params: Vec<ValType>,
    pub results: Vec<ValType>,
    /// Height of the operand stack below the parameters.
    pub base: usize,
    /// The operands from the parent's base to this one's: only known (and only needed) if a site is inside.
    pub below: Vec<ValType>,
    pub has_site: bool,
    /// It begins in code that is never reached.
    is_dead: bool,
}

impl Block {
    /// What a branch to this block carries.
    pub fn label_types(&self) -> &[ValType] {
        if self.kind == BlockKind::Loop { &self.params } else { &self.results }
    }

    /// Whether sites in it cannot be reached by a branch from the outside: control has to enter it first.
    pub fn is_entered(&self) -> bool {
        matches!(self.kind, BlockKind::Loop | BlockKind::Try(_))
    }
}

/// A value that outlives a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    Local(u32),
    /// An operand, by its position on the stack.
    Operand(u32),
}

/// A call that may suspend.
#[derive(Debug)]
pub struct Site {
    pub at: usize,
    /// `None`: through a table.
    pub function: Option<u32>,
    pub block: BlockId,
    /// Types of the operands the call takes, the table index of an indirect call included.
    pub arguments: Vec<ValType>,
    pub results: Vec<Kind>,
    /// The operands between the block's base and the arguments.
    pub below: Vec<ValType>,
    /// What has to be saved, in the order of the frame.
    pub variables: Vec<(Variable, Kind)>,
    /// Caught exceptions, each of which gets a frame of its own.
    pub exceptions: Vec<Variable>,
    pub signature: Signature,
}

#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a [u8],
    pub params: usize,
    pub results: Vec<ValType>,
    /// Parameters first.
    pub locals: Vec<ValType>,
    pub ops: Vec<Op>,
    offsets: Vec<usize>,
    /// Whether the operator can be reached; for `else` and `end`: whether control can fall into it.
    pub reachable: Vec<bool>,
    pub targets: Vec<BlockId>,
    pub blocks: Vec<Block>,
    pub sites: Vec<Site>,
    pub handlers: Handlers,
}

impl<'a> Body<'a> {
    /// Validates and analyses the `position`th function that `module` defines.
    ///
    /// # Errors
    /// Why the function cannot be instrumented.
    pub fn analyse(
        context: &Context<'_, 'a>,
        position: usize,
        allocations: &mut FuncValidatorAllocations,
    ) -> Result<Body<'a>, String> {
        let Context { module, limits, .. } = *context;
        let validator = validator(module, position, allocations);
        let mut reader = Reader::new(context, position, validator)?;
        reader.read(position).map_err(|fault| match fault {
            Fault::Invalid(error) => format!("is not valid: {error}"),
            Fault::Refused(reason) => reason,
        })?;
        let Reader { mut body, validator, .. } = reader;
        *allocations = validator.into_allocations();
        body.check_results()?;
        liveness::add_live_locals(&mut body, context)?;
        body.lay_out_frames(limits)?;
        Ok(body)
    }

    /// The bytes of a range of operators.
    pub fn operators(&self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[self.offsets[from]..self.offsets[to]]
    }

    /// Returned values pass through the aux memory too.
    fn check_results(&self) -> Result<(), String> {
        if !self.sites.is_empty() && self.results.iter().any(|ty| ty.is_reference_type()) {
            return Err("returns a reference, which a snapshot cannot hold, and may suspend".to_owned());
        }
        Ok(())
    }

    fn lay_out_frames(&mut self, limits: &Limits) -> Result<(), String> {
        for site in &mut self.sites {
            let count = site.variables.len() + site.exceptions.len();
            if count > limits.max_values_per_site {
                return Err(format!("{count} values live at a wait are more than the limit of {}", limits.max_values_per_site));
            }
            site.variables.sort_unstable_by_key(|(variable, kind)| (*kind, *variable));
            site.signature = Signature::of(site.variables.iter().map(|(_, kind)| *kind));
        }
        Ok(())
    }
}

/// The validator of the `position`th defined function.
pub fn validator(
    module: &CoreModule<'_>,
    position: usize,
    allocations: &mut FuncValidatorAllocations,
) -> FuncValidator<ValidatorResources> {
    let index = module.imported_functions + position as u32;
    let resources = module.resources.clone().expect("a module with a body has resources to validate it");
    let ty = module.function_types[index as usize];
    FuncToValidate { resources, index, ty, features: features() }.into_validator(std::mem::take(allocations))
}

enum Fault {
    Invalid(wasmparser::Error),
    Refused(String),
}

impl From<wasmparser::Error> for Fault {
    fn from(error: wasmparser::Error) -> Fault {
        Fault::Invalid(error)
    }
}

struct Reader<'m, 'a> {
    context: &'m Context<'m, 'a>,
    module: &'m CoreModule<'a>,
    may: &'m MaySuspend,
    limits: &'m Limits,
    budget: &'m Budget,
    validator: FuncValidator<ValidatorResources>,
    calls: CallReader,
    /// Open blocks, each with whether the code is dead just now. An own flag, since wasmparser takes a block that begins in dead code for
    /// reachable.
    open: Vec<(BlockId, bool)>,
    /// The open `try_table`s.
    tries: Vec<usize>,
    body: Body<'a>,
}

impl<'m, 'a> Reader<'m, 'a> {
    fn new(
        context: &'m Context<'m, 'a>,
        position: usize,
        validator: FuncValidator<ValidatorResources>,
    ) -> Result<Reader<'m, 'a>, String> {
        let Context { module, may, limits, budget, .. } = *context;
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
        Ok(Reader { context, module, may, limits, budget, validator, calls, open, tries: vec![], body })
    }

    fn read(&mut self, position: usize) -> Result<(), Fault> {
        let body = &self.module.functions[position].body;
        for local in body.get_locals_reader()? {
            let (count, ty) = local?;
            self.budget.work(count as usize).map_err(Fault::Refused)?;
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
                let ty = self.module.types.get(ty as usize);
                let ty = ty.ok_or_else(|| Fault::Refused("is not valid: a block has an unknown type".to_owned()))?;
                (ty.params().to_vec(), ty.results().to_vec())
            }
        };
        if self.body.blocks.len() >= self.limits.max_blocks_per_function {
            let limit = self.limits.max_blocks_per_function;
            return Err(Fault::Refused(format!("has more blocks than the limit of {limit} and may suspend")));
        }
        self.budget.values(params.len() + results.len()).map_err(Fault::Refused)?;
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
            self.budget.values(taken(self.module, *clause).count()).map_err(Fault::Refused)?;
            catches.push((*clause, self.target(label)?));
        }
        let around = self.tries.last().map_or(&[][..], |number| &self.body.handlers.tries[*number].targets);
        let opened = Try::new(try_table.ty, catches, around);
        self.budget.values(opened.catches.len() + opened.targets.len()).map_err(Fault::Refused)?;
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
        self.budget.values(arguments.len()).map_err(Fault::Refused)?;
        self.body.handlers.tails.push(Tail { at: self.body.ops.len(), function, arguments });
        Ok(())
    }

    fn call(&mut self, callee: Callee, is_tail: bool) -> Result<Op, Fault> {
        let (function, ty) = match callee {
            Callee::Function(index) => (Some(index), self.module.function_type(index)),
            Callee::Indirect { ty, .. } | Callee::Slot { ty, .. } => (None, self.module.types.get(ty as usize)),
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
            Some(ty) if !self.is_dead() && self.may.callee(callee) => self.site(function, ty),
            _ => Ok(function.map_or(Op::Plain, Op::Call)),
        }
    }

    fn site(&mut self, function: Option<u32>, ty: &FuncType) -> Result<Op, Fault> {
        let number = self.body.sites.len();
        if number >= self.limits.max_sites_per_function {
            let limit = self.limits.max_sites_per_function;
            return Err(Fault::Refused(format!("has more calls that may suspend than the limit of {limit}")));
        }
        self.budget.values(ty.params().len() + ty.results().len()).map_err(Fault::Refused)?;
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
        if height > self.limits.max_values_per_site {
            let limit = self.limits.max_values_per_site;
            return Err(Fault::Refused(format!(
                "{height} operands below a call that may suspend are more than the limit of {limit}"
            )));
        }
        self.budget.values(height).map_err(Fault::Refused)?;
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
