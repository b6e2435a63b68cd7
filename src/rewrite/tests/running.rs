//! A rewritten component, run by the engine in place: that it goes on in a fresh instance as well is for the runtime's tests to show.

use std::sync::{Arc, Mutex};

use wasmtime::{
    Engine, Store,
    component::{
        Component, Instance, Linker, ResourceType, Type, Val,
        types::{ComponentFunc, ComponentItem},
    },
};

use super::*;
use crate::rewrite::beginning;

/// The calls the host has seen.
type Calls = Arc<Mutex<Vec<String>>>;

/// A host that wants every wait to suspend the run.
fn suspending_host(engine: &Engine, component: &Component, calls: &Calls) -> Linker<()> {
    let mut linker = Linker::new(engine);
    for (interface, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { panic!("{interface} is no instance") };
        let mut imported = linker.instance(interface).unwrap();
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let (calls, called) = (calls.clone(), name.to_owned());
                    let answer =
                        move |_: wasmtime::StoreContextMut<'_, ()>, ty: ComponentFunc, _: &[Val], results: &mut [Val]| {
                            calls.lock().unwrap().push(called.clone());
                            results.iter_mut().zip(ty.results()).for_each(|(result, ty)| *result = plain_value(&ty));
                            Ok(())
                        };
                    imported.func_new(name, answer).unwrap();
                }
                ComponentItem::Resource(_) => imported.resource(name, ResourceType::host::<u32>(), |_, _| Ok(())).unwrap(),
                _ => {}
            }
        }
    }
    linker
}

fn plain_value(ty: &Type) -> Val {
    match ty {
        Type::U32 => Val::U32(1),
        Type::List(_) => Val::List(vec![]),
        Type::Result(_) => Val::Result(Ok(None)),
        other => panic!("no function returns {other:?}"),
    }
}

fn status(store: &mut Store<()>, instance: &Instance, function: &str, params: &[Val]) -> Val {
    let mut results = [Val::Bool(false)];
    instance.get_func(&mut *store, function).unwrap().call(store, params, &mut results).unwrap();
    let [result] = results;
    result
}

#[test]
fn a_run_leaves_its_stack_at_each_wait_and_comes_back_to_it() {
    let engine = Engine::default();
    let component = Component::new(&engine, rewritten(&task_with("")).bytes).unwrap();
    let calls = Calls::default();
    let linker = suspending_host(&engine, &component, &calls);
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &component).unwrap();
    let seen = || std::mem::take(&mut *calls.lock().unwrap());

    let text = || Val::String(String::new());
    let packet = Val::Record(vec![("content-type".to_owned(), text()), ("data".to_owned(), Val::List(vec![]))]);
    assert_eq!(status(&mut store, &instance, "ckpt-run", &[text(), packet.clone()]), Val::U32(1));
    assert_eq!(seen(), ["for-duration-start"]);
    assert_eq!(status(&mut store, &instance, "ckpt-resume", &[]), Val::U32(1));
    assert_eq!(seen(), ["for-duration-finish", "subscribe-duration", "m-pollable-x-block-start"]);
    assert_eq!(status(&mut store, &instance, "ckpt-resume", &[]), Val::U32(1));
    assert_eq!(seen(), ["m-pollable-x-block-finish", "poll-start"]);
    assert_eq!(status(&mut store, &instance, "ckpt-resume", &[]), Val::U32(0));
    assert_eq!(seen(), ["poll-finish", "drop"]);
    assert_eq!(status(&mut store, &instance, "ckpt-take", &[]), Val::Result(Ok(Some(Box::new(packet)))));
}

