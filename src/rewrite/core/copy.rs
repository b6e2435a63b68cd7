//! Functions that never suspend are copied, only what names a function or a global is written anew, and what drops a segment sets its flag.
//! Those that are kept warm (see `graph`) say so around the calls that else might suspend.

use wasmparser::{FuncValidatorAllocations, Operator, OperatorsReader};

use super::body;
use super::code::{Code, Symbol};
use super::context::Context;
use super::frame::Helper;
use super::module::CoreModule;
use super::scan::{CallReader, Dropped};

/// Copies and validates the `position`th defined function.
///
/// # Errors
/// If the function is not valid.
pub fn copy(context: &Context<'_, '_>, position: usize, allocations: &mut FuncValidatorAllocations) -> wasmparser::Result<Code> {
    let module = context.module;
    let mut validator = body::validator(module, position, allocations);
    let mut code = Code::default();
    let mut reader = module.functions[position].body.get_binary_reader();
    let start = reader.original_position();
    validator.read_locals(&mut reader)?;
    code.raw_locals(&module.bytes()[start..reader.original_position()]);
    let mut written = reader.original_position();
    let mut operators = OperatorsReader::new(reader);
    let mut calls = CallReader::default();
    let may_suspend = context.may.function(module.imported_functions + position as u32);
    while !operators.eof() {
        let offset = operators.original_position();
        let operator = operators.read()?;
        validator.op(offset, &operator)?;
        let call = calls.next(&operator);
        let is_warm = !may_suspend && call.is_some_and(|call| context.may.callee(call.callee));
        let relocation = relocation(&operator);
        if relocation.is_none() && !is_warm {
            continue;
        }
        code.raw(&module.bytes()[written..offset]);
        written = operators.original_position();
        if is_warm {
            code.call_helper(Helper::BeginWarm);
        }
        match relocation {
            Some(relocation) => relocation.write(context, &module.bytes()[offset..written], &mut code),
            None => code.raw(&module.bytes()[offset..written]),
        }
        if is_warm {
            code.call_helper(Helper::EndWarm);
        }
    }
    operators.finish()?;
    code.raw(&module.bytes()[written..operators.original_position()]);
    *allocations = validator.into_allocations();
    Ok(code)
}

/// Validates the `position`th defined function of a module that is not changed.
///
/// # Errors
/// If the function is not valid.
pub fn validate(module: &CoreModule<'_>, position: usize, allocations: &mut FuncValidatorAllocations) -> wasmparser::Result<()> {
    let mut validator = body::validator(module, position, allocations);
    validator.validate(&module.functions[position].body)?;
    *allocations = validator.into_allocations();
    Ok(())
}

/// An operator whose immediate changes, or to which something is added.
enum Relocation {
    Call(u32),
    ReturnCall(u32),
    RefFunc(u32),
    GlobalGet(u32),
    GlobalSet(u32),
    Drop(Dropped),
}

fn relocation(operator: &Operator<'_>) -> Option<Relocation> {
    match *operator {
        Operator::Call { function_index } => Some(Relocation::Call(function_index)),
        Operator::ReturnCall { function_index } => Some(Relocation::ReturnCall(function_index)),
        Operator::RefFunc { function_index } => Some(Relocation::RefFunc(function_index)),
        Operator::GlobalGet { global_index } => Some(Relocation::GlobalGet(global_index)),
        Operator::GlobalSet { global_index } => Some(Relocation::GlobalSet(global_index)),
        _ => Dropped::by(operator).map(Relocation::Drop),
    }
}

impl Relocation {
    fn write(self, context: &Context<'_, '_>, original: &[u8], code: &mut Code) {
        match self {
            Relocation::Call(function) => code.call(Symbol::Function(function)),
            Relocation::ReturnCall(function) => code.return_call(Symbol::Function(function)),
            Relocation::RefFunc(function) => code.ref_func(Symbol::Function(function)),
            Relocation::GlobalGet(global) => {
                code.sink().global_get(context.global(global));
            }
            Relocation::GlobalSet(global) => {
                code.sink().global_set(context.global(global));
            }
            Relocation::Drop(segment) => {
                code.raw(original);
                code.set_flag(context.flag(segment));
            }
        }
    }
}
