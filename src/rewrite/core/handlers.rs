//! What a function catches: its `try_table`s, where an exception may lead from each call and `throw`, and the tail calls that leave a
//! `try_table` behind.

use wasmparser::{BlockType, Catch, ValType};

use super::body::{BlockId, Body, Op};
use super::module::CoreModule;

/// A `try_table`.
#[derive(Debug)]
pub struct Try {
    pub ty: BlockType,
    /// Its clauses, each with the block that it leads to.
    pub catches: Vec<(Catch, BlockId)>,
    /// All blocks that an exception thrown inside may lead to, those of the `try_table`s around it included.
    pub targets: Vec<BlockId>,
    /// How many clauses it and the `try_table`s around it have.
    pub clauses: usize,
}

impl Try {
    /// `around`: what catches the exceptions that no clause does.
    pub fn new(ty: BlockType, catches: Vec<(Catch, BlockId)>, around: Option<&Try>) -> Try {
        let catches_all = catches.iter().any(|(clause, _)| matches!(clause, Catch::All { .. } | Catch::AllRef { .. }));
        let own = catches.iter().map(|(_, target)| *target);
        let further = around.filter(|_| !catches_all).map_or(&[][..], |around| &around.targets);
        let mut targets: Vec<BlockId> = own.chain(further.iter().copied()).collect();
        targets.sort_unstable();
        targets.dedup();
        let clauses = catches.len() + around.map_or(0, |around| around.clauses);
        Try { ty, catches, targets, clauses }
    }
}

/// What a clause takes to where it leads.
pub fn taken<'m>(module: &'m CoreModule<'_>, clause: Catch) -> impl Iterator<Item = ValType> + 'm {
    let (values, exception) = match clause {
        Catch::One { tag, .. } => (module.carried(tag), None),
        Catch::OneRef { tag, .. } => (module.carried(tag), Some(ValType::EXNREF)),
        Catch::All { .. } => (&[][..], None),
        Catch::AllRef { .. } => (&[][..], Some(ValType::EXNREF)),
    };
    values.iter().copied().chain(exception)
}

/// A tail call in a `try_table`, none of whose clauses catches what the callee throws.
#[derive(Debug)]
pub struct Tail {
    pub at: usize,
    /// `None`: through a table.
    pub function: Option<u32>,
    /// Types of the operands it takes, the table index of an indirect call included.
    pub arguments: Vec<ValType>,
}

/// The handlers of one function.
#[derive(Debug, Default)]
pub struct Handlers {
    pub tries: Vec<Try>,
    /// The operators that may throw inside of a `try_table`, in order, each with the innermost one.
    pub throwing: Vec<(usize, usize)>,
    /// In order.
    pub tails: Vec<Tail>,
}

impl Body<'_> {
    /// The blocks to which an exception may lead that is thrown by the operator at `at`.
    pub fn caught_by(&self, at: usize) -> &[BlockId] {
        let Handlers { tries, throwing, .. } = &self.handlers;
        match throwing.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(position) => &tries[throwing[position].1].targets,
            Err(_) => &[],
        }
    }

    /// Ways from calls and throws to handlers around them once the function is rewritten: around a call that may suspend there are others,
    /// to save a frame and each caught exception, and to throw again.
    pub fn to_handlers(&self) -> usize {
        let ways = self.handlers.throwing.iter().map(|(at, number)| {
            let calls = match self.ops[*at] {
                Op::Site(site) => 3 + self.sites[site].exceptions.len(),
                _ => 1,
            };
            self.handlers.tries[*number].clauses.saturating_mul(calls)
        });
        ways.fold(0, usize::saturating_add)
    }

    /// The tail call at `at`, if it is one in a `try_table`, by its number.
    pub fn tail_in_try(&self, at: usize) -> Option<usize> {
        self.handlers.tails.binary_search_by_key(&at, |tail| tail.at).ok()
    }
}
