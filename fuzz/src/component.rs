//! Components that come far: around core modules of wasm-smith, a task component with everything else that a real one has. Bytes alone,
//! however they are changed, hardly ever pass validation.

use std::{ops::Range, sync::LazyLock};

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use wasm_encoder::{ComponentSectionId, Encode};
use wasm_smith::{Config, Module};
use wasmparser::{Parser, Payload};

/// What `$main` of the component may import.
static IMPORTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    parse(
        r#"(module
          (import "h" "wait" (func (param i64 i32))) (import "h" "shim-wait" (func (param i64 i32)))
          (import "h" "poll" (func (param i32 i32 i32))) (import "h" "shim-poll" (func (param i32 i32 i32)))
          (import "h" "block" (func (param i32))) (import "h" "ready" (func (param i32) (result i32)))
          (import "h" "subscribe" (func (param i64) (result i32))) (import "h" "drop" (func (param i32)))
          (import "h" "back" (func (param i32) (result i32)))
          (import "h" "memory" (memory 1)) (import "h" "table" (table 8 funcref)) (import "h" "global" (global (mut i32))))"#,
    )
});
/// What it has to export.
static EXPORTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    parse(
        r#"(module
          (func (export "run") (param i32 i32 i32 i32 i32 i32) (result i32) unreachable)
          (func (export "after") (param i32))
          (func (export "back") (param i32) (result i32) unreachable))"#,
    )
});
/// A `$main` that waits in a loop.
static MAIN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    parse(
        r#"(module
          (import "h" "wait" (func $wait (param i64 i32))) (import "h" "back" (func $back (param i32) (result i32)))
          (import "h" "memory" (memory 1)) (global $count (mut i64) (i64.const 3))
          (func (export "run") (param i32 i32 i32 i32 i32 i32) (result i32) (local $sum f64)
            (loop $again (result i32)
              (call $wait (global.get $count) (local.get 0))
              (local.set $sum (f64.add (local.get $sum) (f64.load (local.get 1))))
              (br_if $again (i32.const 7) (call $back (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))
              (drop) (return (i32.trunc_sat_f64_s (local.get $sum)))))
          (func (export "after") (param i32))
          (func (export "back") (param i32) (result i32) (call $wait (i64.const 1) (i32.const 16)) (local.get 0)))"#,
    )
});

static PARTS: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let text = include_str!("task.wat").replace("(core module $main)", MAIN_PLACEHOLDER);
    let component = parse(&text);
    let section = section_of_main(&component);
    (component[..section.start].to_vec(), component[section.end..].to_vec())
});
const MAIN_PLACEHOLDER: &str = r#"(core module $main
    (func (export "run") (param i32 i32 i32 i32 i32 i32) (result i32) unreachable)
    (func (export "after") (param i32)) (func (export "back") (param i32) (result i32) unreachable))"#;
/// Place of `$main` among the core modules of `task.wat`.
const PLACE_OF_MAIN: usize = 3;

fn parse(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The section, its header included, that holds `$main`.
fn section_of_main(component: &[u8]) -> Range<usize> {
    let mut modules = Parser::new(0).parse_all(component).filter_map(|payload| match payload.expect("the component is valid") {
        Payload::ModuleSection { unchecked_range, .. } => Some(unchecked_range),
        _ => None,
    });
    let module = modules.nth(PLACE_OF_MAIN).expect("it has four");
    let mut header = vec![ComponentSectionId::CoreModule.into()];
    module.len().encode(&mut header);
    module.start - header.len()..module.end
}

/// The task component around a core module.
pub fn around(main: &[u8]) -> Vec<u8> {
    let (before, after) = &*PARTS;
    let mut component = before.clone();
    component.push(ComponentSectionId::CoreModule.into());
    main.encode(&mut component);
    component.extend(after);
    component
}

/// A task that waits.
pub fn task() -> Vec<u8> {
    around(&MAIN)
}

/// A random core module that fits into the task component. With `any_feature`, most of them use something that is refused.
pub fn main(input: &mut Unstructured<'_>, any_feature: bool) -> Result<Vec<u8>> {
    let mut config = Config::arbitrary(input)?;
    config.available_imports = Some(IMPORTS.clone());
    config.exports = Some(EXPORTS.clone());
    config.max_instructions = config.max_instructions.min(400);
    config.max_funcs = config.max_funcs.clamp(15, 40);
    config.max_imports = 20;
    if !any_feature {
        config.gc_enabled = false;
        config.threads_enabled = false;
        config.shared_everything_threads_enabled = false;
        config.memory64_enabled = false;
        config.custom_page_sizes_enabled = false;
        config.wide_arithmetic_enabled = false;
        config.custom_descriptors_enabled = false;
    }
    Ok(Module::new(config, input)?.to_bytes())
}
