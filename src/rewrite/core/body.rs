//! One function that may suspend, taken apart: its operators, its nested blocks, the calls at which it may be left, and what is live there.

mod reader;

use wasmparser::{FuncToValidate, FuncValidator, FuncValidatorAllocations, ValType, ValidatorResources};

use super::super::Limits;
use super::context::Context;
use super::frame::{Kind, Signature};
use super::handlers::Handlers;
use super::liveness;
use super::module::{CoreModule, features};
use super::scan::Dropped;
use reader::{Fault, Reader};

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
