//! The rewritten component has what the host and the engine expect of it.

use wasmtime::{
    Config, Engine,
    component::{Component, Type, types::ComponentItem},
};

use super::*;

fn text(bytes: &[u8]) -> String {
    wasmprinter::print_bytes(bytes).unwrap()
}

/// Parameters and results of the functions of an imported instance, as the engine sees them.
fn imported(bytes: &[u8], interface: &str) -> Vec<String> {
    let engine = engine();
    let component = Component::new(&engine, bytes).unwrap();
    let Some(ComponentItem::ComponentInstance(instance)) =
        component.component_type().get_import(&engine, interface).map(|item| item.ty)
    else {
        panic!("{interface} is not imported")
    };
    let functions = instance.exports(&engine).filter_map(|(name, item)| match item.ty {
        ComponentItem::ComponentFunc(func) => {
            let params: Vec<_> = func.params().map(|(_, ty)| name_of(&ty)).collect();
            let results: Vec<_> = func.results().map(|ty| name_of(&ty)).collect();
            Some(format!("{name}({}) {}", params.join(", "), results.join(", ")).trim_end().to_owned())
        }
        _ => None,
    });
    functions.collect()
}

fn name_of(ty: &Type) -> String {
    match ty {
        Type::List(_) => "list".to_owned(),
        Type::Result(_) => "result".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn engine() -> Engine {
    let mut config = Config::new();
    config.wasm_component_model(true).wasm_multi_memory(true).wasm_reference_types(true);
    Engine::new(&config).unwrap()
}

#[test]
fn suspending_functions_are_split_and_handles_are_numbers() {
    let bytes = rewritten(&task_with("")).bytes;
    assert_eq!(
        imported(&bytes, "wasi:io/poll@0.2.6"),
        [
            "m-pollable-x-ready(u32) bool",
            "m-pollable-x-block(u32)",
            "poll(list) list",
            "m-pollable-x-block-start(u32) u32",
            "m-pollable-x-block-finish()",
            "poll-start(list) u32",
            "poll-finish() list",
        ]
    );
    let wait = ["for-duration(u64) result", "for-duration-start(u64) u32", "for-duration-finish() result"];
    assert_eq!(imported(&bytes, "dormouse:task/wait@0.1.0"), wait);
    assert_eq!(imported(&bytes, "wasi:clocks/monotonic-clock@0.2.6"), ["subscribe-duration(u64) u32"]);
    assert_eq!(imported(&bytes, "ckpt:host/handles"), ["drop(u32)"]);
    assert_eq!(imported(&bytes, "ckpt:host/memory"), ["pages(u32) u32", "visit(u32, list)"]);
    let text = text(&bytes);
    for gone in ["(own ", "(borrow ", "resource.drop", "[method]"] {
        assert!(!text.contains(gone), "{gone} is still there");
    }
}

#[test]
fn the_functions_of_a_task_are_added_to_its_exports() {
    let engine = engine();
    let bytes = rewritten(&task_with("")).bytes;
    let component = Component::new(&engine, bytes).unwrap();
    let exports: Vec<_> = component.component_type().exports(&engine).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(exports, ["dormouse:task/tasks@0.1.0", "ckpt-run", "ckpt-take", "ckpt-resume", "ckpt-save", "ckpt-load"]);
}

#[test]
fn a_component_that_never_suspends_is_rewritten_all_the_same() {
    let main = r#"
        (core module $main
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
            (func (export "after-run") (param i32))
            (func (export "run") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 32)))
        (core instance $main (instantiate $main))
        (alias core export $main "memory" (core memory $memory))
        (alias core export $main "realloc" (core func $realloc))
    "#;
    let rewritten = rewritten(&component(&[main, EXPORTS]));
    assert!(!rewritten.report.suspends);
    assert_eq!((rewritten.report.modules, rewritten.report.instrumented, rewritten.report.memories), (1, 0, 2));
    assert_eq!(rewritten.report.bytes_after, rewritten.bytes.len());
    Component::new(&engine(), rewritten.bytes).unwrap();
}

#[test]
fn types_keep_their_meaning_in_nested_components() {
    let nested = r#"
        (component $shell
            (import "pollable" (type $pollable (sub resource)))
            (type (component
                (import "other" (type $other (sub resource)))
                (import "[method]other.look" (func (param "self" (borrow $other))))))
            (type (instance
                (alias outer 1 $pollable (type $p))
                (type (func (param "given" (own $p)))))))
        (instance (instantiate $shell (with "pollable" (type $pollable))))
        (type (list (own $pollable)))
        (type (instance (alias outer 1 $pollable (type $p)) (type (func (param "given" (borrow $p))))))
    "#;
    let bytes = rewritten(&task_with(nested)).bytes;
    let text = text(&bytes);
    assert!(!text.contains("(own ") && !text.contains("(borrow "));
    assert!(text.contains("m-other-x-look"));
}

/// It was not held against any limit either.
#[test]
fn a_core_module_without_an_instance_is_not_there_to_be_compiled() {
    let bytes = rewritten(&task_with("(core module $unused (func (export \"never called\")))")).bytes;
    assert!(!text(&bytes).contains("never called"));
    Component::new(&engine(), bytes).unwrap();
}

#[test]
fn the_same_bytes_come_of_the_same_component() {
    let bytes = task_with("");
    assert_eq!(rewritten(&bytes).bytes, rewritten(&bytes).bytes);
}

#[test]
fn what_a_module_drops_is_dropped_again_after_loading() {
    let late = r#"
        (core module $late (memory 1) (data $d "a") (func (export "f") (data.drop $d)))
        (core instance (instantiate $late))
    "#;
    let text = text(&rewritten(&task_with(late)).bytes);
    assert_eq!(text.matches(r#""ckpt:replay""#).count(), 2, "the module exports it, the glue imports it");
}
