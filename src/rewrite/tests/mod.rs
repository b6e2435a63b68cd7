//! Component texts through the whole rewriter.

mod assembly;
mod hostile;
mod refusals;
mod running;
mod wiring;

use super::{Error, Limits, Rewritten, rewrite};

/// Types and imports that the task components of these tests share.
const IMPORTS: &str = r#"
    (type $poll-type (instance
        (export "pollable" (type $pollable (sub resource)))
        (type $borrowed (borrow $pollable))
        (type $polled (list $borrowed))
        (type $ready (list u32))
        (export "[method]pollable.ready" (func (param "self" $borrowed) (result bool)))
        (export "[method]pollable.block" (func (param "self" $borrowed)))
        (export "poll" (func (param "in" $polled) (result $ready)))))
    (import "wasi:io/poll@0.2.6" (instance $poll (type $poll-type)))
    (alias export $poll "pollable" (type $pollable))
    (type $clock-type (instance
        (alias outer 1 $pollable (type $outer-pollable))
        (export "pollable" (type $pollable (eq $outer-pollable)))
        (type $owned (own $pollable))
        (export "subscribe-duration" (func (param "when" u64) (result $owned)))))
    (import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock (type $clock-type)))
    (type $wait-type (instance
        (export "host-error" (type $host-error (sub resource)))
        (type $outcome (result (error (own $host-error))))
        (export "for-duration" (func (param "duration" u64) (result $outcome)))))
    (import "dormouse:task/wait@0.1.0" (instance $wait (type $wait-type)))
    (alias export $wait "for-duration" (func $for-duration))
    (alias export $poll "poll" (func $poll-many))
    (alias export $poll "[method]pollable.block" (func $block))
    (alias export $clock "subscribe-duration" (func $subscribe))
"#;

/// A main module behind a shim whose table is filled afterwards, as component tools make it.
const CORE: &str = r#"
    (core module $shim
        (table (export "$imports") 2 2 funcref)
        (func (export "0") (param i64 i32) (call_indirect (param i64 i32) (local.get 0) (local.get 1) (i32.const 0)))
        (func (export "1") (param i32 i32 i32) (call_indirect (param i32 i32 i32) (local.get 0) (local.get 1) (local.get 2) (i32.const 1))))
    (core module $fixup
        (import "" "0" (func $for-duration (param i64 i32)))
        (import "" "1" (func $poll (param i32 i32 i32)))
        (import "" "$imports" (table 2 2 funcref))
        (elem (i32.const 0) func $for-duration $poll))
    (core module $main
        (import "wait" "for-duration" (func $for-duration (param i64 i32)))
        (import "poll" "poll" (func $poll (param i32 i32 i32)))
        (import "poll" "block" (func $block (param i32)))
        (import "poll" "drop" (func $drop (param i32)))
        (import "clock" "subscribe" (func $subscribe (param i64) (result i32)))
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
        (func (export "after-run") (param i32))
        (func (export "run") (param i32 i32 i32 i32 i32 i32) (result i32)
            (local $pollable i32)
            (call $for-duration (i64.const 60000) (i32.const 16))
            (local.set $pollable (call $subscribe (i64.const 5)))
            (call $block (local.get $pollable))
            (i32.store (i32.const 64) (local.get $pollable))
            (call $poll (i32.const 64) (i32.const 1) (i32.const 72))
            (call $drop (local.get $pollable))
            (i32.const 32)))
    (core instance $shim (instantiate $shim))
    (alias core export $shim "0" (core func $shim-for-duration))
    (alias core export $shim "1" (core func $shim-poll))
    (core func $lowered-block (canon lower (func $block)))
    (core func $lowered-subscribe (canon lower (func $subscribe)))
    (core func $drop (canon resource.drop $pollable))
    (core instance $main (instantiate $main
        (with "wait" (instance (export "for-duration" (func $shim-for-duration))))
        (with "poll" (instance (export "poll" (func $shim-poll)) (export "block" (func $lowered-block)) (export "drop" (func $drop))))
        (with "clock" (instance (export "subscribe" (func $lowered-subscribe))))))
    (alias core export $main "memory" (core memory $memory))
    (alias core export $main "realloc" (core func $realloc))
    (alias core export $shim "$imports" (core table $table))
    (core func $lowered-for-duration (canon lower (func $for-duration) (memory $memory) (realloc $realloc)))
    (core func $lowered-poll (canon lower (func $poll-many) (memory $memory) (realloc $realloc)))
    (core instance (instantiate $fixup (with "" (instance
        (export "0" (func $lowered-for-duration)) (export "1" (func $lowered-poll)) (export "$imports" (table $table))))))
"#;

/// Lifts and exports `run`, directly.
const EXPORTS: &str = r#"
    (type $packet (record (field "content-type" string) (field "data" (list u8))))
    (type $task-error (record (field "message" string)))
    (type $run-type (func (param "task" string) (param "payload" $packet) (result (result $packet (error $task-error)))))
    (alias core export $main "run" (core func $core-run))
    (alias core export $main "after-run" (core func $after-run))
    (func $run (type $run-type) (canon lift (core func $core-run) (memory $memory) (realloc $realloc) (post-return $after-run)))
    (instance $tasks (export "packet" (type $packet)) (export "task-error" (type $task-error)) (export "run" (func $run)))
    (export "dormouse:task/tasks@0.1.0" (instance $tasks))
"#;

/// A task component that suspends in three ways, with something added before its exports.
fn task_with(addition: &str) -> Vec<u8> {
    component(&[IMPORTS, CORE, addition, EXPORTS])
}

fn component(parts: &[&str]) -> Vec<u8> {
    let text = format!("(component {})", parts.concat());
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn rewritten(bytes: &[u8]) -> Rewritten {
    rewrite(bytes, &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The reasons for which a component is refused.
fn reasons(bytes: &[u8]) -> Vec<String> {
    match rewrite(bytes, &Limits::default()) {
        Err(Error::Refused(refusals)) => refusals.iter().map(ToString::to_string).collect(),
        other => panic!("not refused: {:?}", other.map(|rewritten| rewritten.report)),
    }
}
