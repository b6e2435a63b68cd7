//! One cheap pass over a function body: whom it calls, and what it does that no suspendable program may do.

use std::collections::BTreeSet;

use wasmparser::{Catch, FunctionBody, Operator};

/// Whom a call instruction may reach, as far as the module alone tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Callee {
    /// A function of the module's index space.
    Function(u32),
    /// Any function of this type in this table.
    Indirect { table: u32, ty: u32 },
    /// The function in this slot of this table: the forwarders that wit-component generates look like this.
    Slot { table: u32, ty: u32, slot: u32 },
}

/// A segment that an instruction drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    Data(u32),
    Elements(u32),
}

impl Dropped {
    pub fn by(operator: &Operator<'_>) -> Option<Dropped> {
        match *operator {
            Operator::DataDrop { data_index } => Some(Dropped::Data(data_index)),
            Operator::ElemDrop { elem_index } => Some(Dropped::Elements(elem_index)),
            _ => None,
        }
    }
}

/// A call instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub callee: Callee,
    pub is_tail: bool,
}

/// Recognises call instructions in a sequence of operators. The sequence has to be given as a whole.
#[derive(Debug, Default)]
pub struct CallReader {
    constant: Option<u32>,
}

impl CallReader {
    pub fn next(&mut self, operator: &Operator<'_>) -> Option<Call> {
        let constant = self.constant.take();
        let indirect = |ty, table| match constant {
            Some(slot) => Callee::Slot { table, ty, slot },
            None => Callee::Indirect { table, ty },
        };
        match *operator {
            Operator::I32Const { value } => {
                self.constant = Some(value.cast_unsigned());
                None
            }
            Operator::Call { function_index } => Some(Call { callee: Callee::Function(function_index), is_tail: false }),
            Operator::ReturnCall { function_index } => Some(Call { callee: Callee::Function(function_index), is_tail: true }),
            Operator::CallIndirect { type_index, table_index } => {
                Some(Call { callee: indirect(type_index, table_index), is_tail: false })
            }
            Operator::ReturnCallIndirect { type_index, table_index } => {
                Some(Call { callee: indirect(type_index, table_index), is_tail: true })
            }
            _ => None,
        }
    }
}

/// What [`scan`] finds out about one body.
#[derive(Debug, Default)]
pub struct BodyFacts {
    /// Each callee once.
    pub callees: Vec<Callee>,
    /// Call instructions, tail calls not counted: an upper bound of the sites.
    pub calls: usize,
    /// Whether there are tail calls.
    pub has_tail_calls: bool,
    /// Declared locals, parameters not counted.
    pub locals: usize,
    /// Segments that the function drops.
    pub dropped: BTreeSet<Dropped>,
    /// Whether it throws exceptions itself.
    pub throws: bool,
    /// The tags of those that it makes.
    pub thrown: BTreeSet<u32>,
    /// The tags that it catches exceptions of, each with whether the exception itself is taken too.
    pub caught: BTreeSet<(u32, bool)>,
    /// Ways from its calls and throws to handlers around them.
    pub to_handlers: usize,
    /// Reasons to refuse the module, each once.
    pub refused: BTreeSet<&'static str>,
}

/// # Errors
/// If the body cannot be read. It is not validated.
pub fn scan(body: &FunctionBody<'_>) -> wasmparser::Result<BodyFacts> {
    let mut facts = BodyFacts::default();
    for local in body.get_locals_reader()? {
        facts.locals = facts.locals.saturating_add(local?.0 as usize);
    }
    let mut operators = body.get_operators_reader()?;
    let mut calls = CallReader::default();
    let mut around = Around::default();
    while !operators.eof() {
        let operator = operators.read()?;
        around.next(&operator);
        if let Some(call) = calls.next(&operator) {
            facts.callees.push(call.callee);
            facts.calls += usize::from(!call.is_tail);
            facts.has_tail_calls |= call.is_tail;
            // A tail call leaves the handlers behind.
            facts.to_handlers = facts.to_handlers.saturating_add(if call.is_tail { 0 } else { around.clauses });
        } else if let Some(reason) = refused(&operator) {
            facts.refused.insert(reason);
        }
        facts.dropped.extend(Dropped::by(&operator));
        if matches!(operator, Operator::Throw { .. } | Operator::ThrowRef) {
            facts.throws = true;
            facts.to_handlers = facts.to_handlers.saturating_add(around.clauses);
        }
        if let Operator::Throw { tag_index } = operator {
            facts.thrown.insert(tag_index);
        }
        if let Operator::TryTable { try_table } = &operator {
            facts.caught.extend(try_table.catches.iter().filter_map(|clause| match *clause {
                Catch::One { tag, .. } => Some((tag, false)),
                Catch::OneRef { tag, .. } => Some((tag, true)),
                Catch::All { .. } | Catch::AllRef { .. } => None,
            }));
        }
    }
    facts.callees.sort_unstable();
    facts.callees.dedup();
    Ok(facts)
}

/// The handlers around an operator.
#[derive(Default)]
struct Around {
    /// Blocks that are open.
    depth: usize,
    /// The `try_table`s among them: how deep each is, and its clauses.
    tries: Vec<(usize, usize)>,
    /// Clauses of all of them.
    clauses: usize,
}

impl Around {
    fn next(&mut self, operator: &Operator<'_>) {
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => self.depth += 1,
            Operator::TryTable { try_table } => {
                self.depth += 1;
                self.tries.push((self.depth, try_table.catches.len()));
                self.clauses += try_table.catches.len();
            }
            Operator::End => {
                if let Some((_, clauses)) = self.tries.pop_if(|(depth, _)| *depth == self.depth) {
                    self.clauses -= clauses;
                }
                // The last one ends the function.
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
    }
}

const LEGACY_EXCEPTIONS: &str = "uses the legacy exception instructions (try, catch, rethrow), which are not available: compile it with the \
     standard ones (try_table, throw_ref); for clang that is `-mllvm -wasm-use-legacy-eh=false`";

/// A restored instance gets its memories and globals back, but not the contents of tables.
fn refused(operator: &Operator<'_>) -> Option<&'static str> {
    match operator {
        Operator::TableSet { .. } => Some("table.set changes a table, which a snapshot does not hold"),
        Operator::TableGrow { .. } => Some("table.grow changes a table, which a snapshot does not hold"),
        Operator::TableFill { .. } => Some("table.fill changes a table, which a snapshot does not hold"),
        Operator::TableCopy { .. } => Some("table.copy changes a table, which a snapshot does not hold"),
        Operator::TableInit { .. } => Some("table.init changes a table, which a snapshot does not hold"),
        Operator::Try { .. }
        | Operator::Catch { .. }
        | Operator::CatchAll
        | Operator::Delegate { .. }
        | Operator::Rethrow { .. } => Some(LEGACY_EXCEPTIONS),
        _ => None,
    }
}