/// The main module of [`CORE`] ends by catching what another module throws after a wait of its own.
fn core_that_throws() -> String {
    let thrower = r#"
        (core module $thrower
            (import "wait" "for-duration" (func $for-duration (param i64 i32)))
            (tag $tag (export "tag") (param i32))
            (func (export "throw") (call $for-duration (i64.const 5) (i32.const 16)) (throw $tag (i32.const 32))))
        (core instance $thrower (instantiate $thrower
            (with "wait" (instance (export "for-duration" (func $shim-for-duration))))))
        (core instance $main (instantiate $main (with "thrower" (instance $thrower))"#;
    let imports = r#"(core module $main
        (import "thrower" "tag" (tag $tag (param i32)))
        (import "thrower" "throw" (func $throw))"#;
    let catch = "(block $caught (result i32) (try_table (catch $tag $caught) (call $throw)) (unreachable))))";
    let core = CORE.replace("(core instance $main (instantiate $main", thrower).replace("(core module $main", imports);
    core.replace("(call $drop (local.get $pollable))\n            (i32.const 32)))", catch)
}

#[test]
fn an_exception_that_nothing_on_a_left_stack_catches_ends_the_run() {
    let engine = Engine::default();
    let core = core_that_throws().replace("(catch $tag $caught)", "");
    let component = Component::new(&engine, rewritten(&component(&[IMPORTS, &core, EXPORTS])).bytes).unwrap();
    let linker = suspending_host(&engine, &component, &Calls::default());
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &component).unwrap();
    let packet = vec![("content-type".to_owned(), Val::String(String::new())), ("data".to_owned(), Val::List(vec![]))];
    let arguments = [Val::String(String::new()), Val::Record(packet)];
    assert_eq!(status(&mut store, &instance, "ckpt-run", &arguments), Val::U32(1));
    let resume = instance.get_func(&mut store, "ckpt-resume").unwrap();
    let error = loop {
        match resume.call(&mut store, &[], &mut [Val::Bool(false)]) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(error.is::<wasmtime::ThrownException>(), "{error:?}");
}

#[test]
fn an_exception_finds_its_handler_on_a_stack_that_was_left() {
    let engine = Engine::default();
    let bytes = rewritten(&component(&[IMPORTS, &core_that_throws(), EXPORTS])).bytes;
    Component::new(&engine, beginning(&bytes).unwrap()).unwrap();
    let component = Component::new(&engine, bytes).unwrap();
    let calls = Calls::default();
    let linker = suspending_host(&engine, &component, &calls);
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &component).unwrap();
    let text = || Val::String(String::new());
    let packet = Val::Record(vec![("content-type".to_owned(), text()), ("data".to_owned(), Val::List(vec![]))]);
    let mut suspended = status(&mut store, &instance, "ckpt-run", &[text(), packet.clone()]);
    let mut waits = 0;
    while suspended == Val::U32(1) {
        waits += 1;
        suspended = status(&mut store, &instance, "ckpt-resume", &[]);
    }
    assert_eq!((waits, calls.lock().unwrap().last().map(String::as_str)), (4, Some("for-duration-finish")));
    assert_eq!(status(&mut store, &instance, "ckpt-take", &[]), Val::Result(Ok(Some(Box::new(packet)))));
}

#[test]
fn a_beginning_has_all_that_is_added_but_resume_versions() {
    let addition = r#"
        (core module $late
            (import "poll" "block" (func $block (param i32))) (memory 1) (data $d "a") (tag $t (param i32 f64))
            (func $throw (call $block (i32.const 1)) (data.drop $d) (throw $t (i32.const 1) (f64.const 2)))
            (func (export "f")
                (block $caught (result exnref) (try_table (catch_all_ref $caught) (call $throw)) (return))
                (call $block (i32.const 2)) (throw_ref)))
        (core instance (instantiate $late (with "poll" (instance (export "block" (func $lowered-block))))))
    "#;
    let beginning = beginning(&rewritten(&task_with(addition)).bytes).unwrap();
    Component::new(&Engine::default(), beginning).unwrap();
}

#[test]
fn a_beginning_runs_to_its_first_wait_and_no_further() {
    let whole = rewritten(&task_with("")).bytes;
    let beginning = beginning(&whole).unwrap();
    assert!(beginning.len() < whole.len());
    let engine = Engine::default();
    let component = Component::new(&engine, beginning).unwrap();
    let linker = suspending_host(&engine, &component, &Calls::default());
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &component).unwrap();
    let packet = vec![("content-type".to_owned(), Val::String(String::new())), ("data".to_owned(), Val::List(vec![]))];
    let arguments = [Val::String(String::new()), Val::Record(packet)];
    assert_eq!(status(&mut store, &instance, "ckpt-run", &arguments), Val::U32(1));
    let resume = instance.get_func(&mut store, "ckpt-resume").unwrap();
    let trap = resume.call(&mut store, &[], &mut [Val::Bool(false)]).unwrap_err();
    assert_eq!(trap.downcast_ref(), Some(&wasmtime::Trap::UnreachableCodeReached));
}
