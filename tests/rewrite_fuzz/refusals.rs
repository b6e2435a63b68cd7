//! What is refused, and with which words.

use super::cases;
use super::program::Sources;

#[test]
fn unsupported_constructs_are_refused_by_module_and_function() {
    for (text, module_and_function, reason) in REFUSED {
        let sources = cases::sources(&[("first", "(module)"), ("thrower", THROWER), ("second", text)]);
        let Err(refusals) = sources.instrument() else { panic!("accepted: {text}") };
        let expected = refusals.iter().find(|refusal| refusal.reason.contains(reason));
        let refusal = expected.unwrap_or_else(|| panic!("{text}: {refusals:?}"));
        let place = format!("{} {}", refusal.module.as_deref().unwrap_or("-"), refusal.function.as_deref().unwrap_or("-"));
        assert_eq!(place, *module_and_function, "{text}");
    }
}

const THROWER: &str = "(module (tag $own) (func (export \"throw\") (throw $own)))";
const LEGACY: &str = "(module (tag $t) (func $f try throw $t catch $t rethrow 0 catch_all end))";

const REFUSED: &[(&str, &str, &str)] = &[
    ("(module (table 1 funcref) (func $f (table.set 0 (i32.const 0) (ref.null func))))", "second f", "table.set"),
    ("(module (table 1 funcref) (func $f (drop (table.grow 0 (ref.null func) (i32.const 1)))))", "second f", "table.grow"),
    ("(module (table 1 funcref) (func $f (table.fill 0 (i32.const 0) (ref.null func) (i32.const 1))))", "second f", "table.fill"),
    ("(module (table 1 funcref) (func (table.copy (i32.const 0) (i32.const 0) (i32.const 1))))", "second 0", "table.copy"),
    (
        "(module (table 1 funcref) (elem $e func) (func $f (table.init $e (i32.const 0) (i32.const 0) (i32.const 0))))",
        "second f",
        "table.init",
    ),
    ("(module (memory i64 1))", "second -", "memory64"),
    ("(module (memory 1 1 shared))", "second -", "threads"),
    ("(module (memory 1) (func $f (drop (i32.atomic.load (i32.const 0)))))", "second f", "threads"),
    ("(module (type (struct (field i32))))", "second -", "gc"),
    ("(module (type $t (func)) (func $f (param (ref null $t)) (call_ref $t (local.get 0))))", "second -", "function references"),
    ("(module (global (mut funcref) (ref.null func)))", "second -", "mutable"),
    ("(module (import \"h\" \"g\" (global (mut externref))))", "second -", "mutable global of a reference type"),
    ("(module (func (export \"ckpt:resume\")))", "second -", "reserved name"),
    ("(module (import \"ckpt\" \"state\" (func)))", "second -", "reserved module name"),
    ("(module (import \"h\" \"m\" (memory 1)))", "second -", "provides the import"),
    ("(module (import \"h\" \"t\" (table 1 funcref)))", "second -", "provides the import"),
    ("(module (import \"first\" \"missing\" (func)))", "second -", "provides the import"),
    (
        "(module (import \"h\" \"s0\" (func $s)) (tag $t (param funcref)) (func $throw (throw $t (ref.null func)))
           (func $f (local $e exnref)
             (block $b (result exnref) (try_table (catch_all_ref $b) (call $s) (call $throw)) (return))
             (local.set $e) (call $s) (throw_ref (local.get $e))))",
        "second f",
        "carry a reference, in local 0",
    ),
    (
        "(module (import \"h\" \"s0\" (func $s)) (import \"thrower\" \"throw\" (func $throw)) (func $f
           (block $b (result exnref) (try_table (catch_all_ref $b) (call $s) (call $throw)) (return)) (call $s) (throw_ref)))",
        "second f",
        "a caught exception (exnref), whose tag may be unknown here",
    ),
    (LEGACY, "second f", "legacy exception instructions"),
    (
        "(module (import \"h\" \"s0\" (func $s)) (func $f (result externref) (ref.null extern) (call $s)))",
        "second f",
        "reference as an operand",
    ),
    (
        "(module (import \"h\" \"s0\" (func $s)) (func $f (param externref) (result i32) (call $s) (ref.is_null (local.get 0))))",
        "second f",
        "reference in local 0",
    ),
    (
        "(module (import \"h\" \"s0\" (func $s)) (func $f (result externref) (call $s) (ref.null extern)))",
        "second f",
        "returns a reference",
    ),
    ("(module (func $f (result i32)))", "second f", "not valid"),
];

