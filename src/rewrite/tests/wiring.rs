//! The wiring of core modules is followed to its origins.

use super::{
    super::{
        core::{ImportSource, Suspends},
        entry, read, wiring,
    },
    *,
};

fn export(module: usize, name: &str) -> ImportSource {
    ImportSource::Export { module, name: name.to_owned() }
}

#[test]
fn imports_are_followed_through_shim_and_fixup() {
    let bytes = task_with("");
    let limits = Limits::default();
    let model = read::read(&bytes, &limits).unwrap();
    let wiring = wiring::resolve(&model, &limits).unwrap();
    let program = &wiring.program;
    let names: Vec<_> = program.modules.iter().map(|linked| linked.module.name()).collect();
    assert_eq!(names, ["shim", "main", "fixup"], "in the order of their instances");
    assert_eq!(program.modules[0].imports, []);
    let main = [
        export(0, "0"),
        export(0, "1"),
        ImportSource::Suspending(Suspends::ForTimers),
        ImportSource::Opaque,
        ImportSource::Opaque,
    ];
    assert_eq!(program.modules[1].imports, main);
    assert_eq!(
        program.modules[2].imports,
        [ImportSource::Suspending(Suspends::Always), ImportSource::Suspending(Suspends::ForTimers), export(0, "$imports")]
    );
    let entry = entry::find(&model, &wiring).unwrap();
    assert_eq!((entry.core.module, entry.core.export.as_str()), (1, "run"));
}

#[test]
fn each_suspending_lower_has_a_trampoline_of_its_signature() {
    let bytes = task_with("(core func (canon lower (func $block)))");
    let limits = Limits::default();
    let model = read::read(&bytes, &limits).unwrap();
    let trampolines = wiring::resolve(&model, &limits).unwrap().program.trampolines;
    let shapes: Vec<_> = trampolines.iter().map(|t| (t.params.len(), t.results.len(), t.has_return_pointer)).collect();
    assert_eq!(shapes, [(1, 0, false), (2, 0, true), (3, 0, true), (1, 0, false)], "block, for-duration, poll and block again");
}

#[test]
fn polls_of_a_component_without_timers_do_not_suspend() {
    let never = r#"
        (core module $never (func (export "f") (param i64) (result i32) unreachable))
        (core instance $never (instantiate $never))
        (alias core export $never "f" (core func $lowered-subscribe))
    "#;
    let core = CORE.replace("(core func $lowered-subscribe (canon lower (func $subscribe)))", never);
    let bytes = component(&[IMPORTS, &core, EXPORTS]);
    let limits = Limits::default();
    let model = read::read(&bytes, &limits).unwrap();
    let trampolines = wiring::resolve(&model, &limits).unwrap().program.trampolines;
    let shapes: Vec<_> = trampolines.iter().map(|t| (t.params.len(), t.results.len(), t.has_return_pointer)).collect();
    assert_eq!(shapes, [(2, 0, true)], "only for-duration");
    assert!(rewritten(&bytes).report.suspends);
}

#[test]
fn items_are_followed_through_bundles_of_bundles() {
    let late = r#"
        (core instance $bundle (export "f" (func $lowered-block)) (export "t" (table $table)))
        (alias core export $bundle "f" (core func $second))
        (alias core export $bundle "t" (core table $second-table))
        (core instance $bundles (export "f" (func $second)) (export "t" (table $second-table)))
        (alias core export $bundles "f" (core func $third))
        (core module $late (import "x" "f" (func (param i32))) (import "x" "t" (table 2 2 funcref)))
        (core instance (instantiate $late (with "x" (instance (export "f" (func $third)) (export "t" (table $second-table))))))
    "#;
    let bytes = task_with(late);
    let limits = Limits::default();
    let model = read::read(&bytes, &limits).unwrap();
    let wiring = wiring::resolve(&model, &limits).unwrap();
    assert_eq!(wiring.program.modules[3].imports, [ImportSource::Suspending(Suspends::ForTimers), export(0, "$imports")]);
    assert_eq!(wiring.program.trampolines.len(), 3);
    rewritten(&bytes);
}

#[test]
fn run_is_found_behind_the_nested_component_that_exports_it() {
    let nested = r#"
        (type $packet (record (field "content-type" string) (field "data" (list u8))))
        (type $task-error (record (field "message" string)))
        (type $run-type (func (param "task" string) (param "payload" $packet) (result (result $packet (error $task-error)))))
        (alias core export $main "run" (core func $core-run))
        (func $run (type $run-type) (canon lift (core func $core-run) (memory $memory) (realloc $realloc)))
        (component $shell
            (type $packet (record (field "content-type" string) (field "data" (list u8))))
            (import "import-type-packet" (type $p (eq $packet)))
            (type $task-error (record (field "message" string)))
            (import "import-type-task-error" (type $e (eq $task-error)))
            (type $run-type (func (param "task" string) (param "payload" $p) (result (result $p (error $e)))))
            (import "import-func-run" (func $run (type $run-type)))
            (export $packet2 "packet" (type $p))
            (export $task-error2 "task-error" (type $e))
            (export "run" (func $run)
                (func (param "task" string) (param "payload" $packet2) (result (result $packet2 (error $task-error2))))))
        (instance $tasks (instantiate $shell
            (with "import-type-packet" (type $packet))
            (with "import-type-task-error" (type $task-error))
            (with "import-func-run" (func $run))))
        (export "dormouse:task/tasks@0.1.0" (instance $tasks))
    "#;
    let bytes = component(&[IMPORTS, CORE, nested]);
    let limits = Limits::default();
    let model = read::read(&bytes, &limits).unwrap();
    let entry = entry::find(&model, &wiring::resolve(&model, &limits).unwrap()).unwrap();
    assert_eq!((entry.core.module, entry.core.export.as_str()), (1, "run"));
    rewritten(&bytes);
}
