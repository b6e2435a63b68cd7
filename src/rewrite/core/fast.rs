//! The fast version of a function: the original code with a check after each call that may suspend.
//!
//! ```text
//! block $exit
//!   block $function (result …)
//!     … the original code; after each site: if $state { push a frame; br $exit }
//!   end
//!   return
//! end
//! zeros
//! ```

use wasm_encoder::BlockType;
use wasmparser::ValType;

use super::body::{BlockKind, Body, Op};
use super::code::{Code, Symbol};
use super::context::Context;
use super::frame::Kind;
use super::writer::Writer;

/// Writes the fast version; `page` is the first page of the function's descriptors.
///
/// # Errors
/// If the code grows beyond the size that functions may have.
pub fn write(context: &Context<'_, '_>, body: &Body<'_>, page: u32) -> Result<Code, String> {
    let mut writer = Writer::new(context, body, page);
    writer.code.sink().block(BlockType::Empty).block(context.block_type(&body.results));
    let mut open = vec![0];
    for (at, op) in body.ops.iter().enumerate() {
        let base = open.last().map_or(0, |block: &usize| body.blocks[*block].base);
        match *op {
            Op::Open(id) => {
                let block = &body.blocks[id];
                if block.has_site && !block.below.is_empty() {
                    writer.copy_until(at);
                    let mut taken = block.params.clone();
                    if block.kind == BlockKind::If {
                        taken.push(ValType::I32);
                    }
                    copy_to_slots(&mut writer, base, &block.below, &taken);
                    writer.check_size()?;
                }
                open.push(id);
            }
            Op::End(_) => {
                open.pop();
            }
            Op::Site(number) => {
                let site = &body.sites[number];
                writer.replace(at);
                if !site.below.is_empty() {
                    copy_to_slots(&mut writer, base, &site.below, &site.arguments);
                }
                writer.call(site);
                writer.check(number, open.len() as u32);
                writer.check_size()?;
            }
            Op::TailCall(Some(function)) => {
                writer.replace(at);
                writer.code.return_call(Symbol::Function(function));
            }
            _ => writer.relocate(at),
        }
    }
    writer.copy_until(body.ops.len());
    writer.code.sink().return_().end();
    for kind in body.results.iter().filter_map(|ty| Kind::of(*ty)) {
        kind.zero(&mut writer.code.sink());
    }
    writer.code.sink().end();
    writer.check_size()?;
    Ok(writer.finish(body.params))
}

/// Operands that a site has to save are copied to their slots, here from under the values on top of them.
fn copy_to_slots(writer: &mut Writer<'_, '_>, base: usize, below: &[ValType], on_top: &[ValType]) {
    writer.set_registers(on_top);
    writer.set_slots(base, below);
    writer.get_slots(base, below);
    writer.get_registers(on_top);
}
