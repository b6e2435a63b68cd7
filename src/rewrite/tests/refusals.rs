//! What cannot be rewritten is refused with a reason that names it.

use super::{super::imports::TASKS, *};

#[track_caller]
fn refused(bytes: &[u8], reason: &str) {
    let reasons = reasons(bytes);
    assert!(reasons.iter().any(|given| given.contains(reason)), "{reason:?} is not among {reasons:#?}");
}

#[track_caller]
fn malformed(bytes: &[u8], reason: &str) {
    match rewrite(bytes, &Limits::default()) {
        Err(Error::Malformed(given)) => assert!(given.contains(reason), "{given}"),
        other => panic!("not malformed: {:?}", other.map(|rewritten| rewritten.report)),
    }
}

#[test]
fn bytes_that_are_no_component_are_malformed() {
    malformed(b"", "not a WebAssembly component");
    malformed(b"<html>", "not a WebAssembly component");
    malformed(&wat::parse_str("(module)").unwrap(), "not a component: build it for a component target such as wasm32-wasip2");
    let mut broken = task_with("");
    broken.truncate(broken.len() - 5);
    malformed(&broken, "unexpected end");
}

#[test]
fn a_component_larger_than_the_limit_is_refused() {
    let limits = Limits { max_component_bytes: 100, ..Limits::default() };
    let Err(Error::Refused(refusals)) = rewrite(&task_with(""), &limits) else { panic!("not refused") };
    assert!(refusals[0].reason.contains("at most 100 are allowed"));
}

#[test]
fn a_component_without_tasks_is_told_what_to_export() {
    refused(&component(&[]), &format!("does not export `{TASKS}@0.1.0`: a task component must export that interface"));
}

#[test]
fn tasks_exported_in_two_versions_are_refused() {
    refused(
        &component(&[IMPORTS, CORE, EXPORTS, r#"(export "dormouse:task/tasks@0.1.1" (instance $tasks))"#]),
        "in more than one version",
    );
}

#[test]
fn tasks_whose_run_is_another_function_are_refused() {
    let exports = EXPORTS.replace(r#"(param "task" string)"#, r#"(param "name" string)"#);
    refused(&component(&[IMPORTS, CORE, &exports]), "its `run` is not `func(task: string, payload: packet)");
    let exports = EXPORTS.replace(r#"(param "task" string)"#, r#"(param "task" u64)"#).replace("$core-run)", "$other)");
    let other = r#"
        (core module $other-module (func (export "run") (param i64 i32 i32 i32 i32) (result i32) unreachable))
        (core instance $other-instance (instantiate $other-module))
        (alias core export $other-instance "run" (core func $other))
    "#;
    let exports = exports.replacen("(alias core export $main \"run\" (core func $other))", other, 1);
    refused(&component(&[IMPORTS, CORE, &exports]), "its `run` is not `func(task: string, payload: packet)");
}

#[test]
fn resources_of_its_own_are_refused() {
    refused(&task_with("(type $own (resource (rep i32)))"), "defines resources of its own");
    let with_new = "(type $own (resource (rep i32))) (core func (canon resource.new $own)) (core func (canon resource.rep $own))";
    refused(&task_with(with_new), "defines resources of its own");
}

#[test]
fn core_modules_in_nested_components_are_refused() {
    refused(&task_with("(component (core module))"), "has a nested component that contains a core module");
    refused(&task_with("(component (component (core module)))"), "has a nested component that contains a core module");
    let lowering = r#"(component (import "f" (func $f)) (core func (canon lower (func $f))))"#;
    refused(&task_with(lowering), "has a nested component that lifts or lowers functions");
}

#[test]
fn a_module_that_is_instantiated_twice_is_refused_by_its_name() {
    let twice = "(core module $twin) (core instance (instantiate $twin)) (core instance (instantiate $twin))";
    refused(&task_with(twice), "module twin: is instantiated more than once");
}

#[test]
fn component_start_functions_are_refused() {
    let start = r#"
        (core module $empty (func (export "f")))
        (core instance $empty (instantiate $empty))
        (func $begin (canon lift (core func $empty "f")))
        (start $begin)
    "#;
    refused(&task_with(start), "has a component start function");
}

#[test]
fn imported_modules_and_components_are_refused() {
    refused(&component(&[r#"(import "m" (core module))"#]), "imports `m`, a core module");
    refused(&component(&[r#"(import "c" (component))"#]), "imports `c`, a component");
    refused(&component(&[r#"(import "f" (func))"#]), "imports `f`, which this host does not offer");
}

#[test]
fn async_functions_and_built_ins_are_refused() {
    refused(&task_with("(core func (canon waitable-set.new))"), "uses the async, stream, future or thread functions");
    refused(&task_with("(core func (canon task.cancel))"), "uses the async, stream, future or thread functions");
    refused(&task_with("(type (stream u8))"), "uses async functions, streams or futures");
    refused(
        &task_with("(type (instance (type (future)) (export \"x\" (func async))))"),
        "uses async functions, streams or futures",
    );
}

#[test]
fn unknown_imports_are_refused_by_their_names() {
    refused(
        &component(&[r#"(import "acme:db/query@1.0.0" (instance))"#]),
        "imports `acme:db/query@1.0.0`, which this host does not offer",
    );
    refused(
        &component(&[r#"(import "wasi:http/incoming-handler@0.2.6" (instance))"#]),
        "imports `wasi:http/incoming-handler@0.2.6`, which this host does not offer",
    );
}

#[test]
fn names_that_belong_to_the_rewriter_are_refused() {
    refused(&component(&[r#"(import "ckpt:host/memory" (instance))"#]), "names that begin with `ckpt` are reserved");
    refused(
        &task_with(r#"(instance $empty) (export "ckpt-run" (instance $empty))"#),
        "names that begin with `ckpt` are reserved",
    );
    let clash = IMPORTS.replace(r#"(export "for-duration" "#, r#"(export "for-duration-start" (func)) (export "for-duration" "#);
    refused(&component(&[&clash, CORE, EXPORTS]), "whose function `for-duration` cannot be split");
    let core = CORE.replace(r#"(import "wait""#, r#"(import "ckpt""#).replace(r#"(with "wait""#, r#"(with "ckpt""#);
    refused(&component(&[IMPORTS, &core, EXPORTS]), "module main: ");
}

#[test]
fn every_reason_is_given_and_each_once() {
    let many = r#"
        (import "a:b/c@1.0.0" (instance))
        (import "d:e/f@1.0.0" (instance))
        (type (resource (rep i32)))
        (type (resource (rep i32)))
        (component (core module))
    "#;
    let expected = [
        "imports `a:b/c@1.0.0`, which this host does not offer",
        "imports `d:e/f@1.0.0`, which this host does not offer",
        "defines resources of its own",
        "has a nested component that contains a core module",
    ];
    assert_eq!(reasons(&component(&[many])), expected);
}