#[test]
fn all_reasons_are_given_at_once() {
    let sources = cases::sources(&[(
        "main",
        "(module (table 1 funcref) (elem $e func) (global (mut funcref) (ref.null func)) (func (export \"ckpt:x\"))
           (func $a (drop (table.grow 0 (ref.null func) (i32.const 1))))
           (func $b (table.set 0 (i32.const 0) (ref.null func)) (table.init $e (i32.const 0) (i32.const 0) (i32.const 0))))",
    )]);
    let refusals = sources.instrument().expect_err("it holds five reasons");
    assert_eq!(refusals.len(), 5, "{refusals:?}");
}

#[test]
fn what_never_suspends_is_accepted_whatever_it_does() {
    let text = "(module (import \"h\" \"s0\" (func $s)) (tag $t) (func $w (call $s))
      (func $catches (block $b (try_table (catch $t $b) (throw $t))))
      (func $keeps (param externref) (result externref) (call $catches) (local.get 0)))";
    let instrumented = cases::sources(&[("main", text)]).instrument().expect("only $w may suspend");
    assert_eq!((instrumented.stats.functions, instrumented.stats.instrumented, instrumented.stats.sites), (3, 1, 1));
}

#[test]
fn a_module_that_cannot_suspend_only_gains_exports() {
    let original = "(module (memory 1) (global (mut i32) (i32.const 1)) (func (export \"f\")))";
    let instrumented = cases::sources(&[("main", original)]).instrument().expect("nothing is refused");
    assert!(!instrumented.stats.suspends && instrumented.needs_ckpt == [false]);
    let text = wasmprinter::print_bytes(&instrumented.modules[0]).expect("the output is well-formed");
    assert!(text.contains("(export \"ckpt:m0\" (memory 0))") && text.contains("(export \"ckpt:g0\" (global 0))"), "{text}");
    assert!(!text.contains("(import"), "{text}");
}

#[test]
fn only_the_forwarders_that_lead_to_a_wait_are_instrumented() {
    let (_, sources) = cases::all().into_iter().find(|(name, _)| name.starts_with("a shim")).expect("it is there");
    let instrumented = Sources::instrument(&sources).expect("nothing is refused");
    // "0" of the shim and "go" of the guest, with one and two sites; "1" and "2" never wait.
    assert_eq!((instrumented.stats.instrumented, instrumented.stats.sites), (2, 3));
    assert_eq!(instrumented.needs_ckpt, [true, true, false]);
}

#[test]
fn functions_that_wait_for_streams_are_kept_warm_and_spare_their_callers() {
    let text = |name: &str| {
        format!(
            r#"(module (import "h" "s1" (func $poll (param i32) (result i32))) (import "h" "s0" (func $wait))
              (func $block (param i32) (result i32) (call $poll (local.get 0)))
              (func $write (@name "{name}") (param i32) (result i32) (call $block (local.get 0)))
              (func $format (param i32) (result i32) (call $write (local.get 0)))
              (func (export "f") (result i32) (call $wait) (i32.add (call $block (i32.const 1)) (call $format (i32.const 2)))))"#
        )
    };
    let stats = |name: &str| {
        let instrumented = cases::sources(&[("main", &text(name))]).instrument().expect("nothing is refused");
        (instrumented.stats.instrumented, instrumented.stats.sites)
    };
    assert_eq!(stats("write"), (2, 3), "block and f; f waits, sleeps, and calls format without a check");
    assert_eq!(stats("__wasilibc_write"), (2, 3));
    assert_eq!(stats("writer"), (4, 6), "any other function may be suspended");
}
