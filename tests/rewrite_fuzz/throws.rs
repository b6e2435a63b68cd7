//! Exceptions for random programs: wasm-smith's own are hardly ever thrown where they are caught.

use wasm_encoder::{BlockType, Catch, HeapType, Instruction};
use wasmparser::{FuncToValidate, FunctionBody, ValType, ValidatorResources};

use super::generate::{Change, Random, Surroundings, encode};

/// A `throw` that an import decides on; nothing if there is no tag or no such import.
pub fn throw(surroundings: &Surroundings, random: &mut Random) -> Vec<u8> {
    let decides = |name: &&str| surroundings.imports.iter().position(|import| import == name);
    let Some(import) = ["s1", "n0"].iter().find_map(decides) else { return vec![] };
    if surroundings.tags.is_empty() {
        return vec![];
    }
    let tag = random.below(surroundings.tags.len() as u64) as usize;
    let mut instructions = vec![
        Instruction::I32Const(random.below(1_000) as i32),
        Instruction::Call(import as u32),
        Instruction::I32Const(3),
        Instruction::I32And,
        Instruction::I32Eqz,
        Instruction::If(BlockType::Empty),
    ];
    let carried = surroundings.types[surroundings.tags[tag] as usize].params();
    instructions.extend(carried.iter().map(|ty| some_value(*ty, random)));
    instructions.extend([Instruction::Throw(tag as u32), Instruction::End]);
    encode(&instructions)
}

/// A `try_table` around a whole body, whose handler reads locals. What belongs before the first instruction and before the last `end`:
///
/// ```text
/// block $caught
///   try_table (result …) (catch_all $caught) … end
///   return
/// end
/// results, from locals where there are such
/// ```
/// Or the handler takes the exception itself, waits, and drops it or throws it on.
pub fn handler(
    function: &FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    surroundings: &Surroundings,
    random: &mut Random,
) -> Option<(Change, Change)> {
    if surroundings.tags.is_empty() || random.below(2) == 0 {
        return None;
    }
    let ty = &surroundings.types[function.ty as usize];
    let result = match ty.results() {
        [] => BlockType::Empty,
        [result] => BlockType::Result((*result).try_into().ok()?),
        _ => return None,
    };
    let mut locals = ty.params().to_vec();
    for local in body.get_locals_reader().ok()? {
        let (count, ty) = local.ok()?;
        locals.extend(std::iter::repeat_n(ty, count as usize));
    }
    let wait = surroundings.imports.iter().position(|import| import == "s1").filter(|_| random.below(2) == 0);
    let (block, catch) = match wait {
        Some(_) => (BlockType::Result(wasm_encoder::ValType::EXNREF), [Catch::AllRef { label: 0 }]),
        None => (BlockType::Empty, [Catch::All { label: 0 }]),
    };
    let before = encode(&[Instruction::Block(block), Instruction::TryTable(result, catch[..].into())]);
    let mut after = vec![Instruction::End, Instruction::Return, Instruction::End];
    if let Some(wait) = wait {
        after.extend([Instruction::I32Const(3), Instruction::Call(wait as u32), Instruction::Drop]);
        after.push(if random.below(2) == 0 { Instruction::ThrowRef } else { Instruction::Drop });
    }
    for result in ty.results() {
        let of_this_type: Vec<u32> = (0..).zip(&locals).filter(|(_, ty)| *ty == result).map(|(local, _)| local).collect();
        after.push(match of_this_type.get(random.below(of_this_type.len() as u64) as usize) {
            Some(local) => Instruction::LocalGet(*local),
            None => some_value(*result, random),
        });
    }
    let start = body.get_operators_reader().ok()?.original_position();
    let end = body.range().end - 1;
    Some((Change { at: start..start, bytes: before }, Change { at: end..end, bytes: encode(&after) }))
}

fn some_value(ty: ValType, random: &mut Random) -> Instruction<'static> {
    let number = random.below(1_000) as i32;
    match ty {
        ValType::I32 => Instruction::I32Const(number),
        ValType::I64 => Instruction::I64Const(number.into()),
        ValType::F32 => Instruction::F32Const((number as f32).into()),
        ValType::F64 => Instruction::F64Const(f64::from(number).into()),
        ValType::V128 => Instruction::V128Const(number.into()),
        ValType::Ref(ty) => Instruction::RefNull(HeapType::try_from(ty.heap_type()).expect("no types are garbage-collected")),
    }
}
