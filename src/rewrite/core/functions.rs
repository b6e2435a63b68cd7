//! All functions of one module, written by several threads; the result does not depend on how many.

use std::sync::atomic::{AtomicUsize, Ordering};

use wasmparser::FuncValidatorAllocations;

use super::super::Refusal;
use super::MAX_REFUSALS;
use super::body::Body;
use super::budget;
use super::code::Code;
use super::context::Context;
use super::{copy, fast, resume};

/// What becomes of one function.
#[derive(Debug)]
pub enum Written {
    /// It stays as it is, in a module that stays as it is.
    Unchanged,
    /// It never suspends.
    Copied(Code),
    /// It may suspend. Without sites (it reaches suspending functions by tail calls, or in dead code) it is never left itself.
    Instrumented { fast: Code, resume: Option<Code>, sites: usize },
}

/// Functions that a thread takes at a time.
const CHUNK: usize = 64;

/// Writes all functions in order.
///
/// # Errors
/// Every function that is not valid or cannot be instrumented.
pub fn write(context: &Context<'_, '_>) -> Result<Vec<Written>, Vec<Refusal>> {
    let count = context.module.functions.len();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = vec![];
        let mut allocations = FuncValidatorAllocations::default();
        loop {
            let from = next.fetch_add(CHUNK, Ordering::Relaxed);
            if from >= count {
                return done;
            }
            for position in from..count.min(from + CHUNK) {
                done.push((position, write_one(context, position, &mut allocations)));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count.div_ceil(CHUNK));
    let mut all = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for helper in helpers {
            all.extend(helper.join().expect("writing a function does not panic"));
        }
        all
    });
    all.sort_unstable_by_key(|(position, _)| *position);
    let (mut written, mut refusals, mut is_exceeded) = (vec![], vec![], false);
    for (position, result) in all {
        match result {
            Ok(function) => written.push(function),
            Err(reason) if reason == budget::EXCEEDED => is_exceeded = true,
            Err(_) if refusals.len() >= MAX_REFUSALS => {}
            Err(reason) => {
                let name = context.module.function_name(context.module.imported_functions + position as u32);
                refusals.push(Refusal::of_function(context.module.name(), name, reason));
            }
        }
    }
    // Which functions were too many depends on the threads; the reasons of the others might be missing.
    if is_exceeded {
        return Err(vec![context.budget.refusal()]);
    }
    if refusals.is_empty() { Ok(written) } else { Err(refusals) }
}

fn write_one(context: &Context<'_, '_>, position: usize, allocations: &mut FuncValidatorAllocations) -> Result<Written, String> {
    let invalid = |error: wasmparser::Error| format!("is not valid: {error}");
    let to_handlers = context.module.functions[position].facts.to_handlers;
    let Some(page) = context.page(position) else {
        // Around calls that are kept warm there are two others.
        context.budget.handlers(to_handlers.saturating_mul(if context.may.keeps_warm() { 3 } else { 1 }))?;
        if context.needs_ckpt() {
            let code = copy::copy(context, position, allocations).map_err(invalid)?;
            context.budget.bytes(code.len() as usize)?;
            return Ok(Written::Copied(code));
        }
        return copy::validate(context.module, position, allocations).map(|()| Written::Unchanged).map_err(invalid);
    };
    let body = Body::analyse(context, position, allocations)?;
    context.budget.handlers(if body.sites.is_empty() { to_handlers } else { body.to_handlers() })?;
    if body.sites.is_empty() {
        let fast = copy::copy(context, position, allocations).map_err(invalid)?;
        context.budget.bytes(fast.len() as usize)?;
        return Ok(Written::Instrumented { fast, resume: None, sites: 0 });
    }
    let fast = fast::write(context, &body, page)?;
    context.budget.bytes(fast.len() as usize)?;
    let resume = resume::write(context, &body, page)?;
    context.budget.bytes(resume.len() as usize)?;
    Ok(Written::Instrumented { fast, resume: Some(resume), sites: body.sites.len() })
}
